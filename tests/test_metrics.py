"""Metrics on held-out items and their scorers, by plain Python."""

import copy
import math
import pickle

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn import config_context
from sklearn.base import BaseEstimator, clone
from sklearn.feature_selection import VarianceThreshold
from sklearn.model_selection import GridSearchCV, KFold, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Binarizer, Normalizer
from sklearn.utils.validation import validate_data

import sklearn_recvae.metrics
from sklearn_recvae.metrics import (
    hit_rate_at_k,
    map_at_k,
    mrr_at_k,
    ndcg_at_k,
    precision_at_k,
    ranking_scorer,
    recall_at_k,
)
from sklearn_recvae.model_selection import holdout_interactions

METRICS = {
    "ndcg": ndcg_at_k,
    "recall": recall_at_k,
    "precision": precision_at_k,
    "hit_rate": hit_rate_at_k,
    "mrr": mrr_at_k,
    "map": map_at_k,
}


class Popularity(BaseEstimator):
    """Scores items by their share of users; reverse=True is its worst rival."""

    def __init__(self, reverse=False, dtype="float32"):
        self.reverse = reverse
        self.dtype = dtype

    def fit(self, X, y=None):
        X = validate_data(self, X, accept_sparse="csr")
        self.popularity_ = np.asarray((X > 0).sum(axis=0)).ravel()
        return self

    def predict(self, X):
        X = validate_data(self, X, accept_sparse="csr", reset=False)
        scores = -self.popularity_ if self.reverse else self.popularity_
        return np.tile(scores.astype(self.dtype), (X.shape[0], 1))


class Constant(BaseEstimator):
    """Predicts what it is told to, whatever X is."""

    def __init__(self, scores):
        self.scores = scores

    def fit(self, X, y=None):
        return self

    def predict(self, X):
        return self.scores


def taste_matrix(n_users=60, n_items=30, seed=0):
    """Items of falling popularity."""
    rng = np.random.default_rng(seed)
    return (rng.random((n_users, n_items)) < np.linspace(0.9, 0.05, n_items)) * 1.0


def slow_metric(metric, relevant, ranked, k):
    """The definition, for one user: a set and a list."""
    if not relevant:
        return math.nan
    n_ideal = min(k, len(relevant))
    ranks = [r for r, item in enumerate(ranked[:k], start=1) if item in relevant]
    gain = sum(1 / math.log2(r + 1) for r in ranks)
    return {
        "ndcg": gain / sum(1 / math.log2(r + 1) for r in range(1, n_ideal + 1)),
        "recall": len(ranks) / n_ideal,
        "precision": len(ranks) / k,
        "hit_rate": min(1, len(ranks)),
        "mrr": 1 / min(ranks, default=math.inf),
        "map": sum(n / r for n, r in enumerate(ranks, start=1)) / n_ideal,
    }[metric]


def slow_score(metric, popularity, fold_in, held_out, k):
    """The protocol, user by user: unseen items by popularity, then by index."""
    values = []
    for seen, wanted in zip(fold_in.toarray(), held_out.toarray(), strict=True):
        unseen = np.flatnonzero(seen == 0)
        ranked = sorted(unseen, key=lambda i: (-popularity[i], i))
        values.append(slow_metric(metric, set(np.flatnonzero(wanted)), ranked, k))
    return np.nanmean(values)


# the metrics


def test_ndcg_by_hand():
    y_true = [[0, 3, 0, 1, 0], [1, 0, 0, 0, 0], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1]]
    y_rank = [[3, 0, 1], [1, 0, -1], [0, 1, 2], [4, 3, -1]]
    second, third = 1 / np.log2(3), 0.5
    expected = [
        (1 + third) / (1 + second),
        second,
        np.nan,
        (1 + second) / (1 + second + third),
    ]
    actual = ndcg_at_k(y_true, y_rank, 3, average=None)
    assert actual.dtype == np.float64
    assert_allclose(actual, expected, rtol=1e-14)
    assert ndcg_at_k(y_true, y_rank, 3) == pytest.approx(np.nanmean(expected))
    # Cut before the third rank, where the ideal is cut too.
    assert_allclose(
        ndcg_at_k(y_true, y_rank, 2, average=None),
        [1 / (1 + second), second, np.nan, 1],
        rtol=1e-14,
    )


def test_recall_by_hand():
    y_true = [[0, 3, 0, 1, 0], [1, 0, 0, 0, 0], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1]]
    y_rank = [[3, 0, 1], [1, 2, -1], [0, 1, 2], [4, 3, -1]]
    actual = recall_at_k(y_true, y_rank, 3, average=None)
    assert actual.dtype == np.float64
    assert_allclose(actual, [1, 0, np.nan, 2 / 3])
    assert_allclose(recall_at_k(y_true, y_rank, 1, average=None), [1, 0, np.nan, 1])
    assert recall_at_k(y_true, y_rank, 3) == pytest.approx(5 / 9)


def test_precision_hit_rate_mrr_and_map_by_hand():
    y_true = [[0, 3, 0, 1, 0], [1, 0, 0, 0, 0], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1]]
    y_rank = [[0, 3, 1], [2, 1, -1], [0, 1, 2], [-1, 4, 3]]
    for metric, expected in {
        precision_at_k: [2 / 3, 0, np.nan, 2 / 3],
        hit_rate_at_k: [1, 0, np.nan, 1],
        mrr_at_k: [1 / 2, 0, np.nan, 1 / 2],
        # Precision at the second and third rank, of two and of three that could be.
        map_at_k: [(1 / 2 + 2 / 3) / 2, 0, np.nan, (1 / 2 + 2 / 3) / 3],
    }.items():
        actual = metric(y_true, y_rank, 3, average=None)
        assert actual.dtype == np.float64
        assert_allclose(actual, expected, rtol=1e-14)
        assert metric(y_true, y_rank, 3) == pytest.approx(np.nanmean(expected))
        assert_array_equal(metric(y_true, y_rank, 1, average=None), [0, 0, np.nan, 0])
    # By default k is 10: more than is ranked, and 5 of the last user could be found.
    assert_allclose(precision_at_k(y_true, y_rank, average=None)[[0, 3]], 0.2)
    assert_allclose(map_at_k(y_true, y_rank, average=None)[0], 7 / 12)
    assert_allclose(map_at_k(y_true, y_rank, average=None)[3], 7 / 30)


def test_default_k():
    """NDCG@100, Recall@20, and the others at 10, the length of a list by default."""
    y_true = np.zeros((1, 200))
    y_true[0, [20, 100]] = 1
    y_rank = np.arange(200)[None]
    ideal = 1 + 1 / np.log2(3)
    assert ndcg_at_k(y_true, y_rank) == pytest.approx(1 / np.log2(22) / ideal)
    assert recall_at_k(y_true, y_rank) == 0
    assert recall_at_k(y_true, y_rank, 21) == 0.5
    for metric in (precision_at_k, hit_rate_at_k, mrr_at_k, map_at_k):
        assert metric(y_true, y_rank[:, 11:]) == metric(y_true, y_rank[:, 11:], 10) > 0
        assert metric(y_true, y_rank[:, 10:]) == metric(y_true, y_rank[:, 10:], 10) == 0


@pytest.mark.parametrize("name", METRICS)
@settings(deadline=None, max_examples=60, derandomize=True)
@given(
    seed=st.integers(0, 2**32 - 1),
    n_users=st.integers(1, 8),
    n_items=st.integers(1, 12),
    n_ranks=st.integers(1, 15),
    k=st.integers(1, 15),
)
def test_metric_equals_the_definition(name, seed, n_users, n_items, n_ranks, k):
    rng = np.random.default_rng(seed)
    y_true = rng.integers(0, 3, size=(n_users, n_items))
    y_true[0, 0] = 1
    y_rank = np.full((n_users, n_ranks), -1)
    for row in y_rank:
        n = rng.integers(0, min(n_items, n_ranks) + 1)
        # Gaps anywhere: a rank without an item is still a rank.
        places = rng.permutation(n_ranks)[:n]
        row[places] = rng.permutation(n_items)[:n]

    metric = METRICS[name]
    expected = [
        slow_metric(name, set(np.flatnonzero(wanted)), list(ranked), k)
        for wanted, ranked in zip(y_true, y_rank, strict=True)
    ]
    actual = metric(y_true, y_rank, k, average=None)
    assert_allclose(actual, expected, rtol=1e-12)
    assert np.nanmin(actual) >= 0
    assert np.nanmax(actual) <= 1
    mean = metric(y_true, y_rank, k)
    assert type(mean) is float
    assert mean == pytest.approx(np.nanmean(expected))


@pytest.mark.parametrize("metric", METRICS.values())
def test_perfect_ranking_is_exactly_the_best(metric):
    n = 300
    y_true = np.tri(n, n)  # user u has the items 0 .. u
    y_rank = np.tile(np.arange(n), (n, 1))
    for k in (1, 20, 100, n, 10**12):
        actual = metric(y_true, y_rank, k, average=None)
        if metric is precision_at_k:
            # No more than what is held out can be found, in a list of any length.
            assert_array_equal(actual, np.minimum(np.arange(1, n + 1), k) / k)
        else:
            assert (actual == 1).all()
            assert metric(y_true, y_rank, k) == 1


@pytest.mark.parametrize("metric", METRICS.values())
def test_representations_are_equal(metric):
    rng = np.random.default_rng(0)
    y_true = (rng.random((20, 15)) < 0.3) * rng.integers(1, 5, size=(20, 15))
    y_true[0] = 0
    y_rank = np.argsort(rng.random((20, 15)), axis=1)
    expected = metric(y_true, y_rank, 5, average=None)
    coo = sp.coo_array(y_true)
    messy = sp.coo_array(  # duplicates and an explicit zero
        (
            np.concatenate([coo.data / 2, coo.data / 2, [0]]),
            [np.concatenate([c, c, [0]]) for c in coo.coords],
        ),
        shape=y_true.shape,
    )
    for same in (y_true > 0, y_true.tolist(), coo, sp.csc_matrix(y_true), messy):
        assert_array_equal(metric(same, y_rank, 5, average=None), expected)
    for same in (
        y_rank.astype(np.int32),
        y_rank.astype(np.uint64),
        y_rank.tolist(),
        y_rank[:, :5],
        np.asfortranarray(y_rank),
    ):
        assert_array_equal(metric(y_true, same, 5, average=None), expected)


@pytest.mark.parametrize("metric", METRICS.values())
def test_inputs_are_left_alone(metric):
    y_true = sp.csr_array(
        (np.array([1.0, 0.0, 1.0]), np.array([2, 1, 0]), np.array([0, 2, 3])),
        shape=(2, 3),
    )
    y_rank = np.array([[2, 0], [1, -1]])
    before = [a.tobytes() for a in (y_true.data, y_true.indices, y_true.indptr, y_rank)]
    metric(y_true, y_rank)
    after = [a.tobytes() for a in (y_true.data, y_true.indices, y_true.indptr, y_rank)]
    assert after == before


@pytest.mark.parametrize("metric", METRICS.values())
def test_large_catalogue_stays_sparse(metric):
    n_users, n_items = 100_000, 5_000_000  # 2 TB if it were dense
    items = np.arange(n_users) * 50
    y_true = sp.csr_array(
        (np.ones(n_users), (np.arange(n_users), items)), shape=(n_users, n_items)
    )
    y_rank = np.column_stack([items, items + 1])
    y_rank[::2, 0] += 2
    assert metric(y_true, y_rank, 1) == 0.5


@pytest.mark.parametrize("metric", METRICS.values())
def test_pairs_that_int64_cannot_number(metric):
    n_users, n_items = 1 << 12, 1 << 50
    items = np.arange(n_users, dtype=np.int64) << 38
    arrays = np.ones(n_users), items, np.arange(n_users + 1)
    y_true = sp.csr_array(arrays, shape=(n_users, n_items))
    y_rank = items[:, None]
    assert metric(y_true, y_rank, 1) == 1
    arrays = np.ones(2 * n_users), np.tile(items, 2), np.arange(2 * n_users + 1)
    y_true = sp.csr_array(arrays, shape=(2 * n_users, n_items))
    with pytest.raises(ValueError, match=r"y_true of shape \(8192, 1125899906842624\)"):
        metric(y_true, np.tile(y_rank, (2, 1)))


@pytest.mark.parametrize("metric", METRICS.values())
def test_sample_weight(metric):
    y_true = [[1, 0], [1, 0], [0, 0], [0, 1]]
    y_rank = [[0], [1], [0], [1]]
    assert metric(y_true, y_rank, 1) == pytest.approx(2 / 3)
    assert metric(y_true, y_rank, 1, sample_weight=[1, 3, 100, 0]) == 0.25
    weights = np.ones(4, np.float32)
    assert type(metric(y_true, y_rank, 1, sample_weight=weights)) is float
    assert_array_equal(
        metric(y_true, y_rank, 1, sample_weight=[1, 3, 100, 0], average=None),
        [1, 0, np.nan, 1],
    )
    with pytest.raises(
        ValueError, match=r"sample_weight.shape == \(3,\), expected \(4"
    ):
        metric(y_true, y_rank, 1, sample_weight=[1, 2, 3])
    with pytest.raises(ValueError, match="Negative values in data"):
        metric(y_true, y_rank, 1, sample_weight=[1, 2, -3, 1])
    with pytest.raises(ValueError, match="sample_weight contains NaN"):
        metric(y_true, y_rank, 1, sample_weight=[1, 2, np.nan, 1])
    with pytest.raises(ValueError, match="None of the 4 users can be evaluated"):
        metric(y_true, y_rank, 1, sample_weight=[0, 0, 1, 0])
    # Their sum is infinite, and their squares are 0.
    for scale in (1e308, 1e-300, 5e-324):
        weights = [scale, 0, 1e308, scale]
        assert metric(y_true, y_rank, 1, sample_weight=weights) == 1
        assert metric(y_true, y_rank, 1, sample_weight=[scale, scale, 0, 0]) == 0.5


@pytest.mark.parametrize("metric", METRICS.values())
def test_metric_errors(metric):
    y_true = np.eye(3)
    y_rank = np.array([[0, 1], [1, 2], [2, 0]])
    with pytest.raises(
        ValueError, match="y_rank has 2 rows and y_true has 3, expected one row per"
    ):
        metric(y_true, y_rank[:2])
    for wrong in (3, -2):
        y_wrong = y_rank.copy()
        y_wrong[1, 1] = wrong
        with pytest.raises(
            ValueError,
            match=rf"item index {wrong}, expected 0 to 2 \(y_true has 3 columns\), or",
        ):
            metric(y_true, y_wrong)
    with pytest.raises(
        ValueError, match="ranks item 2 more than once in row 1, expected every item at"
    ):
        metric(y_true, [[0, -1, -1], [2, 0, 2], [2, 1, 0]])
    for dtype in (float, bool, "float32"):
        with pytest.raises(
            TypeError, match=rf"y_rank has dtype {np.dtype(dtype)}, exp"
        ):
            metric(y_true, y_rank.astype(dtype))
    with pytest.raises(TypeError, match="y_rank has dtype float64, expected integers"):
        metric(y_true, np.full((3, 2), -np.inf))
    with pytest.raises(ValueError, match="Expected 2D array, got 1D array"):
        metric(y_true, [0, 1, 2])
    with pytest.raises(ValueError, match="'y_rank' parameter of"):
        metric(y_true, sp.csr_array(y_rank))
    with pytest.raises(ValueError, match="Negative values in data"):
        metric(-y_true, y_rank)
    with pytest.raises(ValueError, match="y_true contains NaN"):
        metric(y_true * np.nan, y_rank)
    for k in (0, True):
        with pytest.raises(ValueError, match="'k' parameter of"):
            metric(y_true, y_rank, k)
    with pytest.raises(ValueError, match="'average' parameter of"):
        metric(y_true, y_rank, average="macro")
    with pytest.raises(
        ValueError,
        match=r"None of the 3 users can be evaluated, expected at least one .* Pass ",
    ):
        metric(np.zeros((3, 3)), y_rank)
    assert np.isnan(metric(np.zeros((3, 3)), y_rank, average=None)).all()


def test_popularity_on_the_reference_split(data_dir):
    """The published table has .2190, .1766 and .2481 for this baseline."""
    split = data_dir / "ml-1m" / "split"
    train, fold_in, held_out = (
        sp.csr_array(sp.load_npz(split / f"{name}.npz"))
        for name in ("train", "test_fold_in", "test_held_out")
    )
    popularity = Popularity().fit(train)
    for (metric, k), expected in {
        ("ndcg", 100): 0.2190,
        ("recall", 20): 0.1766,
        ("recall", 50): 0.2481,
    }.items():
        score = ranking_scorer(metric, k)(popularity, fold_in, held_out)
        # The order of equally popular items moves the last digit.
        assert score == pytest.approx(expected, abs=2e-4)


# the scorer


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("k", [1, 3, 50])
def test_scorer_equals_the_protocol(metric, k):
    X = sp.csr_array(taste_matrix())
    estimator = Popularity().fit(X)
    for fraction, seed in ((0.2, 0), (0.5, 3)):
        fold_in, held_out = holdout_interactions(X, fraction, seed)
        expected = slow_score(metric, estimator.popularity_, fold_in, held_out, k)
        scorer = ranking_scorer(metric, k, fraction=fraction, random_state=seed)
        score = scorer(estimator, X)
        assert type(score) is float
        assert score == pytest.approx(expected, rel=1e-12)
        assert scorer(estimator, fold_in, held_out) == score
        assert scorer(estimator, X.toarray()) == score


def test_scorer_by_hand():
    fold_in = np.array([[1, 0, 0, 0], [0, 0, 0, 1], [1, 1, 1, 1]])
    held_out = np.array([[0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]])
    # Item 0 is seen by the first user and would be first; 1 and 2 are equal.
    estimator = Constant(np.array([[9.0, 5, 5, 1], [0, 2, 1, 9]]))
    assert ranking_scorer("recall", 1)(estimator, fold_in, held_out) == 0
    assert ranking_scorer("recall", 2)(estimator, fold_in, held_out) == 0.5
    assert ranking_scorer("recall", 3)(estimator, fold_in, held_out) == 1
    ndcg = ranking_scorer("ndcg", 3)(estimator, fold_in, held_out)
    assert ndcg == pytest.approx((1 / np.log2(3) + 1 / np.log2(4)) / 2)
    weighted = ranking_scorer("recall", 2)(
        estimator, fold_in, held_out, sample_weight=[3, 1, 100]
    )
    assert weighted == 0.75


def test_scorer_of_a_user_without_history():
    """Nothing is masked; the held-out item is last of all, and k beyond it is fine."""
    estimator = Constant(np.array([[4.0, 3, 2, 1]]))
    fold_in, held_out = np.zeros((1, 4)), np.array([[0, 0, 0, 1]])
    assert ranking_scorer("recall", 3)(estimator, fold_in, held_out) == 0
    for k in (4, 10**12):
        assert ranking_scorer("recall", k)(estimator, fold_in, held_out) == 1


def test_scorer_works_in_blocks(monkeypatch):
    X = taste_matrix()
    X[::7] = 0  # not evaluated, not even predicted
    n_evaluated = (X.sum(axis=1) >= 2).sum()
    estimator = Popularity().fit(X)
    sizes = []
    predict = Popularity.predict
    monkeypatch.setattr(
        Popularity,
        "predict",
        lambda self, X: sizes.append(X.shape[0]) or predict(self, X),
    )
    expected = ranking_scorer()(estimator, X)
    assert sizes == [n_evaluated]
    for budget, size in ((4 * 30 * 7, 7), (1, 1)):
        sizes.clear()
        monkeypatch.setattr(sklearn_recvae.metrics._scorer, "SCORES_BYTES", budget)
        assert ranking_scorer()(estimator, X) == expected
        assert max(sizes) == size
        assert sum(sizes) == n_evaluated


def test_scorer_masks_the_raw_rows_of_a_pipeline():
    """The model sees only ratings above 3, the mask everything."""
    X = np.array([[5, 1, 4, 0], [5, 1, 4, 0]])
    y = np.array([[0, 0, 0, 1], [0, 0, 0, 1]])
    pipeline = make_pipeline(Binarizer(threshold=3), Popularity(reverse=True)).fit(X)
    assert_array_equal(pipeline.predict(sp.csr_array(X[:1])), [[-2, 0, -2, 0]])
    assert ranking_scorer("recall", 1)(pipeline, sp.csr_array(X), y) == 1


@pytest.mark.parametrize("dtype", ["int64", "int8", "float16", "float64", "longdouble"])
def test_scorer_takes_scores_of_any_dtype(dtype):
    X = taste_matrix()
    expected = ranking_scorer()(Popularity().fit(X), X)
    estimator = Popularity(dtype=dtype).fit(X)
    assert ranking_scorer()(estimator, X) == expected


def test_scorer_leaves_scores_and_interactions_alone():
    X = sp.csr_array(taste_matrix())
    scores = np.random.default_rng(0).random(X.shape, dtype=np.float32)
    before = scores.tobytes(), X.data.tobytes(), X.indices.tobytes()
    scores.flags.writeable = False
    first = ranking_scorer()(Constant(scores), X)
    assert (scores.tobytes(), X.data.tobytes(), X.indices.tobytes()) == before
    assert ranking_scorer()(Constant(scores), X) == first


def test_scorer_leaves_out_users_with_fewer_than_two_items():
    X = taste_matrix()
    estimator = Popularity().fit(X)
    short = np.vstack([np.zeros((3, 30)), X, np.eye(30)])
    for metric in METRICS:
        scorer = ranking_scorer(metric, 5)
        assert scorer(estimator, short) == pytest.approx(scorer(estimator, X))
    with pytest.raises(ValueError, match="None of the 30 users can be evaluated, exp"):
        ranking_scorer()(estimator, np.eye(30))


def test_scorer_of_y():
    X = taste_matrix()
    estimator = Popularity().fit(X)
    scorer = ranking_scorer()
    with pytest.warns(UserWarning, match="A 1-D y is ignored"):
        assert scorer(estimator, X, np.zeros(60)) == scorer(estimator, X)
    with pytest.raises(
        ValueError, match=f"{int(X.sum())} of the .* never be recommended because they"
    ):
        scorer(estimator, X, X)
    with pytest.raises(
        ValueError, match=r"y has shape \(60, 29\), expected \(60, 30\)"
    ):
        scorer(estimator, X, X[:, 1:])


def test_scorer_refuses_other_columns_and_nan():
    X = taste_matrix()
    X[:, 0] = 1
    pipeline = make_pipeline(VarianceThreshold(), Popularity()).fit(X)
    with pytest.raises(
        ValueError,
        match=r"Pipeline.predict returned an array of shape \(60, 29\) for X of shape "
        r"\(60, 30\), expected one score per user and item\. Remove pipeline steps",
    ):
        ranking_scorer()(pipeline, X)
    with pytest.raises(ValueError, match=r"Constant.predict .* shape \(60,\) for X of"):
        ranking_scorer()(Constant(np.zeros(60)), X)
    scores = np.zeros(X.shape)
    scores[3, 4] = np.nan
    with pytest.raises(
        ValueError, match=r"Constant.predict returned NaN, expected sco"
    ):
        ranking_scorer()(Constant(scores), X)
    message = "Constant.predict returned an array of complex128, expected real"
    with pytest.raises(ValueError, match=message):
        ranking_scorer()(Constant(np.zeros(X.shape) * 1j), X)


def test_scorer_gives_an_estimator_its_column_names_back():
    pd = pytest.importorskip("pandas")
    X = taste_matrix()
    frame = pd.DataFrame(X, columns=[f"item {i}" for i in range(30)])
    estimator = Popularity().fit(frame)
    assert len(estimator.feature_names_in_) == 30
    expected = ranking_scorer()(Popularity().fit(X), X)
    # Without its names, scikit-learn warns; warnings are errors here.
    assert ranking_scorer()(estimator, frame) == expected
    sparse_frame = pd.DataFrame.sparse.from_spmatrix(
        sp.csr_array(X), columns=frame.columns
    )
    assert ranking_scorer()(estimator, sparse_frame) == expected


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_scorer_of_frames(library):
    library = pytest.importorskip(library)
    X = taste_matrix()

    def frame(array, columns=range(30)):
        return library.DataFrame({f"item {i}": array[:, i] for i in columns})

    fold_in, held_out = (half.toarray() for half in holdout_interactions(X))
    estimator = Popularity().fit(frame(X))
    assert len(estimator.feature_names_in_) == 30
    expected = ranking_scorer()(Popularity().fit(X), fold_in, held_out)
    assert ranking_scorer()(estimator, frame(fold_in), frame(held_out)) == expected
    for X_columns, y_columns, name in (
        (range(30), range(29, -1, -1), "y"),
        (range(29, -1, -1), range(30), "X"),
    ):
        with pytest.raises(ValueError, match=f"Column 0 of {name} is named 'item 29'"):
            ranking_scorer()(
                estimator, frame(fold_in, X_columns), frame(held_out, y_columns)
            )


def test_scorer_repr_pickle_copy():
    scorer = ranking_scorer("recall", 7, fraction=0.4, random_state=2)
    text = "ranking_scorer(metric='recall', k=7, fraction=0.4, random_state=2)"
    X = taste_matrix()
    estimator = Popularity().fit(X)
    for same in (
        scorer,
        pickle.loads(pickle.dumps(scorer)),
        copy.deepcopy(scorer),
        eval(text),
        clone(GridSearchCV(estimator, {}, scoring=scorer)).scoring,
    ):
        assert repr(same) == text
        assert same(estimator, X) == scorer(estimator, X)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("metric", "auc"),
        ("k", 0),
        ("k", 2.5),
        ("k", True),
        ("fraction", 0),
        ("fraction", 1),
        ("random_state", None),
        ("random_state", -1),
    ],
)
def test_scorer_checks_its_arguments_at_once(name, value):
    with pytest.raises(ValueError, match=f"'{name}' parameter of ranking_scorer must"):
        ranking_scorer(**{name: value})


@pytest.mark.parametrize("routing", [False, True])
@pytest.mark.parametrize("as_sparse", [False, True])
def test_grid_search(routing, as_sparse):
    X = sp.csr_array(taste_matrix()) if as_sparse else taste_matrix()
    pipeline = make_pipeline(Normalizer(), Popularity())
    cv = KFold(3, shuffle=True, random_state=0)
    with config_context(enable_metadata_routing=routing):
        search = GridSearchCV(
            pipeline,
            {"popularity__reverse": [True, False]},
            scoring=ranking_scorer("ndcg", 10),
            cv=cv,
            error_score="raise",
        ).fit(X)
    assert search.best_params_ == {"popularity__reverse": False}
    # By hand, on the folds.
    scores = []
    for train, test in cv.split(X):
        estimator = Popularity().fit(X[train])
        fold_in, held_out = holdout_interactions(X[test])
        scores.append(slow_score("ndcg", estimator.popularity_, fold_in, held_out, 10))
    assert search.best_score_ == pytest.approx(np.mean(scores), rel=1e-12)
    # The held-out items of a user do not depend on the fold.
    assert search.score(X) == ranking_scorer("ndcg", 10)(search.best_estimator_, X)


@pytest.mark.parametrize("routing", [False, True])
def test_cross_validate_with_two_scorers(routing):
    X = sp.csr_array(taste_matrix())
    scoring = {
        "ndcg": ranking_scorer("ndcg", 10),
        "recall": ranking_scorer("recall", 5),
    }
    with config_context(enable_metadata_routing=routing):
        result = cross_validate(
            Popularity(), X, scoring=scoring, cv=3, error_score="raise"
        )
        for name, scorer in scoring.items():
            alone = cross_validate(
                Popularity(), X, scoring=scorer, cv=3, error_score="raise"
            )
            assert_array_equal(result[f"test_{name}"], alone["test_score"])
    assert not np.array_equal(result["test_ndcg"], result["test_recall"])


def test_search_with_held_out_y():
    """`cross_validate` takes no sparse y, `GridSearchCV.fit` does."""
    fold_in, held_out = holdout_interactions(taste_matrix())
    scoring = ranking_scorer("ndcg", 10)
    scores = cross_validate(
        Popularity(), fold_in, held_out.toarray(), scoring=scoring, error_score="raise"
    )["test_score"]
    search = GridSearchCV(
        Popularity(), {"reverse": [True, False]}, scoring=scoring, error_score="raise"
    ).fit(fold_in, held_out)
    assert search.best_params_ == {"reverse": False}
    assert search.best_score_ == pytest.approx(scores.mean(), rel=1e-12)
