"""Vary one parameter at a time, and score the validation users.

All others are the defaults, and gamma is 0.005. Each seed draws the validation users, a
fifth of all and at most 600, and the model. A finished run is a file in ``--results``
and is not computed again. The score is that of the best iteration by validation, on the
users who chose it: it is optimistic, and so is the setting with the highest mean.
Confirm a choice on test users.

    python examples/studies/tuning_curves.py --data ml-1m.zip ml-latest-small.zip
"""

from pathlib import Path

import numpy as np
from _runs import (
    DATA_HELP,
    auto_batch_size,
    load_interactions,
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
from sklearn_recvae.model_selection import strong_generalization_split

METRIC = "NDCG@100"
GAMMA = 0.005  # the paper's, of MovieLens-20M, from which all others depart
# The defaults are among them; that of the batch size is added for each data set.
VALUES = {
    "gamma": [0.001, 0.0025, 0.005, 0.01, 0.02],
    "prior_weights": [(1, 0, 0), (0.5, 0.4, 0.1), (0.15, 0.75, 0.1), (0, 0.9, 0.1)],
    "noise_rate": [0, 0.25, 0.5, 0.75],
    "latent_dim": [50, 100, 200, 400],
    "batch_size": [50, 150, 500],
}
ON_LOG_SCALE = "gamma", "latent_dim", "batch_size"


def main():
    args = parse_args()
    args.results.mkdir(parents=True, exist_ok=True)
    # By place, not by name: two files may have the same.
    names = [name_data(path) for path in args.data]
    studies = [
        run_study(args, path, name) for path, name in zip(args.data, names, strict=True)
    ]
    for name, study in zip(names, studies, strict=True):
        print_table(name, *study)
    print(
        "NDCG@100 of validation users at the best iteration, which they chose: it is\n"
        "optimistic. Difference: to the default, paired by user and seed, with its\n"
        "95 % interval over these pairs; then the mean difference of each seed, which\n"
        "shows how far another draw of users and model moves it."
    )
    draw(names, studies).savefig(args.output, dpi=150)
    print(f"Picture: {args.output}")


def parse_args():
    parser = make_parser(__doc__.splitlines()[0], "tuning.png")
    parser.add_argument(
        "--data", type=Path, nargs="+", required=True, help=f"each {DATA_HELP}"
    )
    parser.add_argument("--max-iter", type=int, default=50)
    return parser.parse_args()


def name_data(path):
    """Name a data set by its zip or folder, a matrix by the folder that it is in."""
    path = path.resolve()
    return path.parent.name if path.suffix == ".npz" else path.stem


def run_study(args, path, name):
    """Give the default of each parameter, and the runs of each value, one a seed."""
    X = load_interactions(path)
    n_val = min(600, X.shape[0] // 5)
    auto = auto_batch_size(X.shape[0] - n_val)
    default = RecVAERecommender(gamma=GAMMA, batch_size=auto).get_params()
    values = VALUES | {"batch_size": sorted({*VALUES["batch_size"], auto})}
    runs = {
        parameter: {value: [] for value in values[parameter]} for parameter in VALUES
    }
    for seed in args.seeds:  # outermost: what is finished is whole studies
        split = strong_generalization_split(X, n_val, 0, random_state=seed)
        for parameter, of_values in runs.items():
            for value, of_seeds in of_values.items():
                changed = {"gamma": GAMMA, "batch_size": auto, parameter: value}
                what = parameter if value != default[parameter] else "default"
                run = run_recvae(
                    args.results,
                    f"tuning-{name}-{what}-{seed}",
                    RecVAERecommender(
                        **changed, max_iter=args.max_iter, random_state=seed
                    ),
                    split,
                    users="val",
                )
                of_seeds.append(run)
    return default, runs


def values_of_users(runs):
    """Give one value for each pair of seed and validation user."""
    return np.concatenate([run["val"][METRIC] for run in runs])


def difference_to_default(runs, of_default):
    """Compute the paired difference and the half of its interval."""
    return paired_difference(values_of_users(runs), values_of_users(of_default))


def print_table(name, default, runs):
    """Print the mean of each value, and its difference to the default."""
    table = Table(box=box.SIMPLE, title=name)
    for heading in ["", "", METRIC, "kept", "difference", "in each seed"]:
        table.add_column(heading)
    for parameter, of_values in runs.items():
        of_default = of_values[default[parameter]]
        for value, of_seeds in of_values.items():
            mean, error = mean_and_error(values_of_users(of_seeds))
            row = [
                parameter,
                str(value),
                f"{mean:.4f} ({error:.4f})",
                " ".join(str(run["best_iteration"]) for run in of_seeds),
            ]
            if of_seeds is of_default:
                row.append("default")
            else:
                difference, half = difference_to_default(of_seeds, of_default)
                each = [
                    run["validation"] - other["validation"]
                    for run, other in zip(of_seeds, of_default, strict=True)
                ]
                row.append(f"{difference:+.4f} ± {half:.4f}")
                row.append(" ".join(f"{value:+.4f}" for value in each))
            table.add_row(*row)
        table.add_section()
    Console(width=125).print(table)


def draw(names, studies):
    """Draw a panel for each parameter and a line for each data set."""
    figure = Figure(figsize=(10, 6), layout="constrained")
    panels = figure.subplots(2, 3, sharey=True).ravel()
    panels[-1].set_axis_off()  # the place of the legend
    for axes, parameter in zip(panels, VALUES, strict=False):
        for number, (name, (default, runs)) in enumerate(
            zip(names, studies, strict=True)
        ):
            of_values = runs[parameter]
            of_default = of_values[default[parameter]]
            means, halves = zip(
                *(
                    difference_to_default(each, of_default)
                    for each in of_values.values()
                ),
                strict=True,
            )
            axes.errorbar(
                place(parameter, list(of_values), number - (len(names) - 1) / 2),
                means,
                yerr=halves,
                fmt="o-",
                markersize=3,
                linewidth=1,
                capsize=2,
                label=name,
            )
        label_axis(axes, parameter)
    figure.supylabel(f"{METRIC} minus that of the default, 95 % interval")
    panels[-1].legend(
        *panels[0].get_legend_handles_labels(), loc="center", frameon=False
    )
    return figure


def place(parameter, values, step):
    """Place the values on the axis, by so many steps aside: intervals stay apart."""
    if parameter in ON_LOG_SCALE:
        return np.multiply(values, 1.04**step)
    if parameter == "prior_weights":
        values = np.arange(len(values))
    return np.add(values, np.ptp(values) * 0.02 * step)


def label_axis(axes, parameter):
    """Name the axis of a parameter, and mark the values that were run."""
    values = VALUES[parameter]
    default = RecVAERecommender(gamma=GAMMA).get_params()[parameter]
    axes.axhline(0, color="grey", linestyle=":")
    axes.set_xlabel(f"{parameter} (default: {default})")
    if parameter == "prior_weights":
        labels = ["\n".join(map(str, weights)) for weights in values]
        axes.set_xticks(range(len(values)), labels)
        return
    if parameter in ON_LOG_SCALE:
        axes.set_xscale("log")
        axes.minorticks_off()
    axes.set_xticks(values, values)


if __name__ == "__main__":
    main()
