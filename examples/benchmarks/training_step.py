"""Time a training cycle beside the dense partner: ratios from one run.

A cycle is three encoder steps and one decoder step on a batch, with the refresh of the
posteriors in between. All contestants take turns; the table has medians over rounds.

    python examples/benchmarks/training_step.py --items 20108 --batch-size 500
"""

import argparse
import json
import os
import platform
import statistics
import time

import torch
from dense_partner import DensePartner

from sklearn_recvae import RecVAERecommender
from sklearn_recvae._hardware import resolve_matmul_dtype
from sklearn_recvae.datasets import make_interactions


def ours(X, batch_size, precision):
    """Return a function that runs one cycle on each batch of X."""
    model = RecVAERecommender(
        batch_size=batch_size, precision=precision, max_iter=1, random_state=0
    )
    model.fit(X)
    trainer = model._trainer(model._state, X)
    return trainer.run_iteration


def dense(X, batch_size, lean):
    """Return a function that runs the dense partner's cycle on each batch of X."""
    partner = DensePartner(X.shape[1], lean=lean)

    def run():
        for begin in range(0, X.shape[0], batch_size):
            partner.run_cycle(X[begin : begin + batch_size])

    return run


def time_in_turns(contestants, rounds):
    """Run all contestants in each round; return their seconds, round by round."""
    for run in contestants.values():
        run()  # warm-up
    seconds = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, run in contestants.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=20_108)
    parser.add_argument("--batch-size", type=int, default=500)
    parser.add_argument("--mean-interactions", type=float, default=72)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", help="write the result to this file")
    args = parser.parse_args()

    n_batches = 2
    X, _, _ = make_interactions(
        n_batches * args.batch_size,
        args.items,
        mean_interactions=args.mean_interactions,
        random_state=0,
    )
    contestants = {
        "dense partner": dense(X, args.batch_size, lean=False),
        "dense partner, fused Adam, idle half frozen": dense(
            X, args.batch_size, lean=True
        ),
        "sklearn_recvae, float32": ours(X, args.batch_size, "float32"),
    }
    cpu = torch.device("cpu")
    if resolve_matmul_dtype("auto", cpu) == torch.bfloat16:
        contestants["sklearn_recvae, mixed"] = ours(X, args.batch_size, "mixed")

    load_before = os.getloadavg()[0]
    seconds = time_in_turns(contestants, args.rounds)
    result = {
        "items": args.items,
        "batch_size": args.batch_size,
        "interactions_per_user": X.nnz / X.shape[0],
        "rounds": args.rounds,
        "load_before": load_before,
        "machine": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "milliseconds": {
            name: 1000 * statistics.median(values) / n_batches
            for name, values in seconds.items()
        },
    }
    milliseconds = result["milliseconds"]
    print(
        f"{args.items} items, batch {args.batch_size}, "
        f"{result['interactions_per_user']:.0f} interactions a user; "
        f"{result['threads']} threads, load before {load_before:.2f}, "
        f"torch {result['torch']}; median of {args.rounds} rounds"
    )
    print(f"{'3 encoder + 1 decoder steps':45s} {'ms':>9s} {'times faster than':>22s}")
    print(f"{'':45s} {'':>9s} {'dense':>11s}{'lean':>11s}")
    plain, lean, *_ = milliseconds.values()
    for name, value in milliseconds.items():
        print(f"{name:45s} {value:9.1f} {plain / value:11.2f}{lean / value:11.2f}")
    if args.json:
        with open(args.json, "w") as file:
            json.dump(result, file, indent=1)


if __name__ == "__main__":
    main()
