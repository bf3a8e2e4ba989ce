"""Memory and open files of a process over many fits and recommendations.

Each fit writes checkpoints, and its model is saved and loaded. A leak would show as a
column that goes on growing.

    python examples/benchmarks/endurance.py
"""

import argparse
import gc
import tempfile
import threading
from itertools import pairwise
from pathlib import Path

import psutil
from rich import box
from rich.console import Console
from rich.table import Table

import sklearn_recvae
from sklearn_recvae import RecVAERecommender
from sklearn_recvae.datasets import make_interactions

N_ROWS = 5  # of the table, for each of the two kinds of calls


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fits", type=int, default=1000)
    parser.add_argument("--recommends", type=int, default=100_000)
    args = parser.parse_args()
    X, _, _ = make_interactions(200, 100, random_state=0)
    table = Table("calls", "MB", "open files", "threads", box=box.SIMPLE)
    model = fit_save_and_load(X)  # what the first call alone takes is no leak
    add_row(table, "none")
    for done in steps(args.fits):
        for _ in done:
            model = fit_save_and_load(X)
        add_row(table, f"{done.stop} fits")
    for done in steps(args.recommends):
        for call in done:
            model.recommend(X[[call % X.shape[0]]])
        add_row(table, f"{done.stop} recommendations")
    Console(width=80).print(table)


def steps(n_calls):
    """Split the calls into ranges, one for each row of the table."""
    ends = [n_calls * row // N_ROWS for row in range(N_ROWS + 1)]
    return [range(*pair) for pair in pairwise(ends)]


def fit_save_and_load(X):
    model = RecVAERecommender(8, hidden_dim=16, max_iter=2, random_state=0)
    with tempfile.TemporaryDirectory() as folder:
        model.fit(X, checkpoint=Path(folder, "checkpoint"))
        model.save(Path(folder, "model"))
        return sklearn_recvae.load(Path(folder, "model"))


def add_row(table, calls):
    gc.collect()
    process = psutil.Process()
    table.add_row(
        calls,
        f"{process.memory_info().rss / 1e6:.1f}",
        f"{process.num_fds()}",
        f"{threading.active_count()}",
    )


if __name__ == "__main__":
    main()
