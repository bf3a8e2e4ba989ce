"""A fit from its first iteration to its last: options, validation, stopping.

X goes in once, with a training state and an objective; what comes out is in the state
and in the progress.
"""

import dataclasses
import math
from time import perf_counter

import torch

from sklearn_recvae._batches import InteractionTensors
from sklearn_recvae._hardware import resolve_matmul_dtype
from sklearn_recvae._training.trainer import Trainer


@dataclasses.dataclass(frozen=True)
class TrainingOptions:
    """The parameters of an estimator that say how it is trained, by their names.

    The defaults are for estimators that do not have the parameter. Where their
    docstrings say what a value means, these fields mean the same.
    """

    max_iter: int
    batch_size: int | str
    learning_rate: float
    noise_rate: float
    precision: str
    early_stopping: bool
    n_iter_no_change: int
    max_seconds: float | None = None
    decoder_noise: bool = False
    alternating: bool = False
    n_encoder_epochs: int = 1
    n_decoder_epochs: int = 1
    ema_decay: float = 0.0
    slim_interval: int | None = None
    slim_regularization: float = 200.0
    slim_min_count: int = 20

    @classmethod
    def of(cls, estimator, **changes):
        """Take the parameters of an estimator.

        Parameters
        ----------
        estimator : estimator instance
            Its parameters are valid.
        **changes : object
            Options that are to have other values.

        Returns
        -------
        TrainingOptions
            Those that say how it is trained.
        """
        parameters = estimator.get_params(deep=False)
        names = {field.name for field in dataclasses.fields(cls)} & parameters.keys()
        return cls(**{name: parameters[name] for name in names} | changes)

    def users_per_step(self, n_users):
        """Give the batch size: "auto" is the paper's 500, or fewer for short passes.

        Parameters
        ----------
        n_users : int
            Number of training users.

        Returns
        -------
        int
            The batch size; there may be fewer users.
        """
        if self.batch_size == "auto":
            return min(500, max(50, n_users // 32))
        return int(self.batch_size)

    def matmul_dtype(self, device):
        """Give the dtype of the large products.

        Parameters
        ----------
        device : torch.device
            Where they are computed.

        Returns
        -------
        torch.dtype
            torch.bfloat16 or torch.float32.
        """
        return resolve_matmul_dtype(self.precision, device)

    def time_is_up(self, seconds):
        """Say whether no other iteration is to begin.

        Parameters
        ----------
        seconds : float
            How long the fit has taken.

        Returns
        -------
        bool
            Whether that is too long.
        """
        return self.max_seconds is not None and seconds >= self.max_seconds

    @property
    def patience(self):
        """Iterations without a better score after which to stop; None means never."""
        return self.n_iter_no_change if self.early_stopping else None


def run_fit(X, state, progress, objective, options, hooks, *, validate=None, save=None):
    """Run iterations, keep the best weights if there is a validation score.

    Parameters
    ----------
    X : csr_array of shape (n_users, n_items)
        The training users, canonical.
    state : TrainingState
        Advanced in place; its module holds the result.
    progress : Progress
        Goes on from there, and says what has been reached.
    objective : Objective
        What is maximised.
    options : TrainingOptions
        The schedule; `max_iter` counts the iterations before, too.
    hooks : IterationHooks
        Called before and after each iteration; training stops if the latter call
        returns True.
    validate : callable, default=None
        Gives the validation score of a module, higher is better.
    save : callable, default=None
        Called without arguments after each iteration.

    Raises
    ------
    ValueError
        If the objective is no longer finite.
    """
    trainer = Trainer(
        state, InteractionTensors(X, state.module.device), objective, options
    )
    begin, stop = perf_counter(), False
    while (
        not stop
        and len(progress.history) < options.max_iter
        and not progress.has_stalled(options.patience)
    ):
        hooks.begin_iteration()
        number = len(progress.history) + 1
        start = perf_counter()
        likelihood, kl = trainer.run_iteration(number)
        _check_finite(number, likelihood, kl, state.module)
        progress.average(state.module)
        score = math.nan if validate is None else validate(progress.module)
        progress.add(
            {
                "likelihood": likelihood,
                "kl": kl,
                "validation_score": score,
                "seconds": perf_counter() - start,
            }
        )
        if save is not None:
            save()
        stop = hooks.end_iteration() or options.time_is_up(perf_counter() - begin)
    progress.give_best(state.module)


def _check_finite(number, likelihood, kl, module):
    """Raise a ValueError if training has diverged."""
    # A sum is finite only if every term is, and costs one pass over the weights.
    total = torch.stack([weight.detach().sum() for weight in module.parameters()]).sum()
    if not math.isfinite(likelihood + kl + total.item()):
        raise ValueError(
            f"Training diverged in iteration {number}: the "
            f"log-likelihood is {likelihood} and the KL divergence {kl}; these and "
            "all weights must be finite. The likely cause is a learning_rate that "
            "is too large, or very large values in X: lower learning_rate, or "
            "scale or binarize X."
        )
