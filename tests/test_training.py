"""Training, beside a dense reference in float64."""

import copy
import dataclasses
import math

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal

from sklearn_recvae import RecVAERecommender
from sklearn_recvae._batches import InteractionTensors
from sklearn_recvae._interactions import as_csr
from sklearn_recvae._network import RecVAE
from sklearn_recvae._training.fit import TrainingOptions, run_fit
from sklearn_recvae._training.implicit_slim import implicit_slim
from sklearn_recvae._training.optimizers import RowAdam
from sklearn_recvae._training.state import Progress, new_training_state
from sklearn_recvae._training.trainer import Trainer
from sklearn_recvae.datasets import make_interactions

N_USERS, N_ITEMS, HIDDEN, LATENT = 13, 17, 6, 4
BATCH_SIZE = 5
PARAMETERS = {
    "gamma": 0.05,
    "beta": None,
    "prior_weights": (0.15, 0.75, 0.1),
    "noise_rate": 0.4,
    "decoder_noise": False,
    "alternating": True,
    "n_encoder_epochs": 3,
    "n_decoder_epochs": 1,
    "batch_size": BATCH_SIZE,
    "learning_rate": 1e-2,
    "slim_interval": None,
    "slim_regularization": 2.0,
    "slim_min_count": 3,
}


class NoHooks:
    def begin_iteration(self):
        pass

    def end_iteration(self):
        return False


def make_X(seed=0):
    rng = np.random.default_rng(seed)
    shape = (N_USERS, N_ITEMS)
    # Powers of two are exact in float32 after normalisation by their norm is undone.
    X = rng.choice([1.0, 2.0], size=shape) * (rng.uniform(size=shape) < 0.4)
    X[4] = 0
    return as_csr(X)


class Float64Options(TrainingOptions):
    """With products as exact as the weights in these tests."""

    def matmul_dtype(self, device):
        return torch.float64


def make_training(X, seed=0, **changed):
    """What a fit is made of: state, objective, options."""
    estimator = RecVAERecommender(**{**PARAMETERS, **changed})
    module = RecVAE.build(N_ITEMS, LATENT, HIDDEN, 3, True, seed=seed).double()
    state = new_training_state(module, seed)
    return state, estimator._build_objective(module), Float64Options.of(estimator)


def make_trainer(X, seed=0, **changed):
    state, objective, options = make_training(X, seed, **changed)
    tensors = InteractionTensors(X, torch.device("cpu"))
    return Trainer(state, tensors, objective, options)


def fit(X, scores=None, hooks=None, ema_decay=0.0, **changed):
    """Run a whole fit, with these validation scores; return module and progress."""
    state, objective, options = make_training(X, ema_decay=ema_decay, **changed)
    progress = Progress(state.module, ema_decay)
    seen = []

    def validate(module):
        seen.append(snapshot(module))
        return scores[len(seen) - 1]

    run_fit(
        X,
        state,
        progress,
        objective,
        options,
        hooks or NoHooks(),
        validate=validate if scores else None,
    )
    return state.module, progress, seen


class DenseReference:
    """One iteration written out on dense float64 rows, with an Adam by hand.

    It draws the same random numbers in the same order as the trainer and shares
    nothing else with it.
    """

    def __init__(self, module, X, seed, **parameters):
        self.__dict__.update(parameters)
        self.weights = {
            name: p.detach().clone().requires_grad_()
            for name, p in module.named_parameters()
        }
        self.generator = torch.Generator().manual_seed(seed)
        self.x = torch.tensor(X.toarray(), dtype=torch.float64)
        self.moments = {
            name: [torch.zeros_like(p), torch.zeros_like(p), 0]
            for name, p in self.weights.items()
        }
        self.old = self.encode(self.x)

    def encode(self, x, mask=None):
        w = self.weights
        norm = x.pow(2).sum(1, keepdim=True).sqrt()
        h = torch.where(norm > 0, x / norm, 0.0)
        if mask is not None:
            h = h * mask / (1 - self.noise_rate)
        outputs = []
        for layer in range(3):
            if layer == 0:
                pre = h @ w["encoder.input.weight"] + w["encoder.input.bias"]
            else:
                name = f"encoder.hidden.{layer - 1}"
                pre = h @ w[f"{name}.weight"].T + w[f"{name}.bias"] + sum(outputs)
            h = torch.nn.functional.layer_norm(
                pre * torch.sigmoid(pre),
                (HIDDEN,),
                w[f"encoder.norms.{layer}.weight"],
                w[f"encoder.norms.{layer}.bias"],
                eps=0.1,
            )
            outputs.append(h)
        posterior = h @ w["encoder.posterior.weight"].T + w["encoder.posterior.bias"]
        return posterior[:, :LATENT], posterior[:, LATENT:]

    def draw_mask(self, x):
        if self.noise_rate == 0:
            return torch.ones_like(x)
        entries = x.nonzero(as_tuple=True)
        noise = torch.rand(len(entries[0]), generator=self.generator, dtype=x.dtype)
        mask = torch.zeros_like(x)
        mask[entries] = (noise >= self.noise_rate).double()
        return mask

    def draw_z(self, mean, log_variance):
        noise = torch.empty_like(mean).normal_(generator=self.generator)
        return mean + noise * (0.5 * log_variance).exp()

    def log_likelihood(self, z, x):
        logits = z @ self.weights["decoder.weight"].T + self.weights["decoder.bias"]
        return (x * torch.log_softmax(logits, 1)).sum(1).mean()

    def kl(self, z, mean, log_variance, users):
        normal = torch.distributions.Normal
        components = [
            normal(torch.zeros_like(z), 1.0),
            normal(self.old[0][users], (0.5 * self.old[1][users]).exp()),
            normal(torch.zeros_like(z), math.exp(5)),
        ]
        density = sum(
            w * c.log_prob(z).exp()
            for w, c in zip(self.prior_weights, components, strict=True)
        )
        log_q = normal(mean, (0.5 * log_variance).exp()).log_prob(z)
        return (log_q - density.log()).sum(1)

    def batches(self):
        return torch.randperm(N_USERS, generator=self.generator).split(BATCH_SIZE)

    def elbo_epoch(self, half):
        for users in self.batches():
            x = self.x[users]
            mean, log_variance = self.encode(x, self.draw_mask(x))
            z = self.draw_z(mean, log_variance)
            kl = self.kl(z, mean, log_variance, users)
            weight = self.beta if self.gamma is None else self.gamma * x.sum(1)
            self.step((weight * kl).mean() - self.log_likelihood(z, x), half)

    def decoder_epoch(self):
        for users in self.batches():
            x = self.x[users]
            mask = self.draw_mask(x) if self.decoder_noise else None
            z = self.draw_z(*self.encode(x, mask))
            self.step(-self.log_likelihood(z, x), "decoder")

    def refresh(self):
        self.old = [t.detach() for t in self.encode(self.x)]

    def iterate(self):
        self.refresh()
        if self.alternating:
            for _ in range(self.n_encoder_epochs):
                self.elbo_epoch("encoder")
            self.refresh()
            for _ in range(self.n_decoder_epochs):
                self.decoder_epoch()
        else:
            self.elbo_epoch("")
            self.refresh()

    def step(self, loss, half):
        names = [name for name in self.weights if name.startswith(half)]
        grads = torch.autograd.grad(loss, [self.weights[name] for name in names])
        with torch.no_grad():
            for name, grad in zip(names, grads, strict=True):
                m, v, t = self.moments[name]
                m, v, t = 0.9 * m + 0.1 * grad, 0.999 * v + 0.001 * grad**2, t + 1
                self.moments[name] = [m, v, t]
                update = (m / (1 - 0.9**t)) / ((v / (1 - 0.999**t)).sqrt() + 1e-8)
                self.weights[name] -= self.learning_rate * update


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"decoder_noise": True, "n_decoder_epochs": 2},
        {"alternating": False},
        {"gamma": None, "beta": 0.2},
        {"gamma": 0},
        {"prior_weights": (1, 0, 0)},
        {"noise_rate": 0},
        {"gamma": None, "beta": 0.2, "prior_weights": (1, 0, 0), "alternating": False},
    ],
    ids=str,
)
def test_two_iterations_equal_the_dense_float64_computation(changed):
    X = make_X()
    trainer = make_trainer(X, **changed)
    # Matrices are kept in float32; what is compared here is the mathematics.
    x = torch.tensor(X.toarray(), dtype=torch.float64)
    norms = x.norm(dim=1)
    trainer.X._scales = torch.where(norms > 0, 1 / norms, 0.0)
    trainer.X._values = trainer.X._values.double()
    trainer.X._totals = x.sum(1)
    trainer._refresh_posterior()
    reference = DenseReference(
        copy.deepcopy(trainer.module), X, 0, **{**PARAMETERS, **changed}
    )
    for number in (1, 2):
        trainer.run_iteration(number)
        reference.iterate()
    for name, parameter in trainer.module.named_parameters():
        torch.testing.assert_close(
            parameter.detach(), reference.weights[name].detach(), rtol=0, atol=1e-9
        )


def snapshot(half):
    return [p.detach().clone() for p in half.parameters()]


def unchanged(before, half):
    return all(
        torch.equal(a, b) for a, b in zip(before, half.parameters(), strict=True)
    )


def test_each_phase_updates_its_half_only():
    trainer = make_trainer(make_X())
    encoder, decoder = trainer.module.encoder, trainer.module.decoder
    before = snapshot(encoder), snapshot(decoder)
    trainer._encoder_pass(joint=False)
    assert not unchanged(before[0], encoder)
    assert unchanged(before[1], decoder)
    before = snapshot(encoder), snapshot(decoder)
    trainer._decoder_pass()
    assert unchanged(before[0], encoder)
    assert not unchanged(before[1], decoder)
    before = snapshot(encoder), snapshot(decoder)
    trainer._encoder_pass(joint=True)
    assert not unchanged(before[0], encoder)
    assert not unchanged(before[1], decoder)


def test_old_posterior_is_of_clean_rows_at_the_last_refresh():
    X = make_X()
    trainer = make_trainer(X)

    def clean_posterior():
        with torch.no_grad():
            return trainer.module.encoder(trainer.X.batch(torch.arange(N_USERS)))

    # Before the first iteration: the encoder as it is initialised.
    initial = clean_posterior()
    torch.testing.assert_close(trainer.old.mean, initial[0])
    torch.testing.assert_close(trainer.old.log_variance, initial[1])
    # The encoder phase leaves the table as it was.
    trainer._encoder_pass(joint=False)
    torch.testing.assert_close(trainer.old.mean, initial[0])
    # After an iteration: the encoder as it stands, which the decoder phase kept.
    trainer.run_iteration(1)
    torch.testing.assert_close(trainer.old.mean, clean_posterior()[0])
    assert not torch.allclose(trainer.old.mean, initial[0])


def test_all_weights_have_adam_with_a_state_of_their_own():
    trainer = make_trainer(make_X())
    trainer.run_iteration(1)
    state, weights = trainer.state, dict(trainer.module.named_parameters())
    n_batches = math.ceil(N_USERS / BATCH_SIZE)
    n_steps = {"encoder.input.weight": 3 * n_batches}
    n_steps |= {"decoder.weight": n_batches, "decoder.bias": n_batches}
    assert {name: table.n_steps for name, table in state.tables.items()} == n_steps
    for name, table in state.tables.items():
        assert type(table) is RowAdam
        assert table.weight is weights.pop(name)
        assert table.lr == PARAMETERS["learning_rate"]
    assert state.n_steps == 3 * n_batches
    # The decoder of RecVAE is a table and nothing else.
    assert list(state.dense) == ["encoder"]
    optimizer = state.dense["encoder"]
    (group,) = optimizer.param_groups
    assert type(optimizer) is torch.optim.Adam
    assert group["weight_decay"] == 0
    assert group["lr"] == PARAMETERS["learning_rate"]
    assert {id(p) for p in group["params"]} == {id(p) for p in weights.values()}
    steps = {of_weight["step"].item() for of_weight in optimizer.state.values()}
    assert steps == {3 * n_batches}


def test_means_of_an_iteration_are_those_of_its_batches():
    # Without noise and with the same z, the objective is that of the whole matrix.
    trainer = make_trainer(make_X(), noise_rate=0, learning_rate=0.0)
    trainer.module.encoder.posterior.bias.data[LATENT:] = -60
    trainer.module.encoder.posterior.weight.data[LATENT:] = 0
    likelihood, _ = trainer.run_iteration(1)
    x = torch.tensor(make_X().toarray()).double()
    with torch.no_grad():
        z, _ = trainer.module.encoder(trainer.X.batch(torch.arange(N_USERS)))
        log_pi = torch.log_softmax(trainer.module.decoder(z), 1)
    assert likelihood == pytest.approx((x * log_pi).sum(1).mean().item(), rel=1e-5)


def test_best_weights_are_kept():
    scores = [0.1, 0.3, 0.2, 0.3]
    module, progress, seen = fit(make_X(), scores, max_iter=4)
    assert progress.best_iteration == 2  # the first of equals
    assert [record["validation_score"] for record in progress.history] == scores
    assert unchanged(seen[1], module)


@pytest.mark.parametrize("scores", [None, [0.1, 0.3, 0.2]])
def test_average_of_the_weights(scores):
    decay = 0.6
    alone = make_trainer(make_X())
    module, _, seen = fit(make_X(), scores, ema_decay=decay, max_iter=3)
    iterations, expected = [], []
    for number in range(1, 4):
        alone.run_iteration(number)  # the average does not change what is trained
        iterations.append(snapshot(alone.module))
        shares = decay ** np.arange(number)[::-1]
        shares /= shares.sum()
        expected.append(
            [
                sum(
                    share * weight
                    for share, weight in zip(shares.tolist(), weights, strict=True)
                )
                for weights in zip(*iterations, strict=True)
            ]
        )
    for weights, average in zip(seen, expected, strict=scores is not None):
        torch.testing.assert_close(weights, average)
    torch.testing.assert_close(snapshot(module), expected[1 if scores else 2])


def test_implicit_slim_comes_before_every_nth_iteration():
    X = make_X()
    trainer = make_trainer(X, slim_interval=2)
    alone = make_trainer(X)
    table = "encoder.input.weight"
    moments = trainer.state.tables[table]
    for number in range(1, 5):
        if number % 2 == 0:
            before = moments.mean.clone(), moments.square.clone()
            alone._refresh_posterior()  # all rows are up to date
            old_mean = alone.old.mean.clone()
            with torch.no_grad():
                for layer in (alone.module.encoder.input, alone.module.decoder):
                    layer.weight.copy_(
                        implicit_slim(
                            layer.weight, alone.X, regularization=2.0, min_count=3
                        )
                    )
            torch.testing.assert_close(before[0], alone.state.tables[table].mean)
            # The old posterior is still that of the encoder before it.
            torch.testing.assert_close(old_mean, alone.old.mean)
        trainer.run_iteration(number)
        alone.run_iteration(number)
        torch.testing.assert_close(snapshot(trainer.module), snapshot(alone.module))


def test_patience():
    scores = [0.1, 0.3, 0.2, 0.3, 0.9]
    _, progress, _ = fit(
        make_X(), scores, max_iter=5, early_stopping=True, n_iter_no_change=2
    )
    assert (len(progress.history), progress.best_iteration) == (4, 2)


def test_hooks_can_stop():
    class StopAtOnce(NoHooks):
        def end_iteration(self):
            return True

    _, progress, _ = fit(make_X(), hooks=StopAtOnce(), max_iter=4)
    (record,) = progress.history
    assert progress.best_iteration is None
    assert progress.best_score is None
    assert math.isnan(record["validation_score"])


def test_divergence_is_an_error_that_names_the_cause():
    with pytest.raises(ValueError, match=r"diverged in iteration \d.*learning_rate"):
        fit(make_X(), learning_rate=1e300, max_iter=20)


def test_weights_that_are_not_finite_are_noticed_in_the_last_iteration(monkeypatch):
    decoder_pass = Trainer._decoder_pass

    def broken_pass(trainer):
        decoder_pass(trainer)
        trainer.module.decoder.bias.data[3] = torch.nan

    monkeypatch.setattr(Trainer, "_decoder_pass", broken_pass)
    with pytest.raises(ValueError, match="all weights must be finite"):
        fit(make_X(), max_iter=1)


def test_auto_batch_size():
    options = TrainingOptions.of(RecVAERecommender())
    assert options.users_per_step(1_000_000) == 500
    sizes = [options.users_per_step(n) for n in (1, 600, 5000, 20_000)]
    assert sizes == sorted(sizes)


def test_options_are_parameters_with_the_same_names_and_defaults():
    options = TrainingOptions.of(RecVAERecommender())
    parameters = RecVAERecommender().get_params()
    for name, value in dataclasses.asdict(options).items():
        assert parameters[name] == value
    with pytest.raises(dataclasses.FrozenInstanceError):
        options.max_iter = 3


class SampledLikelihood:
    """The multinomial likelihood with a normaliser of items that are drawn."""

    def mean(self, features, output, batch, generator):
        drawn = torch.randint(len(output.bias), (9,), generator=generator)
        logits = features @ output.weight[drawn].T + output.bias[drawn]  # (n_rows, 9)
        own = (features[batch.rows] * output.weight[batch.items]).sum(1)
        own = own + output.bias[batch.items]  # (nnz,)
        of_rows = batch.totals * logits.logsumexp(1)
        return ((batch.values * own).sum() - of_rows.sum()) / batch.n_rows


class SampledRecommender(RecVAERecommender):
    def _build_objective(self, network):
        objective = super()._build_objective(network)
        return objective._replace(likelihood=SampledLikelihood())


def test_a_likelihood_that_draws_goes_on_from_a_checkpoint(tmp_path):
    X, _, _ = make_interactions(60, 40, mean_interactions=10, random_state=0)
    sizes = {"latent_dim": 4, "hidden_dim": 8, "random_state": 0}
    whole = SampledRecommender(max_iter=2, **sizes).fit(X)
    exact = RecVAERecommender(max_iter=2, **sizes).fit(X)
    for max_iter in (1, 2):
        resumed = SampledRecommender(max_iter=max_iter, **sizes)
        resumed.fit(X, checkpoint=tmp_path)
    assert_array_equal(resumed.predict(X), whole.predict(X))
    assert not np.array_equal(exact.predict(X), whole.predict(X))
