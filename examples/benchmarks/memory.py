"""Peak memory of a fresh process that loads a matrix, fits and recommends.

Without --file, a matrix is drawn, by default with the shape of MovieLens-20M's training
users, and measured by a second process, so that its peak is nobody else's.

    python examples/benchmarks/memory.py
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from scipy.sparse import load_npz, save_npz

from sklearn_recvae import RecVAERecommender
from sklearn_recvae.datasets import make_interactions


def draw_and_measure(args):
    """Save a matrix and measure it in a fresh process."""
    X, _, _ = make_interactions(
        args.users,
        args.items,
        mean_interactions=args.mean_interactions,
        random_state=0,
    )
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "X.npz")
        save_npz(file, X, compressed=False)
        command = [sys.executable, __file__, *sys.argv[1:], "--file", str(file)]
        subprocess.run(command, check=True)


def measure(args):
    """Load, fit one iteration, recommend to all users; report each."""
    X = report("load", lambda: load_npz(args.file), args.json)
    model = RecVAERecommender(
        max_iter=1,
        batch_size=args.batch_size or "auto",
        precision=args.precision,
        device="cpu",
        random_state=0,
    )
    report("fit of one iteration", lambda: model.fit(X), args.json)
    if args.k > 0:
        recommend = f"recommend {args.k} items to all users"
        report(recommend, lambda: model.recommend(X, k=args.k), args.json)


def report(step, run, as_json):
    """Run a step, print its peak and what it needed on top; return its result."""
    reset_peak()
    before, start = psutil.Process().memory_info().rss, time.perf_counter()
    result = run()
    record = {
        "step": step,
        "peak_gb": peak_bytes() / 1e9,
        "extra_gb": (peak_bytes() - before) / 1e9,
        "seconds": time.perf_counter() - start,
    }
    if as_json:
        print(json.dumps(record), flush=True)
    else:
        print(
            f"{step:40s} peak {record['peak_gb']:5.2f} GB, {record['extra_gb']:5.2f} "
            f"more than before it  {record['seconds']:7.1f} s",
            flush=True,
        )
    return result


def reset_peak():
    """Begin a new peak, where the system can (Linux)."""
    file = Path("/proc/self/clear_refs")
    if file.exists():
        file.write_text("5")


def peak_bytes():
    """Return the peak of resident memory since the last reset, or of the process."""
    status = Path("/proc/self/status")
    if status.exists():
        # ru_maxrss would not do: on Linux it begins with the peak of the process
        # that started this one.
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--users", type=int, default=116_677)
    parser.add_argument("--items", type=int, default=20_108)
    parser.add_argument("--mean-interactions", type=float, default=75)
    parser.add_argument("--file", type=Path, help="a saved matrix to use instead")
    parser.add_argument("--batch-size", type=int, help="default: auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--k", type=int, default=100, help="0: do not recommend")
    parser.add_argument("--json", action="store_true", help="print lines of JSON")
    args = parser.parse_args()
    if args.file:
        measure(args)
    else:
        draw_and_measure(args)


if __name__ == "__main__":
    main()
