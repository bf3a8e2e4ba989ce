"""RecVAE: what fit sets, its randomness, what is learned, copies of a fitted one."""

import io
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from sklearn.exceptions import NotFittedError

from common import (
    N_ITEMS,
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
    processes = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    output, again = (process.communicate()[0] for process in processes)
    assert output == again
    assert len(set(output.split())) == 4


def test_second_fit_forgets_the_first_validation(X, X_val, model):
    estimator = recommender().fit(X, X_val=X_val)
    assert estimator.best_iteration_ is not None
    assert_same_fit(estimator.fit(X), model, X)


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


def test_better_than_popularity_for_users_never_seen():
    X, _, _ = make_interactions(
        400, 60, n_groups=4, mean_interactions=8, noise=0.05, random_state=0
    )
    train, test = X[:300], X[300:]
    fold_in, held_out = holdout_interactions(test, 0.3)
    estimator = recommender(max_iter=15, learning_rate=1e-2).fit(train)
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


def test_pickle_holds_the_weights_once():
    X, _, _ = make_interactions(30, 3000, random_state=0)
    estimator = recommender(max_iter=1).fit(X)
    n_bytes = sum(4 * weight.numel() for weight in estimator.module_.parameters())
    stream = io.BytesIO()
    pickle.dump(estimator, stream)
    # Adam's moments would make it three times that.
    assert n_bytes <= stream.tell() < 1.1 * n_bytes
