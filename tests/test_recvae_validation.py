"""RecVAE: validation data and early stopping."""

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_array_equal

from common import N_ITEMS, N_USERS, assert_same_fit, recommender
from sklearn_recvae.model_selection import holdout_interactions


def test_x_val_with_y_val_keeps_the_best_iteration(X, X_val):
    fold_in, held_out = holdout_interactions(X_val, 0.5)
    # A step size at which the score goes up and down.
    params = {"learning_rate": 0.1, "random_state": 1}
    estimator = recommender(max_iter=12, **params)
    estimator.fit(X, X_val=fold_in, y_val=held_out)
    scores = estimator.history_["validation_score"]

    assert estimator.n_iter_ == 12
    assert estimator.best_iteration_ == scores.argmax() + 1 < 12
    assert estimator.best_score_ == scores.max()
    assert type(estimator.best_score_) is float
    assert estimator.score(fold_in, held_out) == estimator.best_score_
    assert scores[-1] != estimator.best_score_
    # The weights of that iteration: those of a fit that ends there.
    shorter = recommender(max_iter=estimator.best_iteration_, **params).fit(X)
    assert_array_equal(shorter.predict(X), estimator.predict(X))


def test_first_of_equally_good_iterations_is_kept(X, X_val):
    # Steps too small to change a float32.
    estimator = recommender(max_iter=3, learning_rate=1e-30).fit(X, X_val=X_val)
    assert np.ptp(estimator.history_["validation_score"]) == 0
    assert estimator.best_iteration_ == 1


def test_x_val_alone_is_split_as_in_score(X, X_val):
    estimator = recommender(max_iter=5).fit(X, X_val=X_val)
    assert estimator.score(X_val) == estimator.best_score_
    fold_in, held_out = holdout_interactions(X_val)
    explicit = recommender(max_iter=5).fit(X, X_val=fold_in, y_val=held_out)
    assert_same_fit(estimator, explicit, X)


def test_validation_does_not_change_what_is_learned(X, X_val, model):
    estimator = recommender(learning_rate=5e-3).fit(X, X_val=X_val)
    for key in ("likelihood", "kl"):
        assert_array_equal(estimator.history_[key], model.history_[key])


def test_early_stopping_with_x_val(X, X_val):
    estimator = recommender(
        max_iter=50, learning_rate=1e-30, early_stopping=True, n_iter_no_change=4
    ).fit(X, X_val=X_val)
    # The first iteration is the best, then come four that are no better.
    assert estimator.best_iteration_ == 1
    assert estimator.n_iter_ == 5
    assert len(estimator.history_["kl"]) == 5

    estimator = recommender(
        max_iter=60, learning_rate=0.05, early_stopping=True, n_iter_no_change=3
    ).fit(X, X_val=X_val)
    assert estimator.n_iter_ == estimator.best_iteration_ + 3 < 60
    assert estimator.score(X_val) == estimator.best_score_
    scores = estimator.history_["validation_score"]
    best_so_far = np.maximum.accumulate(scores)
    # No earlier run of three without a better score.
    for end in range(3, estimator.n_iter_ - 1):
        assert best_so_far[end] > best_so_far[end - 3]


def test_early_stopping_holds_out_users_of_its_own(X):
    estimator = recommender(
        max_iter=6, early_stopping=True, validation_fraction=0.2
    ).fit(X)
    rng = np.random.RandomState(0)
    order = rng.permutation(N_USERS)
    val_users, train_users = np.sort(order[:24]), np.sort(order[24:])
    assert estimator.score(X[val_users]) == estimator.best_score_
    # The same fit with the split made by hand; the stream of random numbers goes on.
    by_hand = recommender(max_iter=6, early_stopping=True, random_state=rng)
    by_hand.fit(X[train_users], X_val=X[val_users])
    assert_same_fit(estimator, by_hand, X)


def test_without_early_stopping_nobody_is_held_out(X, model):
    other = recommender(validation_fraction=0.5, n_iter_no_change=1).fit(X)
    assert_same_fit(other, model, X)


@pytest.mark.parametrize("early_stopping", [False, True])
def test_y_val_alone_is_refused(X, X_val, early_stopping):
    with pytest.raises(ValueError, match="y_val without X_val"):
        recommender(early_stopping=early_stopping).fit(X, y_val=X_val)


def test_validation_data_that_do_not_fit(X, X_val):
    estimator = recommender(max_iter=1)
    with pytest.raises(ValueError, match=rf"{X_val.nnz} of the {X_val.nnz} held-out"):
        estimator.fit(X, X_val=X_val, y_val=X_val)
    with pytest.raises(ValueError, match=r"X has 7 features.* expecting 40 features"):
        estimator.fit(X, X_val=X_val[:, :7])
    with pytest.raises(ValueError, match=r"shape \(10, 40\), expected \(30, 40\)"):
        estimator.fit(X, X_val=X_val, y_val=X_val[:10])
    with pytest.raises(ValueError, match="None of the 40 validation users"):
        estimator.fit(X, X_val=sp.eye_array(N_ITEMS))
    with pytest.raises(ValueError, match="None of the 30 validation users"):
        estimator.fit(X, X_val=X_val, y_val=sp.csr_array(X_val.shape))
    with pytest.raises(ValueError, match=r"holds out 1 of 1 users.*none to train on"):
        recommender(early_stopping=True).fit(X[:1])


def test_fit_transform_passes_validation_data_on(X, X_val):
    estimator = recommender()
    Z = estimator.fit_transform(X, X_val=X_val)
    assert estimator.best_score_ is not None
    assert_array_equal(Z, estimator.transform(X))
