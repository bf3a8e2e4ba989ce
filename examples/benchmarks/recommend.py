"""Users a second in `recommend`, beside the ALS of implicit on the same matrix.

implicit looks a user's factors up, and we encode the user's row first; what remains,
scores, mask and top-k, is the same work and has a row of its own.
"""

from functools import partial
from importlib.util import find_spec

import numpy as np
import torch
from ours import fit_briefly
from scipy.sparse import csr_matrix
from threadpoolctl import threadpool_limits
from timing import time_in_turns

from sklearn_recvae._batches import InteractionTensors
from sklearn_recvae._kernels import product
from sklearn_recvae._ranking import block_users, mask_entries, top_k
from sklearn_recvae.datasets import make_interactions

K = 100
IMPLICIT = "implicit ALS"


def measure(quick):
    """Yield the one measurement."""
    n_users, n_items = (100, 300) if quick else (100_000, 20_108)
    X, _, _ = make_interactions(n_users, n_items, mean_interactions=72, random_state=0)
    contestants = {
        "sklearn_recvae, recommend": partial(our_recommend, X),
        "sklearn_recvae, without encoding": partial(our_ranking, X),
    }
    missing = []
    if find_spec("implicit"):
        contestants[IMPLICIT] = partial(implicit_recommend, X)
        contestants[f"{IMPLICIT}, one BLAS thread"] = partial(with_one_blas_thread, X)
    else:
        missing.append({"name": IMPLICIT, "note": "not installed"})
    timing = time_in_turns(contestants, 1 if quick else 5)
    medians = timing["medians"]
    rows = [
        {"name": name, "value": n_users / seconds, "unit": "users a second"}
        for name, seconds in medians.items()
    ]
    if not missing:
        best = min(medians[name] for name in medians if name.startswith(IMPLICIT))
        for row in rows:
            ratio = best / medians[row["name"]]
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


def our_ranking(X):
    """Return a function that does the same, but knows the posterior means."""
    model = fit_briefly(X)
    means = torch.tensor(model.transform(X))
    tensors = InteractionTensors(X, model.module_.device)
    return lambda: rank(model.module_, tensors, means)


@torch.inference_mode()
def rank(module, X, means):
    """Rank as `ranking.rank` does, given the posterior means."""
    weight, bias = module.decoder.weight, module.decoder.bias
    size = block_users(len(weight))
    for (_, batch), mean in zip(X.batches(size), means.split(size), strict=True):
        scores = product(mean, weight, bias)
        mask_entries(scores, batch.rows, batch.items)
        top_k(scores, K)


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
