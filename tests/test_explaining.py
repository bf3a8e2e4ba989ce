"""Why an item, and who is alike."""

import numpy as np
import pytest
from scipy.sparse import csr_array

from sklearn_recvae import EASERecommender, RecVAERecommender
from sklearn_recvae.datasets import make_interactions

X, _, _ = make_interactions(25, 20, random_state=0)
X = csr_array(X.toarray() * np.random.default_rng(0).integers(1, 4, X.shape))


def test_linear_model_by_its_weights():
    model = EASERecommender(regularization=5).fit(X)
    item = 4
    _, effects = model.explain(X, np.full(25, item), k=3, return_scores=True)
    for user, row in enumerate(X.toarray()):
        contributions = np.sort((row * model.coef_[:, item])[row > 0])[::-1][:3]
        found = effects[user, : len(contributions)]
        np.testing.assert_allclose(found, contributions, atol=1e-6)  # of float32 scores


def test_similar_users():
    model = RecVAERecommender(6, hidden_dim=12, max_iter=3, random_state=0).fit(X)
    Z = model.transform(X).astype(float)
    Z /= np.linalg.norm(Z, axis=1, keepdims=True)
    cosines = Z @ Z.T
    neighbors, scores = model.similar_users(X[:5], k=3, others=X, return_scores=True)
    np.testing.assert_array_equal(neighbors[:, 0], np.arange(5))  # themselves
    np.testing.assert_allclose(scores, -np.sort(-cosines[:5])[:, :3], rtol=1e-5)
    np.fill_diagonal(cosines, -np.inf)
    neighbors, scores = model.similar_users(X, k=30, return_scores=True)
    np.testing.assert_array_equal(neighbors[:, :3], np.argsort(-cosines)[:, :3])
    assert (neighbors[:, 24:] == -1).all()
    assert (scores[:, 24:] == -np.inf).all()
    with pytest.raises(ValueError, match="X has 19 features"):
        model.similar_users(X, others=X[:, :19])
