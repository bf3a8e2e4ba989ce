"""What validation costs in each iteration of `fit`, as a share of the iteration.

Ranking and NDCG@100 of 10,000 held-out users, beside an iteration on the training users
of MovieLens-20M. The latter is timed on fewer users and scaled up.
"""

from functools import partial

from ours import fit_briefly, training_iteration
from timing import time_in_turns

from sklearn_recvae.datasets import make_interactions
from sklearn_recvae.model_selection import holdout_interactions

N_USERS = 116_677


def measure(quick):
    """Yield the one measurement."""
    n_val, n_timed, n_items = (50, 50, 300) if quick else (10_000, 8_000, 20_108)
    X, _, _ = make_interactions(
        n_val + n_timed, n_items, mean_interactions=75, random_state=0
    )
    fold_in, held_out = holdout_interactions(X[:n_val], 0.2, random_state=0)
    X_train = X[n_val:]
    contestants = {
        "validation": partial(scoring, X_train, fold_in, held_out),
        "iteration": partial(training_iteration, X_train),
    }
    timing = time_in_turns(contestants, 1 if quick else 5)
    validation, iteration = timing["medians"].values()
    scaled = iteration * N_USERS / n_timed
    yield {
        "case": f"NDCG@100 of {n_val:,} users, {n_items:,} items",
        "rows": [
            {
                "name": "validation",
                "value": validation,
                "unit": "s",
                "ratios": {"an iteration": validation / scaled},
                "note": f"that is {100 * validation / scaled:.2g} %",
            },
            {
                "name": f"iteration on {N_USERS:,} users",
                "value": scaled,
                "unit": "s",
                "note": f"scaled from the time of {n_timed:,}",
            },
        ],
        **timing,
    }


def scoring(X_train, fold_in, held_out):
    """Return a function that scores the held-out users."""
    model = fit_briefly(X_train)
    return lambda: model.score(fold_in, held_out)
