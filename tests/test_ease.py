"""EASE by ridge regressions, and on numbers of any scale."""

import itertools

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from sklearn.linear_model import Ridge

from sklearn_recvae import EASERecommender, PopularityRecommender
from sklearn_recvae import _gram as gram
from sklearn_recvae._hardware import available_memory


@pytest.fixture(scope="module")
def X():
    rng = np.random.default_rng(0)
    present = rng.random((60, 23)) < rng.uniform(0.05, 0.5, 23)
    present[4] = False
    return sp.csr_array(present * rng.choice([1, 1, 0.5, 3], size=present.shape))


@pytest.fixture(scope="module")
def model(X):
    return EASERecommender(regularization=7).fit(X)


def test_two_items_by_hand():
    # Item 0 has 3 users, item 1 has 2, both of them have 1: each weight is a ridge
    # regression of one number on one number.
    X = np.array([[1, 0], [1, 0], [1, 1], [0, 1]])
    weights = EASERecommender(regularization=2).fit(X).coef_
    np.testing.assert_allclose(weights, [[0, 1 / (3 + 2)], [1 / (2 + 2), 0]], rtol=1e-6)


def test_weights_are_the_ridge_regressions_of_each_item_on_the_others(X, model):
    assert model.coef_.dtype == np.float32
    assert (model.coef_.diagonal() == 0).all()
    dense = X.toarray()
    for item in range(X.shape[1]):
        others = np.delete(np.arange(X.shape[1]), item)
        ridge = Ridge(alpha=7, fit_intercept=False, solver="cholesky")
        ridge.fit(dense[:, others], dense[:, item])
        np.testing.assert_allclose(
            model.coef_[others, item], ridge.coef_, rtol=1e-5, atol=1e-7
        )


@pytest.mark.parametrize("n_rows", [1, 4, 22])
def test_weights_do_not_depend_on_the_size_of_blocks(X, model, n_rows, monkeypatch):
    monkeypatch.setattr(gram, "BLOCK_BYTES", 8 * X.shape[1] * n_rows)
    blocked = EASERecommender(regularization=7).fit(X)
    np.testing.assert_array_equal(blocked.coef_, model.coef_)


@pytest.mark.parametrize("n_pivots", [1, 5, 22, 23, 40])
def test_inverse_by_steps_of_any_size(n_pivots, monkeypatch):
    monkeypatch.setattr(gram, "N_PIVOTS", n_pivots)
    root = np.random.default_rng(0).normal(size=(23, 30))
    matrix = root @ root.T
    inverse = torch.from_numpy(np.asfortranarray(matrix))
    inverse += torch.triu(torch.full_like(inverse, torch.nan), 1)  # is not read
    assert gram._invert(inverse)
    expected = np.tril(np.linalg.inv(matrix))
    np.testing.assert_allclose(inverse.tril(), expected, rtol=1e-9, atol=1e-12)
    # Its last row is the sum of two others.
    matrix[-1] = matrix[0] + matrix[1]
    matrix[:, -1] = matrix[:, 0] + matrix[:, 1]
    matrix[-1, -1] = matrix[-1, 0] + matrix[-1, 1] - 1e-9
    assert not gram._invert(torch.from_numpy(matrix))


@pytest.mark.parametrize("exponent", [-126, -80, 63, 124])
def test_scale_of_interactions_and_regularization_cancels_out(X, model, exponent):
    scaled = EASERecommender(7 * 4.0**exponent).fit(X * 2.0**exponent)
    np.testing.assert_array_equal(scaled.coef_, model.coef_)


@pytest.mark.parametrize("regularization", [1e-30, 1e-3, 1e30])
def test_columns_of_any_scale(X, regularization):
    scales = 10 ** np.random.default_rng(0).uniform(-12, 12, 23)
    scaled = (X.toarray() * scales).astype(np.float32).astype(np.float64)
    model = EASERecommender(regularization).fit(scaled)
    # In coordinates in which the matrix to be inverted has ones on its diagonal.
    gram = scaled.T @ scaled + regularization * np.eye(23)
    roots = np.sqrt(gram.diagonal())
    inverse = np.linalg.inv(gram / np.outer(roots, roots))
    expected = -inverse / inverse.diagonal() * (roots / roots[:, None])
    np.fill_diagonal(expected, 0)
    np.testing.assert_allclose(model.coef_, expected, rtol=1e-4, atol=1e-30)


@pytest.mark.parametrize("regularization", [5e-324, 1.7e308])
def test_extreme_regularization(X, regularization):
    weights = EASERecommender(regularization).fit(X).coef_  # no one has item 4
    assert np.isfinite(weights).all()
    assert weights.any() == (regularization < 1)


def test_weights_that_are_no_float32_numbers_are_refused():
    X = np.array([[1e-30, 1e30], [1e-30, 1e30], [1e-30, 0]])
    with pytest.raises(ValueError, match="Some weights are too large for float32"):
        EASERecommender(1e-66).fit(X)


@pytest.mark.parametrize("noise_rate", [0.3, 0.9])
def test_noise_is_the_mean_over_all_ways_to_drop_entries(noise_rate):
    # The rows once for each way to drop entries, as often as it is likely; what is left
    # is divided by what is likely to be left.
    rng = np.random.default_rng(0)
    X = (rng.random((12, 4)) < 0.6) * rng.choice([1, 0.5, 3], size=(12, 4))
    ways = np.array(list(itertools.product([0, 1], repeat=4)))
    chances = (1 - noise_rate) ** ways.sum(1) * noise_rate ** (4 - ways.sum(1))
    inputs = np.concatenate([X * way / (1 - noise_rate) for way in ways])
    model = EASERecommender(regularization=2, noise_rate=noise_rate).fit(X)
    for item in range(4):
        others = np.delete(np.arange(4), item)
        ridge = Ridge(alpha=2, fit_intercept=False, solver="cholesky")
        ridge.fit(inputs[:, others], np.tile(X[:, item], 16), np.repeat(chances, 12))
        np.testing.assert_allclose(
            model.coef_[others, item], ridge.coef_, rtol=1e-5, atol=1e-7
        )


@pytest.mark.parametrize("n_pivots", [4, 256])
def test_a_gram_matrix_is_solved_again_and_again(X, n_pivots, monkeypatch):
    monkeypatch.setattr(gram, "N_PIVOTS", n_pivots)
    matrix = gram.GramMatrix(X)
    out = np.empty((23, 23), dtype=np.float32)
    for pair in [(7, 0), (1, 0.5), (7, 0)]:
        expected = gram.GramMatrix(X).item_weights(*pair)
        assert matrix.item_weights(*pair, out=out) is out
        np.testing.assert_array_equal(out, expected)


def test_predict_is_the_row_times_the_weights(X, model):
    scores = model.predict(X)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, X @ model.coef_, rtol=1e-5, atol=1e-6)
    assert (scores[4] == 0).all()


def test_similar_items_are_those_of_the_largest_weights(model):
    neighbors, weights = model.similar_items([7, 2], k=30, return_scores=True)
    for item, found, values in zip([7, 2], neighbors, weights, strict=True):
        others = np.delete(np.arange(23), item)
        order = np.argsort(-model.coef_[item, others], kind="stable")
        np.testing.assert_array_equal(found[:22], others[order])
        np.testing.assert_array_equal(values[:22], model.coef_[item, found[:22]])
        assert (found[22:] == -1).all()
    np.testing.assert_array_equal(model.similar_items([7], k=3)[0], neighbors[0, :3])


def test_what_does_not_fit_into_memory_is_refused_with_the_figures(
    X, model, monkeypatch
):
    monkeypatch.setattr(gram, "available_memory", lambda: 5e8)
    wide = sp.csr_array(([1.0], ([0], [0])), shape=(1, 20_108))
    refused = EASERecommender(regularization=7).fit(X)
    with pytest.raises(
        MemoryError, match=r"needs 5\.1 GB .* 20108 items, but 0\.5 GB are free\. Leave"
    ):
        refused.fit(wide)
    # As it was before.
    assert refused.n_features_in_ == 23
    np.testing.assert_array_equal(refused.coef_, model.coef_)
    monkeypatch.setattr(gram, "available_memory", lambda: None)  # nothing is known
    refused.fit(X)


def test_available_memory_is_what_a_machine_may_have():
    assert 2**26 < available_memory() < 2**46


def test_errors(X):
    with pytest.raises(ValueError, match="'regularization' parameter of EASER"):
        EASERecommender(regularization=0).fit(X)
    for noise_rate in (-0.1, 1, np.nan):
        with pytest.raises(ValueError, match=r"'noise_rate' .* in the range \[0.0, 1"):
            EASERecommender(noise_rate=noise_rate).fit(X)
    with pytest.raises(ValueError, match=r"X of shape \(3, 4\) has no interactions"):
        EASERecommender().fit(np.zeros((3, 4)))
    with pytest.raises(ValueError, match=r"regularization=1e-300 .* Raise regulari"):
        EASERecommender(regularization=1e-300).fit(np.ones((3, 2)))
    with pytest.raises(ValueError, match="items contains 23"):
        EASERecommender().fit(X).similar_items([23])


def test_numbers_of_ml_1m(data_dir):
    """Known figures of this split: if they are missed, the protocol is wrong."""
    split = {
        path.stem: sp.csr_array(sp.load_npz(path))
        for path in (data_dir / "ml-1m" / "split").glob("*.npz")
    }
    fold_in, held_out = split["test_fold_in"], split["test_held_out"]
    model = EASERecommender(regularization=400).fit(split["train"])
    assert model.score(fold_in, held_out) == pytest.approx(0.4280, abs=5e-4)
    noised = EASERecommender(regularization=200, noise_rate=0.5).fit(split["train"])
    assert noised.score(fold_in, held_out) == pytest.approx(0.4337, abs=5e-4)
    popularity = PopularityRecommender().fit(split["train"])
    assert popularity.score(fold_in, held_out) == pytest.approx(0.2190, abs=5e-4)
