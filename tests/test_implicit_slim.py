"""ImplicitSLIM, by its definition with dense float64 matrices of items by items."""

import numpy as np
import pytest
import torch

from sklearn_recvae import RecVAERecommender
from sklearn_recvae._batches import InteractionTensors
from sklearn_recvae._interactions import as_csr
from sklearn_recvae._training import implicit_slim as room
from sklearn_recvae._training.implicit_slim import implicit_slim
from sklearn_recvae.datasets import make_interactions

N_USERS, N_ITEMS, WIDTH = 80, 25, 6
X, _, _ = make_interactions(N_USERS, N_ITEMS, mean_interactions=5, random_state=0)
X = X * np.where(np.arange(N_ITEMS) == 7, 0, 2)  # values count, as in EASE


def tensors():
    return InteractionTensors(as_csr(X), torch.device("cpu"))


def plain(embeddings, regularization, min_count):
    """Minimise ||V - B'V||^2 + ||A'(V - W)||^2, item by item on dense matrices."""
    dense = X.toarray().astype(np.float64)
    gram = dense.T @ dense + regularization * np.eye(N_ITEMS)
    # C = (I - B)(I - B)' of EASE, with diag(K^-1) replaced by 1 / diag(K)
    inverse = np.linalg.inv(gram)
    away = inverse @ np.diag(np.diag(gram))
    anchors = embeddings * ((dense > 0).sum(axis=0) >= min_count)[:, None]
    matrix = away @ away.T + anchors @ anchors.T
    return np.linalg.solve(matrix, anchors @ anchors.T @ embeddings)


@pytest.mark.parametrize("regularization", [0.5, 20])
@pytest.mark.parametrize("min_count", [0, 15])
def test_by_definition(regularization, min_count):
    W = np.random.default_rng(0).normal(size=(N_ITEMS, WIDTH))
    counts = (X > 0).sum(axis=0)
    assert counts[7] == 0
    assert counts.min() < 15 < counts.max()
    V = implicit_slim(
        torch.from_numpy(W),
        tensors(),
        regularization=regularization,
        min_count=min_count,
    )
    expected = plain(W, regularization, min_count)
    np.testing.assert_allclose(V, expected, rtol=1e-6, atol=1e-9)
    assert abs(expected - W).max() > 0.1


def test_blocks_of_columns_and_dtype(monkeypatch):
    W = torch.randn(N_ITEMS, WIDTH, generator=torch.Generator().manual_seed(0))
    before = W.clone()
    options = {"regularization": 5.0, "min_count": 10}
    V = implicit_slim(W, tensors(), **options)
    assert V.dtype == torch.float32
    assert (before == W).all()
    monkeypatch.setattr(room, "BLOCK_COLUMNS", 4)
    torch.testing.assert_close(implicit_slim(W, tensors(), **options), V)


def test_it_is_part_of_fit():
    parameters = {"latent_dim": 4, "hidden_dim": 8, "max_iter": 4, "random_state": 0}
    slim = {"slim_interval": 2, "slim_regularization": 5, "slim_min_count": 10}
    model = RecVAERecommender(**parameters, **slim).fit(X)
    without = RecVAERecommender(**parameters).fit(X)
    assert (model.predict(X) != without.predict(X)).any()
    later = RecVAERecommender(**parameters, **slim).set_params(slim_interval=5).fit(X)
    np.testing.assert_array_equal(later.predict(X), without.predict(X))
    # partial_fit counts on: the same as one fit.
    parts = RecVAERecommender(**parameters, **slim)
    for _ in range(4):
        parts.partial_fit(X)
    np.testing.assert_array_equal(parts.predict(X), model.predict(X))


def test_no_item_is_frequent():
    model = RecVAERecommender(slim_interval=10, slim_min_count=1000)
    with pytest.raises(ValueError, match=r"slim_min_count=1000 .* the most is \d+\."):
        model.fit(X)
    model.set_params(slim_interval=None, max_iter=1, latent_dim=4, hidden_dim=8).fit(X)
