import math

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from sklearn_recvae import MultVAERecommender
from sklearn_recvae._batches import InteractionTensors
from sklearn_recvae._interactions import as_csr
from sklearn_recvae._multvae import AnnealedKL, MultVAE
from sklearn_recvae._training.fit import TrainingOptions
from sklearn_recvae._training.objective import Draw, StandardNormalPrior
from sklearn_recvae._training.state import new_training_state
from sklearn_recvae._training.trainer import Trainer
from sklearn_recvae.datasets import make_interactions

N_USERS, N_ITEMS, HIDDEN, LATENT, BATCH_SIZE = 13, 17, 6, 4, 5


def recommender(**params):
    return MultVAERecommender(
        **{
            "latent_dim": 8,
            "hidden_dim": 16,
            "n_annealing_steps": 10,
            "max_iter": 3,
            "random_state": 0,
            **params,
        }
    )


def make_X():
    rng = np.random.default_rng(0)
    X = rng.choice([1.0, 2.0], (N_USERS, N_ITEMS))
    X *= rng.uniform(size=X.shape) < 0.4
    X[4] = 0
    return X


class DenseReference:
    """Mult-VAE and Mult-DAE on dense float64 rows, with gradients and Adam by hand.

    Random numbers come from outside; it shares nothing with the package.
    """

    def __init__(self, weights, learning_rate, variational):
        self.w = {name: weight.copy() for name, weight in weights.items()}
        self.moments = {name: (0.0, 0.0) for name in weights}
        self.n_steps = 0
        self.learning_rate = learning_rate
        self.variational = variational

    def forward(self, x, kept, noise):
        """Give every layer; `kept` is what stays of the input, 0 or 1 / (1 - rate)."""
        w = self.w
        norms = np.sqrt((x**2).sum(1, keepdims=True))
        inputs = np.divide(x, norms, out=np.zeros_like(x), where=norms > 0) * kept
        h = np.tanh(inputs @ w["encoder.input.weight"] + w["encoder.input.bias"])
        head = h @ w["encoder.posterior.weight"].T + w["encoder.posterior.bias"]
        if self.variational:
            mean, log_variance = head[:, :LATENT], head[:, LATENT:]
            z = mean + noise * np.exp(log_variance / 2)
        else:
            z = mean = np.tanh(head)
            log_variance = None
        g = np.tanh(z @ w["decoder.hidden.weight"].T + w["decoder.hidden.bias"])
        logits = g @ w["decoder.output.weight"].T + w["decoder.output.bias"]
        log_pi = logits - np.log(np.exp(logits).sum(1, keepdims=True))
        return inputs, h, mean, log_variance, z, g, log_pi

    def terms(self, x, layers):
        """Give likelihood and KL divergence of each user."""
        _, _, mean, log_variance, _, _, log_pi = layers
        kl = np.zeros(len(x))
        if self.variational:
            kl = (np.exp(log_variance) + mean**2 - 1 - log_variance).sum(1) / 2
        return (x * log_pi).sum(1), kl

    def gradients(self, x, layers, noise, beta):
        """Differentiate mean(beta kl - likelihood), from the output to the input."""
        inputs, h, mean, log_variance, z, g, log_pi = layers
        w, n_rows = self.w, len(x)
        of_logits = (x.sum(1, keepdims=True) * np.exp(log_pi) - x) / n_rows
        of_g = of_logits @ w["decoder.output.weight"] * (1 - g**2)
        of_z = of_g @ w["decoder.hidden.weight"]
        if self.variational:
            sigma = np.exp(log_variance / 2)
            of_mean = of_z + beta * mean / n_rows
            of_log_variance = of_z * noise * sigma / 2
            of_log_variance += beta * (sigma**2 - 1) / 2 / n_rows
            of_head = np.hstack([of_mean, of_log_variance])
        else:
            of_head = of_z * (1 - z**2)
        of_h = of_head @ w["encoder.posterior.weight"] * (1 - h**2)
        return {
            "encoder.input.weight": inputs.T @ of_h,
            "encoder.input.bias": of_h.sum(0),
            "encoder.posterior.weight": of_head.T @ h,
            "encoder.posterior.bias": of_head.sum(0),
            "decoder.hidden.weight": of_g.T @ z,
            "decoder.hidden.bias": of_g.sum(0),
            "decoder.output.weight": of_logits.T @ g,
            "decoder.output.bias": of_logits.sum(0),
        }

    def step(self, gradients):
        self.n_steps += 1
        for name, gradient in gradients.items():
            m, v = self.moments[name]
            m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
            self.moments[name] = m, v
            root = np.sqrt(v / (1 - 0.999**self.n_steps))
            move = m / (1 - 0.9**self.n_steps) / (root + 1e-8)
            self.w[name] -= self.learning_rate * move


def make_trainer(model, X):
    """Give a trainer in float64 of what the estimator would train."""
    network = MultVAE.build(N_ITEMS, *model._sizes(), seed=0).double()
    tensors = InteractionTensors(as_csr(X), torch.device("cpu"))
    # Matrices are kept in float32; what is compared here is the mathematics.
    norms = torch.tensor(X).norm(dim=1)
    tensors._scales = torch.where(norms > 0, 1 / norms, 0.0)
    tensors._values = tensors._values.double()
    tensors._totals = torch.tensor(X).sum(1)
    options = TrainingOptions.of(model)
    trainer = Trainer(
        new_training_state(network, 0),
        tensors,
        model._build_objective(network),
        options,
    )
    trainer.matmul_dtype = torch.float64
    return trainer


def iterate(reference, X, noise_rate, beta_of_step):
    """Run one pass as the trainer does, with the same random numbers in order."""
    generator = iterate.generator
    terms = []
    for users in torch.randperm(N_USERS, generator=generator).split(BATCH_SIZE):
        x = X[users.numpy()]
        kept = np.zeros_like(x)
        drawn = torch.rand(np.count_nonzero(x), generator=generator, dtype=float)
        kept[x > 0] = (drawn.numpy() >= noise_rate) / (1 - noise_rate)
        noise = None
        if reference.variational:
            noise = torch.empty(len(x), LATENT, dtype=float)
            noise = noise.normal_(generator=generator).numpy()
        layers = reference.forward(x, kept, noise)
        terms.append(np.transpose(reference.terms(x, layers)))
        beta = beta_of_step(reference.n_steps)
        reference.step(reference.gradients(x, layers, noise, beta))
    return np.concatenate(terms).mean(0)


@pytest.mark.parametrize("variational", [True, False])
def test_training_equals_the_dense_float64_computation(variational):
    X = make_X()
    model = recommender(
        latent_dim=LATENT,
        hidden_dim=HIDDEN,
        variational=variational,
        beta=0.3,
        n_annealing_steps=4,
        noise_rate=0.4,
        batch_size=BATCH_SIZE,
        learning_rate=1e-2,
    )
    trainer = make_trainer(model, X)
    weights = {
        name: weight.detach().numpy().copy()
        for name, weight in trainer.module.named_parameters()
    }
    reference = DenseReference(weights, 1e-2, variational)
    iterate.generator = torch.Generator().manual_seed(0)
    for number in (1, 2):  # of three steps each
        means = trainer.run_iteration(number)
        expected = iterate(
            reference,
            X,
            0.4,
            lambda n_steps: [0, 0.075, 0.15, 0.225, 0.3, 0.3][n_steps],
        )
        assert_allclose(means, expected, rtol=1e-6)
    trainer.state.catch_up()
    for name, weight in trainer.module.named_parameters():
        assert_allclose(weight.detach(), reference.w[name], rtol=0, atol=1e-9)
        assert np.abs(weights[name] - reference.w[name]).max() > 1e-3


@pytest.mark.parametrize("variational", [True, False])
def test_gradients_of_the_reference_are_those_of_differences(variational):
    rng = np.random.default_rng(1)
    model = recommender(latent_dim=LATENT, hidden_dim=HIDDEN, variational=variational)
    network = MultVAE.build(N_ITEMS, *model._sizes(), seed=0).double()
    weights = {name: w.detach().numpy() for name, w in network.named_parameters()}
    reference = DenseReference(weights, 1e-2, variational)
    x, noise = make_X(), rng.standard_normal((N_USERS, LATENT))

    def loss():
        likelihood, kl = reference.terms(x, reference.forward(x, 1.0, noise))
        return (0.3 * kl - likelihood).mean()

    layers = reference.forward(x, 1.0, noise)
    for name, gradient in reference.gradients(x, layers, noise, 0.3).items():
        weight, start = reference.w[name], reference.w[name].copy()
        direction = rng.standard_normal(weight.shape)
        values = []
        for sign in (1, -1):
            weight[...] = start + sign * 1e-5 * direction
            values.append(loss())
        weight[...] = start
        slope = (values[0] - values[1]) / 2e-5
        assert_allclose((gradient * direction).sum(), slope, rtol=1e-6)


def test_kl_divergence_by_hand():
    mean = torch.tensor([[0.0, 0.0], [1.0, -2.0]], dtype=float)
    log_variance = torch.tensor([[0.0, 0.0], [math.log(4), math.log(0.25)]]).double()
    kl = StandardNormalPrior().kl(Draw(mean, None, mean, log_variance), None)
    # Of one dimension: (variance + mean^2 - 1 - log variance) / 2.
    first, second = (4 + 1 - 1 - math.log(4)) / 2, (0.25 + 4 - 1 + math.log(4)) / 2
    assert_allclose(kl, [0, first + second], rtol=1e-7)


def test_annealing_by_hand():
    totals = torch.tensor([3.0, 0.0])
    for n_annealing_steps, expected in [
        (4, [0, 0.05, 0.1, 0.15, 0.2, 0.2, 0.2]),
        (0, [0.2] * 7),
    ]:
        kl_weight = AnnealedKL(0.2, n_annealing_steps)
        for n_steps, weight in enumerate(expected):
            assert_allclose(kl_weight.weights(totals, n_steps), [weight] * 2, rtol=1e-6)


def test_initial_weights_are_the_published_ones():
    network = MultVAE.build(300, 50, 100, True, seed=0)
    again = MultVAE.build(300, 50, 100, True, seed=0).state_dict()
    for name, weight in network.state_dict().items():
        assert_array_equal(weight, again[name])
        if name.endswith("bias"):
            assert 0 < weight.abs().max() <= 0.002
            assert 0.0005 < weight.std() < 0.0013
        else:
            bound = math.sqrt(6 / sum(weight.shape))  # of Xavier
            assert 0.98 * bound < weight.abs().max() <= bound
            assert_allclose(weight.std(), bound / math.sqrt(3), rtol=0.05)


@pytest.mark.parametrize("variational", [True, False])
def test_what_a_fitted_one_gives_by_hand(variational):
    X, _, _ = make_interactions(60, 30, random_state=0)
    model = recommender(variational=variational).fit(X[:40])
    weights = {
        name: w.numpy().astype(float) for name, w in model.module_.state_dict().items()
    }
    x = X[40:].toarray().astype(float)
    x /= np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-9)
    h = np.tanh(x @ weights["encoder.input.weight"] + weights["encoder.input.bias"])
    head = h @ weights["encoder.posterior.weight"].T + weights["encoder.posterior.bias"]
    z = head[:, :8] if variational else np.tanh(head)
    g = np.tanh(z @ weights["decoder.hidden.weight"].T + weights["decoder.hidden.bias"])
    logits = g @ weights["decoder.output.weight"].T + weights["decoder.output.bias"]
    pi = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert_allclose(model.transform(X[40:]), z, atol=1e-6)
    assert_allclose(model.predict(X[40:]), pi, atol=1e-6)
    assert_allclose(model.inverse_transform(model.transform(X[40:])), pi, atol=1e-6)
    ranked, scores = model.recommend(X[40:], k=5, return_scores=True)
    assert_allclose(scores, np.take_along_axis(logits, ranked, 1), atol=1e-5)
    assert head.shape[1] == (16 if variational else 8)


def test_mult_dae_has_no_divergence_and_no_variance():
    X, _, _ = make_interactions(60, 30, random_state=0)
    model = recommender(variational=False).fit(X)
    assert_array_equal(model.history_["kl"], 0)
    assert_array_equal(
        model.recommend(X, sample=True, random_state=0), model.recommend(X)
    )
    # What has no effect has none.
    other = recommender(variational=False, beta=5, n_annealing_steps=0).fit(X)
    assert_array_equal(model.predict(X), other.predict(X))


def test_a_large_beta_makes_posteriors_the_prior():
    X, _, _ = make_interactions(60, 30, random_state=0)
    kl = {
        beta: recommender(
            beta=beta, n_annealing_steps=0, max_iter=15, learning_rate=1e-2
        )
        .fit(X)
        .history_["kl"][-1]
        for beta in (0, 10)
    }
    assert kl[10] < 0.1 * kl[0]


def test_annealing_goes_on_in_partial_fit():
    X, _, _ = make_interactions(60, 30, random_state=0)
    whole = recommender(batch_size=10, max_iter=3, n_annealing_steps=17).fit(X)
    parts = recommender(batch_size=10, max_iter=2, n_annealing_steps=17).fit(X)
    parts.partial_fit(X)
    assert_array_equal(whole.predict(X), parts.predict(X))


def test_catalogue_grows():
    X, _, _ = make_interactions(60, 30, random_state=0)
    model = recommender().fit(X)
    before = model.predict(X)
    model.add_items(2)
    wider = np.hstack([X.toarray(), np.zeros((60, 2))])
    after = model.predict(wider)
    assert_allclose(
        after[:, :30] / after[:, :30].sum(1, keepdims=True), before, atol=1e-5
    )
    assert model.partial_fit(wider).predict(wider).shape == (60, 32)
