"""Lists from samples of the posterior, and products of pairs."""

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array

from sklearn_recvae import (
    EASERecommender,
    RecVAERecommender,
)
from sklearn_recvae import _inference as inference
from sklearn_recvae import _ranking as ranking
from sklearn_recvae.datasets import make_interactions

N_USERS, N_ITEMS = 40, 30
X, _, _ = make_interactions(N_USERS, N_ITEMS, random_state=0)


@pytest.fixture(scope="module")
def recvae():
    return RecVAERecommender(6, hidden_dim=12, max_iter=3, random_state=0).fit(X)


def test_samples(recvae, monkeypatch):
    mean = recvae.recommend(X)
    sampled, sampled_scores = recvae.recommend(
        X, sample=True, random_state=3, return_scores=True
    )
    assert (sampled != mean).any()
    again = recvae.recommend(X, sample=True, random_state=np.random.RandomState(3))
    np.testing.assert_array_equal(again, sampled)
    other = recvae.recommend(X, sample=True, random_state=4)
    assert (other != sampled).any()
    assert (recvae.recommend(X, sample=True) >= -1).all()
    np.testing.assert_array_equal(recvae.recommend(X), mean)
    # How users are dealt out to blocks changes nothing.
    monkeypatch.setattr(ranking, "SCORES_BYTES", 4 * N_ITEMS * 3)
    again, again_scores = recvae.recommend(
        X, sample=True, random_state=3, return_scores=True
    )
    np.testing.assert_array_equal(again, sampled)
    np.testing.assert_allclose(again_scores, sampled_scores, rtol=1e-5)
    # Nor do candidates, scored pair by pair.
    all_pairs = np.ones(X.shape)
    monkeypatch.setattr(inference, "PAIR_COST", 0.5)
    again = recvae.recommend(X, sample=True, random_state=3, items=all_pairs)
    np.testing.assert_array_equal(again, sampled)


def test_products_of_pairs(monkeypatch):
    monkeypatch.setattr(inference, "SCORES_BYTES", 4 * 5 * 3 * 4)  # 4 rows at a time
    rng = np.random.default_rng(0)
    z, weight = rng.standard_normal((10, 5)), rng.standard_normal((8, 5))
    items = rng.integers(8, size=(10, 3))
    expected = np.take_along_axis(z @ weight.T, items, axis=1)
    tensors = (torch.from_numpy(array) for array in (z, weight, items))
    z, weight, items = tensors
    for products in (inference._products_of_pairs, inference._gathered_products):
        np.testing.assert_allclose(products(z, weight, items), expected)


def test_samples_are_of_the_posterior(recvae):
    """Mean and variance of a score over many draws, by the formula."""
    from sklearn_recvae._batches import InteractionTensors
    from sklearn_recvae._interactions import as_csr

    user = as_csr(X[[0]])
    batch = InteractionTensors(user, torch.device("cpu")).batch(torch.tensor([0]))
    with torch.no_grad():
        mean, log_variance = recvae.module_.encoder(batch, torch.float64)
        weight = recvae.module_.decoder.weight
        expected = weight @ mean[0] + recvae.module_.decoder.bias
        variance = weight.square() @ log_variance[0].exp()
    n_draws = 3000
    copies = csr_array(np.repeat(X[[0]].toarray(), n_draws, axis=0))
    ranked, scores = recvae.recommend(
        copies,
        k=N_ITEMS,
        exclude_seen=False,
        sample=True,
        random_state=0,
        return_scores=True,
    )
    by_item = np.take_along_axis(scores, ranked.argsort(axis=1), axis=1)
    error = variance.sqrt().numpy() / n_draws**0.5
    assert (np.abs(by_item.mean(axis=0) - expected.numpy()) < 5 * error).all()
    ratio = by_item.var(axis=0) / variance.numpy()
    assert (np.abs(ratio - 1) < 5 * (2 / n_draws) ** 0.5).all()


def test_linear_model_has_nothing_to_sample():
    with pytest.raises(TypeError, match="sample"):
        EASERecommender().fit(X).recommend(X, sample=True)
