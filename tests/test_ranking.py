"""The best k of each row, ties and masks."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_array_equal

from sklearn_recvae._interactions import NO_ITEM, as_csr
from sklearn_recvae._ranking import mask_entries, top_k
from sklearn_recvae.metrics import rank_scores

# Few different values, so that ties are the rule; -inf is an item that is masked.
SCORES = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=9),
    elements=st.sampled_from([-np.inf, -1.5, 0.0, 0.25, 2.0]),
)


def full_ranking(scores, k):
    """Sort all items by (score descending, index ascending), in plain Python."""
    lists = []
    for row in scores:
        left = [item for item in range(len(row)) if row[item] > -np.inf]
        best = sorted(left, key=lambda item: (-row[item], item))[:k]
        lists.append(best + [-1] * (k - len(best)))
    return np.array(lists, dtype=np.int64).reshape(len(scores), k)


def scores_of(items, scores):
    taken = np.take_along_axis(scores, np.maximum(items, 0), axis=1)
    return np.where(items >= 0, taken, -np.inf)


@settings(deadline=None)
@given(scores=SCORES, k=st.integers(1, 12))
def test_top_k_is_the_head_of_the_full_ranking(scores, k):
    before = scores.copy()
    items, values = top_k(torch.tensor(scores), k)
    expected = full_ranking(scores, k)
    assert_array_equal(items, expected)
    assert_array_equal(values, scores_of(expected, scores))
    assert items.dtype == torch.int64
    assert values.dtype == torch.float32
    assert_array_equal(scores, before)


@settings(deadline=None)
@given(scores=SCORES, k=st.integers(1, 8))
def test_a_longer_list_begins_with_the_shorter_one(scores, k):
    shorter, _ = top_k(torch.tensor(scores), k)
    longer, _ = top_k(torch.tensor(scores), k + 1)
    assert_array_equal(longer[:, :k], shorter)


@pytest.mark.parametrize("k", [1, 3, 50, 199, 200, 201])
def test_many_ties_in_a_long_row(k):
    scores = np.random.default_rng(0).integers(0, 4, (5, 200)).astype(np.float32)
    assert_array_equal(top_k(torch.tensor(scores), k)[0], full_ranking(scores, k))


def test_ties_across_the_cut_take_the_lowest_indices():
    scores = torch.zeros(2, 1000)
    scores[1, 999] = 1
    items, values = top_k(scores, 3)
    assert_array_equal(items, [[0, 1, 2], [999, 0, 1]])
    assert_array_equal(values, [[0, 0, 0], [1, 0, 0]])


def test_minus_zero_ties_with_zero():
    items, _ = top_k(torch.tensor([[-0.0, 0.0, -0.0]]), 3)
    assert_array_equal(items, [[0, 1, 2]])


def test_nothing_left_to_rank():
    items, values = top_k(torch.full((2, 3), -torch.inf), 2)
    assert_array_equal(items, np.full((2, 2), NO_ITEM))
    assert_array_equal(values, np.full((2, 2), -np.inf))
    items, values = top_k(torch.empty(2, 0), 2)
    assert_array_equal(items, np.full((2, 2), NO_ITEM))
    assert_array_equal(values, np.full((2, 2), -np.inf))


def test_mask_entries_in_place():
    scores = torch.arange(6.0).reshape(2, 3)
    mask_entries(scores, torch.tensor([0, 1, 1]), torch.tensor([2, 0, 0]))
    assert_array_equal(scores, [[0, 1, -np.inf], [-np.inf, 4, 5]])


@settings(deadline=None)
@given(scores=SCORES, k=st.integers(1, 12), data=st.data())
def test_rank_scores_leaves_out_what_is_seen(scores, k, data):
    seen = data.draw(
        hnp.arrays(np.float32, scores.shape, elements=st.sampled_from([0.0, 1.0]))
    )
    before = scores.copy()
    ranked = rank_scores(scores, as_csr(seen), k)
    assert_array_equal(ranked, full_ranking(np.where(seen > 0, -np.inf, scores), k))
    assert ranked.dtype == np.int64
    assert_array_equal(scores, before)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rank_scores_of_any_memory_layout(dtype):
    scores = np.array([[0.3, 0.1, 0.2], [0.1, 0.2, 0.3]], dtype=dtype)
    seen = sp.csr_array((2, 3), dtype=np.float32)
    expected = rank_scores(scores, seen, 3)
    assert_array_equal(expected, [[0, 2, 1], [2, 1, 0]])
    assert_array_equal(rank_scores(np.asfortranarray(scores), seen, 3), expected)
    assert_array_equal(rank_scores(scores[::-1], seen, 3), expected[::-1])
    read_only = scores.copy()
    read_only.flags.writeable = False
    assert_array_equal(rank_scores(read_only, seen, 3), expected)


def test_close_float64_scores_are_not_rounded_together():
    scores = np.array([[1.0, 1.0 + 1e-12]])
    assert_array_equal(rank_scores(scores, sp.csr_array((1, 2)), 2), [[1, 0]])


@pytest.mark.parametrize("dtype", [bool, "int8", "int64", "float16", "longdouble"])
def test_rank_scores_of_any_dtype(dtype):
    scores = np.array([[0, 1, 1, 0]], dtype=dtype)
    assert_array_equal(rank_scores(scores, [[0, 1, 0, 0]], 4), [[2, 0, 3, -1]])
    assert_array_equal(rank_scores(scores.tolist(), np.zeros((1, 4)), 1), [[1]])


def test_rank_scores_of_infinities_and_large_counts():
    scores = [[np.inf, -np.inf, 0.0, 1e308]]
    assert_array_equal(rank_scores(scores, np.zeros((1, 4)), 4), [[0, 3, 2, -1]])
    counts = np.array([[2**53 - 1, 2**53]])
    assert_array_equal(rank_scores(counts, np.zeros((1, 2)), 2), [[1, 0]])


@pytest.mark.parametrize(
    ("scores", "seen", "k", "message"),
    [
        ([[1, np.nan, 3]], np.zeros((1, 3)), 2, "scores contains NaN, expected num"),
        (np.ones((2, 3)), np.zeros((1, 3)), 2, r"shape \(2, 3\) and seen has \(1, 3\)"),
        (np.ones((1, 4)), np.zeros((1, 3)), 2, r"shape \(1, 4\) and seen has \(1, 3\)"),
        (np.ones(3), np.zeros((1, 3)), 2, "Expected 2D array, got 1D array instead"),
        (np.ones((1, 3)), np.zeros(3), 2, "Expected 2D array, got 1D array instead"),
        (np.ones((1, 3)), [[0, -1, 0]], 2, "Negative values in data"),
        (np.ones((1, 3)) * 1j, np.zeros((1, 3)), 2, "Complex data not supported"),
        (np.zeros((1, 3), "m8[s]"), np.zeros((1, 3)), 2, "dtype timedelta.*expected"),
        (np.ones((1, 3)), np.zeros((1, 3)), 0, "'k' parameter of rank_scores"),
        (np.ones((1, 3)), np.zeros((1, 3)), 1.5, "'k' parameter of rank_scores"),
        (np.ones((1, 3)), np.zeros((1, 3)), True, "'k' parameter of rank_scores"),
    ],
)
def test_rank_scores_refuses_what_it_cannot_rank(scores, seen, k, message):
    with pytest.raises(ValueError, match=message):
        rank_scores(scores, seen, k)


@pytest.mark.parametrize("k", [np.int16(8192), np.uint16(20_000), np.int8(3)])
def test_length_of_lists_may_be_a_small_integer_of_numpy(k):
    scores = torch.arange(30_000.0)[None]
    items, _ = top_k(scores, k)
    assert_array_equal(items[0], np.arange(29_999, 29_999 - int(k), -1))
