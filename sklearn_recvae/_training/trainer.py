"""Single training steps, and the iterations that they make up.

One iteration is one cycle of the paper: passes that update the encoder only, a
refresh of every user's old posterior, passes that update the decoder only. A step
computes gradients of what it trains, and of nothing else; one place applies them.
"""

from typing import NamedTuple

import torch

from sklearn_recvae._hardware import keep_freed_memory
from sklearn_recvae._training.distributed import OneProcess
from sklearn_recvae._training.implicit_slim import implicit_slim
from sklearn_recvae._training.objective import OutputLayer, Posterior
from sklearn_recvae._training.optimizers import LookUp

# Users encoded at once where nothing is trained.
ENCODE_BATCH_SIZE = 1024


class Gradients(NamedTuple):
    """What a step gives: gradients of the weights that it trains."""

    tables: dict  # by name, of tables that have a gradient for each row
    dense: dict  # by half of the network, of its other weights in order
    first_layer: tuple[LookUp, torch.Tensor] | None = None  # of the sums looked up


class Trainer:
    """Runs iterations over a set of users.

    Parameters
    ----------
    state : TrainingState
        Advanced in place.
    X : InteractionTensors
        The training users.
    objective : Objective
        What is maximised.
    options : TrainingOptions
        The schedule.
    communicator : Communicator, default=OneProcess()
        Joins the items of several processes.
    """

    def __init__(self, state, X, objective, options, communicator=OneProcess()):  # noqa: B008
        self.module = state.module
        self.state = state
        self.X = X
        self.objective = objective
        self.options = options
        self.communicator = communicator
        self.batch_size = options.users_per_step(X.shape[0])
        self.matmul_dtype = options.matmul_dtype(X.device)
        self.old = None  # Posterior of all users at the last refresh
        for optimizer in state.dense.values():
            for group in optimizer.param_groups:
                group["lr"] = options.learning_rate
        for table in state.tables.values():
            table.lr = options.learning_rate
        self._kept_memory = keep_freed_memory()
        self._refresh_posterior()

    @torch.enable_grad()  # also where the caller has switched gradients off
    def run_iteration(self, number):
        """Run one iteration.

        Parameters
        ----------
        number : int
            Of the iteration, counted from 1.

        Returns
        -------
        likelihood, kl : float
            Means over users and encoder passes, as seen in training (with noise).
        """
        options = self.options
        if options.slim_interval and number % options.slim_interval == 0:
            self._apply_implicit_slim()
        if options.alternating:
            means = [
                self._encoder_pass(joint=False) for _ in range(options.n_encoder_epochs)
            ]
            self._refresh_posterior()
            for _ in range(options.n_decoder_epochs):
                self._decoder_pass()
        else:
            means = [self._encoder_pass(joint=True)]
            self._refresh_posterior()
        # The only wait for the device in an iteration.
        return tuple(torch.stack(means).mean(0).tolist())

    def _shuffled_batches(self):
        order = torch.randperm(
            self.X.shape[0], generator=self.state.generator, device=self.X.device
        )
        return self.X.batches(self.batch_size, order)

    def _encoder_pass(self, *, joint):
        """Update the encoder, and if `joint` the decoder, on the whole objective."""
        output = None if joint else self._output_layer(trained=False)
        totals = torch.zeros(2, dtype=torch.float32, device=self.X.device)
        for users, batch in self._shuffled_batches():
            gradients, terms = self._encoder_step(users, batch, output)
            self._apply(gradients)
            totals += terms * batch.n_rows
        return totals / self.X.shape[0]

    def _encoder_step(self, users, batch, output):
        """Differentiate the objective by the encoder, and by the decoder if no output.

        Returns the gradients, and the likelihood and the KL divergence as (2,).
        """
        joint = output is None
        output = self._output_layer(trained=True) if joint else output
        noised = self._noised(batch)
        first = self.state.tables[self.module.input_table].look_up(noised)
        sums = self.communicator.sum_(first.sums).requires_grad_()  # (n_rows, hidden)
        posterior = Posterior(*self.module.encoder(noised, self.matmul_dtype, sums))
        draw = posterior.draw(self.state.generator)
        features = self.module.expand(draw.z, self.matmul_dtype)  # (n_rows, width)
        loss, likelihood, kl = self.objective.loss(
            draw,
            self._old_posterior(users),
            features,
            output,
            batch,
            self.state.n_steps,
            self.state.generator,
        )
        halves = ["encoder", "decoder"] if joint else ["encoder"]
        gradients = self._differentiate(loss, output if joint else None, halves, sums)
        *gradients, of_sums = gradients
        terms = torch.stack([likelihood, kl]).detach()
        return Gradients(*gradients, (first, of_sums)), terms

    def _decoder_pass(self):
        """Update the decoder on the likelihood, which alone depends on it."""
        for users, batch in self._shuffled_batches():
            self._apply(self._decoder_step(users, batch))

    def _decoder_step(self, users, batch):
        """Differentiate the likelihood by the decoder."""
        posterior = self._old_posterior(users)
        if self.options.decoder_noise:
            noised = self._noised(batch)
            with torch.no_grad():
                posterior = self._encode(noised)
        # Without noise it is that of the table, as the encoder stands still since.
        draw = posterior.draw(self.state.generator)
        features = self.module.expand(draw.z, self.matmul_dtype)  # (n_rows, width)
        output = self._output_layer(trained=True)
        likelihood = self.objective.likelihood.mean(
            features, output, batch, self.state.generator
        )
        return Gradients(*self._differentiate(-likelihood, output, ["decoder"]))

    def _differentiate(self, loss, output, halves, *others):
        """Give the gradients of tables, of dense weights by half, and of others."""
        names = [] if output is None else self.module.output_tables
        tables = [] if output is None else [output.weight, output.bias]
        dense = {half: self._dense_weights(half) for half in halves}
        inputs = [*tables, *(w for weights in dense.values() for w in weights), *others]
        gradients = iter(torch.autograd.grad(loss, inputs))
        return (
            {name: next(gradients) for name in names},
            {half: [next(gradients) for _ in each] for half, each in dense.items()},
            *gradients,
        )

    def _dense_weights(self, half):
        optimizer = self.state.dense.get(half)
        return [] if optimizer is None else optimizer.param_groups[0]["params"]

    def _apply(self, gradients):
        """Let the optimisers take a step. Nothing else changes weights in a pass."""
        if gradients.first_layer is not None:
            look_up, of_sums = gradients.first_layer
            self.state.tables[self.module.input_table].step(look_up, of_sums)
        for half, of_weights in gradients.dense.items():
            weights = self._dense_weights(half)
            for weight, gradient in zip(weights, of_weights, strict=True):
                weight.grad = gradient.contiguous()  # as the fused kernel expects
            if weights:
                self.state.dense[half].step()
                self.state.dense[half].zero_grad()
        for name, gradient in gradients.tables.items():
            self.state.tables[name].step_dense(gradient)

    def _refresh_posterior(self):
        """Fill the table of old posteriors: clean rows under the present encoder."""
        if not (self.objective.prior.uses_old_posterior or self.options.alternating):
            return
        self.state.catch_up()
        shape = (self.X.shape[0], self.module.latent_dim)
        mean = self.module.output.weight.new_empty(shape)
        self.old = Posterior(mean, torch.empty_like(mean))
        with torch.no_grad():
            for users, batch in self.X.batches(ENCODE_BATCH_SIZE):
                posterior = self._encode(batch)
                self.old.mean[users], self.old.log_variance[users] = posterior

    def _encode(self, batch):
        sums = self.communicator.sum_(self.module.encoder.input.sums(batch))
        return Posterior(*self.module.encoder(batch, self.matmul_dtype, sums))

    def _old_posterior(self, users):
        if self.old is None:
            return None
        return Posterior(self.old.mean[users], self.old.log_variance[users])

    @torch.no_grad()
    def _apply_implicit_slim(self):
        """Move the embeddings of the items; the moments of Adam stay as they are."""
        self.state.catch_up()
        for table in self.state.tables.values():
            if table.weight.ndim == 1:  # a bias is no embedding
                continue
            moved = implicit_slim(
                table.weight,  # (n_items, width)
                self.X,
                regularization=self.options.slim_regularization,
                min_count=self.options.slim_min_count,
            )
            table.weight.copy_(moved)

    def _output_layer(self, *, trained):
        """Give the last layer, without gradients if it is not trained."""
        weight, bias = self.module.output.weight, self.module.output.bias
        keys = tuple(each.detach().to(self.matmul_dtype) for each in (weight, bias))
        if not trained:
            weight, bias = weight.detach(), bias.detach()
        return OutputLayer(weight, bias, keys)

    def _noised(self, batch):
        """Drop some of what the encoder sees."""
        noised = batch.dropout(self.options.noise_rate, self.state.generator)
        # On a GPU the host would have to wait for the number of entries.
        on_cpu = batch.inputs.device.type == "cpu"
        return noised.without_empty_inputs() if on_cpu else noised
