"""Why an item, and who is alike."""

import numpy as np
import pytest
from scipy.sparse import csr_array

from sklearn_recvae import EASERecommender, RecVAERecommender, _explaining
from sklearn_recvae.datasets import make_interactions

X, _, _ = make_interactions(25, 20, random_state=0)
X = csr_array(X.toarray() * np.random.default_rng(0).integers(1, 4, X.shape))


@pytest.fixture(params=[RecVAERecommender, EASERecommender], scope="module")
def model(request):
    if request.param is EASERecommender:
        return EASERecommender(regularization=5).fit(X)
    return RecVAERecommender(6, hidden_dim=12, max_iter=3, random_state=0).fit(X)


def explained_score(model, row, item):
    score = model.predict(row[None])[0, item]
    return np.log(score) if isinstance(model, RecVAERecommender) else score


def explain_by_a_loop(model, row, item):
    """Give the effect of each item of the row."""
    effects = {}
    for seen in np.flatnonzero(row):
        without = row.copy()
        without[seen] = 0
        before, after = (explained_score(model, r, item) for r in (row, without))
        effects[seen] = before - after
    return effects


@pytest.mark.parametrize("chunk", [1, 50, 1 << 20])
def test_leave_one_out_equals_a_loop(model, chunk, monkeypatch):
    monkeypatch.setattr(_explaining, "CHUNK_ENTRIES", chunk)
    targets = model.recommend(X, k=2)
    reasons, effects = model.explain(X, targets, k=X.shape[1], return_scores=True)
    assert reasons.shape == effects.shape == (*targets.shape, X.shape[1])
    for user, row in enumerate(X.toarray()):
        for place, item in enumerate(targets[user]):
            n = np.count_nonzero(row)
            found = reasons[user, place]
            expected = explain_by_a_loop(model, row, item)
            assert {*found[:n]} == expected.keys()
            assert (found[n:] == -1).all()
            assert (effects[user, place, n:] == -np.inf).all()
            assert (np.diff(effects[user, place, :n]) <= 0).all()
            np.testing.assert_allclose(
                effects[user, place, :n], [expected[f] for f in found[:n]], atol=2e-6
            )


def test_linear_model_by_its_weights():
    model = EASERecommender(regularization=5).fit(X)
    item = 4
    _, effects = model.explain(X, np.full(25, item), k=3, return_scores=True)
    for user, row in enumerate(X.toarray()):
        contributions = np.sort((row * model.coef_[:, item])[row > 0])[::-1][:3]
        found = effects[user, : len(contributions)]
        np.testing.assert_allclose(found, contributions, atol=1e-6)  # of float32 scores


def test_one_item_for_each_user(model):
    targets = model.recommend(X, k=1)
    reasons = model.explain(X, targets[:, 0], k=2)
    assert reasons.shape == (25, 2)
    np.testing.assert_array_equal(reasons, model.explain(X, targets, k=2)[:, 0])


def test_where_there_is_nothing_to_explain(model):
    row = np.zeros((3, X.shape[1]))
    row[1, 3] = row[2, [3, 4]] = 1
    targets = np.array([[5, 6], [5, -1], [-1, -1]])
    reasons, effects = model.explain(row, targets, k=2, return_scores=True)
    assert reasons[0].tolist() == [[-1, -1], [-1, -1]]
    assert reasons[1].tolist() == [[3, -1], [-1, -1]]
    assert reasons[2].tolist() == [[-1, -1], [-1, -1]]
    assert np.isfinite(effects[1, 0, 0])
    assert (effects[reasons == -1] == -np.inf).all()
    assert model.explain(row, np.empty((3, 0), dtype=int)).shape == (3, 0, 3)


@pytest.mark.parametrize(
    ("items", "message"),
    [
        (
            [0],
            r"of shape \(1,\), expected integers of shape \(25,\) or \(25, n_targets",
        ),
        (np.zeros(25), "array of float64"),
        (np.full(25, 20), "contains 20, expected column indices of X, from 0 to 19"),
        (np.full(25, -2), "contains -2"),
    ],
)
def test_items_that_cannot_be_explained(model, items, message):
    with pytest.raises(ValueError, match=message):
        model.explain(X, items)


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
