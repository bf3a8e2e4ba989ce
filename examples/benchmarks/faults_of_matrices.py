"""What malformed sparse matrices lead to, in every public function."""

import warnings
from collections import Counter

import numpy as np
from faults_counted import in_processes
from scipy.sparse import coo_array, csc_array, csr_array

from sklearn_recvae import EASERecommender, RecVAERecommender
from sklearn_recvae.datasets import make_interactions
from sklearn_recvae.metrics import ndcg_at_k, recall_at_k
from sklearn_recvae.model_selection import (
    holdout_interactions,
    strong_generalization_split,
)
from sklearn_recvae.preprocessing import InteractionEncoder

N_USERS, N_ITEMS = 30, 20


def study_matrices(args):
    """Call every public function with malformed sparse matrices."""
    return in_processes(try_matrices, args.count)


def try_matrices(seeds):
    warnings.simplefilter("ignore")
    X, _, _ = make_interactions(N_USERS, N_ITEMS, random_state=0)
    functions = list(make_functions(X).items())
    outcomes = Counter()
    for seed in seeds:
        rng = np.random.default_rng(seed)
        fault, matrix = break_matrix(X.copy(), rng)
        name, function = functions[seed % len(functions)]
        try:
            function(matrix)
        except Exception as error:
            outcomes[f"{fault}: {type(error).__name__}"] += 1
        else:
            outcomes[f"{fault}: accepted by {name}"] += 1
    return outcomes


def make_functions(X):
    """List the public functions that take a matrix."""
    recvae = RecVAERecommender(4, hidden_dim=8, max_iter=1, random_state=0).fit(X)
    ease = EASERecommender().fit(X)
    encoder = InteractionEncoder(user_ids=range(N_USERS), item_ids=range(N_ITEMS))
    encoder.fit({"user": [0], "item": [0]})
    ranks = recvae.recommend(X)
    new = RecVAERecommender(4, hidden_dim=8, max_iter=1)
    functions = {
        "fit": new.fit,
        "X_val": lambda matrix: new.fit(X, X_val=matrix),
        "y_val": lambda matrix: new.fit(X, X_val=X, y_val=matrix),
        "partial_fit": recvae.partial_fit,
        "transform": recvae.transform,
        "similar_users": recvae.similar_users,
        "score y": lambda matrix: recvae.score(X, matrix),
        "EASERecommender.fit": EASERecommender().fit,
        "inverse_transform of ids": encoder.inverse_transform,
        "holdout_interactions": holdout_interactions,
        "strong_generalization_split": lambda matrix: strong_generalization_split(
            matrix, 5, 5
        ),
        "ndcg_at_k": lambda matrix: ndcg_at_k(matrix, ranks),
        "recall_at_k": lambda matrix: recall_at_k(matrix, ranks),
    }
    for model in (recvae, ease):
        name = type(model).__name__
        functions |= {
            f"{name}.predict": model.predict,
            f"{name}.recommend": model.recommend,
            f"{name}.score": model.score,
            f"{name}.explain": lambda matrix, model=model: model.explain(
                matrix, np.zeros(N_USERS, dtype=int)
            ),
            f"{name}.recommend items": lambda matrix, model=model: model.recommend(
                X, items=matrix
            ),
            f"{name}.recommend exclude_items": (
                lambda matrix, model=model: model.recommend(X, exclude_items=matrix)
            ),
        }
    return functions


def break_matrix(X, rng):
    """Break a matrix at one place, by writing to its arrays."""
    kind = rng.choice(["csr", "csc", "coo"])
    X = {"csr": csr_array, "csc": csc_array, "coo": coo_array}[kind](X)
    faults = {
        "NaN": lambda: set_one(X.data, np.nan, rng),
        "infinity": lambda: set_one(X.data, rng.choice([np.inf, -np.inf]), rng),
        "negative": lambda: set_one(X.data, -rng.random(), rng),
    }
    if kind == "coo":
        axis = rng.integers(2)
        faults |= {
            "index too large": lambda: set_one(X.coords[axis], 10**6, rng),
            "index negative": lambda: set_one(
                X.coords[axis], -rng.integers(1, 99), rng
            ),
        }
    else:
        faults |= {
            "index too large": lambda: set_one(X.indices, 10**6, rng),
            "index negative": lambda: set_one(X.indices, -rng.integers(1, 99), rng),
            "indptr too large": lambda: set_one(X.indptr, 10**6, rng),
            "indptr negative": lambda: set_one(X.indptr, -rng.integers(1, 99), rng),
            "indptr decreases": lambda: swap_two(X.indptr, rng),
            "indices short": lambda: setattr(X, "indices", X.indices[:-3]),
            "data short": lambda: setattr(X, "data", X.data[:-3]),
            "indptr short": lambda: setattr(X, "indptr", X.indptr[:-1]),
        }
    fault = rng.choice(list(faults))
    faults[fault]()
    return fault, X


def set_one(array, value, rng):
    array[rng.integers(len(array))] = value


def swap_two(indptr, rng):
    place = rng.integers(1, len(indptr) - 2)
    indptr[place], indptr[place + 1] = indptr[place + 1] + 1, indptr[place]
