"""Peak memory of a fresh process that loads a matrix, fits and recommends.

The matrix has the shape of MovieLens-20M's training users. Each step runs in a process
of its own, so that its peak (ru_maxrss) is nobody else's.

    python examples/benchmarks/memory.py
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from scipy.sparse import load_npz, save_npz

from sklearn_recvae import RecVAERecommender
from sklearn_recvae.datasets import make_interactions


def generate(file, args):
    """Save the matrix."""
    X, _, _ = make_interactions(
        args.users,
        args.items,
        mean_interactions=args.mean_interactions,
        random_state=0,
    )
    save_npz(file, X, compressed=False)
    print(f"{X.shape[0]} x {X.shape[1]}, {X.nnz} interactions")


def fit(file, args):
    """Fit one iteration on the saved matrix; then recommend to all its users."""
    X = load_npz(file)
    report("load")
    start = time.perf_counter()
    model = RecVAERecommender(max_iter=1, precision=args.precision, random_state=0)
    model.fit(X)
    report("fit of one iteration", time.perf_counter() - start)
    start = time.perf_counter()
    model.recommend(X, k=args.k)
    report(f"recommend {args.k} items to all users", time.perf_counter() - start)


def report(what, seconds=None):
    """Print the peak memory so far."""
    # Kilobytes on Linux, bytes on macOS.
    unit = 1e9 if sys.platform == "darwin" else 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    taken = "" if seconds is None else f"  {seconds:7.1f} s"
    print(f"{what:40s} peak {peak:5.2f} GB{taken}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--users", type=int, default=116_677)
    parser.add_argument("--items", type=int, default=20_108)
    parser.add_argument("--mean-interactions", type=float, default=75)
    parser.add_argument("--k", type=int, default=100)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--step", choices=["generate", "fit"], help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help="a saved matrix to use instead")
    args = parser.parse_args()
    if args.step:
        {"generate": generate, "fit": fit}[args.step](args.file, args)
        return
    with tempfile.TemporaryDirectory() as folder:
        file = args.file or Path(folder, "X.npz")
        for step in ("generate", "fit")[bool(args.file) :]:
            command = [sys.executable, __file__, *sys.argv[1:], "--step", step]
            subprocess.run([*command, "--file", str(file)], check=True)


if __name__ == "__main__":
    main()
