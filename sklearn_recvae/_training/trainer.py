"""How RecVAE is trained: the alternating schedule, validation, best weights.

One iteration is one cycle of the paper: passes that update the encoder only, a
refresh of every user's old posterior, passes that update the decoder only. Each
phase differentiates only what it updates.
"""

import math
from time import perf_counter

import torch

from sklearn_recvae._hardware import keep_freed_memory
from sklearn_recvae._kernels import mean_log_likelihood
from sklearn_recvae._training import objective
from sklearn_recvae._training.implicit_slim import implicit_slim

# Users encoded at once where nothing is trained.
ENCODE_BATCH_SIZE = 1024


def auto_batch_size(n_users):
    """Choose the paper's 500 for many users, fewer where a pass would be short.

    Parameters
    ----------
    n_users : int
        Number of training users.

    Returns
    -------
    int
        The batch size.
    """
    return min(500, max(50, n_users // 32))


class Trainer:
    """Runs iterations of RecVAE's schedule over a set of users.

    Parameters
    ----------
    state : TrainingState
        Advanced in place.
    X : InteractionTensors
        The training users.
    gamma, beta, prior_weights, noise_rate, decoder_noise, alternating, \
n_encoder_epochs, n_decoder_epochs, batch_size, learning_rate, slim_interval, \
slim_regularization, slim_min_count
        As in `RecVAERecommender`, validated, ``batch_size`` a number.
    matmul_dtype : torch.dtype
        What the large products are computed in.
    n_iterations : int
        How many have been run already.
    """

    def __init__(
        self,
        state,
        X,
        *,
        gamma,
        beta,
        prior_weights,
        noise_rate,
        decoder_noise,
        alternating,
        n_encoder_epochs,
        n_decoder_epochs,
        batch_size,
        learning_rate,
        slim_interval,
        slim_regularization,
        slim_min_count,
        matmul_dtype,
        n_iterations,
    ):
        self.module = state.module
        self.input_optimizer = state.input_optimizer
        self.encoder_optimizer = state.encoder_optimizer
        self.decoder_optimizer = state.decoder_optimizer
        self.generator = state.generator
        self.X = X
        self.gamma = gamma
        self.beta = beta
        self.prior_weights = prior_weights
        self.noise_rate = noise_rate
        self.decoder_noise = decoder_noise
        self.alternating = alternating
        self.n_encoder_epochs = n_encoder_epochs
        self.n_decoder_epochs = n_decoder_epochs
        self.batch_size = batch_size
        self.slim_interval = slim_interval
        self.slim_regularization = slim_regularization
        self.slim_min_count = slim_min_count
        self.matmul_dtype = matmul_dtype
        self.n_iterations = n_iterations
        for optimizer in (self.encoder_optimizer, self.decoder_optimizer):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate
        self.input_optimizer.lr = learning_rate
        self._kept_memory = keep_freed_memory()
        self._refresh_posterior()

    @torch.enable_grad()  # also where the caller has switched gradients off
    def run_iteration(self):
        """Run one iteration.

        Returns
        -------
        likelihood, kl : float
            Means over users and encoder passes, as seen in training (with noise).
        """
        self.n_iterations += 1
        if self.slim_interval and self.n_iterations % self.slim_interval == 0:
            self._apply_implicit_slim()
        if self.alternating:
            means = [
                self._elbo_epoch(joint=False) for _ in range(self.n_encoder_epochs)
            ]
            self._refresh_posterior()
            for _ in range(self.n_decoder_epochs):
                self._decoder_epoch()
        else:
            means = [self._elbo_epoch(joint=True)]
            self._refresh_posterior()
        # The only wait for the device in an iteration.
        return tuple(torch.stack(means).mean(0).tolist())

    def _shuffled_batches(self):
        order = torch.randperm(
            self.X.shape[0], generator=self.generator, device=self.X.device
        )
        return self.X.batches(self.batch_size, order)

    def _elbo_epoch(self, *, joint):
        """Update the encoder, and if `joint` the decoder, on the whole objective."""
        decoder = self.module.decoder
        # What is detached gets no gradient, and none is computed for it.
        weight = decoder.weight if joint else decoder.weight.detach()
        bias = decoder.bias if joint else decoder.bias.detach()
        keys = None if joint else self._keys()
        totals = torch.zeros(2, dtype=torch.float32, device=self.X.device)
        for users, batch in self._shuffled_batches():
            noised = self._without_empty_inputs(
                batch.dropout(self.noise_rate, self.generator)
            )
            sums = self.input_optimizer.look_up(noised)
            mean, log_variance = self.module.encoder(noised, self.matmul_dtype, sums)
            z, noise = objective.sample(mean, log_variance, self.generator)
            likelihood = mean_log_likelihood(
                z, weight, bias, batch, keys=keys or self._keys()
            )
            log_prior = objective.log_composite_prior(
                z,
                self.old_mean[users],
                self.old_log_variance[users],
                self.prior_weights,
            )
            kl = objective.kl_divergence(noise, log_variance, log_prior)
            kl_weight = objective.kl_weight(batch.totals, self.gamma, self.beta)
            ((kl_weight * kl).mean() - likelihood).backward()
            self.input_optimizer.step(sums.grad)
            self._step(self.encoder_optimizer)
            if joint:
                self._step(self.decoder_optimizer)
            totals += torch.stack([likelihood, kl.mean()]).detach() * batch.n_rows
        return totals / self.X.shape[0]

    def _decoder_epoch(self):
        """Update the decoder on the likelihood, which alone depends on it."""
        decoder = self.module.decoder
        for users, batch in self._shuffled_batches():
            if self.decoder_noise:
                with torch.no_grad():
                    noised = batch.dropout(self.noise_rate, self.generator)
                    noised = self._without_empty_inputs(noised)
                    mean, log_variance = self.module.encoder(noised, self.matmul_dtype)
            else:
                # The encoder stands still since the refresh, so the table has its
                # output for the clean row.
                mean, log_variance = self.old_mean[users], self.old_log_variance[users]
            z, _ = objective.sample(mean, log_variance, self.generator)
            likelihood = mean_log_likelihood(
                z, decoder.weight, decoder.bias, batch, keys=self._keys()
            )
            (-likelihood).backward()
            self._step(self.decoder_optimizer)

    def _refresh_posterior(self):
        """Fill the table of old posteriors: clean rows under the present encoder."""
        shape = (self.X.shape[0], self.module.latent_dim)
        self.old_mean = self.module.decoder.weight.new_empty(shape)
        self.old_log_variance = torch.empty_like(self.old_mean)
        self.input_optimizer.catch_up()
        with torch.no_grad():
            for users, batch in self.X.batches(ENCODE_BATCH_SIZE):
                self.old_mean[users], self.old_log_variance[users] = (
                    self.module.encoder(batch, self.matmul_dtype)
                )

    @torch.no_grad()
    def _apply_implicit_slim(self):
        """Move both embeddings of the items; the moments of Adam stay as they are."""
        self.input_optimizer.catch_up()
        for layer in (self.module.encoder.input, self.module.decoder):
            layer.weight.copy_(
                implicit_slim(
                    layer.weight,  # (n_items, width)
                    self.X,
                    regularization=self.slim_regularization,
                    min_count=self.slim_min_count,
                )
            )

    def _keys(self):
        """Cast the decoder as it stands to the dtype of the large products."""
        decoder = self.module.decoder
        return tuple(
            parameter.detach().to(self.matmul_dtype)
            for parameter in (decoder.weight, decoder.bias)
        )

    @staticmethod
    def _without_empty_inputs(batch):
        # On a GPU the host would have to wait for the number of entries.
        on_cpu = batch.inputs.device.type == "cpu"
        return batch.without_empty_inputs() if on_cpu else batch

    @staticmethod
    def _step(optimizer):
        optimizer.step()
        optimizer.zero_grad()


def train(
    trainer,
    hooks,
    progress,
    *,
    max_iter,
    validate=None,
    patience=None,
    save=None,
):
    """Run iterations, keep the best weights if there is a validation score.

    Parameters
    ----------
    trainer : Trainer
        Its module holds the result.
    hooks : object
        ``hooks.begin_iteration()`` is called before and ``hooks.end_iteration(record)``
        after each iteration; training stops if the latter returns True.
    progress : Progress
        Goes on from there, and is what comes out.
    max_iter : int
        Number of iterations, those before included.
    validate : callable, default=None
        Returns the validation score of progress.module, higher is better.
    patience : int, default=None
        Stop after that many iterations without a better score.
    save : callable, default=None
        Called after each iteration, when trainer and progress are up to date.

    Raises
    ------
    ValueError
        If the objective is no longer finite.
    """
    stop = False
    while (
        not stop
        and len(progress.history) < max_iter
        and not progress.has_stalled(patience)
    ):
        hooks.begin_iteration()
        start = perf_counter()
        likelihood, kl = trainer.run_iteration()
        if not _is_finite(likelihood, kl, trainer.module):
            raise ValueError(
                f"Training diverged in iteration {len(progress.history) + 1}: the "
                f"log-likelihood is {likelihood} and the KL divergence {kl}; these and "
                "all weights must be finite. The likely cause is a learning_rate that "
                "is too large, or very large values in X: lower learning_rate, or "
                "scale or binarize X."
            )
        progress.average(trainer.module)
        record = {
            "likelihood": likelihood,
            "kl": kl,
            "validation_score": math.nan if validate is None else validate(),
            "seconds": perf_counter() - start,
        }
        progress.add(record)
        if save is not None:
            save()
        stop = hooks.end_iteration(record)
    progress.give_best(trainer.module)


def _is_finite(likelihood, kl, module):
    # A sum is finite only if every term is, and costs one pass over the weights.
    total = torch.stack([weight.detach().sum() for weight in module.parameters()]).sum()
    return math.isfinite(likelihood + kl + total.item())
