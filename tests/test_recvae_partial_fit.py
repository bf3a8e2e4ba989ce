"""RecVAE: partial_fit and warm_start."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from common import N_USERS, assert_same_fit, recommender


def test_fit_is_so_many_partial_fits(X, model):
    estimator = recommender()
    for n_iter in (1, 2, 3):
        assert estimator.partial_fit(X) is estimator
        assert estimator.n_iter_ == n_iter
    assert_same_fit(estimator, model, X)


def test_fit_and_partial_fit_is_one_more_iteration(X):
    estimator = recommender(max_iter=2).fit(X).partial_fit(X, np.arange(N_USERS))
    assert_same_fit(estimator, recommender(max_iter=3).fit(X), X)
    joint = {"alternating": False}
    estimator = recommender(max_iter=2, **joint).fit(X).partial_fit(X)
    assert_same_fit(estimator, recommender(max_iter=3, **joint).fit(X), X)


def test_partial_fit_on_new_users(X, model):
    estimator = recommender().fit(X[:80])
    before = estimator.predict(X)
    estimator.partial_fit(X[80:])
    assert estimator.n_iter_ == 4
    assert len(estimator.history_["kl"]) == 4
    assert (estimator.predict(X) != before).any()
    with pytest.raises(ValueError, match="X has 3 features, but RecVAERecommender"):
        estimator.partial_fit(X[:, :3])


def test_partial_fit_has_no_validation(X, X_val):
    estimator = recommender().fit(X, X_val=X_val).partial_fit(X)
    assert estimator.best_score_ is None
    assert estimator.best_iteration_ is None
    scores = estimator.history_["validation_score"]
    assert_array_equal(np.isnan(scores), [False, False, False, True])


def test_partial_fit_follows_a_changed_learning_rate(X, model):
    estimator = recommender().fit(X)
    estimator.set_params(learning_rate=1e-30).partial_fit(X)
    assert_array_equal(estimator.predict(X), model.predict(X))


def test_warm_start_begins_with_the_weights_of_the_last_fit(X, model):
    estimator = recommender(warm_start=True).fit(X)
    assert_same_fit(estimator, model, X)
    estimator.set_params(learning_rate=1e-30, max_iter=2).fit(X)
    assert_array_equal(estimator.predict(X), model.predict(X))
    assert estimator.n_iter_ == 2
    assert len(estimator.history_["kl"]) == 2
    estimator.set_params(warm_start=False).fit(X)
    assert (estimator.predict(X) != model.predict(X)).any()


def test_warm_start_learns_on(X):
    estimator = recommender(warm_start=True).fit(X)
    first = estimator.history_["likelihood"]
    second = estimator.fit(X).history_["likelihood"]
    assert second[0] > first[0]
    assert second[-1] > first[-1]


def test_warm_start_keeps_the_number_of_columns(X):
    estimator = recommender(warm_start=True).fit(X)
    with pytest.raises(
        ValueError,
        match="X has 20 features, but RecVAERecommender is expecting 40 features",
    ):
        estimator.fit(X[:, :20])
    # A first fit takes what comes.
    assert recommender(warm_start=True).fit(X[:, :20]).n_features_in_ == 20


@pytest.mark.parametrize("again", ["partial_fit", "fit"])
def test_weights_of_another_size_cannot_be_trained_on(X, again):
    estimator = recommender().fit(X).set_params(latent_dim=5, warm_start=True)
    with pytest.raises(ValueError, match=r"\(8, 16, 5, True\).*\(5, 16, 5, True\)"):
        getattr(estimator, again)(X)
    assert estimator.transform(X).shape == (N_USERS, 8)
