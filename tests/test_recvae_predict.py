"""RecVAE: predict, transform and back, blocks, similar_items."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from common import (
    N_ITEMS,
    N_USERS,
    plain_logits,
    plain_recommend,
    recommender,
)
from sklearn_recvae import _ranking as ranking

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


def test_a_user_has_the_same_latent_vector_in_any_company(X, model):
    Z = model.transform(X)
    order = np.random.default_rng(0).permutation(N_USERS)
    assert_array_equal(model.transform(X[order]), Z[order])
    for user in range(10):
        assert_array_equal(model.transform(X[[user]])[0], Z[user])


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
    with pytest.raises(ValueError, match=r"Pass items=\[3\] for one"):
        model.similar_items(3)
