"""Compare RecVAE, what goes beyond its paper, EASE, and blends of these.

The regularisation of EASE, the iteration of RecVAE and the weights of a blend are
chosen by validation NDCG@100; the test users are evaluated once. A finished run is a
file in ``--results`` and is not computed again.

    python examples/studies/blending.py --data ml-1m.zip
"""

import copy
import functools
import time

import numpy as np
from _runs import (
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
from matplotlib.figure import Figure
from rich import box
from rich.console import Console
from rich.table import Table
from sklearn.frozen import FrozenEstimator

from sklearn_recvae import BlendedRecommender, EASERecommender, RecVAERecommender

METRIC = "NDCG@100"
REGULARIZATIONS = [30, 100, 200, 400, 800, 1600]  # of EASE
# With more items than so many the most popular ones choose the regularisation: the time
# of EASE grows with the cube of their number.
N_POPULAR = 10_000
RECVAES = {
    "RecVAE": {},
    "RecVAE, averaged": {"ema_decay": 0.8},
    "RecVAE, ImplicitSLIM": {"slim_interval": 10},
    "RecVAE, both": {"ema_decay": 0.8, "slim_interval": 10},
}


def main():
    args = parse_args()
    args.results.mkdir(parents=True, exist_ok=True)
    split = load_and_split(args.data, args.n_heldout)
    regularization = choose_regularization(args, split)
    print(f"EASE has regularization={regularization}, chosen by validation.")

    @functools.cache  # several seeds share it, and none needs it if all are finished
    def fit_ease():
        return timed(EASERecommender(regularization).fit, split.X_train)

    ease = run_ease(args, split, regularization, fit_ease)
    models = {"EASE": [ease] * len(args.seeds)}
    for name in args.models:
        runs = [
            run_seed(args, split, name, seed, fit_ease, ease) for seed in args.seeds
        ]
        for kind in runs[0]["models"]:
            models[kind] = [run["models"][kind] for run in runs]
        shares = ", ".join(f"{run['weight']:.1f}" for run in runs)
        print(f"Learned weight of {name} in a blend with EASE, by seed: {shares}.")
    print_table(models)
    draw(models, args.seeds).savefig(args.output, dpi=150)
    print(f"Picture: {args.output}")


def parse_args():
    parser = make_parser(__doc__.splitlines()[0], "blending.png")
    add_data_arguments(parser)
    parser.add_argument("--models", nargs="+", choices=RECVAES, default=list(RECVAES))
    return parser.parse_args()


def choose_regularization(args, split):
    """Take the best regularisation of EASE by validation."""
    counts = np.bincount(split.X_train.indices, minlength=split.X_train.shape[1])
    popular = np.argsort(-counts, kind="stable")[:N_POPULAR]

    def compute():
        X_train, X_val, y_val = (
            split[part][:, popular] for part in ("X_train", "X_val", "y_val")
        )
        scores = [
            EASERecommender(each).fit(X_train).score(X_val, y_val)
            for each in REGULARIZATIONS
        ]
        return {"validation": scores}

    identity = {
        "regularization": REGULARIZATIONS,
        "n_items": len(popular),
        "data": fingerprint(split),
    }
    run = load_or_compute(args.results, "blending-regularization", identity, compute)
    return REGULARIZATIONS[int(np.argmax(run["validation"]))]


def run_ease(args, split, regularization, fit_ease):
    """Fit EASE, and evaluate it on the test users."""

    def compute():
        seconds, ease = fit_ease()
        return evaluate_model(ease, split, seconds)

    identity = {"regularization": regularization, "data": fingerprint(split)}
    return load_or_compute(args.results, "blending-EASE", identity, compute)


def run_seed(args, split, name, seed, fit_ease, run_of_ease):
    """Fit RecVAE, blend it with EASE, and evaluate both on the test users."""
    recvae = RecVAERecommender(random_state=seed, **RECVAES[name])
    validation = {"X_val": split.X_val, "y_val": split.y_val}
    identity = {
        "recvae": recvae.get_params(),
        "ease": run_of_ease["settings"],
    }

    def compute():
        _, ease = fit_ease()
        seconds, _ = timed(recvae.fit, split.X_train, **validation)
        blend = BlendedRecommender(
            [("recvae", FrozenEstimator(recvae)), ("ease", FrozenEstimator(ease))],
            weights="auto",
        )
        of_weights, _ = timed(blend.fit, split.X_train, **validation)
        alike = copy.copy(blend)
        alike.weights_ = np.array([0.5, 0.5])
        of_parts = seconds + run_of_ease["fit"]
        return {
            "weight": blend.weights_[0],
            "models": {
                name: evaluate_model(recvae, split, seconds),
                f"{name}, with EASE": evaluate_model(
                    blend, split, of_parts + of_weights
                ),
                f"{name}, with EASE, alike": evaluate_model(alike, split, of_parts),
            },
        }

    run = f"blending-RecVAE-{seed}"
    return load_or_compute(args.results, run, identity, compute)


def evaluate_model(model, split, fit_seconds):
    seconds, ranks = timed(model.recommend, split.X_test, k=N_RANKS)
    return {
        "fit": fit_seconds,
        "recommend": seconds,
        "test": evaluate(split.y_test, ranks),
    }


def timed(function, *args, **options):
    start = time.perf_counter()
    result = function(*args, **options)
    return time.perf_counter() - start, result


def print_table(models):
    """Print test results, costs, and the differences to the parts."""
    table = Table(box=box.SIMPLE)
    headings = ["", *METRICS, "minus RecVAE", "minus EASE", "fit s", "recommend s"]
    for heading in headings:
        table.add_column(heading)
    for name, runs in models.items():
        results = [mean_and_error(mean_over_seeds(runs, metric)) for metric in METRICS]
        # A blend is compared with its own part.
        part = name.split(", with EASE")[0] if "with EASE" in name else "RecVAE"
        table.add_row(
            name,
            *[f"{mean:.4f} ({error:.4f})" for mean, error in results],
            show_difference(models, name, part),
            show_difference(models, name, "EASE"),
            *[
                f"{np.mean([run[cost] for run in runs]):.2f}"
                for cost in ("fit", "recommend")
            ],
        )
    Console(width=150).print(table)
    print(
        f"In brackets: the standard error over test users. Differences: of {METRIC},\n"
        "paired by test user, mean of the seeds, with the 95 % interval over users. A\n"
        "blend is compared with the RecVAE that is its part."
    )


def show_difference(models, name, other):
    if name == other or other not in models:
        return ""
    values = (mean_over_seeds(models[each], METRIC) for each in (name, other))
    difference, half = paired_difference(*values)
    return f"{difference:+.4f} ± {half:.4f}"


def draw(models, seeds):
    """Draw the test results of each seed."""
    figure = Figure(figsize=(7, 5), layout="constrained")
    axes = figure.subplots()
    for place, seed in enumerate(seeds):
        values = [
            mean_over_seeds([runs[place]], METRIC).mean() for runs in models.values()
        ]
        axes.plot(values, list(models), "o", label=f"seed {seed}")
    axes.set(xlabel=f"test {METRIC}")
    axes.invert_yaxis()
    axes.legend()
    return figure


if __name__ == "__main__":
    main()
