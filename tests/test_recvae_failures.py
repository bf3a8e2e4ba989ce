"""RecVAE: what a fit that fails leaves behind."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sklearn.exceptions import NotFittedError

from common import N_ITEMS, assert_same_fit, recommender

DIVERGING = {"learning_rate": 1e6}
FAILURES = {
    "diverges": (DIVERGING, {}, "Training diverged.*learning_rate.*too large"),
    "gamma and beta": ({"beta": 1.0}, {}, "beta=1.0 together with gamma='auto'"),
    "no weight": ({"gamma": None}, {}, "gamma and beta are both None"),
    "prior": ({"prior_weights": (1, 1, 1)}, {}, "prior_weights=.*sum 1"),
    "parameter": ({"noise_rate": 1.0}, {}, "'noise_rate' parameter"),
    "device": ({"device": "nowhere"}, {}, "device='nowhere'.*this machine has: cpu"),
    "NaN": ({}, {"X": np.full((3, 7), np.nan)}, "contains NaN"),
    "no interactions": ({}, {"X": np.zeros((3, 7))}, r"\(3, 7\) has no interactions"),
    "y_val": ({}, {"y_val": np.ones((3, N_ITEMS))}, "y_val without X_val"),
}


@pytest.mark.parametrize("name", FAILURES)
@pytest.mark.parametrize("warm_start", [False, True])
def test_failed_fit_leaves_the_fitted_estimator_as_it_was(X, name, warm_start):
    params, data, message = FAILURES[name]
    estimator = recommender(warm_start=warm_start).fit(X)
    predictions = estimator.predict(X)
    estimator.set_params(**params)
    before = estimator.__dict__.copy()
    if not (warm_start and name in ("NaN", "no interactions")):
        with pytest.raises(ValueError, match=message):
            estimator.fit(**{"X": X, **data})
    else:  # the number of columns is looked at, too
        with pytest.raises(ValueError, match=f"{message}|X has 7 features"):
            estimator.fit(**{"X": X, **data})
    assert estimator.__dict__.keys() == before.keys()
    for key, value in before.items():
        assert estimator.__dict__[key] is value, key
    assert_array_equal(estimator.predict(X), predictions)


def test_failed_partial_fit_leaves_the_estimator_as_it_was(X):
    estimator = recommender().fit(X).set_params(**DIVERGING)
    predictions = estimator.predict(X)
    before = estimator.__dict__.copy()
    with pytest.raises(ValueError, match="Training diverged"):
        estimator.partial_fit(X)
    assert all(estimator.__dict__[key] is value for key, value in before.items())
    assert estimator.__dict__.keys() == before.keys()
    assert_array_equal(estimator.predict(X), predictions)
    # And training goes on as if nothing had happened.
    estimator.set_params(learning_rate=5e-3).partial_fit(X)
    assert_same_fit(estimator, recommender(max_iter=4).fit(X), X)


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_failed_first_fit_leaves_nothing(X, method):
    estimator = recommender(**DIVERGING)
    before = estimator.__dict__.copy()
    with pytest.raises(ValueError, match="Training diverged in iteration 1"):
        getattr(estimator, method)(X)
    assert estimator.__dict__ == before
    with pytest.raises(NotFittedError):
        estimator.predict(X)


def test_values_that_overflow_are_an_error_that_says_so(X):
    with (
        np.errstate(over="ignore"),
        pytest.raises(ValueError, match="very large values in X"),
    ):
        recommender().fit(X * np.float32(3e38))


def test_interrupted_fit_leaves_the_estimator_as_it_was(X, monkeypatch):
    estimator = recommender().fit(X)
    before = estimator.__dict__.copy()

    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(
        "sklearn_recvae._training.trainer.Trainer.run_iteration", interrupt
    )
    with pytest.raises(KeyboardInterrupt):
        estimator.fit(X[:, :5])
    assert estimator.__dict__ == before
