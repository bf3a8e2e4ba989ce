"""RecVAE: predict, transform, recommend, score and similar_items."""

import copy

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from numpy.testing import assert_allclose, assert_array_equal

from common import (
    N_ITEMS,
    N_USERS,
    plain_logits,
    plain_ndcg,
    plain_recommend,
    recommender,
)
from sklearn_recvae import _ranking as ranking
from sklearn_recvae.model_selection import holdout_interactions

# predict, transform, inverse_transform


def test_predict_gives_probabilities(X, model):
    probabilities = model.predict(X)
    assert probabilities.dtype == np.float32
    assert probabilities.shape == X.shape
    assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)
    logits = plain_logits(model, X)
    expected = np.exp(logits - logits.max(axis=1, keepdims=True))
    expected /= expected.sum(axis=1, keepdims=True)
    # Seen items have their probability as all others do: nothing is masked.
    assert_allclose(probabilities, expected, rtol=1e-5)


def test_a_user_has_the_same_result_in_any_company(X, model):
    together = model.predict(X)
    lists = model.recommend(X, 10)
    order = np.random.default_rng(0).permutation(N_USERS)
    assert_array_equal(model.transform(X[order]), model.transform(X)[order])
    assert_allclose(model.predict(X[order]), together[order], rtol=1e-6)
    assert_array_equal(model.recommend(X[order], 10), lists[order])
    for user in range(10):
        alone = X[[user]]
        assert_array_equal(model.transform(alone)[0], model.transform(X)[user])
        assert_allclose(model.predict(alone)[0], together[user], rtol=1e-6)
        assert_array_equal(model.recommend(alone, 10)[0], lists[user])


def test_inference_is_neither_noised_nor_sampled(X, model):
    assert_array_equal(model.predict(X), model.predict(X))
    assert_array_equal(model.transform(X), model.transform(X))


def test_input_is_normalised(X, model):
    assert_allclose(model.transform(X * 7), model.transform(X), rtol=1e-4, atol=1e-6)


def test_transform_and_back(X, model):
    Z = model.transform(X)
    assert Z.dtype == np.float32
    assert Z.shape == (N_USERS, 8)
    assert_array_equal(model.inverse_transform(Z), model.predict(X))
    assert_array_equal(model.inverse_transform(Z.tolist()), model.predict(X))
    assert model.inverse_transform(Z.astype(np.float64)).dtype == np.float32


def test_inverse_transform_of_any_memory_layout(X, model):
    Z = model.transform(X)
    expected = model.predict(X)
    assert_array_equal(model.inverse_transform(np.asfortranarray(Z)), expected)
    assert_allclose(model.inverse_transform(Z[::2]), expected[::2], rtol=1e-6)
    assert_allclose(model.inverse_transform(Z[::-1]), expected[::-1], rtol=1e-6)


def test_inverse_transform_refuses_what_is_no_latent_vector(model):
    with pytest.raises(ValueError, match="Z has 3 columns, but the latent space has 8"):
        model.inverse_transform(np.zeros((2, 3)))
    with pytest.raises(ValueError, match="Z contains NaN"):
        model.inverse_transform(np.full((1, 8), np.nan))
    with pytest.raises(ValueError, match="Expected 2D array, got 1D"):
        model.inverse_transform(np.zeros(8))


def test_output_names_and_data_frames(X):
    estimator = recommender(max_iter=1).fit(X)
    names = [f"recvaerecommender{i}" for i in range(8)]
    assert_array_equal(estimator.get_feature_names_out(), names)
    frame = estimator.set_output(transform="pandas").transform(X)
    assert_array_equal(frame.columns, names)
    assert (frame.dtypes == np.float32).all()
    assert_array_equal(estimator.inverse_transform(frame), estimator.predict(X))


# recommend


@pytest.mark.parametrize("k", [1, 10, 39, 40, 41, 100])
@pytest.mark.parametrize("exclude_seen", [True, False])
@pytest.mark.parametrize(
    ("items", "exclude_items"),
    [
        (None, None),
        ([7, 3, 11, 3, 39, 0, 20, 21, 22], None),
        (None, [0, 5, 6, 39, 5]),
        (np.arange(30), [2, 29, 35]),
    ],
)
def test_recommend_is_a_full_ranking_cut_off(
    X, model, k, exclude_seen, items, exclude_items
):
    recommended, scores = model.recommend(
        X,
        k,
        exclude_seen=exclude_seen,
        items=items,
        exclude_items=exclude_items,
        return_scores=True,
    )
    candidates = set(range(N_ITEMS) if items is None else items)
    candidates -= set() if exclude_items is None else set(exclude_items)
    logits = plain_logits(model, X)
    seen = X.toarray() > 0 if exclude_seen else np.zeros(X.shape, dtype=bool)
    expected = plain_recommend(logits, seen, k, candidates)

    assert_array_equal(recommended, expected)
    assert recommended.dtype == np.int64
    assert scores.dtype == np.float32
    assert scores.shape == recommended.shape == (N_USERS, k)
    assert_array_equal(scores == -np.inf, recommended == -1)
    # Log-probabilities up to a constant of the user.
    log_pi = np.log(np.take_along_axis(model.predict(X), expected.clip(0), axis=1))
    listed = expected >= 0
    constant = np.where(listed, scores - log_pi, np.nan)
    constant = constant[listed.any(axis=1)]
    assert_allclose(np.nanmax(constant, axis=1), np.nanmin(constant, axis=1), atol=2e-6)
    # Without the scores the same lists.
    assert_array_equal(
        model.recommend(
            X, k, exclude_seen=exclude_seen, items=items, exclude_items=exclude_items
        ),
        recommended,
    )


def test_recommend_gives_ten_by_default_and_nothing_seen(X, model):
    recommended = model.recommend(X)
    assert recommended.shape == (N_USERS, 10)
    for items, row in zip(recommended, X.toarray(), strict=True):
        assert not row[items].any()
        assert len(set(items)) == 10


def test_recommend_fills_up_where_candidates_run_out(model):
    X = np.ones((3, N_ITEMS))
    X[1, 4] = 0
    X[2, [9, 4]] = 0
    recommended, scores = model.recommend(X, 4, return_scores=True)
    assert_array_equal(recommended[0], [-1] * 4)
    assert_array_equal(scores[0], [-np.inf] * 4)
    assert_array_equal(recommended[1], [4, -1, -1, -1])
    assert set(recommended[2, :2]) == {4, 9}
    assert_array_equal(recommended[2, 2:], [-1, -1])
    assert np.isfinite(scores[2, :2]).all()


@pytest.mark.parametrize(
    "selection",
    [
        {"items": []},
        {"items": np.array([], dtype=np.int64)},
        {"exclude_items": range(N_ITEMS)},
        {"items": [1, 2], "exclude_items": [2, 1]},
    ],
)
def test_recommend_with_no_candidates_at_all(X, model, selection):
    recommended, scores = model.recommend(X, 3, return_scores=True, **selection)
    assert_array_equal(recommended, np.full((N_USERS, 3), -1))
    assert_array_equal(scores, np.full((N_USERS, 3), -np.inf))
    assert recommended.dtype == np.int64
    assert scores.dtype == np.float32


def test_excluding_nothing_is_no_exclusion(X, model):
    assert_array_equal(model.recommend(X, exclude_items=[]), model.recommend(X))


def test_ties_take_the_lower_index_first(X, model):
    flat = copy.deepcopy(model)
    with torch.no_grad():
        flat.module_.decoder.weight.zero_()
        flat.module_.decoder.bias.zero_()
        flat.module_.decoder.bias[30:] = 1
    seen = X.toarray() > 0
    order = [*range(30, N_ITEMS), *range(30)]
    for user, items in enumerate(flat.recommend(X, 20)):
        assert_array_equal(items, [i for i in order if not seen[user, i]][:20])
    items = flat.recommend(X[:1], 3, items=[5, 2, 33, 9], exclude_seen=False)
    assert_array_equal(items, [[33, 2, 5]])


def test_blocks_do_not_show_in_the_result(X, model, monkeypatch):
    whole = model.recommend(X, 7), model.predict(X), model.score(X)
    sizes = []

    def recording_top_k(scores, k):
        sizes.append(scores.shape)
        return original(scores, k)

    original = ranking.top_k
    monkeypatch.setattr(ranking, "SCORES_BYTES", 4 * N_ITEMS * 11)
    monkeypatch.setattr(ranking, "top_k", recording_top_k)
    assert_array_equal(model.recommend(X, 7), whole[0])
    assert sizes == [(11, N_ITEMS)] * 10 + [(10, N_ITEMS)]
    assert_allclose(model.predict(X), whole[1], rtol=1e-6)
    assert model.score(X) == whole[2]
    # A row that is larger than the memory of a block is still a block.
    monkeypatch.setattr(ranking, "SCORES_BYTES", 1)
    assert_array_equal(model.recommend(X, 7), whole[0])


@pytest.mark.parametrize("k", [0, -1, 2.5, "ten", None])
def test_k_that_is_no_positive_integer(X, model, k):
    with pytest.raises(ValueError, match=r"'k' parameter of .*recommend must be an"):
        model.recommend(X, k)
    with pytest.raises(ValueError, match=r"'k' parameter of .*similar_items must be"):
        model.similar_items([0], k)


@pytest.mark.parametrize("name", ["items", "exclude_items"])
def test_item_indices_that_are_none(X, model, name):
    with pytest.raises(ValueError, match=f"{name} contains 40.* from 0 to 39"):
        model.recommend(X, **{name: [3, 40]})
    with pytest.raises(ValueError, match=f"{name} contains -1.* from 0 to 39"):
        model.recommend(X, **{name: [-1]})
    with pytest.raises(ValueError, match=f"{name} is an array of float64"):
        model.recommend(X, **{name: [0.5]})
    with pytest.raises(ValueError, match=f"{name} is an array of bool"):
        model.recommend(X, **{name: np.ones(N_ITEMS, dtype=bool)})
    with pytest.raises(ValueError, match=rf"{name} is a matrix of shape \(1, 2\)"):
        model.recommend(X, **{name: [[0, 1]]})
    with pytest.raises(ValueError, match=f"{name}' parameter of .*recommend"):
        model.recommend(X, **{name: 3})


# score


def test_score_is_the_mean_ndcg_of_recommendations(X, X_val, model):
    score = model.score(X_val)
    assert type(score) is float
    fold_in, held_out = holdout_interactions(X_val, 0.2, random_state=0)
    values = plain_ndcg(model.recommend(fold_in, 100), held_out)
    assert_allclose(score, values.mean(), rtol=1e-12)
    assert type(model.score(fold_in, held_out)) is float
    assert model.score(fold_in, held_out) == score


def test_score_does_not_depend_on_the_order_of_users(X_val, model):
    order = np.random.default_rng(0).permutation(X_val.shape[0])
    assert_allclose(model.score(X_val[order]), model.score(X_val), rtol=1e-12)


def test_score_of_a_part_is_the_same_split(X_val, model):
    n = X_val.shape[0]
    first, second = X_val[: n // 2], X_val[n // 2 :]
    parts = [model.score(first), model.score(second)]
    assert_allclose(model.score(X_val), np.mean(parts), rtol=1e-12)


def test_users_that_cannot_be_split_do_not_count(X_val, model):
    padded = sp.vstack([sp.csr_array((5, N_ITEMS)), X_val, sp.eye_array(4, N_ITEMS)])
    assert_allclose(model.score(padded), model.score(X_val), rtol=1e-12)
    with pytest.raises(ValueError, match="None of the 4 users can be evaluated"):
        model.score(sp.eye_array(4, N_ITEMS))


def test_score_with_weights(X_val, model):
    weight = np.random.default_rng(0).integers(0, 4, X_val.shape[0])
    repeated = X_val[np.repeat(np.arange(X_val.shape[0]), weight)]
    assert_allclose(
        model.score(X_val, sample_weight=weight), model.score(repeated), rtol=1e-12
    )
    ones = np.ones(X_val.shape[0])
    assert_allclose(model.score(X_val, sample_weight=ones), model.score(X_val))
    with pytest.raises(ValueError, match=r"sample_weight\.shape"):
        model.score(X_val, sample_weight=[1, 2])
    with pytest.raises(ValueError, match="Negative values"):
        model.score(X_val, sample_weight=-ones)


def test_overlapping_y_is_refused_with_the_count(X_val, model):
    fold_in, held_out = holdout_interactions(X_val)
    with pytest.raises(ValueError, match=f"{X_val.nnz} of the {X_val.nnz} held-out"):
        model.score(X_val, X_val)
    overlapping = held_out.copy().tolil()
    overlapping[0, fold_in[[0]].indices[0]] = 1
    with pytest.raises(ValueError, match=f"^1 of the {held_out.nnz + 1} held-out"):
        model.score(fold_in, overlapping)


def test_one_dimensional_y_is_ignored_with_a_warning(X_val, model):
    y = np.zeros(X_val.shape[0])
    with pytest.warns(UserWarning, match="1-D y is ignored") as record:
        assert model.score(X_val, y) == model.score(X_val)
    # The warning points at the line of the caller.
    assert record[0].filename == __file__


def test_y_of_another_shape(X_val, model):
    with pytest.raises(ValueError, match=r"y has shape \(3, 40\), expected \(30, 40\)"):
        model.score(X_val, X_val[:3])
    # X is looked at before y.
    with pytest.raises(ValueError, match="X has 5 features"):
        model.score(X_val[:, :5], X_val)


# similar_items


@pytest.mark.parametrize("k", [1, 5, 39, 40, 60])
def test_similar_items_by_cosine(model, k):
    W = model.module_.decoder.weight.detach().double().numpy()
    directions = W / np.linalg.norm(W, axis=1, keepdims=True)
    queries = [3, 0, 39, 3]
    cosines = directions[queries] @ directions.T
    itself = np.zeros(cosines.shape, dtype=bool)
    itself[range(4), queries] = True
    expected = plain_recommend(cosines, itself, k, range(N_ITEMS))

    neighbors, scores = model.similar_items(queries, k, return_scores=True)
    assert_array_equal(neighbors, expected)
    assert neighbors.dtype == np.int64
    assert scores.dtype == np.float32
    found = np.take_along_axis(cosines, expected.clip(0), axis=1)
    assert_allclose(scores, np.where(expected >= 0, found, -np.inf), rtol=1e-4)
    assert_array_equal(model.similar_items(queries, k), neighbors)


def test_similar_items_to_none_or_to_wrong_ones(model):
    assert model.similar_items([], 3).shape == (0, 3)
    assert model.similar_items(np.array([2], dtype=np.uint8)).shape == (1, 10)
    with pytest.raises(ValueError, match="items contains 40"):
        model.similar_items([40])
    with pytest.raises(ValueError, match="0 dimensions"):
        model.similar_items(3)
