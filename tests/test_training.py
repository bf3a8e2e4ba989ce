import copy
import math

import numpy as np
import pytest
import torch

from sklearn_recvae._batches import InteractionTensors
from sklearn_recvae._interactions import as_csr
from sklearn_recvae._network import build_recvae
from sklearn_recvae._training.implicit_slim import implicit_slim
from sklearn_recvae._training.optimizers import InputAdam
from sklearn_recvae._training.state import Progress, new_training_state
from sklearn_recvae._training.trainer import Trainer, auto_batch_size, train

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
    "matmul_dtype": torch.float64,
    "n_iterations": 0,
}


class NoHooks:
    def begin_iteration(self):
        pass

    def end_iteration(self, record):
        return False


def make_X(seed=0):
    rng = np.random.default_rng(seed)
    shape = (N_USERS, N_ITEMS)
    # Powers of two are exact in float32 after normalisation by their norm is undone.
    X = rng.choice([1.0, 2.0], size=shape) * (rng.uniform(size=shape) < 0.4)
    X[4] = 0
    return as_csr(X)


def make_trainer(X, seed=0, **changed):
    module = build_recvae(N_ITEMS, LATENT, HIDDEN, 3, True, seed=seed).double()
    state = new_training_state(module, seed)
    tensors = InteractionTensors(X, torch.device("cpu"))
    return Trainer(state, tensors, **{**PARAMETERS, **changed})


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
    for _ in range(2):
        trainer.run_iteration()
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
    trainer._elbo_epoch(joint=False)
    assert not unchanged(before[0], encoder)
    assert unchanged(before[1], decoder)
    before = snapshot(encoder), snapshot(decoder)
    trainer._decoder_epoch()
    assert unchanged(before[0], encoder)
    assert not unchanged(before[1], decoder)
    before = snapshot(encoder), snapshot(decoder)
    trainer._elbo_epoch(joint=True)
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
    torch.testing.assert_close(trainer.old_mean, initial[0])
    torch.testing.assert_close(trainer.old_log_variance, initial[1])
    # The encoder phase leaves the table as it was.
    trainer._elbo_epoch(joint=False)
    torch.testing.assert_close(trainer.old_mean, initial[0])
    # After an iteration: the encoder as it stands, which the decoder phase kept.
    trainer.run_iteration()
    torch.testing.assert_close(trainer.old_mean, clean_posterior()[0])
    assert not torch.allclose(trainer.old_mean, initial[0])


def test_both_optimisers_are_adam_with_a_state_of_their_own():
    trainer = make_trainer(make_X())
    trainer.run_iteration()
    optimizers = trainer.encoder_optimizer, trainer.decoder_optimizer
    encoder, decoder = trainer.module.encoder, trainer.module.decoder
    table = trainer.input_optimizer
    assert type(table) is InputAdam
    assert table.weight is encoder.input.weight
    assert table.lr == PARAMETERS["learning_rate"]
    rest = [p for p in encoder.parameters() if p is not table.weight]
    steps = []
    for optimizer, parameters in zip(
        optimizers, (rest, decoder.parameters()), strict=True
    ):
        (group,) = optimizer.param_groups
        assert type(optimizer) is torch.optim.Adam
        assert group["weight_decay"] == 0
        assert group["lr"] == PARAMETERS["learning_rate"]
        assert {id(p) for p in group["params"]} == {id(p) for p in parameters}
        steps.append({state["step"].item() for state in optimizer.state.values()})
    n_batches = math.ceil(N_USERS / BATCH_SIZE)
    assert steps == [{3 * n_batches}, {n_batches}]
    assert table.n_steps == 3 * n_batches


def test_means_of_an_iteration_are_those_of_its_batches():
    # Without noise and with the same z, the objective is that of the whole matrix.
    trainer = make_trainer(make_X(), noise_rate=0, learning_rate=0.0)
    trainer.module.encoder.posterior.bias.data[LATENT:] = -60
    trainer.module.encoder.posterior.weight.data[LATENT:] = 0
    likelihood, _ = trainer.run_iteration()
    x = torch.tensor(make_X().toarray()).double()
    with torch.no_grad():
        z, _ = trainer.module.encoder(trainer.X.batch(torch.arange(N_USERS)))
        log_pi = torch.log_softmax(trainer.module.decoder(z), 1)
    assert likelihood == pytest.approx((x * log_pi).sum(1).mean().item(), rel=1e-5)


def test_best_weights_are_kept():
    trainer = make_trainer(make_X())
    scores = iter([0.1, 0.3, 0.2, 0.3])
    weights = []

    def validate():
        weights.append(snapshot(trainer.module))
        return next(scores)

    progress = Progress(trainer.module)
    train(trainer, NoHooks(), progress, max_iter=4, validate=validate)
    assert progress.best_iteration == 2  # the first of equals
    assert [record["validation_score"] for record in progress.history] == [
        0.1,
        0.3,
        0.2,
        0.3,
    ]
    assert unchanged(weights[1], trainer.module)


@pytest.mark.parametrize("validated", [False, True])
def test_average_of_the_weights(validated):
    decay = 0.6
    trainer, alone = make_trainer(make_X()), make_trainer(make_X())
    progress = Progress(trainer.module, decay)
    expected, seen = [], []

    def validate():
        seen.append(snapshot(progress.module))
        return [0.1, 0.3, 0.2][len(seen) - 1]

    train(
        trainer,
        NoHooks(),
        progress,
        max_iter=3,
        validate=validate if validated else None,
    )
    iterations = []
    for number in range(1, 4):
        alone.run_iteration()  # the average does not change what is trained
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
    if validated:
        for weights, average in zip(seen, expected, strict=True):
            torch.testing.assert_close(weights, average)
    given_out = expected[1 if validated else 2]
    torch.testing.assert_close(snapshot(trainer.module), given_out)


def test_implicit_slim_comes_before_every_nth_iteration():
    X = make_X()
    trainer = make_trainer(X, slim_interval=2)
    alone = make_trainer(X)
    moments = trainer.input_optimizer
    for number in range(1, 5):
        if number % 2 == 0:
            before = moments.mean.clone(), moments.square.clone()
            alone._refresh_posterior()  # all rows are up to date
            old_mean = alone.old_mean.clone()
            with torch.no_grad():
                for layer in (alone.module.encoder.input, alone.module.decoder):
                    layer.weight.copy_(
                        implicit_slim(
                            layer.weight, alone.X, regularization=2.0, min_count=3
                        )
                    )
            torch.testing.assert_close(before[0], alone.input_optimizer.mean)
            # The old posterior is still that of the encoder before it.
            torch.testing.assert_close(old_mean, alone.old_mean)
        trainer.run_iteration()
        alone.run_iteration()
        torch.testing.assert_close(snapshot(trainer.module), snapshot(alone.module))


def test_patience():
    trainer = make_trainer(make_X())
    scores = iter([0.1, 0.3, 0.2, 0.3, 0.9])
    progress = Progress(trainer.module)
    train(
        trainer,
        NoHooks(),
        progress,
        max_iter=5,
        validate=lambda: next(scores),
        patience=2,
    )
    assert (len(progress.history), progress.best_iteration) == (4, 2)


def test_hooks_can_stop():
    class StopAtOnce(NoHooks):
        def end_iteration(self, record):
            return True

    trainer = make_trainer(make_X())
    progress = Progress(trainer.module)
    train(trainer, StopAtOnce(), progress, max_iter=4)
    (record,) = progress.history
    assert progress.best_iteration is None
    assert progress.best_score is None
    assert math.isnan(record["validation_score"])


def test_divergence_is_an_error_that_names_the_cause():
    trainer = make_trainer(make_X(), learning_rate=1e300)
    with pytest.raises(ValueError, match=r"diverged in iteration \d.*learning_rate"):
        train(trainer, NoHooks(), Progress(trainer.module), max_iter=20)


def test_weights_that_are_not_finite_are_noticed_in_the_last_iteration():
    trainer = make_trainer(make_X())
    epoch = trainer._decoder_epoch

    def broken_epoch():
        epoch()
        trainer.module.decoder.bias.data[3] = torch.nan

    trainer._decoder_epoch = broken_epoch
    with pytest.raises(ValueError, match="all weights must be finite"):
        train(trainer, NoHooks(), Progress(trainer.module), max_iter=1)


def test_auto_batch_size():
    assert auto_batch_size(1_000_000) == 500
    sizes = [auto_batch_size(n) for n in (1, 600, 5000, 20_000)]
    assert sizes == sorted(sizes)
    assert sizes[0] >= 1
