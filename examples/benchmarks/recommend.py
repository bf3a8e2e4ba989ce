"""Users a second in `recommend`, beside the ALS of implicit on the same matrix.

implicit looks a user's factors up, and we encode the user's row first. What remains,
scores, mask and top-k, is the same work. It has a row of its own: the time of
`recommend` less that of `transform`, which encodes and does nothing else.
"""

from functools import partial
from importlib.util import find_spec

import numpy as np
import torch
from ours import fit_briefly
from scipy.sparse import csr_matrix
from threadpoolctl import threadpool_limits
from timing import time_in_turns

from sklearn_recvae.datasets import make_interactions

K = 100
IMPLICIT = "implicit ALS"
RECOMMEND, ENCODE = "sklearn_recvae, recommend", "sklearn_recvae, transform"


def measure(quick):
    """Yield the one measurement."""
    n_users, n_items = (100, 300) if quick else (100_000, 20_108)
    X, _, _ = make_interactions(n_users, n_items, mean_interactions=72, random_state=0)
    contestants = {
        RECOMMEND: partial(our_recommend, X),
        ENCODE: partial(our_transform, X),
    }
    missing = []
    if find_spec("implicit"):
        contestants[IMPLICIT] = partial(implicit_recommend, X)
        contestants[f"{IMPLICIT}, one BLAS thread"] = partial(with_one_blas_thread, X)
    else:
        missing.append({"name": IMPLICIT, "note": "not installed"})
    timing = time_in_turns(contestants, 1 if quick else 5)
    seconds = dict(timing["medians"])
    # Of tiny matrices the difference of two times may be nothing but noise.
    ranking = max(seconds[RECOMMEND] - seconds.pop(ENCODE), 1e-9)
    seconds["sklearn_recvae, without encoding"] = ranking
    rows = [
        {"name": name, "value": n_users / each, "unit": "users a second"}
        for name, each in seconds.items()
    ]
    if not missing:
        best = min(seconds[name] for name in seconds if name.startswith(IMPLICIT))
        for row in rows:
            ratio = best / seconds[row["name"]]
            row["ratios"] = {"the speed of implicit at its best": ratio}
    yield {
        "case": f"{K} items for each of {n_users:,} users, {n_items:,} items",
        "rows": rows + missing,
        **timing,
    }


def our_recommend(X):
    """Return a function that recommends to all users."""
    model = fit_briefly(X)
    return lambda: model.recommend(X, k=K)


def our_transform(X):
    """Return a function that encodes all users."""
    model = fit_briefly(X)
    return lambda: model.transform(X)


def implicit_recommend(X):
    """Return a function that recommends with ALS factors; random ones cost the same."""
    from implicit.als import AlternatingLeastSquares

    X = csr_matrix(X)
    rng = np.random.default_rng(0)
    n_threads = torch.get_num_threads()
    als = AlternatingLeastSquares(factors=200, num_threads=n_threads)
    als.user_factors, als.item_factors = (
        rng.standard_normal((n, 200), dtype=np.float32) for n in X.shape
    )
    users = np.arange(X.shape[0])
    return lambda: als.recommend(users, X, N=K, filter_already_liked_items=True)


def with_one_blas_thread(X):
    """Return the same with BLAS limited, as implicit advises: it has own threads."""
    recommend = implicit_recommend(X)

    def run():
        with threadpool_limits(1, "blas"):
            recommend()

    return run
