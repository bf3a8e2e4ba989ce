"""What bad matrices, damaged and crafted files and kills lead to, counted.

    python examples/benchmarks/faults.py matrices --count 10000
    python examples/benchmarks/faults.py files --count 1000
    python examples/benchmarks/faults.py kills --count 50 --data ml-latest-small.zip

Everything runs in processes of their own, so that a crash is counted, not suffered.
"""

import argparse
import hashlib
import multiprocessing
import signal
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path

import damage
import numpy as np
from scipy.sparse import coo_array, csc_array, csr_array

from sklearn_recvae import EASERecommender, RecVAERecommender
from sklearn_recvae.datasets import load_movielens, make_interactions
from sklearn_recvae.metrics import ndcg_at_k, recall_at_k
from sklearn_recvae.model_selection import (
    holdout_interactions,
    strong_generalization_split,
)
from sklearn_recvae.preprocessing import InteractionEncoder

N_USERS, N_ITEMS = 30, 20
MEMORY_BYTES = 1 << 30  # that a process may take to load small files
SECONDS = 60  # after which a process counts as hanging
PER_PROCESS = 500


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", choices=STUDIES)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--data", help="a MovieLens zip, for the kills")
    args = parser.parse_args()
    outcomes = STUDIES[args.study](args)
    width = max(map(len, outcomes))
    for outcome, count in sorted(outcomes.items()):
        print(f"{outcome:{width}}  {count}")


# Matrices


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
        "EASE fit": EASERecommender().fit,
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


# Files


def study_files(args):
    """Load damaged files of models, and as many crafted ones."""
    return sum(
        (
            in_processes(function, args.count)
            for function in (load_damaged, load_crafted)
        ),
        Counter(),
    )


def load_damaged(seeds):
    limit_memory()
    return damage.try_damaged(seeds)


def load_crafted(seeds):
    limit_memory()
    return damage.try_crafted(seeds)


def limit_memory():
    """Let this process fail if it asks for much more memory than it has by now."""
    import resource  # is not on Windows

    with open("/proc/self/statm") as statm:
        n_bytes = int(statm.read().split()[0]) * resource.getpagesize()
    limit = n_bytes + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


# Kills


def study_kills(args):
    """Kill a fit at random moments, until it has been killed that often."""
    X = load_movielens(args.data).data
    with tempfile.TemporaryDirectory() as folder:
        start = time.monotonic()
        expected = run_fit(X, Path(folder, "uninterrupted"), kill_after=None)
        seconds = time.monotonic() - start
    outcomes, rng = Counter(), np.random.default_rng(0)
    while outcomes["killed"] < args.count:
        with tempfile.TemporaryDirectory() as folder:
            result = None
            while result is None:
                left = args.count - outcomes["killed"]
                # From while it imports to after the last iteration.
                kill_after = rng.uniform(0, 0.7 * seconds) if left else None
                result = run_fit(X, folder, kill_after)
                outcomes["killed"] += result is None
            same = "same" if result == expected else "ANOTHER"
            outcomes[f"came to its end with the {same} result"] += 1
    return outcomes


def run_fit(X, folder, kill_after):
    """Give a digest of the fitted weights; None if it was killed."""
    context = multiprocessing.get_context("spawn")
    connection, others_end = context.Pipe()
    process = context.Process(target=fit, args=(X, folder, others_end))
    process.start()
    others_end.close()
    if kill_after is not None and not connection.poll(kill_after):
        process.kill()
    process.join()
    if process.exitcode == -signal.SIGKILL:
        return None
    return connection.recv()


def fit(X, folder, connection):
    model = RecVAERecommender(32, hidden_dim=64, max_iter=20, random_state=0)
    model.fit(X[60:], X_val=X[:60], checkpoint=folder)
    digest = hashlib.sha256()
    for weight in model.module_.state_dict().values():
        digest.update(weight.numpy())
    for name in ("likelihood", "kl", "validation_score"):
        digest.update(model.history_[name])
    connection.send((digest.hexdigest(), model.best_iteration_))


def in_processes(function, count):
    """Call a function with so many seeds, some in each process."""
    outcomes = Counter()
    for start in range(0, count, PER_PROCESS):
        seeds = range(start, min(start + PER_PROCESS, count))
        outcomes += in_process(function, seeds)
    return outcomes


def in_process(function, argument):
    """Call a function in a process of its own; count a crash or a hang."""
    context = multiprocessing.get_context("spawn")
    connection, others_end = context.Pipe()
    process = context.Process(target=answer, args=(function, argument, others_end))
    process.start()
    others_end.close()
    try:
        if not connection.poll(SECONDS):
            return Counter({"HANGS": 1})
        return connection.recv()
    except EOFError:
        process.join()
        return Counter({f"PROCESS DIED with {process.exitcode}": 1})
    finally:
        process.kill()
        process.join()


def answer(function, argument, connection):
    connection.send(function(argument))


STUDIES = {"matrices": study_matrices, "files": study_files, "kills": study_kills}


if __name__ == "__main__":
    main()
