"""Memory and time of EASE, exact and sparse, as the catalogue grows.

A matrix is drawn for each number of items, or the most popular items of a saved one are
taken. Each fit has a process of its own, and its peak is nobody else's.

    python examples/benchmarks/catalogue.py --items 2500
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from machine import describe_machine
from memory import report
from scipy.sparse import csr_array, load_npz, save_npz

from sklearn_recvae import EASERecommender, SparseEASERecommender
from sklearn_recvae.datasets import make_interactions

MODELS = {"EASE": EASERecommender, "sparse": SparseEASERecommender}
# How many times as many items as at first.
FACTORS = 1, 2, 4, 8


def main():
    args = parse_args()
    if args.fit:
        fit(args.fit, args.models[0])
        return
    records = []
    for factor in args.factors:
        X = make_matrix(args, factor * args.items)
        print(f"{X.shape[0]:,} users, {X.shape[1]:,} items, {X.nnz:,} interactions")
        for model in args.models:
            record = {"model": model, "shape": X.shape, "interactions": X.nnz}
            records.append(record | measure(X, model))
            print(describe(records), flush=True)
    if args.json:
        result = {"machine": describe_machine(), "fits": records}
        args.json.write_text(json.dumps(result, indent=1))


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=2500, help="at first")
    parser.add_argument("--factors", type=int, nargs="+", default=FACTORS)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--users", type=int, default=20_000, help="of drawn matrices")
    parser.add_argument("--mean-interactions", type=float, default=30, help="of a user")
    parser.add_argument(
        "--data", type=Path, help="a saved matrix, instead of drawn ones"
    )
    parser.add_argument("--json", type=Path, help="a file for the result")
    parser.add_argument("--fit", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def make_matrix(args, n_items):
    """Draw a matrix, or take the most popular items of the saved one."""
    if args.data is None:
        X, _, _ = make_interactions(
            args.users,
            n_items,
            mean_interactions=args.mean_interactions,
            random_state=0,
        )
        return X
    X = csr_array(load_npz(args.data))
    counts = np.bincount(X.indices, minlength=X.shape[1])
    X = X[:, np.sort(np.argsort(-counts, kind="stable")[:n_items])]
    return X[np.diff(X.indptr) > 0]


def measure(X, model):
    """Fit in a fresh process; give its seconds and its peak, or why there are none."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "X.npz")
        save_npz(file, X, compressed=False)
        command = [sys.executable, __file__, "--fit", str(file), "--models", model]
        result = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(result.stdout)


def fit(file, model):
    """Fit to the matrix of a file, and print what it took."""
    X = load_npz(file)
    try:
        report("fit", lambda: MODELS[model]().fit(X), True)
    except MemoryError as error:
        print(json.dumps({"refused": str(error)}))


def describe(records):
    """Say what the last fit took, and how many times as much as the first."""
    last = records[-1]
    line = f"  {last['model']:8s}"
    if "refused" in last:
        return f"{line} {last['refused']}"
    line += f" {last['seconds']:8.1f} s  peak {last['peak_gb']:6.2f} GB"
    first = next(r for r in records if r["model"] == last["model"])
    if first is last:
        return line
    ratios = (last[key] / first[key] for key in ("seconds", "peak_gb"))
    return line + "  {:.1f} times the time, {:.1f} times the peak".format(*ratios)


if __name__ == "__main__":
    main()
