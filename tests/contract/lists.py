"""Checks of lists, scores, reasons, and of what is learned."""

from unittest import mock

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.utils._param_validation import InvalidParameterError

from common import plain_ndcg
from contract import (
    FOLD_IN,
    HELD_OUT,
    MANY,
    N_ITEMS,
    N_USERS,
    X,
    assert_ranks,
    assert_same,
    fit_if_possible,
)
from sklearn_recvae import PopularityRecommender, _explaining, _inference, _ranking
from sklearn_recvae.metrics import ndcg_at_k
from sklearn_recvae.model_selection import holdout_interactions


def check_recommend_is_a_full_ranking_cut_off(make):
    model = make().fit(X)
    scores, explained = model.predict(X), explained_scores(model, X)
    candidates = [7, 3, 11, 3, 0, 8]
    for k in (1, 5, N_ITEMS + 3):
        for exclude_seen in (True, False):
            for items in (None, candidates):
                for exclude_items in (None, [0, 5, 6, 5]):
                    allowed = X == 0 if exclude_seen else np.ones_like(X, dtype=bool)
                    columns = range(N_ITEMS) if items is None else items
                    allowed &= np.isin(range(N_ITEMS), columns)
                    allowed &= ~np.isin(range(N_ITEMS), exclude_items or [])
                    options = {
                        "exclude_seen": exclude_seen,
                        "items": items,
                        "exclude_items": exclude_items,
                    }
                    lists, values = model.recommend(X, k, return_scores=True, **options)
                    assert_ranks(lists, scores, allowed)
                    assert values.dtype == np.float32
                    assert_array_equal(values == -np.inf, lists == -1)
                    # Log-probabilities are right up to a constant of each user.
                    off = np.where(lists >= 0, values, np.nan) - np.take_along_axis(
                        explained, lists.clip(0), axis=1
                    )
                    off = off[(lists >= 0).any(axis=1)]
                    constant = np.nanmean(off, axis=1, keepdims=True)
                    if explained is scores:
                        constant = 0
                    assert np.nanmax(abs(off - constant)) < 1e-5
                    with np.errstate(invalid="ignore"):  # -inf minus -inf
                        assert not (np.diff(values) > 0).any()
                    assert_array_equal(model.recommend(X, k, **options), lists)
    assert_array_equal(model.recommend(X), model.recommend(X, 10))


def check_lists_of_any_matrix(make):
    matrices = arrays(
        np.int64,
        st.tuples(st.integers(1, 6), st.integers(1, 8)),
        elements=st.sampled_from([0, 0, 0, 1, 1, 2, 5]),
    ).filter(np.any)

    @settings(max_examples=10, deadline=None)
    @given(dense=matrices, k=st.integers(1, 9))
    def holds(dense, k):
        model = fit_if_possible(make, sp.csr_array(dense))
        assume(model is not None)
        assert_array_equal(clone(model).fit(dense).predict(dense), model.predict(dense))
        lists = model.recommend(sp.csr_array(dense), k)
        assert_ranks(lists, model.predict(dense), dense == 0)

    holds()


def check_pairs_equal_a_filtered_ranking(make):
    model = make().fit(X)
    scores = model.predict(X)
    densities = st.sampled_from([None, 0, 0.02, 0.1, 0.5, 1])

    @settings(max_examples=20, deadline=None)
    @given(
        k=st.integers(1, N_ITEMS + 3),
        densities=st.tuples(densities, densities),
        exclude_seen=st.booleans(),
        cost=st.sampled_from([0, 8, 1000]),
        seed=st.integers(0, 9),
    )
    def holds(k, densities, exclude_seen, cost, seed):
        rng = np.random.default_rng(seed)
        items, exclude_items = (
            None if density is None else sp.csr_array(rng.random(X.shape) < density)
            for density in densities
        )
        allowed = X == 0 if exclude_seen else np.ones_like(X, dtype=bool)
        if items is not None:
            allowed &= items.toarray() > 0
        if exclude_items is not None:
            allowed &= exclude_items.toarray() == 0
        options = {"items": items, "exclude_items": exclude_items}
        # Pairs by themselves, or within whole rows; several blocks of users.
        with (
            mock.patch.object(_inference, "PAIR_COST", cost),
            mock.patch.object(_ranking, "SCORES_BYTES", 4 * N_ITEMS * 7),
        ):
            lists = model.recommend(X, k, exclude_seen=exclude_seen, **options)
        assert_ranks(lists, scores, allowed)

    holds()


def check_lists_and_matrices_of_candidates_together(make):
    model = make().fit(X)
    pairs = np.zeros_like(X)
    pairs[:, [3, 7, 9]] = 1
    lists = model.recommend(X, 3, items=pairs, exclude_items=[7], exclude_seen=False)
    assert {*lists.ravel()} == {3, 9, -1}
    lists = model.recommend(X, 3, items=[3, 7], exclude_items=pairs)
    assert (lists == -1).all()


def check_ties_give_the_lower_index_first(make):
    model = make().fit(X)
    top_k = _ranking.top_k

    def rank_coarsely(scores, k):
        return top_k((2 * scores).round(), k)

    with mock.patch.object(_ranking, "top_k", rank_coarsely):
        lists, values = model.recommend(
            X, N_ITEMS, exclude_seen=False, return_scores=True
        )
        some = model.recommend(X, 4, items=[11, 2, 7, 4], exclude_seen=False)
    steps = np.diff(values)
    assert (steps == 0).any()
    assert (steps <= 0).all()
    assert (np.diff(lists)[steps == 0] > 0).all()
    for user, items in enumerate(some):
        expected = [item for item in lists[user] if item in (11, 2, 7, 4)]
        assert_array_equal(items, expected)


def check_lists_are_filled_up_where_nothing_is_left(make):
    model = make().fit(X)
    rows = np.ones((3, N_ITEMS))
    rows[1, 4] = rows[2, 4] = rows[2, 9] = 0
    lists, scores = model.recommend(rows, 3, return_scores=True)
    assert_array_equal(lists[:2], [[-1, -1, -1], [4, -1, -1]])
    assert {*lists[2]} == {4, 9, -1}
    assert_array_equal(scores == -np.inf, lists == -1)
    for selection in (
        {"items": []},
        {"items": np.array([], dtype=np.int64)},
        {"exclude_items": range(N_ITEMS)},
        {"items": [1, 2], "exclude_items": [2, 1]},
    ):
        lists, scores = model.recommend(X, 3, return_scores=True, **selection)
        assert_array_equal(lists, np.full((N_USERS, 3), -1))
        assert_array_equal(scores, np.full((N_USERS, 3), -np.inf))
        assert (lists.dtype, scores.dtype) == (np.int64, np.float32)
    assert_array_equal(model.recommend(X, exclude_items=[]), model.recommend(X))


def check_wrong_candidates_are_refused(make):
    model = make().fit(X)
    for name in ("items", "exclude_items"):
        for wrong, message in [
            ([3, N_ITEMS], f"{name} contains 12.* from 0 to 11"),
            ([-1], f"{name} contains -1.* from 0 to 11"),
            ([0.5], f"{name} is an array of float64"),
            (np.ones(N_ITEMS, dtype=bool), f"{name} is an array of bool"),
            ([[0, 1]], rf"{name} is a matrix of shape \(1, 2\)"),
            (X[:-1], rf"{name} is a matrix of shape \(19, 12\)"),
            (X[:, :-1], rf"{name} is a matrix of shape \(20, 11\)"),
            (3, f"{name}' parameter of .*recommend"),
        ]:
            with pytest.raises(ValueError, match=message):
                model.recommend(X, **{name: wrong})


def check_length_of_lists(make):
    model = make().fit(X)
    calls = {
        "recommend": lambda k: model.recommend(X, k),
        "explain": lambda k: model.explain(X, np.zeros(N_USERS, dtype=int), k),
    }
    if hasattr(model, "similar_items"):
        calls["similar_items"] = lambda k: model.similar_items([0], k)
    for name, call in calls.items():
        message = f"'k' parameter of {type(model).__name__}.{name} must be an int"
        for k in (0, -1, 2.5, "ten", None, True, 5_000_000_000):
            with pytest.raises(InvalidParameterError, match=message):
                call(k)
    assert_array_equal(model.recommend(X, np.int8(3)), model.recommend(X, 3))


def check_similar_items(make):
    model = make().fit(X)
    if not hasattr(model, "similar_items"):
        pytest.skip("there are none")
    lists, values = model.similar_items([3, 0, 3], N_ITEMS + 2, return_scores=True)
    for item, found, near in zip([3, 0, 3], lists, values, strict=True):
        assert_array_equal(np.sort(found[:-3]), np.delete(range(N_ITEMS), item))
        assert (found[-3:] == -1).all()
        assert (near[-3:] == -np.inf).all()
        assert (np.diff(near[:-3]) <= 0).all()
        assert_array_equal(model.similar_items([item], 4)[0], found[:4])
    assert (lists.dtype, values.dtype) == (np.int64, np.float32)
    assert model.similar_items([], 3).shape == (0, 3)
    for wrong, message in [
        ([N_ITEMS], "items contains 12"),
        (5, r"Got items=5, expected a list .* items=\[5\]"),
    ]:
        with pytest.raises(ValueError, match=message):
            model.similar_items(wrong)


def check_blocks_do_not_show_in_the_result(make):
    model = make().fit(X)
    lists, scores, mean = model.recommend(X, 7), model.predict(X), model.score(X)
    for n_bytes in (4 * N_ITEMS * 7, 1):  # even one row may be too large
        with mock.patch.object(_ranking, "SCORES_BYTES", n_bytes):
            assert_array_equal(model.recommend(X, 7), lists)
            assert_allclose(model.predict(X), scores, rtol=1e-5, atol=1e-6)
            assert model.score(X) == mean


def check_a_user_has_the_same_result_in_any_company(make):
    model = make().fit(X)
    lists, scores = model.recommend(X), model.predict(X)
    order = np.random.default_rng(0).permutation(N_USERS)
    assert_array_equal(model.recommend(X[order]), lists[order])
    assert_allclose(model.predict(X[order]), scores[order], rtol=1e-5, atol=1e-6)
    for user in (0, 3, 7):
        assert_array_equal(model.recommend(X[[user]])[0], lists[user])


def check_score_is_the_mean_ndcg_of_lists(make):
    model = make().fit(MANY)
    fold_in, held_out = holdout_interactions(MANY)
    values = plain_ndcg(model.recommend(fold_in, 100), held_out)
    score = model.score(MANY)
    assert type(score) is float
    assert_allclose(score, values.mean(), rtol=1e-12)
    assert model.score(fold_in, held_out) == score
    order = np.random.default_rng(0).permutation(MANY.shape[0])
    assert_allclose(model.score(MANY[order]), score, rtol=1e-12)
    # Those that cannot be split do not count.
    others = sp.csr_array((5, N_ITEMS)), sp.eye_array(4, N_ITEMS)
    assert_allclose(model.score(sp.vstack([MANY, *others])), score, rtol=1e-12)
    weight = np.arange(MANY.shape[0]) % 3
    repeated = MANY[np.repeat(np.arange(MANY.shape[0]), weight)]
    weighted = model.score(MANY, sample_weight=weight)
    assert_allclose(weighted, model.score(repeated), rtol=1e-12)
    lists = model.recommend(fold_in, 100)
    expected = ndcg_at_k(held_out, lists, 100, sample_weight=weight)
    assert_allclose(model.score(fold_in, held_out, sample_weight=weight), expected)


def check_wrong_held_out_is_refused(make):
    model = make().fit(X)
    n = np.count_nonzero(X)
    overlapping = HELD_OUT.copy()
    overlapping[0, np.flatnonzero(FOLD_IN[0])[0]] = 1
    for y, message in [
        (X, f"^{n} of the {n} held-out"),
        (overlapping, f"^1 of the {np.count_nonzero(overlapping)} held-out"),
        (X[:3], r"y has shape \(3, 12\), expected \(20, 12\)"),
    ]:
        with pytest.raises(ValueError, match=message):
            model.score(FOLD_IN if y is overlapping else X, y)
    for weights, message in [([1, 2], r"sample_weight\.shape"), (-np.ones(20), "Neg")]:
        with pytest.raises(ValueError, match=message):
            model.score(X, sample_weight=weights)


def check_one_dimensional_y_is_ignored(make):
    y = np.zeros(N_USERS)
    model = make().fit(X, y)
    assert_same(model, make().fit(X))
    assert_same(make().fit(X, y=X), model)
    with pytest.warns(UserWarning, match="1-D y is ignored") as record:
        assert model.score(X, y) == model.score(X)
    # The warning points at the line of the caller.
    assert record[0].filename == __file__


def explained_scores(model, rows):
    """Give what predict gives, or its logarithm where that is a probability."""
    scores = model.predict(rows)
    is_probability = (scores > 0).all() and np.allclose(scores.sum(axis=1), 1)
    return np.log(scores, dtype=float) if is_probability else scores


def check_explain_equals_a_loop(make):
    model = make().fit(X)
    targets = model.recommend(X, 2)
    before = explained_scores(model, X)
    for chunk in (1, 50, 1 << 20):
        with mock.patch.object(_explaining, "CHUNK_ENTRIES", chunk):
            reasons, effects = model.explain(X, targets, k=N_ITEMS, return_scores=True)
        assert reasons.shape == effects.shape == (*targets.shape, N_ITEMS)
        for user, row in enumerate(X):
            seen = np.flatnonzero(row)
            n = len(seen)
            without = np.tile(row, (n, 1))
            without[range(n), seen] = 0
            after = explained_scores(model, without) if n else np.empty((0, N_ITEMS))
            for place, item in enumerate(targets[user]):
                found, by = reasons[user, place], effects[user, place]
                assert (found[n:] == -1).all()
                assert (by[n:] == -np.inf).all()
                assert (np.diff(by[:n]) <= 0).all()
                expected = np.full(N_ITEMS, np.nan)
                expected[seen] = before[user, item] - after[:, item]
                assert {*found[:n]} == {*seen}
                assert_allclose(by[:n], expected[found[:n]], rtol=1e-5, atol=5e-6)
    one = model.explain(X, targets[:, 0], k=2)
    assert_array_equal(one, model.explain(X, targets, k=2)[:, 0])


def check_where_there_is_nothing_to_explain(make):
    model = make().fit(X)
    rows = np.zeros((3, N_ITEMS))
    rows[1, 3] = rows[2, [3, 4]] = 1
    targets = np.array([[5, 6], [5, -1], [-1, -1]])
    reasons, effects = model.explain(rows, targets, k=2, return_scores=True)
    nothing = [-1, -1]
    expected = [[nothing, nothing], [[3, -1], nothing], [nothing, nothing]]
    assert_array_equal(reasons, expected)
    assert_array_equal(np.isfinite(effects), reasons >= 0)
    assert model.explain(rows, np.empty((3, 0), dtype=int)).shape == (3, 0, 3)
    for items, message in [
        ([0], r"of shape \(1,\), expected integers of shape \(20,\) or \(20, n_target"),
        (np.zeros(20), "array of float64"),
        (np.full(20, 12), "contains 12, expected column indices of X, from 0 to 11"),
        (np.full(20, -2), "contains -2"),
    ]:
        with pytest.raises(ValueError, match=message):
            model.explain(X, items)


def check_checkerboard(make):
    if isinstance(make(), PopularityRecommender):
        pytest.skip("everyone has the same list")
    if make().get_params().get("weights") == "auto":
        pytest.skip("it learns from too few of 16 users")
    n = 16
    same_colour = np.add.outer(np.arange(n), np.arange(n)) % 2 == 0
    board = same_colour - np.eye(n)
    model = make(n_iter=60).fit(board)
    # Of the items of a user's colour only the one on the diagonal is left.
    assert_array_equal(model.recommend(board, 1)[:, 0], np.arange(n))
    assert_array_equal(
        model.recommend(board, 1, items=sp.csr_array(board == 0))[:, 0], np.arange(n)
    )
