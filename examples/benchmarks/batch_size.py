"""Validation NDCG@100 against batch size on several data sets: the rule for "auto".

Each data set is a saved CSR matrix; a tenth of its users (at most 600) validate. The
table has the best validation score, mean over seeds, and the seconds of a fit.

    python examples/benchmarks/batch_size.py data/*/interactions.npz
"""

import argparse
import time
from pathlib import Path

import numpy as np
from scipy.sparse import load_npz

from sklearn_recvae import RecVAERecommender
from sklearn_recvae.model_selection import strong_generalization_split


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--sizes", type=int, nargs="+", default=[25, 50, 150, 500])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--max-iter", type=int, default=50)
    args = parser.parse_args()
    for file in args.files:
        X = load_npz(file)
        n_val = min(600, X.shape[0] // 10)
        split = strong_generalization_split(X, n_val, 0, random_state=0)
        n_users = split.X_train.shape[0]
        print(f"{file.parent.name}: {n_users} training users")
        for size in [*args.sizes, "auto"]:
            start = time.perf_counter()
            models = [
                RecVAERecommender(
                    batch_size=size, max_iter=args.max_iter, random_state=seed
                ).fit(split.X_train, X_val=split.X_val, y_val=split.y_val)
                for seed in args.seeds
            ]
            seconds = (time.perf_counter() - start) / len(models)
            scores = [model.best_score_ for model in models]
            print(
                f"  batch {size:>4}  NDCG@100 {np.mean(scores):.4f}  "
                + " ".join(f"{score:.4f}" for score in scores)
                + f"  at iteration {[model.best_iteration_ for model in models]}"
                + f"  {seconds:6.1f} s",
                flush=True,
            )


if __name__ == "__main__":
    main()
