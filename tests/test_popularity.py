"""The most popular items, for everyone."""

import numpy as np
import pytest

from sklearn_recvae import PopularityRecommender

X = np.array([[2, 0, 1, 0], [0.5, 0, 0, 1], [0, 0, 1, 0]])


def test_scores_are_shares_of_all_feedback():
    model = PopularityRecommender().fit(X)
    np.testing.assert_array_equal(model.popularity_, [2.5, 0, 2, 1])
    scores = model.predict(X[:2])
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, [np.array([2.5, 0, 2, 1]) / 5.5] * 2)


def test_a_user_gets_what_is_not_there_yet():
    model = PopularityRecommender().fit(X)
    recommended = model.recommend([[0, 0, 0, 0], [1, 0, 0, 1]], k=3)
    np.testing.assert_array_equal(recommended, [[0, 2, 3], [2, 1, -1]])


def test_sums_are_exact_where_float32_has_no_room():
    X = np.array([[2.0**25, 2.0**25], [1, 0], [1, 0]], dtype=np.float32)
    model = PopularityRecommender().fit(X)
    np.testing.assert_array_equal(model.popularity_, [2**25 + 2, 2**25])


@pytest.mark.parametrize("popularity", [[0, 0, 0, 0], [1, -1, 3, 0]])
def test_a_damaged_file_is_refused(tmp_path, popularity):
    model = PopularityRecommender().fit(X)
    model.popularity_ = np.array(popularity, dtype=np.float64)
    with pytest.raises(ValueError, match="popularity_ has no numbers > 0"):
        model.save(tmp_path / "model.safetensors")
