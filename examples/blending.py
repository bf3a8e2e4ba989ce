"""Blend RecVAE with EASE, and compare the blend with its parts.

The regularisation of EASE, the iteration of RecVAE and the weights are chosen by
validation NDCG@100; the test users are evaluated once. A finished run is a file in
``--results`` and is not computed again.

    python examples/blending.py --data ml-1m.zip
"""

import copy
import time

import numpy as np
from matplotlib.figure import Figure
from rich import box
from rich.console import Console
from rich.table import Table
from runs import (
    METRICS,
    N_RANKS,
    add_data_arguments,
    evaluate,
    fingerprint,
    load_and_split,
    load_or_compute,
    make_parser,
    mean_and_error,
    mean_over_seeds,
    paired_difference,
)
from sklearn.base import clone

from sklearn_recvae import BlendedRecommender, EASERecommender, RecVAERecommender

METRIC = "NDCG@100"
REGULARIZATIONS = [30, 100, 200, 400, 800, 1600]  # of EASE
MODELS = ["RecVAE", "EASE", "blend, weights alike", "blend, weights learned"]


def main():
    args = parse_args()
    args.results.mkdir(parents=True, exist_ok=True)
    split = load_and_split(args.data, args.n_heldout)
    regularization = choose_regularization(args, split)
    runs = [run_seed(args, split, regularization, seed) for seed in args.seeds]
    print_table(runs)
    print(f"EASE has regularization={regularization}, chosen by validation.")
    for seed, run in zip(args.seeds, runs, strict=True):
        shown = ", ".join(
            f"{name} {mean_over_seeds([run[name]], METRIC).mean():.4f}"
            for name in MODELS
        )
        print(f"Seed {seed}: {shown}; weight of RecVAE {run['weights'][0]:.1f}.")
    draw(runs).savefig(args.output, dpi=150)
    print(f"Picture: {args.output}")


def parse_args():
    parser = make_parser(__doc__.splitlines()[0], "blending.png")
    add_data_arguments(parser)
    return parser.parse_args()


def choose_regularization(args, split):
    """Take the best regularisation of EASE by validation."""

    def compute():
        scores = [
            EASERecommender(each).fit(split.X_train).score(split.X_val, split.y_val)
            for each in REGULARIZATIONS
        ]
        return {"validation": scores}

    identity = {
        "model": "EASE",
        "regularization": REGULARIZATIONS,
        "data": fingerprint(split),
    }
    run = load_or_compute(args.results, "blending-EASE", identity, compute)
    return REGULARIZATIONS[int(np.argmax(run["validation"]))]


def run_seed(args, split, regularization, seed):
    """Fit the blend, and evaluate it and its parts on the test users."""
    recvae = RecVAERecommender(early_stopping=True, random_state=seed)
    ease = EASERecommender(regularization)

    def compute():
        blend = BlendedRecommender([("recvae", recvae), ("ease", ease)], weights="auto")
        seconds, blend = timed(
            blend.fit, split.X_train, X_val=split.X_val, y_val=split.y_val
        )
        alike = copy.copy(blend)
        alike.weights_ = np.array([0.5, 0.5])
        models = dict(zip(MODELS, [*blend.estimators_, alike, blend], strict=True))
        run = {name: evaluate_model(model, split) for name, model in models.items()}
        of_recvae = blend.named_estimators_.recvae.history_["seconds"].sum()
        of_ease, _ = timed(clone(ease).fit, split.X_train)
        fits = [of_recvae, of_ease, of_recvae + of_ease, seconds]
        for name, fit_seconds in zip(MODELS, fits, strict=True):
            run[name]["fit"] = fit_seconds
        return run | {"weights": blend.weights_.tolist()}

    identity = {
        "recvae": recvae.get_params(),
        "ease": ease.get_params(),
        "data": fingerprint(split),
    }
    return load_or_compute(args.results, f"blending-{seed}", identity, compute)


def evaluate_model(model, split):
    seconds, ranks = timed(model.recommend, split.X_test, k=N_RANKS)
    return {"recommend": seconds, "test": evaluate(split.y_test, ranks)}


def timed(function, *args, **options):
    start = time.perf_counter()
    result = function(*args, **options)
    return time.perf_counter() - start, result


def print_table(runs):
    """Print test results, costs, and the differences of the blends to both parts."""
    table = Table(box=box.SIMPLE)
    differences = [f"minus {part}" for part in MODELS[:2]]
    for heading in ["", *METRICS, *differences, "fit s", "recommend s"]:
        table.add_column(heading)
    for name in MODELS:
        of_seeds = [run[name] for run in runs]
        results = [mean_and_error(mean_over_seeds(of_seeds, m)) for m in METRICS]
        table.add_row(
            name,
            *[f"{mean:.4f} ({error:.4f})" for mean, error in results],
            *[show_difference(runs, name, part) for part in MODELS[:2]],
            *[
                f"{np.mean([run[cost] for run in of_seeds]):.2f}"
                for cost in ("fit", "recommend")
            ],
        )
    Console(width=150).print(table)
    print(
        f"In brackets: the standard error over test users. Differences: of {METRIC},\n"
        "paired by test user, mean of the seeds, with the 95 % interval over users."
    )


def show_difference(runs, name, part):
    if name in MODELS[:2]:
        return ""
    values = (mean_over_seeds([run[n] for run in runs], METRIC) for n in (name, part))
    difference, half = paired_difference(*values)
    return f"{difference:+.4f} ± {half:.4f}"


def draw(runs):
    """Draw the test results of each seed."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for run in runs:
        values = [mean_over_seeds([run[name]], METRIC).mean() for name in MODELS]
        axes.plot(MODELS, values, "o-")
    axes.set(ylabel=f"test {METRIC}, a line for each seed")
    return figure


if __name__ == "__main__":
    main()
