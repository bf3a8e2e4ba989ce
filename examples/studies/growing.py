"""Let a model grow with its users and its catalogue, and compare with a new fit.

The events of MovieLens are cut in two by time. A model is fitted on the earlier ones.
The later ones bring new users, longer rows of known users, and new items: the model
gets the items by `add_items` and goes on with `partial_fit`. A fifth of each user's
items is held out of all training, for the test.

    python examples/studies/growing.py --data ml-latest-small.zip
"""

import argparse
from pathlib import Path
from zipfile import ZipFile

import numpy as np
from _runs import mean_and_error
from rich import box
from rich.console import Console
from rich.table import Table

from sklearn_recvae import RecVAERecommender
from sklearn_recvae.metrics import ndcg_at_k
from sklearn_recvae.model_selection import holdout_interactions
from sklearn_recvae.preprocessing import InteractionEncoder

MIN_INTERACTIONS = 5


def main():
    args = parse_args()
    parts = split_by_time(read_events(args.data), args.share)
    print(
        f"{parts['is_old_user'].sum()} old users, {(~parts['is_old_user']).sum()} new "
        f"ones; {parts['is_old_item'].sum()} old items, "
        f"{(~parts['is_old_item']).sum()} new ones."
    )
    scores = {}
    for seed in args.seeds:
        for name, model in grow(parts, args, seed):
            for group, of_users in score(model, parts).items():
                scores.setdefault((name, group), []).append(of_users)
    print_table(scores)


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data", type=Path, required=True, help="a zip of MovieLens with ratings.csv"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument(
        "--share",
        type=float,
        default=0.8,
        help="of the events that are the earlier ones",
    )
    parser.add_argument("--max-iter", type=int, default=40, help="of a whole fit")
    parser.add_argument(
        "--more",
        type=int,
        nargs="+",
        default=[1, 5, 10, 20],
        help="iterations of partial_fit after which to score",
    )
    return parser.parse_args()


def read_events(path):
    """Read users, items and times of the ratings above 3.5."""
    with ZipFile(path) as archive:
        name = next(n for n in archive.namelist() if n.endswith("ratings.csv"))
        with archive.open(name) as file:
            table = np.loadtxt(file, delimiter=",", skiprows=1)
    users, items, _, times = table[table[:, 2] > 3.5].T
    return {"user": users.astype(int), "item": items.astype(int), "time": times}


def split_by_time(events, share):
    """Make matrices of all events and of the earlier ones; old items come first."""
    encoder = InteractionEncoder(min_user_interactions=MIN_INTERACTIONS).fit(events)
    early = events["time"] <= np.quantile(events["time"], share)
    # What has an event before the cut is old.
    old_users = np.isin(encoder.user_ids_, events["user"][early])
    old_items = np.isin(encoder.item_ids_, events["item"][early])
    encoder = InteractionEncoder(
        user_ids=np.concatenate(
            [encoder.user_ids_[old_users], encoder.user_ids_[~old_users]]
        ),
        item_ids=np.concatenate(
            [encoder.item_ids_[old_items], encoder.item_ids_[~old_items]]
        ),
        handle_unknown="ignore",
    )
    X = encoder.fit_transform(events)
    train, held_out = holdout_interactions(X, 0.2, random_state=0)
    earlier = encoder.transform(
        {name: column[early] for name, column in events.items()}
    )
    n_users, n_items = old_users.sum(), old_items.sum()
    return {
        "train": train,
        "held_out": held_out,
        "earlier": train.multiply(earlier).tocsr()[:n_users, :n_items],
        "is_old_user": np.arange(X.shape[0]) < n_users,
        "is_old_item": np.arange(X.shape[1]) < n_items,
        "item_ids": encoder.item_ids_,
    }


def grow(parts, args, seed):
    """Give the model before, as it grows, and one that is fitted on all anew."""
    model = RecVAERecommender(max_iter=args.max_iter, random_state=seed)
    model.fit(parts["earlier"], item_ids=parts["item_ids"][parts["is_old_item"]])
    yield "before", model
    model.add_items(parts["item_ids"])
    for iteration in range(1, max(args.more) + 1):
        model.partial_fit(parts["train"])
        if iteration in args.more:
            yield f"{iteration} more iterations", model
    model = RecVAERecommender(max_iter=args.max_iter, random_state=seed)
    yield "fitted anew", model.fit(parts["train"])


def score(model, parts):
    """Compute NDCG@100 of each user in three groups."""
    n_items = model.n_features_in_
    ranks = model.recommend(parts["train"][:, :n_items], k=100)
    held_out = {
        "old users": parts["held_out"][parts["is_old_user"]],
        "new users": parts["held_out"][~parts["is_old_user"]],
        "new items": parts["held_out"] * ~parts["is_old_item"],
    }
    ranks = {
        "old users": ranks[parts["is_old_user"]],
        "new users": ranks[~parts["is_old_user"]],
        "new items": ranks,
    }
    scores = {}
    for group, y_true in held_out.items():
        y_true = y_true.tocsr()
        y_true.eliminate_zeros()
        of_users = ndcg_at_k(y_true, ranks[group], 100, average=None)
        scores[group] = of_users[np.isfinite(of_users)]
    return scores


def print_table(scores):
    """Print the means over seeds and users."""
    table = Table(box=box.SIMPLE)
    groups = list(dict.fromkeys(group for _, group in scores))
    table.add_column("NDCG@100")
    for group in groups:
        n_users = len(scores["before", group][0])
        table.add_column(f"{group} ({n_users} users)")
    for name in dict.fromkeys(name for name, _ in scores):
        row = []
        for group in groups:
            mean, error = mean_and_error(np.mean(scores[name, group], axis=0))
            row.append(f"{mean:.4f} ({error:.4f})")
        table.add_row(name, *row)
    Console(width=110).print(table)
    print(
        "Means over seeds and users, in brackets the standard error over users. New\n"
        "items: only held-out items that came later count."
    )


if __name__ == "__main__":
    main()
