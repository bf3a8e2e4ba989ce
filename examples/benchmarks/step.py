"""A training cycle beside the dense partner: three encoder steps and one decoder step.

The refresh of the old posteriors is part of it. A round runs the cycle on two batches,
so that what is done once an iteration counts for a fair share.
"""

from functools import partial

from dense_partner import DensePartner
from ours import precisions, training_iteration
from timing import time_in_turns

from sklearn_recvae.datasets import make_interactions

N_BATCHES = 2
PLAIN = "dense partner"
LEAN = "dense partner, fused Adam, idle half frozen"


def measure(quick):
    """Yield the measurement of each size: items, batch size, mean interactions."""
    sizes = [(20_108, 500, 72), (3_500, 500, 95), (6_298, 50, 80)]
    if quick:
        sizes = [(300, 20, 20)]
    for n_items, batch_size, mean_interactions in sizes:
        X, _, _ = make_interactions(
            N_BATCHES * batch_size,
            n_items,
            mean_interactions=mean_interactions,
            random_state=0,
        )
        contestants = {
            PLAIN: partial(dense_iteration, X, batch_size, lean=False),
            LEAN: partial(dense_iteration, X, batch_size, lean=True),
        }
        for precision in precisions():
            make = partial(training_iteration, X, batch_size, precision=precision)
            contestants[f"sklearn_recvae, {precision}"] = make
        timing = time_in_turns(contestants, 1 if quick else 5)
        medians = timing["medians"]
        yield {
            "case": f"{n_items:,} items, batch {batch_size}, "
            f"{X.nnz / X.shape[0]:.0f} interactions a user",
            "rows": [
                {
                    "name": name,
                    "value": 1000 * seconds / N_BATCHES,
                    "unit": "ms a cycle",
                    "ratios": {
                        "the speed of dense": medians[PLAIN] / seconds,
                        "that of the second": medians[LEAN] / seconds,
                    },
                }
                for name, seconds in medians.items()
            ],
            **timing,
        }


def dense_iteration(X, batch_size, lean):
    """Return a function that runs the dense partner's cycle on each batch of X."""
    partner = DensePartner(X.shape[1], lean=lean)

    def run():
        for begin in range(0, X.shape[0], batch_size):
            partner.run_cycle(X[begin : begin + batch_size])

    return run
