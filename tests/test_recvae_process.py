"""RecVAE leaves the process as it found it, and does not depend on its state."""

import pickle

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from numpy.testing import assert_array_equal

from common import assert_same_fit, recommender
from contract.process import global_state


def failing_fit(X):
    with pytest.raises(ValueError, match="diverged"):
        recommender(learning_rate=1e6).fit(X)


CALLS = {
    "fit with early stopping": lambda model, X: recommender(
        early_stopping=True, max_iter=1
    ).fit(X),
    "fit that fails": lambda model, X: failing_fit(X),
    "inverse_transform": lambda model, X: model.inverse_transform(np.ones((2, 8))),
    "similar_items": lambda model, X: model.similar_items([0]),
}


@pytest.mark.parametrize("name", CALLS)
def test_global_state_is_left_alone(X, model, name):
    before = global_state()
    CALLS[name](model, X)
    assert global_state() == before


@pytest.mark.parametrize("name", ["predict", "recommend", "score", "transform"])
def test_inference_writes_nothing_to_the_estimator(X, model, name):
    before = model.__dict__.copy()
    weights = [weight.clone() for weight in model.module_.parameters()]
    getattr(model, name)(X)
    assert model.__dict__ == before
    for weight, kept in zip(model.module_.parameters(), weights, strict=True):
        assert torch.equal(weight, kept)
        assert weight.grad is None


def test_default_dtype_of_torch_does_not_matter(X, model):
    assert torch.get_default_dtype() == torch.float32
    torch.set_default_dtype(torch.float64)
    try:
        estimator = recommender().fit(X)
        predictions = model.predict(X)
        recommended = model.recommend(X)
    finally:
        torch.set_default_dtype(torch.float32)
    assert_array_equal(predictions, model.predict(X))
    assert_array_equal(recommended, model.recommend(X))
    assert {weight.dtype for weight in estimator.module_.parameters()} == {
        torch.float32
    }
    assert_same_fit(estimator, model, X)


def test_inference_mode_of_torch_does_not_matter(X):
    def train():
        estimator = recommender().fit(X).partial_fit(X)
        return estimator.add_items(3).partial_fit(
            sp.hstack([X, sp.csr_array(X[:, :3])])
        )

    with torch.inference_mode():
        estimator = train()
        copied = pickle.loads(pickle.dumps(estimator))
    wide = sp.hstack([X, sp.csr_array((X.shape[0], 3))])
    expected = train()
    assert_array_equal(estimator.predict(wide), expected.predict(wide))
    copied.partial_fit(wide)  # also where the weights were made in that mode


def test_fit_where_gradients_are_switched_off(X, model):
    with torch.no_grad():
        assert_same_fit(recommender().fit(X), model, X)
