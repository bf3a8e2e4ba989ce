"""What single techniques give: a training iteration with one of them taken away."""

from functools import partial

import torch
from ours import precisions, training_iteration
from timing import time_in_turns

from sklearn_recvae import _kernels as kernels
from sklearn_recvae._training import optimizers
from sklearn_recvae._training import trainer as training
from sklearn_recvae.datasets import make_interactions

ALL = "all"


def measure(quick):
    """Yield the measurement of large batches, and of small ones of many items."""
    sizes = [(300, 20, 2)] if quick else [(20_108, 500, 4), (80_000, 50, 32)]
    for n_items, batch_size, n_batches in sizes:
        X, _, _ = make_interactions(
            n_batches * batch_size, n_items, mean_interactions=72, random_state=0
        )
        best = precisions()[-1]
        make = partial(training_iteration, X, batch_size)
        contestants = {ALL: partial(make, precision=best)}
        if best == "mixed":
            contestants["float32 products"] = partial(make, precision="float32")
        for name in techniques():
            contestants[f"without {name}"] = partial(
                iteration_without, name, partial(make, precision=best)
            )
        timing = time_in_turns(contestants, 1 if quick else 5)
        medians = timing["medians"]
        yield {
            "case": f"{n_batches} batches of {batch_size}, {n_items:,} items, {best}",
            "rows": [
                {
                    "name": name,
                    "value": seconds,
                    "unit": "s",
                    "ratios": {"the time with all": seconds / medians[ALL]},
                }
                for name, seconds in medians.items()
            ],
            **timing,
        }


def techniques():
    """Name what is taken away, and what stands in for it."""
    return {
        "the product of oneDNN": (kernels, "onednn_multiplies", lambda dtype: False),
        "dropping dropped entries": (
            training.Trainer,
            "_without_empty_inputs",
            staticmethod(lambda batch: batch),
        ),
        "deferring rows in Adam": (optimizers, "DEFERRED_SHARES", (0, 0)),
        "gradient blocks in Adam": (optimizers, "GRADIENT_BYTES", 2**40),
        "blocks of logits": (kernels, "BLOCK_BYTES", {"cpu": 2**40}),
        "the prior's gradient by hand": (
            training.objective,
            "log_composite_prior",
            prior_by_autograd,
        ),
    }


def prior_by_autograd(z, old_mean, old_log_variance, weights):
    """Compute the composite prior's log-density, its gradient left to autograd."""
    normal = torch.distributions.Normal
    wide = torch.exp(torch.tensor(training.objective.WIDE_LOG_VARIANCE / 2))
    terms = [
        normal(0.0, 1.0).log_prob(z),
        normal(old_mean, (0.5 * old_log_variance).exp()).log_prob(z),
        normal(0.0, wide).log_prob(z),
    ]
    logs = torch.tensor(weights).log()
    return torch.logsumexp(torch.stack(terms) + logs[:, None, None], 0).sum(1)


def iteration_without(technique, make):
    """Return what `make` makes, without one of the techniques."""
    owner, name, value = techniques()[technique]
    getattr(owner, name)  # where it is gone, nothing would be taken away
    setattr(owner, name, value)  # for good: the process is for nothing else
    return make()
