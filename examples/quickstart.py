"""Tune, fit and evaluate RecVAE on MovieLens, and look at what it recommends.

Run ``python examples/quickstart.py``; it takes about a minute on two CPU cores.
MovieLens latest-small is downloaded (1 MB), or read from ``--data``, a MovieLens zip
or its extracted folder. Without a network, generated data stand in.
"""

import argparse
import sys
import warnings
from urllib.error import URLError

import numpy as np
from joblib import parallel_config
from matplotlib.figure import Figure
from sklearn.model_selection import GridSearchCV, KFold

from sklearn_recvae import RecVAERecommender
from sklearn_recvae.datasets import fetch_movielens, load_movielens, make_interactions
from sklearn_recvae.metrics import ndcg_at_k, rank_scores
from sklearn_recvae.model_selection import strong_generalization_split

# For the search, which fits many models.
SMALL_SETTING = {"latent_dim": 64, "hidden_dim": 200, "max_iter": 25}
GRID = {"gamma": [0.002, 0.01], "noise_rate": [0.3, 0.5]}
N_FOLDS = 5


def main():
    args = parse_args()
    sys.stdout.reconfigure(line_buffering=True)  # also where it is no terminal
    source, X, titles = load_data(args.data)
    print(f"Data: {source}.")
    print(f"{X.shape[0]} users, {X.shape[1]} items, {X.nnz} interactions.")

    split = split_users(X)
    titles = titles[split.kept_items]

    best_params = tune(split.X_train)

    print("\nFitting at the full setting, the best iteration by validation NDCG@100")
    model = RecVAERecommender(**best_params, random_state=0)
    show_progress(model)
    model.fit(split.X_train, X_val=split.X_val, y_val=split.y_val)
    print(f"kept iteration {model.best_iteration_} of {model.n_iter_}")

    compare_with_popularity(model, split)
    show_recommendations(model, split, titles)
    save_learning_curve(model, args.output)
    print(f"\nLearning curve: {args.output}")


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="a MovieLens zip, or the folder of its files")
    parser.add_argument("--output", default="learning_curve.png", help="the picture")
    return parser.parse_args()


def load_data(path):
    """Give a description, the interaction matrix, and a title for each column."""
    if path is not None:
        movielens = load_movielens(path)
        source = f"MovieLens from {path}"
    else:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # one for each retry
                movielens = fetch_movielens("latest-small")
        except URLError as error:
            X, _, groups = make_interactions(600, 1500, n_groups=8, random_state=0)
            titles = [f"item {i} of taste group {g}" for i, g in enumerate(groups)]
            reason = f"MovieLens could not be downloaded ({error.reason})"
            return f"generated, because {reason}", X, np.array(titles, dtype=object)
        source = "MovieLens latest-small"
    # A rating of 4 or more is an interaction; the rest are left out.
    return f"{source}, ratings above 3.5", movielens.data, movielens.item_titles


def split_users(X):
    """Set users aside; of their interactions 80 % are shown, 20 % are to be found."""
    n_users = X.shape[0]
    split = strong_generalization_split(
        X, n_val=n_users // 10, n_test=n_users // 5, random_state=0
    )
    print(
        f"Split by users: {split.X_train.shape[0]} for training, "
        f"{split.X_val.shape[0]} for validation, {split.X_test.shape[0]} for the test."
    )
    return split


def tune(X_train):
    """Search gamma and the noise rate; folds of rows are folds of users."""
    setting = ", ".join(f"{name}={value}" for name, value in SMALL_SETTING.items())
    print(f"\nTuning at a smaller setting: {setting}")
    search = GridSearchCV(
        RecVAERecommender(**SMALL_SETTING, random_state=0),
        GRID,
        cv=KFold(N_FOLDS, shuffle=True, random_state=0),
        n_jobs=2,
        refit=False,
        error_score="raise",
    )
    with parallel_config(verbose=10):  # tells how many fits are done
        search.fit(X_train)
    results = search.cv_results_
    standard_errors = results["std_test_score"] / np.sqrt(N_FOLDS - 1)
    print(
        f"{'gamma':>6}  noise_rate  NDCG@100 (mean of {N_FOLDS} folds, standard error)"
    )
    for params, mean, standard_error in zip(
        results["params"], results["mean_test_score"], standard_errors, strict=True
    ):
        gamma, noise_rate = params["gamma"], params["noise_rate"]
        print(f"{gamma:>6}  {noise_rate:>10}  {mean:.4f} +- {standard_error:.4f}")
    print(f"Highest mean: {search.best_params_}")
    return search.best_params_


def show_progress(model):
    """Draw a bar at a terminal, and print a line for each iteration elsewhere.

    The bar is that of scikit-learn, from version 1.9, and needs rich.
    """
    if sys.stdout.isatty():
        try:
            from sklearn.callback import ProgressBar

            model.set_callbacks(ProgressBar())
            return
        except ImportError:
            pass
    model.set_params(verbose=1)


def compare_with_popularity(model, split):
    """Print the test NDCG@100 of the model, and of one ranking for everybody."""
    popularity = np.tile(split.X_train.sum(axis=0), (split.X_test.shape[0], 1))
    rankings = {
        "RecVAE": model.recommend(split.X_test, k=100),
        "popularity": rank_scores(popularity, split.X_test, 100),
    }
    values = {
        name: ndcg_at_k(split.y_test, ranking, k=100, average=None)
        for name, ranking in rankings.items()
    }
    values["difference"] = values["RecVAE"] - values["popularity"]
    print("\nTest NDCG@100 (mean over users, standard error)")
    for name, value in values.items():
        standard_error = value.std(ddof=1) / np.sqrt(len(value))
        print(f"{name:>10}  {value.mean():.4f} +- {standard_error:.4f}")


def show_recommendations(model, split, titles):
    """Print what one test user liked, and the ten items recommended to them."""
    # The test user with the median number of interactions.
    n_interactions = np.diff(split.X_test.indptr)
    user = np.argsort(n_interactions, kind="stable")[len(n_interactions) // 2]
    history = split.X_test[[user]].indices
    held_out = set(split.y_test[[user]].indices)
    print(f"\nOne test user's history ({len(history)} items, at most 12 shown)")
    for item in history[:12]:
        print(f"    {titles[item]}")
    print(f"Top 10 (* marks one of the {len(held_out)} held-out items)")
    for item in model.recommend(split.X_test[[user]], k=10)[0]:
        print(f"  {'*' if item in held_out else ' '} {titles[item]}")


def save_learning_curve(model, path):
    """Draw likelihood and validation score over the iterations."""
    iterations = np.arange(1, model.n_iter_ + 1)
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    axes = figure.subplots(1, 2)
    axes[0].plot(iterations, model.history_["likelihood"])
    axes[0].set(ylabel="log-likelihood per user, in training")
    axes[1].plot(iterations, model.history_["validation_score"])
    axes[1].set(ylabel="validation NDCG@100")
    for ax in axes:
        ax.axvline(model.best_iteration_, color="grey", linestyle=":", label="kept")
        ax.set(xlabel="iteration")
    axes[1].legend()
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
