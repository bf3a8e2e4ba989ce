"""Take each novelty of RecVAE out of the full model, and put each into the bare one.

A variant is the same estimator with other parameters. Each is fitted for each seed, its
best iteration is chosen by validation, and the test users are evaluated once. A
finished run is a file in ``--results`` and is not computed again.

    python examples/studies/ablation.py --data ml-1m.zip
"""

import numpy as np
from _runs import (
    add_data_arguments,
    load_and_split,
    make_parser,
    mean_over_seeds,
    paired_difference,
    run_recvae,
)
from matplotlib.figure import Figure
from rich import box
from rich.console import Console
from rich.table import Table

from sklearn_recvae import RecVAERecommender

NOVELTIES = ("dense encoder", "composite prior", "rescaled KL", "alternating")
# One by one, and the two that the paper discusses together.
GROUPS = [*((novelty,) for novelty in NOVELTIES), ("rescaled KL", "alternating")]
METRIC = "NDCG@100"
GAMMA = 0.005  # the paper's, of MovieLens-20M


def main():
    args = parse_args()
    args.results.mkdir(parents=True, exist_ok=True)
    split = load_and_split(args.data, args.n_heldout)
    runs = {
        name: [
            run_recvae(
                args.results,
                f"ablation-{name.replace(' ', '-')}-{seed}",
                make_model(novelties, split.X_train, args.max_iter, seed),
                split,
            )
            for seed in args.seeds
        ]
        for name, novelties in list_variants().items()
    }
    differences = {
        name: paired_difference(*(mean_over_seeds(runs[v], METRIC) for v in variants))
        for name, variants in list_comparisons().items()
    }
    print_table(runs, differences)
    draw(differences).savefig(args.output, dpi=150)
    print(f"Picture: {args.output}")


def parse_args():
    parser = make_parser(__doc__.splitlines()[0], "ablation.png")
    add_data_arguments(parser)
    parser.add_argument(
        "--max-iter", type=int, default=50, help="iterations of alternating training"
    )
    return parser.parse_args()


def list_variants():
    """Name the variants, and give the novelties that each has."""
    variants = {"all": NOVELTIES}
    for group in GROUPS:
        rest = tuple(novelty for novelty in NOVELTIES if novelty not in group)
        variants[f"without {' and '.join(group)}"] = rest
    for group in GROUPS:
        variants[f"only {' and '.join(group)}"] = group
    return {**variants, "none": ()}


def list_comparisons():
    """Give for each variant which one is subtracted from which, with minus without."""
    comparisons = {}
    for name in list_variants():
        if name.startswith("without "):
            comparisons[name] = "all", name
        elif name != "none":
            comparisons[name] = name, "none"
    return comparisons


def make_model(novelties, X_train, max_iter, seed):
    """Set the estimator up with these novelties and without the others."""
    settings = {"gamma": GAMMA, "max_iter": max_iter}
    off = switches_off(X_train, max_iter)
    for novelty in NOVELTIES:
        if novelty not in novelties:
            settings |= off[novelty]
    return RecVAERecommender(**settings, random_state=seed)


def switches_off(X_train, max_iter):
    """Give the parameters that take each novelty away, and nothing else."""
    mean_interactions = float(X_train.sum(dtype=np.float64) / X_train.shape[0])
    return {
        "dense encoder": {"n_hidden_layers": 1, "dense_connections": False},
        "composite prior": {"prior_weights": (1, 0, 0)},
        # The weight of a user's KL term was gamma * n. Its mean over the users stays,
        # so that the variant differs in how the weight is dealt out, not in its size.
        "rescaled KL": {"gamma": None, "beta": GAMMA * mean_interactions},
        # A joint iteration is one pass. As many as the encoder had: then the decoder
        # has three times as many, and the variant does not lose for want of training.
        "alternating": {
            "alternating": False,
            "max_iter": max_iter * RecVAERecommender().n_encoder_epochs,
        },
    }


def print_table(runs, differences):
    """Print the mean over users and seeds, and what the novelties of a row change."""
    table = Table(box=box.SIMPLE)
    table.add_column("novelties")
    for heading in [METRIC, "kept", "difference", "in each seed", "verdict"]:
        table.add_column(heading)
    comparisons = list_comparisons()
    for name, of_seeds in runs.items():
        mean = f"{mean_over_seeds(of_seeds, METRIC).mean():.4f}"
        kept = " ".join(str(run["best_iteration"]) for run in of_seeds)
        if name not in differences:
            table.add_row(name, mean, kept)
            continue
        difference, half = differences[name]
        upper, lower = (
            [np.mean(run["test"][METRIC]) for run in runs[variant]]
            for variant in comparisons[name]
        )
        table.add_row(
            name,
            mean,
            kept,
            f"{difference:+.4f} ± {half:.4f}",
            " ".join(f"{each:+.4f}" for each in np.subtract(upper, lower)),
            judge(difference, half),
        )
    Console(width=125).print(table)
    print(
        "Kept: the best iteration by validation, in each seed.\n"
        "Difference: 'all' minus 'without', or 'only' (or 'all') minus 'none', paired\n"
        "by test user, mean of the seeds, with its 95 % interval over users. Above 0\n"
        "the novelties help; 'no difference' is none beyond the interval."
    )


def judge(difference, half):
    """Say in words what an interval says."""
    if abs(difference) <= half:
        return "no difference"
    return "helps" if difference > 0 else "hurts"


def draw(differences):
    """Draw the intervals, from the top as in the table."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    kinds = {
        "only": "alone, minus none",
        "without": "all, minus the variant without",
        "all": "all minus none",
    }
    names = list(differences)
    for kind, label in kinds.items():
        places = [i for i, name in enumerate(names) if name.split()[0] == kind]
        means, halves = zip(*(differences[names[i]] for i in places), strict=True)
        axes.errorbar(means, places, xerr=halves, fmt="o", capsize=3, label=label)
    axes.axvline(0, color="grey", linestyle=":")
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlabel(f"difference of test {METRIC}, with its 95 % interval")
    figure.legend(loc="outside upper center", ncols=len(kinds))
    return figure


if __name__ == "__main__":
    main()
