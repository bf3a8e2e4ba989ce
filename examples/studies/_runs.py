"""Read data, keep finished runs, evaluate rankings, and compare runs user by user.

Shared by the studies beside this file. A run is a dictionary that is kept as one JSON
file; while the file is there, the run is not computed again.
"""

import argparse
import hashlib
import json
import os
import platform
import shlex
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import scipy
import sklearn
import torch
from scipy import stats
from scipy.sparse import csr_array, csr_matrix, load_npz, vstack
from sklearn.utils import Bunch

import sklearn_recvae
from sklearn_recvae.datasets import load_movielens
from sklearn_recvae.metrics import ndcg_at_k, rank_scores, recall_at_k
from sklearn_recvae.model_selection import strong_generalization_split

N_RANKS = 100
SPLIT_SEED = 98765  # of the published split
DATA_HELP = (
    "a matrix of users by items (.npz), a MovieLens zip, its folder, or a folder with "
    "the matrices of a split that is made already"
)
# Files of such a folder.
SPLIT_FILES = {
    "X_train": "train.npz",
    "X_val": "val_fold_in.npz",
    "y_val": "val_held_out.npz",
    "X_test": "test_fold_in.npz",
    "y_test": "test_held_out.npz",
}
METRICS = {
    "NDCG@100": (ndcg_at_k, 100),
    "Recall@20": (recall_at_k, 20),
    "Recall@50": (recall_at_k, 50),
}


def make_parser(description, output):
    """Make a parser of the options that all studies have."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument(
        "--results", type=Path, default=Path("results"), help="folder of finished runs"
    )
    parser.add_argument("--output", default=output, help="the picture")
    return parser


def add_data_arguments(parser):
    """Add the options of `load_and_split`."""
    parser.add_argument("--data", type=Path, required=True, help=DATA_HELP)
    parser.add_argument(
        "--n-heldout",
        type=int,
        help="users for validation, and as many for the test; else a tenth each",
    )


def add_summary_arguments(parser):
    """Add the options of `add_to_summary`."""
    parser.add_argument("--summary", type=Path, help="JSON file of the tables of data")
    parser.add_argument("--name", help="name of these data in the summary")


def add_to_summary(file, name, table):
    """Put the table of these data into a file of tables, and say how it was made."""
    tables = json.loads(file.read_text()) if file.exists() else {}
    tables[name] = {"made": provenance(), **table}
    file.write_text(json.dumps(tables, indent=1) + "\n")


def describe(split):
    """Give the sizes of a split."""
    n_train, n_items = split.X_train.shape
    return {
        "n_users": {part: split[f"X_{part}"].shape[0] for part in ("train", "test")},
        "n_items": n_items,
        "mean_interactions": split.X_train.nnz / n_train,
    }


def auto_batch_size(n_users):
    """Give what ``batch_size="auto"`` is for so many training users."""
    return min(500, max(50, n_users // 32))


def load_interactions(path):
    """Read a sparse matrix as SciPy saves it, or MovieLens ratings above 3.5."""
    if path.suffix == ".npz":
        return load_npz(path)
    return load_movielens(path).data


def load_and_split(path, n_heldout):
    """Set users aside to validate, and as many for the test; None is a tenth each."""
    if (path / SPLIT_FILES["X_train"]).exists():
        split = Bunch(
            **{part: csr_array(load_npz(path / f)) for part, f in SPLIT_FILES.items()}
        )
        held_out_users = split.X_val + split.y_val, split.X_test + split.y_test
        print_sizes(vstack([split.X_train, *held_out_users]), split)
        return split
    X = load_interactions(path)
    if n_heldout is None:
        n_heldout = X.shape[0] // 10
    split = strong_generalization_split(
        X, n_heldout, n_heldout, random_state=SPLIT_SEED
    )
    print_sizes(X, split)
    return split


def print_sizes(X, split):
    print(
        f"{X.shape[0]} users, {X.shape[1]} items, {X.nnz} interactions. "
        f"{split.X_train.shape[0]} users are trained on, {split.X_val.shape[0]} "
        f"validate, {split.X_test.shape[0]} test."
    )


def run_recvae(folder, name, model, split, users="test"):
    """Fit, keep the best iteration by validation, and evaluate these users once."""
    settings = {"model": "RecVAERecommender", **model.get_params()}
    settings["data"] = fingerprint(split)

    def compute():
        # After the settings were taken: what is printed does not change the result.
        model.set_params(verbose=sys.stdout.isatty())
        model.fit(split.X_train, X_val=split.X_val, y_val=split.y_val)
        return {
            "best_iteration": model.best_iteration_,
            "validation": model.best_score_,
            "history": model.history_["validation_score"].tolist(),
            users: evaluate(
                split[f"y_{users}"], model.recommend(split[f"X_{users}"], k=N_RANKS)
            ),
        }

    return load_or_compute(folder, name, settings, compute)


def load_or_compute(folder, name, settings, compute):
    """Give the run of these settings, from its file or else by `compute`.

    The settings are in the file and, as a hash, in its name: a file of other settings,
    or one that was cut short, is never taken for this run.
    """
    settings = json.loads(json.dumps(settings))  # as they will be read
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
    file = folder / f"{name}-{digest[:12]}.json"
    if file.exists():
        run = read_run(file)
        if run is not None and run["settings"] == settings:
            if run["versions"] != get_versions():
                print(f"{file.name}: by {run['versions']}", file=sys.stderr)
            return run
        print(f"{file.name} is damaged: computed again", file=sys.stderr)
    print(f"{name}: computing", file=sys.stderr, flush=True)
    start = time.perf_counter()
    result = compute()
    seconds = round(time.perf_counter() - start, 2)
    print(f"{name}: {seconds:.0f} s", file=sys.stderr, flush=True)
    run = {"settings": settings, "versions": get_versions(), "seconds": seconds}
    run |= result
    write_run(file, run)
    return run


def read_run(file):
    """Read a run; None for a file that is not whole."""
    try:
        return json.loads(file.read_text())
    except ValueError:
        return None


def write_run(file, run):
    """Write a run so that its file is whole or not there, whenever this is stopped."""
    temporary = file.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_text(json.dumps(run, separators=(",", ":")))
    os.replace(temporary, file)


def get_versions():
    """List what a result depends on beside its settings."""
    modules = np, scipy, sklearn, torch, sklearn_recvae
    versions = {module.__name__: str(module.__version__) for module in modules}
    return {"python": platform.python_version(), **versions}


def provenance():
    """Say how the table that is made now was made."""
    arguments = iter(sys.argv[1:])
    told = []  # all but where files are
    for argument in arguments:
        if argument in ("--results", "--output", "--summary"):
            next(arguments)
        else:
            told.append(argument)
    command = shlex.join([f"examples/studies/{Path(sys.argv[0]).name}", *told])
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--exclude=*"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return {
        "command": f"python {command}",
        "commit": commit.stdout.strip() or "unknown",
        "machine": f"{os.cpu_count()} CPUs, {processor()}",
        "date": time.strftime("%Y-%m-%d"),
    }


def processor():
    """Name the processor, as Linux does where it runs."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(": ")[1] for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def fingerprint(split):
    """Tell this split of this data from any other: size and checksum of its parts."""
    parts = {}
    for name in ["X_train", "X_val", "y_val", "X_test", "y_test"]:
        X = split[name]
        checksum = 0
        for array in (X.indptr, X.indices, X.data):
            checksum = zlib.crc32(array, checksum)
        parts[name] = {"shape": list(X.shape), "nnz": X.nnz, "crc32": checksum}
    return parts


def rank_by_scores(split, score, block_size=1000):
    """Give the function that ranks the unseen items of a part of the split.

    It scores with ``score(part, rows)``, in blocks, because the scores of all users at
    once would be users times items.
    """

    def rank(part):
        n_users = split[part].shape[0]
        ranks = []
        for start in range(0, n_users, block_size):
            rows = slice(start, min(start + block_size, n_users))
            ranks.append(rank_scores(score(part, rows), split[part][rows], N_RANKS))
        return np.concatenate(ranks)

    return rank


def stack_all_users(split):
    """Stack what may be seen of all users, for models that know no other users.

    Gives the rows, and the number of the first one of each part.
    """
    parts = ["X_train", "X_val", "X_test"]
    rows = csr_matrix(vstack([split[part] for part in parts]))
    sizes = [split[part].shape[0] for part in parts]
    return rows, dict(zip(parts, np.cumsum([0, *sizes]).tolist(), strict=False))


def evaluate(y_true, ranks):
    """Compute the metrics of each user, to the six digits that a file keeps."""
    return {
        name: metric(y_true, ranks, k, average=None).round(6).tolist()
        for name, (metric, k) in METRICS.items()
    }


def mean_over_seeds(runs, metric):
    """Average the runs of several seeds: one value for each test user."""
    return np.mean([run["test"][metric] for run in runs], axis=0)


def mean_and_error(values):
    """Compute the mean over users and its standard error."""
    if len(values) < 2:
        raise ValueError(
            f"{len(values)} test user is left, expected at least 2 for a standard "
            "error. Hold out more users, or pass users with more interactions."
        )
    return np.mean(values), np.std(values, ddof=1) / np.sqrt(len(values))


def paired_difference(values, others):
    """Compute the mean difference of the same users, and the half of its interval.

    The interval has 95 % and is of Student's t distribution. It speaks of other users
    of the same kind, for the seeds at hand.
    """
    mean, error = mean_and_error(np.subtract(values, others))
    return mean, stats.t.ppf(0.975, len(values) - 1) * error
