"""Compare models by what users did next, with and without a half-life of events.

The *split by time* has windows of two years: a model is fitted on all that was before,
and what users who were there already did in the window is held out. The *random split*
holds out a fifth of all interactions, whenever they were. Items with fewer than five
users are left out: of those before the window, or of all. Parameters and half-lives are
chosen on earlier windows, or on a fifth of what is left; the test is evaluated with the
chosen ones alone. A finished fit is a file in ``--results`` and is not computed again.
The table goes to ``--output`` as JSON too.

    python examples/studies/temporal.py --data ml-latest-small.zip
"""

import argparse
import json
import zlib
from functools import partial
from itertools import product
from pathlib import Path
from typing import NamedTuple
from zipfile import ZipFile

import numpy as np
from _baselines import MODELS
from _runs import (
    N_RANKS,
    SPLIT_SEED,
    load_or_compute,
    mean_and_error,
    paired_difference,
    provenance,
)
from rich import box
from rich.console import Console
from rich.table import Table
from scipy.sparse import csr_array
from sklearn.utils import Bunch

from sklearn_recvae import (
    EASERecommender,
    PopularityRecommender,
    RecVAERecommender,
    SparseEASERecommender,
)
from sklearn_recvae.metrics import ndcg_at_k
from sklearn_recvae.model_selection import temporal_split
from sklearn_recvae.preprocessing import InteractionEncoder

METRIC = "NDCG@100"
REFERENCE = "EASE"  # of the differences between models
HALF_LIVES = [45, 180, 730, 2920]  # days
N_YEARS = 2  # of a window
MIN_USERS = 5  # of an item
REGULARIZATIONS = [10, 50, 200, 800]
# What is tried of each model.
SETTINGS = {
    "popularity": [{}],
    "EASE": [{"regularization": each} for each in REGULARIZATIONS],
    "EASE with noise": [
        {"regularization": each, "noise_rate": 0.5} for each in REGULARIZATIONS
    ],
    "sparse EASE": [{"regularization": each} for each in REGULARIZATIONS],
    "RecVAE": [{"random_state": 0}],
    # Of other libraries.
    **{name: MODELS[name].settings for name in ("item-kNN", "WMF", "SLIM")},
}


class Part(NamedTuple):
    """Splits of one kind to choose by, and splits to test with."""

    validation: dict  # of functions of the half-life, which give a split
    test: dict


def main():
    args = parse_args()
    args.results.mkdir(parents=True, exist_ok=True)
    table = read_table(args.data)
    parts = {
        "by time": split_by_time(table, args.validation, args.test),
        "random": split_at_random(table),
    }
    rows = {
        kind: {name: run_model(args, table, kind, part, name) for name in args.models}
        for kind, part in parts.items()
    }
    summary = {kind: summarize(of_models) for kind, of_models in rows.items()}
    print_table(summary)
    summary = {"made": provenance(), **summary}
    args.output.write_text(json.dumps(summary, indent=1) + "\n")


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data", type=Path, required=True, help="a zip of MovieLens with ratings.csv"
    )
    for name, years in {"validation": [2005, 2008], "test": [2009, 2018]}.items():
        parser.add_argument(
            f"--{name}",
            type=int,
            nargs=2,
            default=years,
            metavar=("FIRST", "LAST"),
            help=f"years of the {name} windows",
        )
    parser.add_argument("--models", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--max-iter", type=int, default=20, help="of RecVAE")
    parser.add_argument(
        "--results", type=Path, default=Path("results"), help="folder of finished fits"
    )
    parser.add_argument(
        "--output", type=Path, default=Path("temporal.json"), help="the table"
    )
    return parser.parse_args()


def read_table(path):
    """Read the ratings, as events with dates."""
    with ZipFile(path) as archive:
        name = next(n for n in archive.namelist() if n.endswith("ratings.csv"))
        with archive.open(name) as file:
            users, items, ratings, seconds = np.loadtxt(
                file, delimiter=",", skiprows=1, unpack=True
            )
    return {
        "user": users.astype(int),
        "item": items.astype(int),
        "rating": ratings,
        "time": seconds.astype("datetime64[s]"),
    }


def make_encoder(half_life):
    """Make interactions of ratings above 3.5; days are the unit of half-lives."""
    return InteractionEncoder(
        weight="rating",
        time="time",
        threshold=3.5,
        half_life=half_life,
        min_item_interactions=MIN_USERS,
    )


def split_by_time(table, validation, test):
    """Hold out what users did in each window, of those to choose by and to test."""

    def split_window(year, half_life):
        end = np.datetime64(f"{year + N_YEARS}", "s")
        known = table["time"] < end
        events = {name: column[known] for name, column in table.items()}
        split = temporal_split(events, encoder=make_encoder(half_life), cut=f"{year}")
        return split, split.test_users

    return Part(
        *(
            {
                f"from {year}": lambda half_life, year=year: split_window(
                    year, half_life
                )
                for year in range(first, last + 1, N_YEARS)
            }
            for first, last in (validation, test)
        )
    )


def split_at_random(table):
    """Hold out a fifth of all, and a fifth of the rest to choose by."""

    def split(half_life, *, validation):
        encoder = make_encoder(half_life)
        X = encoder.fit_transform(table)
        # The same for all half-lives, which change no pattern.
        numbers = np.random.default_rng(SPLIT_SEED).random(X.nnz)
        moments = csr_array((numbers, X.indices, X.indptr), shape=X.shape)
        outer = temporal_split(X, moments)
        test_users = encoder.user_ids_[outer.test_users]
        if not validation:
            return outer, test_users
        earlier = moments[outer.train_users][:, outer.kept_items]
        inner = temporal_split(outer.X_train, earlier)
        return inner, encoder.user_ids_[outer.train_users[inner.test_users]]

    return Part(
        {"validation": lambda half_life: split(half_life, validation=True)},
        {"test": lambda half_life: split(half_life, validation=False)},
    )


def run_model(args, table, kind, part, name):
    """Choose with and without a half-life, and test both."""
    runs = {}
    for half_lives in ([None], HALF_LIVES):
        tried = {
            (half_life, number): run(
                args, table, part.validation, name, setting, half_life
            )
            for half_life, (number, setting) in product(
                half_lives, enumerate(SETTINGS[name])
            )
        }
        (half_life, number), scores = max(
            tried.items(), key=lambda item: np.mean(list(item[1].values()))
        )
        setting = SETTINGS[name][number]
        runs[half_lives[0] is not None] = {
            "half-life": half_life,
            "setting": setting,
            "validation": np.mean(list(scores.values())),
            "test": run(args, table, part.test, name, setting, half_life),
        }
    return runs


def run(args, table, windows, name, setting, half_life):
    """Fit in each window; give the mean of each user over the windows she is in."""
    values = {}
    for window, split in windows.items():
        fitted = run_window(args, table, window, split, name, setting, half_life)
        for user, value in zip(fitted["users"], fitted[METRIC], strict=True):
            values.setdefault(user, []).append(value)
    return {user: np.mean(values[user]) for user in sorted(values)}


def run_window(args, table, window, split, name, setting, half_life):
    def compute():
        parts, users = split(half_life)
        ranks = rank(name, setting, parts, args.max_iter)
        scores = ndcg_at_k(parts.y_test, ranks, N_RANKS, average=None)
        return {"users": users.tolist(), METRIC: scores.round(6).tolist()}

    identity = {
        "model": name,
        "setting": setting,
        "half_life": half_life,
        "window": window,
        "max_iter": args.max_iter if name == "RecVAE" else None,
        "min_users": MIN_USERS,
        "data": zlib.crc32(table["time"]),
    }
    file_name = f"temporal-{name}-{window}".replace(" ", "-")
    return load_or_compute(args.results, file_name, identity, compute)


def rank(name, setting, parts, max_iter):
    """Fit, and rank the items of the test users."""
    ours = {
        "popularity": PopularityRecommender,
        "EASE": EASERecommender,
        "EASE with noise": EASERecommender,
        "sparse EASE": SparseEASERecommender,
        "RecVAE": partial(RecVAERecommender, max_iter=max_iter),
    }
    if name in ours:
        model = ours[name](**setting).fit(parts.X_train)
        return model.recommend(parts.X_test, k=N_RANKS)
    # Of users that were not trained on all models know what they may see.
    parts = Bunch(**parts, X_val=parts.X_test[:0])
    return MODELS[name].fit(parts, setting, 0)("X_test")


def summarize(of_models):
    """Give what the table has of each model, without and with a half-life."""
    rows = {}
    for name, runs in of_models.items():
        row = {}
        for decays, chosen in runs.items():
            values = list(chosen["test"].values())
            mean, error = mean_and_error(values)
            row["decayed" if decays else "plain"] = {
                "half-life": chosen["half-life"],
                "setting": chosen["setting"],
                "validation": chosen["validation"],
                METRIC: mean,
                "error": error,
                "n_users": len(values),
            }
            if REFERENCE in of_models and (decays or name != REFERENCE):
                row["decayed" if decays else "plain"]["to reference"] = compare(
                    chosen, of_models[REFERENCE][False]
                )
        row["decayed"]["to plain"] = compare(runs[True], runs[False])
        rows[name] = row
    return rows


def compare(chosen, other):
    """Give the difference of the same users, and the half of its interval."""
    assert chosen["test"].keys() == other["test"].keys()
    return paired_difference(*(list(each["test"].values()) for each in (chosen, other)))


def print_table(summary):
    """Print the models of each split, the best last."""
    for kind, rows in summary.items():
        table = Table(box=box.SIMPLE)
        for heading in ("", METRIC, f"minus {REFERENCE}", "half-life", "its gain", "λ"):
            table.add_column(heading)
        lines = [
            (row[which][METRIC], name, row[which])
            for name, row in rows.items()
            for which in ("plain", "decayed")
        ]
        for mean, name, row in sorted(lines, key=lambda line: line[0]):
            table.add_row(
                name,
                f"{mean:.4f} ({row['error']:.4f})",
                show(row.get("to reference")),
                f"{row['half-life']} days" if row["half-life"] else "none",
                show(row.get("to plain")),
                str(row["setting"].get("regularization", "")),
            )
        n_users = lines[0][2]["n_users"]
        print(f"Split {kind}, {n_users} test users:")
        Console(width=120).print(table)
    print(
        f"In brackets: the standard error over users. Minus {REFERENCE}: without a\n"
        "half-life. Its gain: to the same model without one. Differences are paired\n"
        "by user, with 95 % intervals. A user of several windows counts once, by the\n"
        "mean."
    )


def show(difference):
    return "" if difference is None else "{:+.4f} ± {:.4f}".format(*difference)


if __name__ == "__main__":
    main()
