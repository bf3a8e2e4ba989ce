"""Time and memory of saving a model, of loading it, and of mapping it into memory.

    python examples/benchmarks/files.py

Each step runs in a process of its own. The model has the default sizes and weights that
are drawn: training it takes four times its size.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
from memory import peak_bytes, reset_peak

import sklearn_recvae
from sklearn_recvae import RecVAERecommender
from sklearn_recvae.datasets import make_interactions


def draw_model(n_items):
    """Make a model of so many items of one of a few, which is trained at once."""
    X, _, _ = make_interactions(50, 100, random_state=0)
    model = RecVAERecommender(max_iter=1, random_state=0, device="cpu").fit(X)
    state = model.__getstate__()  # arrays and plain values
    weights, rng = state["module_"]["weights"], np.random.default_rng(0)
    for name in ("encoder.input.weight", "decoder.weight", "decoder.bias"):
        shape = (n_items, *weights[name].shape[1:])
        weights[name] = rng.random(shape, dtype=np.float32)
        weights[name] -= 0.5
        weights[name] /= 50
    state["module_"]["sizes"][0] = state["n_features_in_"] = n_items
    model.__setstate__(state)
    return model


def save(path, n_items):
    model = draw_model(n_items)
    report("save", lambda: model.save(path))
    print(f"{'size of the file':38} {path.stat().st_size / 1e6:9.1f} MB")


def load(path, n_items):
    recommend(report("load", lambda: sklearn_recvae.load(path)))


def map_into_memory(path, n_items):
    model = report("load, mmap=True", lambda: sklearn_recvae.load(path, mmap=True))
    recommend(model)


def recommend(model):
    rows = np.arange(0, 50 * 7, 7).reshape(5, 10)
    X = np.zeros((5, model.n_features_in_), dtype=np.float32)
    X[np.arange(5)[:, None], rows % model.n_features_in_] = 1
    report("    recommend to 5 users, first time", lambda: model.recommend(X))
    report("    recommend to 5 users again", lambda: model.recommend(X))


def report(step, run):
    """Run a step, print how long it takes and what it has needed; return its result."""
    reset_peak()
    before, start = psutil.Process().memory_info().rss, time.perf_counter()
    result = run()
    seconds = time.perf_counter() - start
    after, peak = psutil.Process().memory_info().rss, peak_bytes()
    print(
        f"{step:38} {seconds:8.3f} s  {(after - before) / 1e6:8.1f} MB more resident "
        f"memory than before, at the peak {(peak - before) / 1e6:8.1f} MB"
    )
    return result


STEPS = {"save": save, "load": load, "map": map_into_memory}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=500_000)
    parser.add_argument("--step", choices=STEPS, help="this one alone, with --file")
    parser.add_argument("--file", type=Path)
    args = parser.parse_args()
    if args.step:
        STEPS[args.step](args.file, args.items)
        return
    with tempfile.TemporaryDirectory() as folder:
        options = ["--items", str(args.items), "--file", str(Path(folder, "model"))]
        for step in STEPS:
            command = [sys.executable, __file__, *options, "--step", step]
            subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
