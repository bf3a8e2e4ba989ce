"""Repeat the experiments of the RecVAE paper, beside EASE and popularity.

Reads the files of a data set as they are published, sets users aside for validation and
for the test, fits RecVAE with the settings of the paper for each seed, keeps the best
iteration by validation, and evaluates the test users once. A finished run is a file in
``--results`` and is not computed again: an interrupted study goes on where it was.

    python examples/studies/reproduce_paper.py --dataset ml-20m --data ml-20m.zip
"""

from pathlib import Path

import numpy as np
from _runs import (
    METRICS,
    N_RANKS,
    SPLIT_SEED,
    evaluate,
    fingerprint,
    load_or_compute,
    make_parser,
    mean_and_error,
    mean_over_seeds,
    print_sizes,
    run_recvae,
)
from matplotlib.figure import Figure
from rich import box
from rich.console import Console
from rich.table import Table

from sklearn_recvae import (
    EASERecommender,
    PopularityRecommender,
    RecVAERecommender,
    datasets,
)
from sklearn_recvae.model_selection import strong_generalization_split

# n_heldout users for validation, and as many for the test. The two small sets are not
# in the paper: their batches are smaller, so that a pass has enough steps.
DATA_SETS = {
    "ml-latest-small": {
        "load": datasets.load_movielens,
        "n_heldout": 50,
        "settings": {"gamma": 0.005, "max_iter": 50, "batch_size": "auto"},
    },
    "ml-1m": {
        "load": datasets.load_movielens,
        "n_heldout": 600,
        "settings": {"gamma": 0.005, "max_iter": 50, "batch_size": "auto"},
    },
    "ml-20m": {
        "load": datasets.load_movielens,
        "n_heldout": 10_000,
        "settings": {"gamma": 0.005, "max_iter": 50, "batch_size": 500},
    },
    "netflix": {
        "load": lambda path: datasets.load_netflix(
            path, threshold=3.5, min_user_interactions=5
        ),
        "n_heldout": 40_000,
        "settings": {"gamma": 0.0035, "max_iter": 50, "batch_size": 500},
    },
    "msd": {
        "load": lambda path: datasets.load_msd(
            path, min_user_interactions=20, min_item_interactions=200
        ),
        "n_heldout": 50_000,
        "settings": {"gamma": 0.01, "max_iter": 100, "batch_size": 500},
    },
}
# In the order of METRICS.
PUBLISHED = {
    "ml-20m": {
        "RecVAE, Shenbin et al. (2020)": (0.442, 0.414, 0.553),
        "EASE, Steck (2019)": (0.420, 0.391, 0.521),
    },
    "netflix": {
        "RecVAE, Shenbin et al. (2020)": (0.394, 0.361, 0.452),
        "EASE, Steck (2019)": (0.393, 0.362, 0.445),
    },
    "msd": {
        "RecVAE, Shenbin et al. (2020)": (0.326, 0.276, 0.374),
        "EASE, Steck (2019)": (0.389, 0.333, 0.428),
    },
}
REGULARIZATIONS = [100, 200, 400, 800, 1600]  # of EASE, chosen by validation


def main():
    args = parse_args()
    args.results.mkdir(parents=True, exist_ok=True)
    data_set = DATA_SETS[args.dataset]
    X = data_set["load"](args.data).data
    n_heldout = data_set["n_heldout"]
    split = strong_generalization_split(
        X, n_heldout, n_heldout, random_state=SPLIT_SEED
    )
    print_sizes(X, split)

    settings = data_set["settings"]
    if args.max_iter is not None:
        settings = settings | {"max_iter": args.max_iter}
    runs = {"popularity": [run_popularity(args, split)]}
    notes = []
    try:
        runs["EASE"] = [run_ease(args, split)]
    except MemoryError as error:
        notes.append(f"EASE does not fit in memory: {error}")
    runs["RecVAE"] = [
        run_recvae(
            args.results,
            f"{args.dataset}-recvae-{seed}",
            RecVAERecommender(**settings, random_state=seed),
            split,
        )
        for seed in args.seeds
    ]

    print_table(runs, args.seeds, PUBLISHED.get(args.dataset, {}), notes)
    draw(runs, args.seeds).savefig(args.output, dpi=150)
    print(f"Picture: {args.output}")


def parse_args():
    parser = make_parser(__doc__.splitlines()[0], "reproduction.png")
    parser.add_argument("--dataset", choices=DATA_SETS, required=True)
    parser.add_argument(
        "--data", type=Path, required=True, help="the files as published"
    )
    parser.add_argument(
        "--max-iter", type=int, help="iterations, in place of the paper's"
    )
    return parser.parse_args()


def run_popularity(args, split):
    """Recommend to everybody the items with the most training users."""

    def compute():
        model = PopularityRecommender().fit(split.X_train)
        return {
            "test": evaluate(split.y_test, model.recommend(split.X_test, k=N_RANKS))
        }

    settings = {"model": "popularity", "data": fingerprint(split)}
    name = f"{args.dataset}-popularity"
    return load_or_compute(args.results, name, settings, compute)


def run_ease(args, split):
    """Choose the regularisation of EASE by validation, and evaluate that one."""

    def compute():
        fits = [fit_ease(split, regularization) for regularization in REGULARIZATIONS]
        scores = [score for score, _ in fits]
        best = int(np.argmax(scores))
        return {
            "regularization": REGULARIZATIONS[best],
            "validation": scores[best],
            "test": evaluate(split.y_test, fits[best][1]),
        }

    settings = {
        "model": "EASERecommender",
        "regularization": REGULARIZATIONS,
        "data": fingerprint(split),
    }
    return load_or_compute(args.results, f"{args.dataset}-ease", settings, compute)


def fit_ease(split, regularization):
    """Give the validation score and the ranks: the fitted matrix is not kept."""
    model = EASERecommender(regularization=regularization).fit(split.X_train)
    score = model.score(split.X_val, split.y_val)
    return score, model.recommend(split.X_test, k=N_RANKS)


def print_table(runs, seeds, published, notes):
    """Print the runs, with standard errors over users, and the published figures."""
    table = Table(box=box.SIMPLE)
    table.add_column()
    for heading in ["kept", "validation", *METRICS]:
        table.add_column(heading)
    table.add_row("popularity", "", "", *show_test(runs["popularity"]))
    if "EASE" not in runs:
        table.add_row("EASE", "not fitted, see below")
    for run in runs.get("EASE", []):
        kept = f"lambda {run['regularization']}"
        table.add_row("EASE", kept, f"{run['validation']:.4f}", *show_test([run]))
    for seed, run in zip(seeds, runs["RecVAE"], strict=True):
        kept = f"iteration {run['best_iteration']}"
        validation = f"{run['validation']:.4f}"
        table.add_row(f"RecVAE, seed {seed}", kept, validation, *show_test([run]))
    validation = np.mean([run["validation"] for run in runs["RecVAE"]])
    table.add_row(
        "RecVAE, mean of seeds", "", f"{validation:.4f}", *show_test(runs["RecVAE"])
    )
    table.add_section()
    for source, values in published.items():
        shown = [f"{value:.3f}" for value in values]
        table.add_row(source, "", "", *shown)
    Console(width=125).print(table)
    print("Validation is NDCG@100. In brackets: the standard error over test users.")
    if published:
        print("The last rows are the published figures.")
    for note in notes:
        print(note)


def show_test(runs):
    """Write the test result of each metric, averaged over the runs."""
    shown = []
    for metric in METRICS:
        mean, error = mean_and_error(mean_over_seeds(runs, metric))
        shown.append(f"{mean:.4f} ({error:.4f})")
    return shown


def draw(runs, seeds):
    """Draw the validation score over the iterations, and the test results."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    curves, bars = figure.subplots(1, 2)
    for seed, run in zip(seeds, runs["RecVAE"], strict=True):
        iterations = np.arange(1, len(run["history"]) + 1)
        (line,) = curves.plot(iterations, run["history"], label=f"RecVAE, seed {seed}")
        curves.plot(
            run["best_iteration"], run["validation"], "o", color=line.get_color()
        )
    curves.xaxis.get_major_locator().set_params(integer=True)
    curves.set(xlabel="iteration (dot: the one kept)", ylabel="validation NDCG@100")
    curves.legend()
    width = 0.8 / len(runs)
    for number, (name, of_seeds) in enumerate(runs.items()):
        results = [mean_and_error(mean_over_seeds(of_seeds, m)) for m in METRICS]
        means, errors = zip(*results, strict=True)
        places = np.arange(len(METRICS)) + (number - (len(runs) - 1) / 2) * width
        bars.bar(places, means, width, yerr=errors, capsize=3, label=name)
    bars.set_xticks(range(len(METRICS)), METRICS)
    bars.set_ylabel("test users: mean and standard error")
    bars.legend()
    return figure


if __name__ == "__main__":
    main()
