"""The study of what did not help: its priors, its KL terms, and the script."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.sparse import save_npz
from torch import nn
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from sklearn_recvae import RecVAERecommender
from sklearn_recvae._training.objective import CompositePrior, Posterior
from sklearn_recvae.datasets import make_interactions
from sklearn_recvae.metrics import rank_scores
from sklearn_recvae.model_selection import strong_generalization_split

PROJECT = Path(__file__).parents[1]
STUDIES = PROJECT / "examples" / "studies"
if not STUDIES.is_dir():
    pytest.skip("the examples are in a checkout only", allow_module_level=True)

TINY = {"latent_dim": 2, "hidden_dim": 5, "n_hidden_layers": 2, "max_iter": 2}


@pytest.fixture
def study(monkeypatch):
    monkeypatch.syspath_prepend(STUDIES)
    import negative_results

    return negative_results


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def shake(module, scale=0.5):
    """Move the weights away from where they begin."""
    with torch.no_grad():
        for weight in module.parameters():
            weight += scale * torch.randn(weight.shape)
    return module.double()


def integral(log_density, n_dims, bound=12, n_points=241):
    """Sum the density over a grid of one or two dimensions."""
    axis = torch.linspace(-bound, bound, n_points, dtype=torch.float64)
    grid = torch.cartesian_prod(*[axis] * n_dims).reshape(-1, n_dims)
    with torch.no_grad():
        density = log_density(grid).exp().sum()
    return float(density) * (2 * bound / (n_points - 1)) ** n_dims


def of_random_users(n_rows, latent_dim):
    mean, log_variance = torch.randn(2, n_rows, latent_dim, dtype=torch.float64)
    return Posterior(mean, log_variance)


def encoder_of(study, X):
    model = study.VampPriorRecommender(**TINY, random_state=0).fit(X)
    return model.module_.double()


@pytest.mark.parametrize("n_dims", [1, 2])
def test_mixture_is_a_density(study, n_dims):
    prior = shake(study.MixturePrior(n_dims, 3))
    assert integral(prior.log_density, n_dims) == pytest.approx(1, abs=1e-6)


def test_flow_is_a_density(study):
    prior = shake(study.RealNVPPrior(2, 3), scale=0.3)
    assert integral(prior.log_density, 2, bound=24) == pytest.approx(1, abs=1e-3)


def test_vamp_prior_is_a_density(study):
    X, _, _ = make_interactions(20, 10, n_groups=2, random_state=0)
    network = encoder_of(study, X)
    sums = 3 * torch.randn(4, 5, dtype=torch.float64)
    prior = study.VampPrior(network.encoder, sums)
    assert integral(prior.log_density, 2) == pytest.approx(1, abs=1e-6)


def test_mixture_equals_that_of_torch(study):
    prior = shake(study.MixturePrior(7, 4))
    expected = MixtureSameFamily(
        Categorical(logits=prior.logits),
        Independent(Normal(prior.mean, (0.5 * prior.log_variance).exp()), 1),
    )
    z = torch.randn(9, 7, dtype=torch.float64)
    assert torch.allclose(prior.log_density(z), expected.log_prob(z))


def test_determinant_of_the_flow_equals_that_of_its_jacobian(study):
    prior = shake(study.RealNVPPrior(5, 4))
    z = torch.randn(3, 5, dtype=torch.float64)
    _, log_determinant = prior.to_normal(z)
    for row, expected in zip(z, log_determinant, strict=True):
        jacobian = torch.autograd.functional.jacobian(
            lambda each: prior.to_normal(each[None])[0][0], row
        )
        assert torch.linalg.slogdet(jacobian).logabsdet == pytest.approx(
            float(expected.detach())
        )


def test_flow_begins_as_the_standard_normal(study):
    z = torch.randn(6, 5)
    log_density = study.RealNVPPrior(5, 4).log_density(z)
    assert torch.allclose(log_density, Normal(0, 1).log_prob(z).sum(1))


def test_vamp_prior_is_the_mean_of_posteriors_at_its_inputs(study):
    """An input of items enters the first layer as the sum of its items' rows."""
    X, _, _ = make_interactions(20, 10, n_groups=2, random_state=0)
    model = RecVAERecommender(**TINY, random_state=0).fit(X)
    rows = np.eye(3, 10, k=2) + np.eye(3, 10)  # two items each
    mean = torch.from_numpy(model.transform(rows)).double()
    encoder = model.module_.double().encoder
    inputs = torch.from_numpy(rows / math.sqrt(2))
    prior = study.VampPrior(encoder, inputs @ encoder.input.weight)
    at_mean, log_variance = encoder(None, sums=prior.sums)
    assert torch.allclose(at_mean, mean, atol=1e-5)
    z = torch.randn(4, 2, dtype=torch.float64)
    sigma = (0.5 * log_variance).exp()
    densities = Normal(at_mean, sigma).log_prob(z[:, None]).sum(2).exp()
    assert torch.allclose(prior.log_density(z), densities.mean(1).log())


def test_terms_add_up_to_the_divergence(study):
    draw = of_random_users(30, 4).draw(torch.Generator().manual_seed(1))
    old = of_random_users(30, 4)
    composite = CompositePrior([0.15, 0.75, 0.1])
    whole = composite.kl(draw, old)
    equal = study.KLTerms(composite, (1, 1, 1))
    assert equal.uses_old_posterior
    assert torch.allclose(equal.kl(draw, old), whole)
    ones = np.eye(3).tolist()
    terms = [study.KLTerms(composite, weights).kl(draw, old) for weights in ones]
    assert torch.allclose(sum(terms), whole)
    doubled = study.KLTerms(composite, (1, 2, 1)).kl(draw, old)
    assert torch.allclose(doubled, whole + terms[1])


def test_terms_equal_those_of_a_loop(study, monkeypatch):
    monkeypatch.setattr(study, "N_NEIGHBOURS", 3)
    n_rows, n_neighbours = 5, 3
    posterior = of_random_users(n_rows, 2)
    draw = posterior.draw(torch.Generator().manual_seed(1))
    terms = study.KLTerms(CompositePrior([1, 0, 0]), (1, 1, 1)).first_terms(draw)
    normals = Normal(posterior.mean, (0.5 * posterior.log_variance).exp())
    for row in range(n_rows):
        densities = normals.log_prob(draw.z[row]).exp()  # (n_rows, latent)
        neighbours = [(row - shift) % n_rows for shift in range(n_neighbours)]
        near = densities[neighbours]
        joint = near.prod(1).mean().log()
        marginals = near.mean(0).log().sum()
        own = densities[row].log().sum()
        assert terms[0][row] == pytest.approx(float(own - joint))
        assert terms[1][row] == pytest.approx(float(joint - marginals))


def test_weights_of_one_are_recvae(study):
    X, _, _ = make_interactions(60, 12, n_groups=2, random_state=0)
    recvae = RecVAERecommender(**TINY, random_state=0).fit(X)
    model = study.KLTermsRecommender(**TINY, random_state=0).fit(X)
    np.testing.assert_allclose(model.predict(X), recvae.predict(X), rtol=1e-4)


@pytest.mark.parametrize(
    "name", ["MixtureRecommender", "VampPriorRecommender", "RealNVPRecommender"]
)
def test_prior_is_trained_with_the_encoder(study, name):
    X, _, _ = make_interactions(60, 12, n_groups=2, random_state=0)
    model = getattr(study, name)(**TINY, random_state=0)
    start = model._build_network(12, model._sizes(), 0)
    again = model._build_network(12, model._sizes(), 0)
    network = model.fit(X).module_
    own = [w for w, _ in start.named_parameters() if w.startswith(("prior", "pseudo"))]
    assert own
    for weight in own:
        first = start.get_parameter(weight)
        assert torch.equal(first, again.get_parameter(weight))
        assert not torch.equal(first, network.get_parameter(weight)), weight
    assert isinstance(network, nn.Module)


def test_random_numbers_of_others_are_left_alone(study):
    before = torch.random.get_rng_state()
    model = study.RealNVPRecommender(**TINY)
    model._build_network(12, model._sizes(), 0)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_rows_of_items_rank_what_users_are_expected_to_take(study):
    X, _, _ = make_interactions(80, 30, n_groups=2, random_state=0)
    split = strong_generalization_split(X, 15, 15, random_state=0)
    model = RecVAERecommender(**TINY, random_state=0)
    scores, ranks = study.fit_on_items(model, split)
    assert len(scores) == 2

    rows, starts = study.stack_all_users(split)
    model = RecVAERecommender(**TINY, random_state=0)
    for _ in range(int(np.argmax(scores)) + 1):
        model.partial_fit(rows.T)
    expected = model.predict(rows.T) * rows.toarray().sum(0)[:, None]
    of_users = expected.T[starts["X_test"] :]
    np.testing.assert_array_equal(ranks, rank_scores(of_users, split.X_test, 100))


def test_study_goes_on_where_it_was(tmp_path, run_script):
    X, _, _ = make_interactions(120, 40, n_groups=2, random_state=0)
    save_npz(tmp_path / "X.npz", X)
    results, output = tmp_path / "results", tmp_path / "table.json"
    variants = ["composite prior", "VampPrior", "each dimension twice"]
    options = ["--data", tmp_path / "X.npz", "--n-heldout", 20, "--quick"]
    options += ["--variants", *variants, "rows are items"]
    options += ["--results", results, "--output", output]
    printed, _ = run_script("studies/negative_results.py", *options)
    times = {file: file.stat().st_mtime_ns for file in results.iterdir()}
    again, _ = run_script("studies/negative_results.py", *options)
    assert again == printed
    assert {file: file.stat().st_mtime_ns for file in results.iterdir()} == times
    summary = json.loads(output.read_text())
    assert len(summary["variants"]) == len(times) == 4
    row = summary["variants"]["VampPrior"]
    runs = {
        name: json.loads(next(results.glob(f"negative-{name}-0-*")).read_text())
        for name in ("VampPrior", "composite-prior")
    }
    ours, theirs = (np.array(run["test"]["NDCG@100"]) for run in runs.values())
    assert row["test"] == pytest.approx(ours.mean(), abs=1e-4)
    assert row["difference"] == pytest.approx((ours - theirs).mean(), abs=1e-4)
    assert f"| VampPrior | {row['test']:.4f} |".replace(" 0.", " .") in printed
