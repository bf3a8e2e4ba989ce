"""RecVAE: what each parameter changes, and what it does not."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone

from common import assert_same_fit, recommender

SWITCHES = {
    "shallow": {"n_hidden_layers": 1},
    "no dense connections": {"dense_connections": False},
    "plain prior": {"prior_weights": (1, 0, 0)},
    "old posterior alone": {"prior_weights": (0, 1, 0)},
    "wide prior": {"prior_weights": [0.0, 0.0, 1.0]},
    "no wide prior": {"prior_weights": np.array([0.25, 0.75, 0])},
    "other gamma": {"gamma": 0.5},
    "no KL": {"gamma": 0},
    "beta": {"gamma": None, "beta": 0.2},
    "no noise": {"noise_rate": 0},
    "noise in the decoder": {"decoder_noise": True},
    "joint": {"alternating": False},
    "one encoder pass": {"n_encoder_epochs": 1},
    "two decoder passes": {"n_decoder_epochs": 2},
    "batch size": {"batch_size": 17},
    "one user a batch": {"batch_size": 1, "max_iter": 1},
    "mixed or float32": {"precision": "mixed"},
    "width": {"hidden_dim": 17},
    "latent width": {"latent_dim": 1},
    "all off": {
        "n_hidden_layers": 1,
        "dense_connections": False,
        "prior_weights": (1, 0, 0),
        "gamma": None,
        "beta": 0.2,
        "alternating": False,
    },
}


@pytest.fixture(scope="module")
def float32_predictions(X):
    return recommender(precision="float32").fit(X).predict(X)


@pytest.mark.parametrize("name", SWITCHES)
def test_switch_changes_the_result(X, float32_predictions, name):
    estimator = recommender(**{"precision": "float32", **SWITCHES[name]}).fit(X)
    predictions = estimator.predict(X)
    assert np.isfinite(predictions).all()
    assert_allclose(predictions.sum(axis=1), 1, rtol=1e-6)
    assert (predictions != float32_predictions).any()
    assert_same_fit(clone(estimator).fit(X), estimator, X)


@pytest.mark.parametrize(
    ("params", "without_effect"),
    [
        ({"alternating": False}, {"decoder_noise": True}),
        ({"alternating": False}, {"n_encoder_epochs": 1}),
        ({"alternating": False}, {"n_decoder_epochs": 5}),
        ({"gamma": 0}, {"gamma": None, "beta": 0}),
        ({"n_hidden_layers": 1}, {"dense_connections": False}),
        ({"noise_rate": 0}, {"decoder_noise": True}),
        ({"device": "auto"}, {"device": "cpu"}),
        ({"batch_size": "auto"}, {"batch_size": 50}),
        ({"batch_size": 120}, {"batch_size": 10**6}),
        ({}, {"verbose": 0}),
        ({}, {"n_iter_no_change": 1}),
    ],
)
def test_parameter_without_effect(X, params, without_effect):
    if params.get("device") == "auto" and torch.cuda.is_available():
        pytest.skip("auto is not the CPU here")
    first = recommender(**params).fit(X)
    second = recommender(**{**params, **without_effect}).fit(X)
    assert_same_fit(first, second, X)


def test_without_a_kl_term_the_prior_is_not_learned_from(X):
    first = recommender(gamma=0).fit(X)
    second = recommender(gamma=0, prior_weights=(1, 0, 0)).fit(X)
    assert_array_equal(first.predict(X), second.predict(X))
    assert (first.history_["kl"] != second.history_["kl"]).all()


def test_kl_is_weighted_by_the_feedback_of_the_user(X):
    # All rows of the same length n: gamma n is the same as beta.
    equal = make_equal_rows(X, 6)
    by_gamma = recommender(gamma=0.03).fit(equal)
    by_beta = recommender(gamma=None, beta=0.03 * 6).fit(equal)
    assert_allclose(by_gamma.predict(X), by_beta.predict(X), rtol=1e-3)
    assert_allclose(by_gamma.history_["kl"], by_beta.history_["kl"], rtol=1e-3)


def make_equal_rows(X, n):
    rng = np.random.default_rng(0)
    dense = np.zeros(X.shape)
    for row in dense:
        row[rng.choice(X.shape[1], n, replace=False)] = 1
    return sp.csr_array(dense)
