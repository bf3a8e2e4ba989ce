"""EASE with few weights for each item: ridge regressions on chosen neighbours."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from sklearn.linear_model import Ridge

import sklearn_recvae
from sklearn_recvae import EASERecommender, SparseEASERecommender, _sparse_ease
from sklearn_recvae import _neighborhoods as neighborhoods
from sklearn_recvae._batches import InteractionTensors

REGULARIZATION, NOISE_RATE = 7, 0.4


@pytest.fixture(scope="module")
def X():
    """Items of any popularity, two of which nobody has, and a user without items."""
    rng = np.random.default_rng(0)
    present = rng.random((60, 23)) < rng.uniform(0.02, 0.4, 23)
    present[4] = False
    present[:, [5, 22]] = False
    values = rng.choice(np.float32([1, 1, 0.5, 3]), size=present.shape)
    return sp.csr_array(present * values)


def fit(X, n_neighbors):
    return SparseEASERecommender(
        REGULARIZATION, noise_rate=NOISE_RATE, n_neighbors=n_neighbors
    ).fit(X)


@pytest.mark.parametrize("n_neighbors", [22, 23, 2**31 - 1])
@pytest.mark.parametrize("noise_rate", [0, 0.6])
def test_with_all_neighbors_it_is_ease(X, n_neighbors, noise_rate):
    model = SparseEASERecommender(
        3, noise_rate=noise_rate, n_neighbors=n_neighbors
    ).fit(X)
    expected = EASERecommender(3, noise_rate=noise_rate).fit(X).coef_
    np.testing.assert_allclose(model.coef_.toarray(), expected, rtol=1e-5, atol=1e-7)


def test_three_items_by_hand():
    # Items 0 and 1 have two users in common, item 2 has one in common with each. The
    # gains for item 2 are 1 / (2 + 2) and 1 / (3 + 2): its one neighbour is item 0.
    X = np.array([[1, 1, 1], [1, 1, 0], [0, 1, 0], [0, 0, 1]])
    model = SparseEASERecommender(2, noise_rate=0, n_neighbors=1).fit(X)
    expected = [[0, 2 / 4, 1 / 4], [2 / 5, 0, 0], [0, 0, 0]]
    np.testing.assert_allclose(model.coef_.toarray(), expected, rtol=1e-6)


@pytest.mark.parametrize("n_neighbors", [1, 4, 21])
def test_weights_are_the_ridge_regressions_on_the_best_others(X, n_neighbors):
    model = fit(X, n_neighbors)
    assert model.coef_.dtype == np.float32
    assert model.coef_.has_canonical_format
    dense = X.toarray()
    products = dense.T @ dense
    noise = NOISE_RATE / (1 - NOISE_RATE) * products.diagonal()
    for item in range(23):
        gains = products[item] ** 2 / (products.diagonal() + REGULARIZATION + noise)
        gains[item] = 0
        best = np.argsort(-gains, kind="stable")[:n_neighbors]
        best = best[gains[best] > 0]
        column = np.zeros(23)
        if len(best):
            ridge = Ridge(alpha=1, fit_intercept=False, solver="cholesky")
            # A penalty of its own for each weight is one of scaled columns.
            scales = np.sqrt(REGULARIZATION + noise[best])
            ridge.fit(dense[:, best] / scales, dense[:, item])
            column[best] = ridge.coef_ / scales
        np.testing.assert_allclose(
            model.coef_[:, [item]].toarray()[:, 0], column, rtol=1e-5, atol=1e-7
        )


def test_equals_are_taken_from_the_lowest_index_on():
    # All others have the same gain for each item.
    model = SparseEASERecommender(5, n_neighbors=2).fit(np.ones((3, 6)))
    rows, columns = model.coef_.nonzero()
    found = [set(rows[columns == item]) for item in range(6)]
    assert found == [{1, 2}, {0, 2}, {0, 1}, {0, 1}, {0, 1}, {0, 1}]


@pytest.mark.parametrize("name", ["MAX_ENTRIES", "MAX_BLOCK_ITEMS", "BATCH_BYTES"])
@pytest.mark.parametrize("size", [1, 11, 200])
def test_weights_do_not_depend_on_the_size_of_blocks(X, name, size, monkeypatch):
    expected = fit(X, 4).coef_
    monkeypatch.setattr(neighborhoods, name, size)
    coef = fit(X, 4).coef_
    np.testing.assert_array_equal(coef.indices, expected.indices)
    np.testing.assert_allclose(coef.data, expected.data, rtol=1e-5)


def test_blocks_have_each_target_once_with_its_neighbors(X, monkeypatch):
    monkeypatch.setattr(neighborhoods, "MAX_BLOCK_ITEMS", 9)
    X = X.astype(np.float64)
    chosen = neighborhoods.choose_neighbors(X, np.full(23, 2.0), 4)
    every = []
    for targets, items, place in neighborhoods._blocks_of_targets(chosen):
        assert len(items) == len(set(items)) <= 9
        needed = {*targets, *np.concatenate([chosen.of(item) for item in targets])}
        assert needed == set(items)
        np.testing.assert_array_equal(place[items], range(len(items)))
        assert (np.delete(place, items) == -1).all()
        every += targets.tolist()
    assert sorted(every) == list(range(23))


@pytest.mark.parametrize("exponent", [-126, -80, 63, 124])
def test_scale_of_interactions_and_regularization_cancels_out(X, exponent):
    model = SparseEASERecommender(7, n_neighbors=4).fit(X)
    scaled = SparseEASERecommender(7 * 4.0**exponent, n_neighbors=4)
    coef = scaled.fit(X * 2.0**exponent).coef_
    np.testing.assert_array_equal(coef.toarray(), model.coef_.toarray())


@pytest.mark.parametrize("n_neighbors", [5, 22])
def test_scores_of_all_of_candidates_and_of_pairs(X, n_neighbors):
    model = fit(X, n_neighbors)
    expected = X @ model.coef_.toarray()
    scores = model.predict(X)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-6)
    assert (scores[4] == 0).all()
    rng = np.random.default_rng(0)
    some, own = rng.permutation(23)[:6], rng.integers(0, 23, (60, 5))
    ((_, batch),) = InteractionTensors(X, torch.device("cpu")).batches(60)
    item_scores = model._item_scores()
    found = item_scores.candidates(batch, torch.from_numpy(some))
    np.testing.assert_array_equal(found.numpy(), scores[:, some])
    found = item_scores.pairs(batch, torch.from_numpy(own))
    np.testing.assert_array_equal(found.numpy(), np.take_along_axis(scores, own, 1))


def test_similar_items_are_those_of_the_largest_weights(X):
    model = fit(X, 4)
    neighbors, weights = model.similar_items([7, 2], k=30, return_scores=True)
    for item, found, values in zip([7, 2], neighbors, weights, strict=True):
        row = model.coef_.toarray()[item]
        others = np.delete(np.arange(23), item)
        order = np.argsort(-row[others], kind="stable")
        np.testing.assert_array_equal(found[:22], others[order])
        np.testing.assert_array_equal(values[:22], row[found[:22]])
        assert (found[22:] == -1).all()


def test_one_item_alone_has_no_weights():
    model = SparseEASERecommender().fit([[1.0], [2.0]])
    assert model.coef_.shape == (1, 1)
    np.testing.assert_array_equal(model.predict([[1.0]]), [[0]])


def damage(name, place, value):
    def change(coef):
        getattr(coef, name)[place] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (damage("indptr", 0, 1), "coef_indptr does not go from 0"),
        (damage("indptr", -1, 3), "coef_indptr does not go from 0"),
        (damage("indptr", 3, -(2**31)), "coef_indptr does not go from 0"),
        (damage("indptr", 3, 2**31 - 1), "coef_indptr does not go from 0"),
        (damage("indices", 0, -1), "coef_indices has numbers from -1"),
        (damage("indices", 5, 23), "coef_indices has numbers from 1 to 23"),
        (damage("indices", slice(0, 2), 7), "does not increase within each row"),
        (damage("data", 0, np.nan), "data has numbers that are not finite"),
    ],
)
def test_a_damaged_matrix_is_refused(X, change, message, tmp_path):
    model = fit(X, 4)
    change(model.coef_)
    with pytest.raises(ValueError, match=message):
        model.save(tmp_path / "model.safetensors")


@pytest.mark.parametrize("name", ["coef_data", "coef_indices", "coef_indptr"])
def test_arrays_that_are_missing_or_of_another_shape_are_refused(X, name):
    model = fit(X, 4)
    attributes, arrays = model._get_fitted()
    for wrong in ({name: arrays[name][1:]}, {name: arrays[name][None]}, {}):
        others = {key: array for key, array in arrays.items() if key != name}
        with pytest.raises(ValueError, match=r"coef_\w+ has dtype|no array coef_"):
            model._set_fitted(attributes, others | wrong)


@pytest.mark.parametrize("mmap", [True, False])
def test_files(X, mmap, tmp_path):
    model = fit(X, 4)
    model.save(tmp_path / "model.safetensors")
    loaded = sklearn_recvae.load(tmp_path / "model.safetensors", mmap=mmap)
    for name in ("data", "indices", "indptr"):
        array, expected = (getattr(m.coef_, name) for m in (loaded, model))
        assert array.dtype == expected.dtype
        np.testing.assert_array_equal(array, expected)


def test_what_does_not_fit_into_memory_is_refused_with_the_figures(X, monkeypatch):
    monkeypatch.setattr(_sparse_ease, "available_memory", lambda: 5e8)
    wide = sp.csr_array(([1.0], ([0], [0])), shape=(1, 1_000_000))
    with pytest.raises(
        MemoryError, match=r"^100 neighbours of 1000000 items need 2\.0 GB, but 0\.5 GB"
    ):
        SparseEASERecommender().fit(wide)
    monkeypatch.setattr(_sparse_ease, "available_memory", lambda: None)  # not known
    SparseEASERecommender().fit(X)


def test_errors(X):
    for name, value in [
        ("regularization", 0),
        ("noise_rate", 1),
        ("n_neighbors", 0),
        ("n_neighbors", 2.5),
    ]:
        with pytest.raises(ValueError, match=f"'{name}' parameter of SparseEASER"):
            SparseEASERecommender(**{name: value}).fit(X)
    with pytest.raises(ValueError, match=r"X of shape \(3, 4\) has no interactions"):
        SparseEASERecommender().fit(np.zeros((3, 4)))
    with pytest.raises(ValueError, match=r"singular to .* Raise regularization"):
        SparseEASERecommender(1e-300, noise_rate=0).fit(np.ones((3, 3)))
    with pytest.raises(ValueError, match="Some weights are too large for float32"):
        SparseEASERecommender(1e-66, noise_rate=0).fit([[1e-30, 1e30], [1e-30, 0]])
