"""Test quality on a split of MovieLens-1M, beside the dense partner, seed by seed.

The split is a folder with train, val_fold_in, val_held_out, test_fold_in and
test_held_out as .npz files. Settings are the paper's: batch 500, 50 iterations, the
best iteration by validation NDCG@100. Finished runs are kept in --results, so that
nothing is computed twice.

    python examples/benchmarks/quality.py --split data/ml-1m/split --results quality/
"""

import argparse
import json
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
from dense_partner import DensePartner
from scipy.sparse import csr_array, load_npz

from sklearn_recvae import RecVAERecommender
from sklearn_recvae.metrics import ndcg_at_k, recall_at_k

METRICS = {
    "NDCG@100": lambda y, ranks: ndcg_at_k(y, ranks, 100, average=None),
    "Recall@20": lambda y, ranks: recall_at_k(y, ranks, 20, average=None),
    "Recall@50": lambda y, ranks: recall_at_k(y, ranks, 50, average=None),
}


def run_ours(split, seed, max_iter, precision, batch_size=500):
    """Fit the estimator and rank the test users."""
    model = RecVAERecommender(
        gamma=0.005,  # as the dense implementation
        batch_size=batch_size,
        max_iter=max_iter,
        precision=precision,
        random_state=seed,
    )
    model.fit(split["train"], X_val=split["val_fold_in"], y_val=split["val_held_out"])
    ranks = model.recommend(split["test_fold_in"], k=100)
    return model.best_iteration_, model.best_score_, ranks


def run_dense(split, seed, max_iter):
    """Train the dense partner in the same way and rank the test users."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    partner = DensePartner(split["train"].shape[1], lean=True)
    best = (0, -1, None)
    for iteration in range(1, max_iter + 1):
        partner.run_iteration(split["train"], 500, rng)
        score = ndcg_at_k(
            split["val_held_out"], partner.rank(split["val_fold_in"], 100)
        )
        if score > best[1]:
            best = iteration, score, partner.rank(split["test_fold_in"], 100)
    return best


CONTESTANTS = {
    "float32": partial(run_ours, precision="float32"),
    "mixed": partial(run_ours, precision="mixed"),
    "dense": run_dense,
    "auto batch": partial(run_ours, precision="auto", batch_size="auto"),
}


def run(name, split, seed, max_iter, file):
    """Run a contestant unless its result is there; return the result."""
    if not file.exists():
        start = time.perf_counter()
        iteration, score, ranks = CONTESTANTS[name](split, seed, max_iter)
        result = {
            "best_iteration": iteration,
            "validation": score,
            "seconds": time.perf_counter() - start,
        }
        for metric, evaluate in METRICS.items():
            result[metric] = evaluate(split["test_held_out"], ranks).tolist()
        file.write_text(json.dumps(result))
    return json.loads(file.read_text())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--split", type=Path, required=True)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--max-iter", type=int, default=50)
    parser.add_argument(
        "--contestants", nargs="+", default=["float32", "mixed", "dense"]
    )
    args = parser.parse_args()
    args.results.mkdir(parents=True, exist_ok=True)
    split = {
        file.stem: csr_array(load_npz(file))
        for file in sorted(args.split.glob("*.npz"))
    }

    print(f"{'':10s} seed  best  validation  " + "  ".join(METRICS) + "  seconds")
    values = {}  # contestant -> metric -> (n_seeds, n_users)
    for name in args.contestants:
        runs = []
        for seed in args.seeds:
            file = args.results / f"{name.replace(' ', '_')}-{seed}.json"
            result = run(name, split, seed, args.max_iter, file)
            runs.append(result)
            means = "  ".join(f"{np.mean(result[m]):{len(m)}.4f}" for m in METRICS)
            print(
                f"{name:10s} {seed:4d}  {result['best_iteration']:4d}  "
                f"{result['validation']:10.4f}  {means}  {result['seconds']:7.1f}",
                flush=True,
            )
        values[name] = {m: np.array([r[m] for r in runs]) for m in METRICS}
        means = "  ".join(f"{values[name][m].mean():{len(m)}.4f}" for m in METRICS)
        print(f"{name:10s} mean  {'':4s}  {'':10s}  {means}")

    if "dense" in values:
        print(
            "\ndifference to dense, mean over seeds, paired by user: (standard error)"
        )
        for name in values:
            if name == "dense":
                continue
            for metric in METRICS:
                difference = (values[name][metric] - values["dense"][metric]).mean(0)
                error = difference.std(ddof=1) / np.sqrt(len(difference))
                print(
                    f"{name:10s} {metric:10s} {difference.mean():+.4f} ({error:.4f}), "
                    f"{difference.mean() / error:+.2f} standard errors"
                )


if __name__ == "__main__":
    main()
