"""Seconds of `explain` for one user and for 1,000, beside a loop over the history.

The loop leaves out one interaction after the other and predicts again, as one would
without `explain`.
"""

from functools import partial

import numpy as np
from ours import fit_briefly
from timing import time_in_turns

from sklearn_recvae.datasets import make_interactions

K = 10
ALL, ONE, LOOP = "explain, all users", "explain, one user", "a loop, one user"


def measure(quick):
    """Yield the one measurement."""
    n_users, n_items, mean = (10, 300, 20) if quick else (1000, 20_108, 72)
    X, _, _ = make_interactions(
        max(n_users, 50), n_items, mean_interactions=mean, random_state=0
    )
    X = X[:n_users]
    # The user of median activity.
    one = X[[np.argsort(np.diff(X.indptr))[n_users // 2]]]
    contestants = {
        ALL: partial(explaining, X, X),
        ONE: partial(explaining, X, one),
        LOOP: partial(looping, X, one),
    }
    timing = time_in_turns(contestants, 1 if quick else 5)
    medians = timing["medians"]
    rows = [{"name": n, "value": medians[n], "unit": "s"} for n in contestants]
    rows[0]["note"] = f"{n_users:,} users, {X.nnz:,} interactions"
    rows[1]["ratios"] = {"the speed of the loop": medians[LOOP] / medians[ONE]}
    rows[1]["note"] = f"{one.nnz} interactions"
    yield {
        "case": f"{K} items for each user, {n_items:,} items",
        "rows": rows,
        **timing,
    }


def explaining(X_train, X):
    """Return a function that explains the best items of each user."""
    model = fit_briefly(X_train)
    items = model.recommend(X, k=K)
    return lambda: model.explain(X, items)


def looping(X_train, X):
    """Return a function that does the same for the one user in X, by itself."""
    model = fit_briefly(X_train)
    items = model.recommend(X, k=K)[0]

    def loop():
        score = np.log(model.predict(X)[0, items])
        effects = []
        for seen in X.indices:
            without = X.copy()
            without.data[without.indices == seen] = 0
            effects.append(score - np.log(model.predict(without)[0, items]))
        return effects

    return loop
