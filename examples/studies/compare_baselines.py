"""Compare RecVAE with other models, all tuned on one split with the same budget.

Other models have the same number of settings to try, and none is begun after
``--minutes``; RecVAE and the recipe, a blend without arguments, have their defaults.
The best by validation NDCG@100 is fitted for each seed, and the test users are
evaluated with it alone. A finished run is a file in ``--results`` and is not computed
again. A model whose library is missing is left out; run the script again where the
library is, with the same results, to add it. The table goes to ``--summary`` too,
beside those of other data.

    python examples/studies/compare_baselines.py --data ml-1m.zip
"""

import importlib
import multiprocessing
import os
import sys
import time

import numpy as np
import psutil
from _baselines import MODELS
from _runs import (
    METRICS,
    N_RANKS,
    add_data_arguments,
    add_summary_arguments,
    add_to_summary,
    describe,
    evaluate,
    fingerprint,
    load_and_split,
    load_or_compute,
    make_parser,
    mean_and_error,
    mean_over_seeds,
    paired_difference,
)
from matplotlib import colormaps
from matplotlib.figure import Figure
from rich import box
from rich.console import Console
from rich.table import Table

from sklearn_recvae.metrics import catalogue_coverage_at_k, ndcg_at_k

METRIC = "NDCG@100"
REFERENCE = "recipe"
START_METHOD = "spawn"  # of the process of a fit


def main():
    args = parse_args()
    args.results.mkdir(parents=True, exist_ok=True)
    split = load_and_split(args.data, args.n_heldout)
    runs, missing = {}, {}
    for name in args.models:
        try:
            runs[name] = run_model(args, name, split)
        except (ImportError, MemoryError) as error:
            missing[name] = error
    rows = list_rows(runs)
    print_table(rows)
    for name, error in missing.items():
        print(f"{name}: not fitted. {type(error).__name__}: {error}")
    draw(runs).savefig(args.output, dpi=150)
    print(f"Picture: {args.output}")
    if args.summary is not None:
        name = args.name or args.data.stem
        add_to_summary(args.summary, name, describe(split) | {"rows": rows})


def parse_args():
    parser = make_parser(__doc__.splitlines()[0], "baselines.png")
    add_data_arguments(parser)
    add_summary_arguments(parser)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument(
        "--minutes", type=float, default=10, help="no setting is begun after these"
    )
    parser.add_argument(
        "--max-iter", type=int, help="iterations of RecVAE, and of that in the recipe"
    )
    return parser.parse_args()


def run_model(args, name, split):
    """Tune the model with the first seed, and fit what was chosen with the others."""
    seeds = args.seeds if MODELS[name].seeded else args.seeds[:1]
    settings = MODELS[name].settings
    if args.max_iter is not None and "max_iter" in settings[0]:
        settings = [setting | {"max_iter": args.max_iter} for setting in settings]
    runs = []
    for seed in seeds:
        runs.append(run_settings(args, name, settings, seed, split))
        settings = [runs[0]["setting"]]
    return runs


def run_settings(args, name, settings, seed, split):
    """Fit with each setting while time is left, and test the best one."""

    def compute():
        fits = []
        start = time.monotonic()
        for setting in settings:
            fits.append(fit_in_new_process(name, setting, seed, split))
            if time.monotonic() - start > 60 * args.minutes:
                break
        best = max(fits, key=lambda fitted: fitted["validation"])
        tests = [fitted.pop("test_ranks") for fitted in fits]
        ranks, *of_parts = tests[fits.index(best)].items()
        return {
            **best,
            "tried": fits,
            "cpus": os.cpu_count(),
            **evaluate_ranks(split, ranks[1]),
            "parts": {part: evaluate_ranks(split, ranks) for part, ranks in of_parts},
        }

    identity = {
        "model": name,
        "settings": settings,
        # One setting is tried whatever time there is.
        "minutes": args.minutes if len(settings) > 1 else None,
        "seed": seed,
        "data": fingerprint(split),
    }
    file_name = f"baselines-{name.replace(' ', '-')}-{seed}"
    return load_or_compute(args.results, file_name, identity, compute)


def evaluate_ranks(split, ranks):
    n_items = split.X_test.shape[1]
    return {
        "test": evaluate(split.y_test, ranks),
        # Of all test users together; of the lists themselves nothing is kept.
        "coverage": catalogue_coverage_at_k(ranks, n_items, N_RANKS),
    }


def fit_in_new_process(name, setting, seed, split):
    """Fit, and validate; the seconds and the memory are those of the fit alone."""
    context = multiprocessing.get_context(START_METHOD)
    connection, others_end = context.Pipe()
    process = context.Process(target=fit, args=(others_end, name, setting, seed, split))
    process.start()
    others_end.close()  # so that the end of the process ends the connection
    try:
        library = receive(connection)
        memory = watch_memory(process, connection)
        seconds = receive(connection)
        of_validation, of_test = receive(connection)
    except EOFError:
        process.join()
        raise RuntimeError(
            f"{name} with {setting} ended with exit code {process.exitcode}"
        ) from None
    finally:
        connection.close()
        process.join()
    return {
        "setting": setting,
        "library": library,
        "seconds": round(seconds, 2),
        "megabytes": round(memory / 1e6),
        "validation": ndcg_at_k(split.y_val, of_validation, N_RANKS),
        "test_ranks": of_test,
    }


def watch_memory(process, connection):
    """Give the peak of what a process takes on top, until it answers."""
    memory_info = psutil.Process(process.pid).memory_info
    start = peak = memory_info().rss
    connection.send("begin")
    while not connection.poll(0.01):
        peak = max(peak, memory_info().rss)
    return peak - start


def receive(connection):
    message = connection.recv()
    if isinstance(message, Exception):
        raise message
    return message


def fit(connection, name, setting, seed, split):
    """Fit in this process, answer with the library, the seconds and the ranks."""
    model = MODELS[name]
    try:
        importlib.import_module(model.module)
        library = sys.modules[model.module.split(".")[0]]
        connection.send(f"{library.__name__} {library.__version__}")
        connection.recv()
        start = time.perf_counter()
        rankers = model.fit(split, setting, seed)
        connection.send(time.perf_counter() - start)
        if not isinstance(rankers, dict):  # it has no parts
            rankers = {name: rankers}
        of_test = {each: rank("X_test") for each, rank in rankers.items()}
        connection.send((rankers[name]("X_val"), of_test))
    except (ImportError, MemoryError) as error:
        connection.send(error)


def list_rows(runs):
    """List what was chosen, the test results and the costs, the best model last."""
    rows = []
    for name, of_seeds in runs.items():
        first = of_seeds[0]
        costs = {
            "setting": first["setting"],
            "tried": f"{len(first['tried'])} of {len(MODELS[name].settings)}",
            "seconds": float(np.mean([run["seconds"] for run in of_seeds])),
            "megabytes": max(run["megabytes"] for run in of_seeds),
            "library": first["library"],
        }
        rows.append({"name": name} | measure(runs, of_seeds, name) | costs)
        for part in first["parts"]:
            of_part = [run["parts"][part] for run in of_seeds]
            rows.append({"name": part} | measure(runs, of_part, part))
    return sorted(rows, key=lambda row: row[METRIC][0])


def measure(runs, of_seeds, name):
    """Give the means over users and seeds, and the difference to the reference."""
    values = mean_over_seeds(of_seeds, METRIC)
    row = {m: mean_and_error(mean_over_seeds(of_seeds, m)) for m in METRICS}
    row["coverage"] = float(np.mean([run["coverage"] for run in of_seeds]))
    row["each seed"] = [mean_over_seeds([run], METRIC).mean() for run in of_seeds]
    if name != REFERENCE and REFERENCE in runs:
        others = mean_over_seeds(runs[REFERENCE], METRIC)
        row["difference"] = paired_difference(values, others)
    return row


def print_table(rows):
    """Print the rows."""
    table = Table(box=box.SIMPLE)
    headings = ["", *METRICS, f"coverage@{N_RANKS}", "difference", "chosen", "tried"]
    for heading in [*headings, "s", "MB"]:
        table.add_column(heading)
    for row in rows:
        chosen = row.get("setting", {}).items()
        table.add_row(
            row["name"],
            *["{:.4f} ({:.4f})".format(*row[metric]) for metric in METRICS],
            f"{row['coverage']:.3f}",
            "{:+.4f} ± {:.4f}".format(*row["difference"])
            if "difference" in row
            else "",
            ", ".join(f"{key} {value}" for key, value in chosen),
            row.get("tried", ""),
            f"{row['seconds']:.1f}" if "seconds" in row else "",
            str(row.get("megabytes", "")),
        )
    Console(width=165).print(table)
    print(
        "In brackets: the standard error over test users. Coverage: the share of the\n"
        f"items that are in the list of at least one test user. Difference: {METRIC}\n"
        f"minus that of the {REFERENCE}, paired by test user, mean of the seeds, with\n"
        "its 95 % interval over users. s, MB: time and memory of one fit with what\n"
        "was chosen, validation after each epoch included where there is one."
    )
    for row in rows:
        each = " ".join(f"{value:.4f}" for value in row["each seed"])
        print(f"{row['name']}, {METRIC} in each seed: {each}")


def draw(runs):
    """Draw quality against the time of a fit."""
    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.subplots()
    axes.set_prop_cycle(color=colormaps["tab20"].colors)  # one for each model
    for name, of_seeds in runs.items():
        mean, error = mean_and_error(mean_over_seeds(of_seeds, METRIC))
        # Popularity takes less than is measured, and the axis is logarithmic.
        seconds = max(0.01, np.mean([run["seconds"] for run in of_seeds]))
        axes.errorbar(seconds, mean, yerr=error, fmt="o", capsize=3, label=name)
    figure.legend(loc="outside right center")
    axes.set_xscale("log")
    axes.set(xlabel="seconds of a fit", ylabel=f"test {METRIC}, with standard error")
    return figure


if __name__ == "__main__":
    main()
