"""The terms of the objective, by formulas and by hand."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import logsumexp
from scipy.stats import norm

from sklearn_recvae import RecVAERecommender
from sklearn_recvae._training import objective
from sklearn_recvae._training.objective import CompositePrior

numbers = arrays(np.float64, (3, 4), elements=st.floats(-5, 5))


def mixture(z, mean, log_variance, weights):
    """The composite prior with scipy's normal distribution, one dimension at a time."""
    scales = (1.0, np.exp(0.5 * log_variance), math.exp(5))
    means = (0.0, mean, 0.0)
    with np.errstate(divide="ignore"):
        logs = [
            np.log(w) + norm.logpdf(z, m, s)
            for w, m, s in zip(weights, means, scales, strict=True)
        ]
    return logsumexp(logs, axis=0).sum(axis=1)


@given(numbers, numbers, numbers)
def test_composite_prior_is_a_mixture_in_each_dimension(z, mean, log_variance):
    for weights in ((0.15, 0.75, 0.1), (1, 0, 0), (0, 1, 0), (0, 0.5, 0.5)):
        old = objective.Posterior(torch.tensor(mean), torch.tensor(log_variance))
        got = CompositePrior(weights).log_density(torch.tensor(z), old)
        expected = mixture(z, mean, log_variance, weights)
        np.testing.assert_allclose(got.numpy(), expected, rtol=1e-10)


def test_composite_prior_by_hand():
    # At z = 0 and an old posterior N(0, 1): two components have density 1/sqrt(2 pi),
    # the wide one exp(-5)/sqrt(2 pi).
    zero = torch.zeros(1, 2, dtype=torch.float64)
    prior = CompositePrior((0.15, 0.75, 0.1))
    got = prior.log_density(zero, objective.Posterior(zero, zero))
    one_dimension = math.log((0.9 + 0.1 * math.exp(-5)) / math.sqrt(2 * math.pi))
    assert got.item() == pytest.approx(2 * one_dimension, rel=1e-12)


@pytest.mark.parametrize(
    "weights", [(0.15, 0.75, 0.1), (1, 0, 0), (0, 1, 0), (0, 0.5, 0.5)]
)
def test_composite_prior_gradcheck(weights):
    generator = torch.Generator().manual_seed(0)
    z, mean, log_variance = torch.randn(3, 5, 4, generator=generator).double()
    z *= 3  # also where the wide component is the nearest
    assert torch.autograd.gradcheck(
        lambda z: CompositePrior(weights).log_density(z, (mean, log_variance)),
        z.requires_grad_(),
    )


def test_composite_prior_far_out_is_finite():
    z = torch.tensor([[1e4, -1e4]], requires_grad=True)
    zero = torch.zeros(1, 2)
    for weights in ((0.15, 0.75, 0.1), (1, 0, 0)):
        value = CompositePrior(weights).log_density(z, (zero, zero))
        (gradient,) = torch.autograd.grad(value.sum(), z)
        assert torch.isfinite(value).all()
        assert torch.isfinite(gradient).all()
        assert (gradient.sign() == -z.sign()).all()


@given(numbers, numbers, numbers)
def test_kl_estimate_is_log_q_minus_log_p_at_the_same_sample(z, mean, log_variance):
    log_prior = norm.logpdf(z).sum(axis=1)
    noise = (z - mean) / np.exp(0.5 * log_variance)
    draw = objective.Draw(*map(torch.tensor, (z, noise, mean, log_variance)))
    got = CompositePrior((1, 0, 0)).kl(draw, (draw.mean, draw.log_variance))
    log_q = norm.logpdf(z, mean, np.exp(0.5 * log_variance)).sum(axis=1)
    np.testing.assert_allclose(got.numpy(), log_q - log_prior, rtol=1e-9, atol=1e-9)


def test_kl_estimate_has_the_closed_form_as_its_mean():
    mean, log_variance = torch.tensor([[0.5]]), torch.tensor([[-1.0]])
    mean, log_variance = mean.expand(200_000, 1), log_variance.expand(200_000, 1)
    posterior = objective.Posterior(mean, log_variance)
    draw = posterior.draw(torch.Generator().manual_seed(0))
    kl = CompositePrior((1, 0, 0)).kl(draw, posterior)
    by_hand = 0.5 * (math.exp(-1) + 0.5**2 - 1 + 1)
    assert kl.mean().item() == pytest.approx(by_hand, abs=0.01)
    closed_form = objective.StandardNormalPrior().kl(draw, None)
    assert closed_form.tolist()[0] == pytest.approx(by_hand, rel=1e-6)


def test_kl_weight():
    totals = torch.tensor([0.0, 3.0, 10.0])
    assert objective.RescaledKL(0.5).weights(totals, 0).tolist() == [0, 1.5, 5]
    same = objective.ConstantKL(0.2).weights(totals, 0)
    assert same.tolist() == pytest.approx([0.2] * 3)
    # Zero is a weight, not "use beta instead".
    estimator = RecVAERecommender(gamma=0)
    weight = estimator._build_objective(None).kl_weight
    assert weight.weights(totals, 0).tolist() == [0, 0, 0]


def test_sample_adds_standard_normal_noise_times_sigma():
    mean = torch.full((50_000, 2), 3.0, dtype=torch.float64)
    log_variance = torch.tensor([0.0, math.log(4)], dtype=torch.float64).expand(
        50_000, 2
    )
    posterior = objective.Posterior(mean, log_variance)
    z, noise, *_ = posterior.draw(torch.Generator().manual_seed(0))
    assert z.mean(0).tolist() == pytest.approx([3, 3], abs=0.03)
    assert z.std(0).tolist() == pytest.approx([1, 2], rel=0.02)
    same_noise = torch.randn(
        50_000, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    assert torch.equal(noise, same_noise)
    torch.testing.assert_close(z, mean + noise * (0.5 * log_variance).exp())


def test_without_a_variance_the_mean_is_drawn():
    mean = torch.ones(3, 2)
    draw = objective.Posterior(mean, None).draw(torch.Generator())
    assert draw.z is mean
