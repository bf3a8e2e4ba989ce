"""Choose the constant of ``gamma="auto"`` on validation users.

The weight of the KL term is a constant divided by the mean feedback of a training
user. Each constant is compared with the paper's value for MovieLens-20M, the same for
all data. Test users are not touched. A finished run is a file in ``--results`` and is
not computed again.

    python examples/studies/gamma.py --data ml-1m.zip --n-heldout 600
"""

import numpy as np
from _runs import (
    add_data_arguments,
    add_summary_arguments,
    add_to_summary,
    describe,
    load_and_split,
    make_parser,
    mean_and_error,
    paired_difference,
    run_recvae,
)
from matplotlib.figure import Figure
from rich import box
from rich.console import Console
from rich.table import Table

from sklearn_recvae import RecVAERecommender

METRIC = "NDCG@100"
PAPER = 0.005
CONSTANTS = [0.15, 0.3, 0.45, 0.7, 1.0]


def main():
    args = parse_args()
    args.results.mkdir(parents=True, exist_ok=True)
    split = load_and_split(args.data, args.n_heldout)
    total = split.X_train.sum(dtype=np.float64)
    mean_feedback = float(total) / split.X_train.shape[0]
    print(f"Mean feedback of a training user: {mean_feedback:.1f}")
    gammas = [PAPER, *(constant / mean_feedback for constant in args.constants)]
    runs = {gamma: run_seeds(args, split, gamma) for gamma in gammas}
    rows = list_rows(runs, mean_feedback)
    print_table(rows)
    draw(runs, mean_feedback).savefig(args.output, dpi=150)
    print(f"Picture: {args.output}")
    if args.summary is not None:
        name = args.name or args.data.stem
        add_to_summary(args.summary, name, describe(split) | {"rows": rows})


def parse_args():
    parser = make_parser(__doc__.splitlines()[0], "gamma.png")
    add_data_arguments(parser)
    add_summary_arguments(parser)
    parser.add_argument("--max-iter", type=int, default=50)
    parser.add_argument("--constants", type=float, nargs="+", default=CONSTANTS)
    return parser.parse_args()


def run_seeds(args, split, gamma):
    return [
        run_recvae(
            args.results,
            f"gamma-{seed}",
            RecVAERecommender(
                gamma=gamma,
                max_iter=args.max_iter,
                early_stopping=True,
                random_state=seed,
            ),
            split,
            users="val",
        )
        for seed in args.seeds
    ]


def mean_of_users(runs):
    """Average the seeds: one value for each validation user."""
    return np.mean([run["val"][METRIC] for run in runs], axis=0)


def list_rows(runs, mean_feedback):
    """Give the mean of each weight, and its difference to the paper's."""
    rows = []
    for gamma, of_seeds in runs.items():
        pairs = zip(of_seeds, runs[PAPER], strict=True)
        values = mean_of_users(of_seeds), mean_of_users(runs[PAPER])
        row = {
            "constant": gamma * mean_feedback,
            "gamma": gamma,
            METRIC: mean_and_error(values[0]),
            "best_iterations": [run["best_iteration"] for run in of_seeds],
        }
        if gamma != PAPER:
            row["difference"] = paired_difference(*values)
            row["in each seed"] = [
                run["validation"] - other["validation"] for run, other in pairs
            ]
        rows.append(row)
    return rows


def print_table(rows):
    """Print the rows."""
    table = Table(box=box.SIMPLE)
    for heading in ["constant", "gamma", METRIC, "difference", "in each seed", "kept"]:
        table.add_column(heading)
    for row in rows:
        difference = row.get("difference")
        table.add_row(
            f"{row['constant']:.3f}",
            f"{row['gamma']:.5f}",
            "{:.4f} ({:.4f})".format(*row[METRIC]),
            "{:+.4f} ± {:.4f}".format(*difference) if difference else "",
            " ".join(f"{value:+.4f}" for value in row.get("in each seed", [])),
            " ".join(map(str, row["best_iterations"])),
        )
    Console(width=120).print(table)
    print(
        f"Difference: to gamma={PAPER}, of validation users, paired by user, with its\n"
        "95 % interval. They chose the iteration too: all values are optimistic."
    )


def draw(runs, mean_feedback):
    """Draw quality against the constant."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    gammas = sorted(runs)
    values = [mean_and_error(mean_of_users(runs[gamma])) for gamma in gammas]
    means, errors = zip(*values, strict=True)
    constants = np.multiply(gammas, mean_feedback)
    axes.errorbar(constants, means, yerr=errors, fmt="o-", capsize=2)
    axes.set_xscale("log")
    axes.set(xlabel="gamma times mean feedback", ylabel=f"validation {METRIC}")
    return figure


if __name__ == "__main__":
    main()
