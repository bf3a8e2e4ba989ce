"""Coverage, novelty and popularity of lists, by plain Python, and their scorer."""

import math
from itertools import chain

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.dummy import DummyRegressor
from sklearn.model_selection import KFold, cross_validate

import sklearn_recvae.metrics
from sklearn_recvae import EASERecommender, PopularityRecommender
from sklearn_recvae.datasets import make_interactions
from sklearn_recvae.metrics import (
    catalogue_coverage_at_k,
    mean_popularity_at_k,
    novelty_at_k,
    rank_scores,
    ranking_scorer,
)
from sklearn_recvae.model_selection import holdout_interactions

MEANS = {"novelty": novelty_at_k, "popularity": mean_popularity_at_k}


def slow_mean(name, popularity, ranked, k):
    """The definition, for one user."""
    items = [item for item in ranked[:k] if item != -1]
    if name == "popularity":
        values = [popularity[item] for item in items]
    else:
        least = min(p for p in popularity if p > 0)
        shares = [max(popularity[item], least) / sum(popularity) for item in items]
        values = [-math.log2(share) for share in shares]
    return sum(values) / len(values) if values else math.nan


@st.composite
def lists_of_items(draw):
    """Draw the number of items, and lists with gaps anywhere."""
    n_items = draw(st.integers(1, 9))
    n_ranks = draw(st.integers(1, 12))
    rows = []
    for _ in range(draw(st.integers(1, 5))):
        items = draw(st.permutations(range(n_items)))
        items = items[: draw(st.integers(0, min(n_items, n_ranks)))]
        rows.append(draw(st.permutations([*items, *[-1] * (n_ranks - len(items))])))
    return n_items, rows


# coverage


def test_coverage_by_hand():
    y_rank = [[3, 0, 1], [3, -1, 2], [-1, -1, -1]]
    assert catalogue_coverage_at_k(y_rank, 8) == 4 / 8
    assert catalogue_coverage_at_k(y_rank, 8, 2) == 2 / 8
    assert catalogue_coverage_at_k(y_rank, 8, 1) == 1 / 8
    assert catalogue_coverage_at_k(y_rank, 4) == 1
    assert catalogue_coverage_at_k(y_rank[2:], 4) == 0
    assert catalogue_coverage_at_k([range(20)], 20) == 10 / 20  # by default
    assert type(catalogue_coverage_at_k(y_rank, np.int64(8))) is float


@settings(deadline=None, max_examples=50, derandomize=True)
@given(lists=lists_of_items(), k=st.integers(1, 14))
def test_coverage_equals_the_definition(lists, k):
    n_items, rows = lists
    shown = set(chain.from_iterable(row[:k] for row in rows)) - {-1}
    assert catalogue_coverage_at_k(rows, n_items, k) == len(shown) / n_items


def test_coverage_of_a_large_catalogue_needs_no_memory_for_it():
    y_rank = np.arange(20).reshape(4, 5) << 40
    assert catalogue_coverage_at_k(y_rank, 20 << 40) == 1 / (1 << 40)
    assert catalogue_coverage_at_k(y_rank, 10**30) == 20 / 10**30


# novelty and popularity


def test_novelty_and_popularity_by_hand():
    popularity = [8, 4, 2, 1, 1, 0]  # shares of 16
    y_rank = [[0, 3, 1], [5, 4, -1], [-1, 1, -1], [-1, -1, -1]]
    for metric, all_ranks, first_rank in (
        (novelty_at_k, [(1 + 4 + 2) / 3, 4, 2, np.nan], [1, 4, np.nan, np.nan]),
        (
            mean_popularity_at_k,
            [(8 + 1 + 4) / 3, 0.5, 4, np.nan],
            [8, 0, np.nan, np.nan],
        ),
    ):
        actual = metric(y_rank, popularity, average=None)
        assert actual.dtype == np.float64
        assert_allclose(actual, all_ranks, rtol=1e-14)
        assert_allclose(metric(y_rank, popularity, 1, average=None), first_rank)
        mean = metric(y_rank, popularity)
        assert type(mean) is float
        assert mean == pytest.approx(np.nanmean(all_ranks))
        weighted = metric(y_rank, popularity, sample_weight=[0, 1, 3, 100])
        assert weighted == pytest.approx((all_ranks[1] + 3 * all_ranks[2]) / 4)
    assert novelty_at_k([[0]], [7]) == 0
    assert mean_popularity_at_k([[0]], [0]) == 0
    # By default the first ten ranks count.
    popularity = np.r_[np.ones(10), np.zeros(10)]
    assert mean_popularity_at_k([range(20)], popularity) == 1
    assert novelty_at_k([range(20)], 2 ** np.arange(20)) == novelty_at_k(
        [range(10)], 2 ** np.arange(20)
    )


@pytest.mark.parametrize("name", MEANS)
@settings(deadline=None, max_examples=50, derandomize=True)
@given(data=st.data(), lists=lists_of_items(), k=st.integers(1, 14))
def test_mean_equals_the_definition(name, data, lists, k):
    n_items, rows = lists
    popularity = data.draw(
        st.lists(
            st.one_of(st.integers(0, 5), st.floats(1e-3, 1e3)),
            min_size=n_items,
            max_size=n_items,
        ).filter(any)
    )
    expected = [slow_mean(name, popularity, row, k) for row in rows]
    actual = MEANS[name](rows, popularity, k, average=None)
    assert_allclose(actual, expected, rtol=1e-9, atol=1e-9)
    assert not (actual < 0).any()
    if not np.isnan(expected).all():
        assert MEANS[name](rows, popularity, k) == pytest.approx(
            np.nanmean(expected), rel=1e-9, abs=1e-9
        )


def test_novelty_has_no_unit_and_popularity_has():
    y_rank, popularity = [[0, 1], [2, 3]], np.array([6.0, 3, 1, 0])
    novelty = novelty_at_k(y_rank, popularity)
    for scale in (2, 1 / 10, 5e-324, 2e307):
        assert novelty_at_k(y_rank, scale * popularity) == pytest.approx(novelty)
    assert mean_popularity_at_k(y_rank, popularity / 10) == pytest.approx(0.25)


def test_share_of_users_differs_by_a_number():
    """As the docstring says of the other definition."""
    X, _, _ = make_interactions(50, 20, random_state=0)
    popularity = X.sum(axis=0)
    y_rank = rank_scores(np.random.default_rng(0).random(X.shape), X, 5)
    of_users = -np.log2(popularity / 50)[y_rank].mean(axis=1)
    difference = novelty_at_k(y_rank, popularity, average=None) - of_users
    assert_allclose(difference, np.log2(X.sum() / 50), rtol=1e-6)


@pytest.mark.parametrize("metric", MEANS.values())
def test_popularity_of_any_kind(metric):
    pd = pytest.importorskip("pandas")
    y_rank = np.array([[0, 2], [1, -1]])
    popularity = np.array([5, 3, 0])
    expected = metric(y_rank, popularity, average=None)
    for same in (
        popularity.tolist(),
        popularity.astype(np.uint8),
        popularity.astype(np.float32),
        pd.Series(popularity, index=["a", "b", "c"]),
    ):
        assert_array_equal(metric(y_rank, same, average=None), expected)
    popularity.flags.writeable = y_rank.flags.writeable = False
    metric(y_rank, popularity)


@pytest.mark.parametrize(
    "metric",
    [
        catalogue_coverage_at_k,
        lambda y_rank, n_items: novelty_at_k(y_rank, np.ones(n_items)),
        lambda y_rank, n_items: mean_popularity_at_k(y_rank, np.ones(n_items)),
    ],
)
def test_errors_of_lists(metric):
    for wrong in (3, -2):
        with pytest.raises(
            ValueError,
            match=rf"item index {wrong}, expected 0 to 2 \((n_items is|popularity has) "
            r"3.*\), or -1 for no item\. Pass rankings of the same items",
        ):
            metric([[0, 1], [wrong, 2]], 3)
    with pytest.raises(ValueError, match="ranks item 2 more than once in row 1, exp"):
        metric([[0, -1, -1], [2, 0, 2]], 3)
    with pytest.raises(TypeError, match="y_rank has dtype float64, expected integers"):
        metric([[0.0, 1.0]], 3)
    with pytest.raises(ValueError, match="Expected 2D array, got 1D array"):
        metric([0, 1], 3)
    with pytest.raises(ValueError, match=r"0 feature\(s\)"):
        metric(np.empty((2, 0), int), 3)


@pytest.mark.parametrize("metric", MEANS.values())
def test_errors_of_popularity(metric):
    y_rank = [[0, 1], [1, 2]]
    with pytest.raises(ValueError, match=r"shape \(1, 3\), expected one number for"):
        metric(y_rank, [[1, 2, 3]])
    with pytest.raises(ValueError, match="Negative values in data"):
        metric(y_rank, [1, 2, -3])
    for wrong in (np.nan, np.inf):
        with pytest.raises(ValueError, match="popularity contains"):
            metric(y_rank, [1, 2, wrong])
    for wrong in (3, sp.csr_array([[1, 2, 3]])):
        with pytest.raises(ValueError, match="'popularity' parameter of"):
            metric(y_rank, wrong)
    with pytest.raises(
        ValueError, match=r"None of the 2 users .* with a ranked item .* Pass lists"
    ):
        metric([[-1, -1], [-1, -1]], [1, 2, 3])
    with pytest.raises(ValueError, match="None of the 2 users can be evaluated"):
        metric([[0, -1], [-1, -1]], [1, 2, 3], sample_weight=[0, 1])
    with pytest.raises(ValueError, match=r"sample_weight.shape == \(3,\), expected"):
        metric(y_rank, [1, 2, 3], sample_weight=[1, 1, 1])
    with pytest.raises(ValueError, match="'average' parameter of"):
        metric(y_rank, [1, 2, 3], average="macro")
    for k in (0, True):
        with pytest.raises(ValueError, match="'k' parameter of"):
            metric(y_rank, [1, 2, 3], k)


def test_novelty_needs_popularity():
    with pytest.raises(
        ValueError,
        match=r"None of the 3 items has popularity > 0, expected some\. Pass",
    ):
        novelty_at_k([[0, 1]], [0, 0, 0])


@pytest.mark.parametrize(
    ("name", "value"), [("n_items", 0), ("n_items", True), ("n_items", 2.0), ("k", 0)]
)
def test_coverage_checks_its_numbers(name, value):
    with pytest.raises(ValueError, match=f"'{name}' parameter of catalogue_coverage_"):
        catalogue_coverage_at_k(**{"y_rank": [[0]], "n_items": 1, name: value})


def test_what_the_metrics_say_of_models():
    """Popularity shows few items, the most popular ones; EASE more, and rarer ones."""
    X, _, _ = make_interactions(200, 60, random_state=0)
    popularity = X.sum(axis=0)
    results = {}
    for model in (PopularityRecommender(), EASERecommender(10)):
        lists = model.fit(X).recommend(X, k=5)
        results[type(model).__name__] = (
            catalogue_coverage_at_k(lists, 60, 5),
            novelty_at_k(lists, popularity, 5),
            -mean_popularity_at_k(lists, popularity, 5),
        )
    for of_popularity, of_ease in zip(*results.values(), strict=True):
        assert of_ease > of_popularity


# the scorer of coverage


def test_scorer_of_coverage(monkeypatch):
    X, _, _ = make_interactions(40, 30, random_state=0)
    X = X.tolil()
    X[0] = 0  # not evaluated: nothing can be held out
    X = X.tocsr()
    model = EASERecommender().fit(X)
    fold_in, held_out = holdout_interactions(X)
    lists = model.recommend(fold_in, k=3)
    expected = catalogue_coverage_at_k(lists[1:], 30, 3)
    scorer = ranking_scorer("coverage", 3)
    score = scorer(model, X)
    assert type(score) is float
    assert score == scorer(model, fold_in, held_out) == expected > 0.1
    # Users without weight have no list; the other weights do not count.
    weight = np.r_[np.zeros(35), np.arange(1, 6)]
    weighted = catalogue_coverage_at_k(lists[35:], 30, 3)
    assert scorer(model, X, sample_weight=weight) == weighted < expected
    monkeypatch.setattr(sklearn_recvae.metrics._scorer, "SCORES_BYTES", 4 * 30 * 7)
    assert scorer(model, X) == expected
    # Of 30 items, a list of any length.
    assert ranking_scorer("coverage", 10**12)(model, X) == 1
    with pytest.raises(ValueError, match="None of the 40 users can be evaluated, exp"):
        scorer(model, X, sample_weight=np.r_[1, np.zeros(39)])


def test_scorer_of_coverage_of_lists_with_gaps():
    """Two lists hold fewer items than are asked for; -1 is no item."""
    fold_in = np.array([[1, 1, 1, 0], [0, 1, 1, 1]])
    held_out = 1 - fold_in
    model = DummyRegressor().fit(fold_in, fold_in)
    assert ranking_scorer("coverage", 3)(model, fold_in, held_out) == 2 / 4
    fold_in, held_out = fold_in[:1], held_out[:1]
    assert ranking_scorer("coverage", 3)(model, fold_in, held_out) == 1 / 4


def test_cross_validate_with_all_scorers():
    X, _, _ = make_interactions(60, 30, random_state=0)
    names = ["ndcg", "recall", "precision", "hit_rate", "mrr", "map", "coverage"]
    cv = KFold(3, shuffle=True, random_state=0)
    result = cross_validate(
        PopularityRecommender(),
        X,
        scoring={name: ranking_scorer(name, 5) for name in names},
        cv=cv,
        error_score="raise",
    )
    for name in names:
        assert ((result[f"test_{name}"] > 0) & (result[f"test_{name}"] <= 1)).all()
    # A list is of items that the user does not have: more than the five most popular.
    assert (result["test_coverage"] > 5 / 30).all()
    with pytest.raises(ValueError, match="'metric' parameter of ranking_scorer must"):
        ranking_scorer("novelty")
