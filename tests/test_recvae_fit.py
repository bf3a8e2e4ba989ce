"""RecVAE: what fit sets, its randomness, what is learned, copies of a fitted one."""

import copy
import io
import pickle
import subprocess
import sys

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_array_equal
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from common import (
    N_ITEMS,
    N_USERS,
    assert_same_fit,
    plain_ndcg,
    plain_recommend,
    recommender,
)
from sklearn_recvae.datasets import make_interactions
from sklearn_recvae.model_selection import holdout_interactions

# fit, its attributes and its randomness


def test_fit_returns_self_and_sets_the_attributes(X):
    estimator = recommender(max_iter=4)
    assert estimator.fit(X) is estimator
    assert estimator.n_features_in_ == N_ITEMS
    assert estimator.n_iter_ == 4
    assert estimator.best_iteration_ is None
    assert estimator.best_score_ is None
    assert isinstance(estimator.module_, torch.nn.Module)
    assert set(estimator.history_) == {
        "likelihood",
        "kl",
        "validation_score",
        "seconds",
    }
    for column in estimator.history_.values():
        assert column.shape == (4,)
    assert np.isfinite(estimator.history_["likelihood"]).all()
    assert np.isfinite(estimator.history_["kl"]).all()
    assert np.isnan(estimator.history_["validation_score"]).all()
    assert (estimator.history_["seconds"] >= 0).all()
    assert not hasattr(estimator, "feature_names_in_")


def test_training_improves_the_likelihood(X):
    likelihood = recommender(max_iter=8).fit(X).history_["likelihood"]
    assert likelihood[-1] > likelihood[0]


def test_y_is_ignored_by_fit(X, model):
    assert_same_fit(recommender().fit(X, np.arange(N_USERS)), model, X)
    assert_same_fit(recommender().fit(X, y=X), model, X)


def test_equal_seeds_equal_results(X, model):
    assert_same_fit(recommender().fit(X), model, X)
    from_instance = recommender(random_state=np.random.RandomState(0)).fit(X)
    assert_same_fit(from_instance, model, X)


def test_different_seeds_differ(X, model):
    assert (recommender(random_state=1).fit(X).predict(X) != model.predict(X)).any()
    first, second = (recommender(random_state=None).fit(X) for _ in range(2))
    assert (first.predict(X) != second.predict(X)).any()
    instance = np.random.RandomState(0)
    first, second = (recommender(random_state=instance).fit(X) for _ in range(2))
    assert (first.predict(X) != second.predict(X)).any()


FINGERPRINTS = """
import hashlib

from sklearn_recvae import RecVAERecommender
from sklearn_recvae.datasets import make_interactions

X, _, _ = make_interactions(120, 40, random_state=0)
model = RecVAERecommender(8, hidden_dim=16, max_iter=3, early_stopping=True)
model.set_params(random_state=7).fit(X)
ranked, scores = model.recommend(X, return_scores=True)
for array in (model.predict(X), model.transform(X), ranked, scores):
    print(hashlib.sha256(array.tobytes()).hexdigest())
"""


def test_two_processes_give_bit_identical_predictions():
    # Both with torch's own number of threads, which this process may not have.
    command = [sys.executable, "-c", FINGERPRINTS]
    output, again = (
        subprocess.run(command, capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    )
    assert output == again
    assert len(set(output.split())) == 4


def test_second_fit_forgets_the_first(X, model):
    estimator = recommender().fit(X[:50, :20])
    assert estimator.predict(X[:3, :20]).shape == (3, 20)
    assert_same_fit(estimator.fit(X), model, X)
    assert estimator.n_features_in_ == N_ITEMS


def test_second_fit_forgets_the_first_validation(X, X_val, model):
    estimator = recommender().fit(X, X_val=X_val)
    assert estimator.best_iteration_ is not None
    assert_same_fit(estimator.fit(X), model, X)


def test_column_names(X):
    names = [f"item {i}" for i in range(N_ITEMS)]
    frame = pd.DataFrame(X.toarray(), columns=names)
    estimator = recommender(max_iter=1).fit(frame)
    assert_array_equal(estimator.feature_names_in_, names)
    assert_array_equal(
        estimator.recommend(frame), recommender(max_iter=1).fit(X).recommend(X)
    )
    for call in (estimator.predict, estimator.recommend, estimator.transform):
        with pytest.raises(ValueError, match="same order"):
            call(frame[names[::-1]])
    with pytest.raises(ValueError, match="same order"):
        estimator.score(frame[names[::-1]])
    estimator.fit(X)
    assert not hasattr(estimator, "feature_names_in_")


def test_verbose_prints_a_line_an_iteration(X, X_val, capsys):
    recommender(verbose=1, max_iter=12).fit(X, X_val=X_val)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 12
    for number, line in enumerate(lines, start=1):
        assert f"iteration {number:>2}/12" in line
        assert "NDCG@100 0." in line
    estimator = recommender(verbose=1).fit(X)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert "NDCG" not in lines[0]
    assert f"{estimator.history_['likelihood'][0]:.4f}" in lines[0]
    estimator.partial_fit(X)
    assert len(capsys.readouterr().out.splitlines()) == 1
    recommender().fit(X)
    assert capsys.readouterr() == ("", "")


def test_unfitted(X):
    estimator = recommender()
    calls = {
        "predict": (X,),
        "recommend": (X,),
        "score": (X,),
        "transform": (X,),
        "inverse_transform": (np.zeros((1, 8)),),
        "similar_items": ([0],),
        "get_feature_names_out": (),
    }
    for name, arguments in calls.items():
        with pytest.raises(NotFittedError, match="RecVAERecommender"):
            getattr(estimator, name)(*arguments)


# what is learned


def test_checkerboard():
    n = 24
    board = (np.add.outer(np.arange(n), np.arange(n)) % 2 == 0).astype(float)
    X = board - np.eye(n)
    estimator = recommender(max_iter=40, learning_rate=1e-2, noise_rate=0.3).fit(X)
    # Of the items of a user's colour only the one on the diagonal is left.
    assert_array_equal(estimator.recommend(X, 1)[:, 0], np.arange(n))
    same_colour = np.add.outer(np.arange(n), np.arange(n)) % 2 == 0
    assert (
        estimator.predict(X)[same_colour].min()
        > estimator.predict(X)[~same_colour].max()
    )


def test_better_than_popularity_for_users_never_seen():
    X, _, _ = make_interactions(
        400, 60, n_groups=4, mean_interactions=8, noise=0.05, random_state=0
    )
    train, test = X[:300], X[300:]
    fold_in, held_out = holdout_interactions(test, 0.3)
    estimator = recommender(max_iter=30).fit(train)
    popularity = np.tile(train.sum(axis=0), (100, 1))
    by_popularity = plain_recommend(popularity, fold_in.toarray() > 0, 60, range(60))
    difference = plain_ndcg(estimator.recommend(fold_in, 100), held_out) - plain_ndcg(
        by_popularity, held_out
    )
    # Paired by user, and more than a few standard errors.
    standard_error = difference.std() / np.sqrt(len(difference))
    assert difference.mean() > 5 * standard_error
    assert difference.mean() > 0.05


# copies of an estimator


def test_clone_has_parameters_and_nothing_else(X):
    estimator = recommender(prior_weights=(1, 0, 0), gamma=0.1).fit(X)
    copied = clone(estimator)
    assert copied.get_params() == estimator.get_params()
    with pytest.raises(NotFittedError):
        check_is_fitted(copied)
    assert_same_fit(copied.fit(X), estimator, X)


@pytest.mark.parametrize("how", ["pickle", "joblib", "memory-mapped", "deepcopy"])
def test_stored_model_is_the_same_model(X, X_val, how, tmp_path):
    estimator = recommender(early_stopping=True).fit(X)
    if how == "pickle":
        loaded = pickle.loads(pickle.dumps(estimator))
    elif how == "deepcopy":
        loaded = copy.deepcopy(estimator)
    else:
        joblib.dump(estimator, tmp_path / "model.joblib")
        mmap_mode = "r" if how == "memory-mapped" else None
        loaded = joblib.load(tmp_path / "model.joblib", mmap_mode=mmap_mode)
    assert_same_fit(loaded, estimator, X)
    assert_array_equal(loaded.recommend(X), estimator.recommend(X))
    assert loaded.score(X_val) == estimator.score(X_val)
    before = estimator.predict(X)
    loaded.partial_fit(X)
    assert loaded.n_iter_ == estimator.n_iter_ + 1
    assert (loaded.predict(X) != before).any()
    assert_array_equal(estimator.predict(X), before)
    assert_same_fit(
        loaded.set_params(early_stopping=False).fit(X), recommender().fit(X), X
    )


def test_pickle_holds_the_weights_once():
    X, _, _ = make_interactions(30, 3000, random_state=0)
    estimator = recommender(max_iter=1).fit(X)
    n_bytes = sum(4 * weight.numel() for weight in estimator.module_.parameters())
    stream = io.BytesIO()
    pickle.dump(estimator, stream)
    # Adam's moments would make it three times that.
    assert n_bytes <= stream.tell() < 1.1 * n_bytes
