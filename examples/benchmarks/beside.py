"""Time and peak memory of one checkout of the project beside another one.

Each has a process of its own, and both take turns with fit, an iteration of training,
predict and recommend. Each repeat has fresh processes, since it matters too where in
memory these have their numbers. Printed are medians of both, and the median over all
rounds of the second by the first, with the range of the middle half. A checkout beside
itself tells what the machine's noise is.

    python examples/benchmarks/beside.py BEFORE AFTER
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
from scipy.sparse import csr_array, load_npz, save_npz
from timing import MAX_FOREIGN_CORES, MAX_TRIES, TICKS, OwnTime, foreign_seconds

TASKS = ("fit", "iteration", "predict", "recommend")
# Short tasks are repeated until they have taken so long.
SECONDS = 1


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("before", type=Path, help="folder of a checkout")
    parser.add_argument("after", type=Path, help="folder of another, or the same one")
    parser.add_argument(
        "--data",
        type=Path,
        default=os.environ.get("SKLEARN_RECVAE_DATA"),
        help="folder of the data sets, by default $SKLEARN_RECVAE_DATA",
    )
    parser.add_argument("--repeats", type=int, default=3, help="of fresh processes")
    parser.add_argument("--rounds", type=int, default=5, help="in each repeat")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, made data")
    parser.add_argument("--work", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        work(args.before, *args.work)
        return
    if not args.quick and args.data is None:
        parser.error("pass --data or --quick, or set SKLEARN_RECVAE_DATA")
    for checkout in (args.before, args.after):
        if not (checkout / "sklearn_recvae" / "__init__.py").is_file():
            parser.error(f"{checkout} is no checkout of the project")
    for case in read_cases(args):
        compare(args, *case)


def read_cases(args):
    """Yield name, matrix and batch size of each case."""
    if args.quick:
        drawn = np.random.default_rng(0).random((40, 60)) < 0.2
        yield "made", csr_array(drawn, dtype=np.float32), 20
        return
    yield "ml-1m", load_npz(args.data / "ml-1m" / "interactions.npz"), 500
    # Four steps of each kind in an iteration.
    gowalla = csr_array(load_npz(args.data / "gowalla" / "interactions.npz"))
    yield "gowalla", gowalla[:2000], 500


def compare(args, name, X, batch_size):
    """Measure one case, and print it."""
    rounds, peaks = [], []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "X.npz")
        save_npz(file, X, compressed=False)
        for _ in range(args.repeats):
            with (
                Worker(args.before, file, batch_size) as before,
                Worker(args.after, file, batch_size) as after,
            ):
                peaks.append((before.peak, after.peak))
                for task in TASKS:
                    rounds += take_turns(args, task, before, after)
    print(f"{name}: {X.shape[0]:,} users, {X.shape[1]:,} items, batch {batch_size}")
    for task in TASKS:
        of_task = [record for record in rounds if record["task"] == task]
        quiet = [record for record in of_task if record["quiet"]]
        pairs = [record["seconds"] for record in quiet or of_task]
        note = f"{len(quiet)} quiet rounds" if quiet else "MACHINE TOO BUSY"
        print_line(task, pairs, "s", note)
    print_line("peak of fit", peaks, "GB", f"{len(peaks)} fresh processes")


def print_line(name, pairs, unit, note):
    """Print medians of before and after, and of their ratios."""
    before, after = (statistics.median(values) for values in zip(*pairs, strict=True))
    ratios = [new / old for old, new in pairs]
    # A single pair has no quartiles.
    lower, middle, upper = statistics.quantiles(ratios * 2, method="inclusive")
    print(
        f"  {name:12} {before:8.4f} {unit:2} {after:8.4f} {unit:2}  "
        f"ratio {middle:.3f} ({lower:.3f} to {upper:.3f}), {note}",
        flush=True,
    )


def take_turns(args, task, before, after):
    """Run rounds of one task until enough of them were quiet; give all of them."""
    records = []
    n_quiet = 0
    n_most = args.rounds * (1 if args.quick else MAX_TRIES)
    while n_quiet < args.rounds and len(records) < n_most:
        # Who comes first has the machine as the other has left it: that changes.
        workers = [before, after] if len(records) % 2 == 0 else [after, before]
        begin, foreign = time.perf_counter(), -foreign_seconds()
        seconds = {worker: worker.time(task, args.quick) for worker in workers}
        foreign += foreign_seconds()
        allowed = MAX_FOREIGN_CORES * (time.perf_counter() - begin) + TICKS
        quiet = foreign <= allowed
        n_quiet += quiet
        pair = seconds[before], seconds[after]
        records.append({"task": task, "quiet": quiet, "seconds": pair})
    return records


class Worker:
    """A process that imports the package from a checkout and answers with times."""

    def __init__(self, checkout, file, batch_size):
        self.checkout, self.options = checkout.resolve(), (file, str(batch_size))

    def __enter__(self):
        self._process = subprocess.Popen(
            [
                *(sys.executable, __file__, self.checkout, self.checkout),
                *("--work", *self.options),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.peak = self._answer()["peak_gb"]
        return self

    def __exit__(self, *error):
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def time(self, task, once):
        """Give the seconds of a task."""
        request = {"task": task, "at_least": 0 if once else SECONDS}
        print(json.dumps(request), file=self._process.stdin, flush=True)
        return self._answer()["seconds"]

    def _answer(self):
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the process of {self.checkout} came to its end")
        return json.loads(line)


def work(checkout, file, batch_size):
    """Fit once and say so; then run tasks as they are asked for."""
    sys.path.insert(0, str(checkout))
    from memory import peak_bytes, reset_peak

    import sklearn_recvae

    if checkout not in Path(sklearn_recvae.__file__).resolve().parents:
        raise RuntimeError(f"{sklearn_recvae.__file__} is not of {checkout}")
    X = load_npz(file)
    model = sklearn_recvae.RecVAERecommender(
        batch_size=int(batch_size), max_iter=1, device="cpu", random_state=0
    )
    runs = {
        "fit": partial(model.fit, X),
        "iteration": lambda: OwnTime(model.partial_fit(X).history_["seconds"][-1]),
        "predict": partial(model.predict, X[:500]),
        "recommend": partial(model.recommend, X, k=100),
    }
    reset_peak()
    runs["fit"]()
    print(json.dumps({"peak_gb": peak_bytes() / 1e9}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        seconds = time_run(runs[request["task"]], request["at_least"])
        print(json.dumps({"seconds": seconds}), flush=True)


def time_run(run, at_least):
    """Run for at least so many seconds, and give the median time."""
    seconds = []
    while sum(seconds) < at_least or not seconds:
        start = time.perf_counter()
        result = run()
        own = isinstance(result, OwnTime)
        seconds.append(result if own else time.perf_counter() - start)
    # The first finds the caches as the other process has left them.
    return statistics.median(seconds[1:] or seconds)


if __name__ == "__main__":
    main()
