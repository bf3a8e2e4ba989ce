"""The split by time, by hand and by a plain loop, and searches that use it."""

import datetime
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse import coo_array, csr_array, vstack
from sklearn.model_selection import GridSearchCV, PredefinedSplit

from common import plain_ndcg
from sklearn_recvae import EASERecommender, PopularityRecommender
from sklearn_recvae._times import find_cut
from sklearn_recvae.datasets import make_interactions
from sklearn_recvae.metrics import ranking_scorer
from sklearn_recvae.model_selection import temporal_split
from sklearn_recvae.preprocessing import InteractionEncoder

FRAMES = ["pandas", "polars", "pyarrow"]
EVENTS = {
    "user": ["ann", "ann", "ann", "ann", "bob", "bob", "cid", "cid", "dee"],
    "item": ["A", "B", "A", "D", "B", "A", "A", "C", "C"],
    "time": [1, 2, 7, 8, 3, 6, 8, 9, 2],
    "rating": [5.0, 4.0, 5.0, 5.0, 3.0, 4.0, 5.0, 5.0, 5.0],
}
DATES = np.array(EVENTS["time"]).astype("datetime64[D]")


def check_by_hand(split):
    assert split.X_train.toarray().tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 1]]
    assert split.X_train.dtype == split.y_test.dtype == np.float32
    # Ann has A already, and D is new; all that cid has is later.
    assert split.X_test.toarray().tolist() == [[0, 1, 0]]
    assert split.y_test.toarray().tolist() == [[1, 0, 0]]
    assert (split.n_new_users, split.n_new_items) == (1, 1)


def test_table_by_hand():
    split = temporal_split(EVENTS, cut=6)
    check_by_hand(split)
    assert split.n_dropped == {"new users": 2, "new items": 1, "repeats": 1}
    assert split.cut == 6
    assert split.train_users.tolist() == ["ann", "bob", "dee"]
    assert split.test_users.tolist() == ["bob"]
    assert split.kept_items.tolist() == ["A", "B", "C"]
    assert split.encoder.item_ids_.tolist() == ["A", "B", "C"]
    assert split.encoder.reference_time_ == 3


def test_matrix_by_hand():
    """As above, but of ann and A there is one time only."""
    X = np.array([[1, 1, 0, 1], [1, 1, 0, 0], [1, 0, 1, 0], [0, 0, 1, 0]])
    times = np.array([[1, 2, 0, 8], [6, 3, 0, 0], [8, 0, 9, 0], [0, 0, 2, 0]])
    for make in (np.array, csr_array, coo_array, lambda T: np.array(T, "M8[s]")):
        split = temporal_split(X, make(times), fraction=4 / 8)
        check_by_hand(split)
        assert split.n_dropped == {"new users": 2, "new items": 1, "repeats": 0}
        assert split.train_users.tolist() == [0, 1, 3]
        assert split.test_users.tolist() == [1]
        assert split.kept_items.tolist() == [0, 1, 2]
        assert "encoder" not in split


@pytest.mark.parametrize("library", FRAMES)
def test_frames_give_what_arrays_give(library):
    module = pytest.importorskip(library)
    table = {**EVENTS, "time": DATES.astype("datetime64[ms]"), "more": [None] * 9}
    make = module.table if library == "pyarrow" else module.DataFrame
    split = temporal_split(make(table), cut="1970-01-07")
    check_by_hand(split)
    assert type(split.encoder.decode([[0]] * 3)) is type(make(table))


@pytest.mark.parametrize(
    "cut",
    [
        "1970-01-07",
        np.datetime64("1970-01-07", "ns"),
        datetime.date(1970, 1, 7),
        datetime.datetime(1970, 1, 7),
        datetime.datetime(
            1970, 1, 7, 2, tzinfo=datetime.timezone(datetime.timedelta(hours=2))
        ),
    ],
)
@pytest.mark.parametrize("unit", ["D", "ms", "ns"])
def test_cut_of_dates(cut, unit):
    """What happened at the cut itself is held out, whatever the units."""
    check_by_hand(
        temporal_split({**EVENTS, "time": DATES.astype(f"M8[{unit}]")}, cut=cut)
    )


def test_cut_of_durations():
    since = DATES - np.datetime64(0, "D")
    for cut in (datetime.timedelta(6), np.timedelta64(144, "h")):
        check_by_hand(temporal_split({**EVENTS, "time": since}, cut=cut))


@pytest.mark.parametrize(
    ("fraction", "cut"),
    [(0.01, 9), (0.2, 8), (0.3, 8), (0.4, 7), (0.6, 6), (0.7, 3), (0.9, 2)],
)
def test_cut_by_share(fraction, cut):
    """Events of the same time are not separated, so it may be a larger share."""
    assert find_cut(np.array(EVENTS["time"]), fraction) == cut


def test_share_is_of_all_events():
    split = temporal_split(EVENTS, fraction=5 / 9)
    check_by_hand(split)
    assert split.cut == 6


def test_encoder_says_what_is_an_interaction():
    encoder = InteractionEncoder(time="time", weight="rating", threshold=2)
    table = {**EVENTS, "rating": [1.0, *EVENTS["rating"][1:]]}
    table["item"] = [*EVENTS["item"][:-1], "A"]
    split = temporal_split(table, encoder=encoder, cut=6)
    assert split.X_train.toarray().tolist() == [[0, 1], [0, 1], [1, 0]]
    # Ann did not like A before the cut, but did later.
    assert split.test_users.tolist() == ["ann", "bob"]
    assert split.y_test.toarray().tolist() == [[1, 0], [1, 0]]
    assert not hasattr(encoder, "item_ids_")


def test_nothing_of_later_events_gets_into_training():
    """A half-life and minimum counts are those of a table that ends at the cut."""
    rng = np.random.default_rng(0)
    table = {
        "user": rng.integers(0, 30, 500),
        "item": rng.integers(0, 40, 500),
        "time": rng.integers(0, 1000, 500),
    }
    encoder = InteractionEncoder(
        time="time", half_life=100, min_user_interactions=3, min_item_interactions=2
    )
    split = temporal_split(table, encoder=encoder, cut=400)
    earlier = {name: column[table["time"] < 400] for name, column in table.items()}
    expected = encoder.fit_transform(earlier)
    assert (split.X_train != expected).nnz == 0
    assert_array_equal(split.kept_items, encoder.item_ids_)
    assert split.encoder.reference_time_ == encoder.reference_time_ < 400
    rows = np.searchsorted(split.train_users, split.test_users)
    assert (split.X_test != expected[rows]).nnz == 0
    # What is held out has no age.
    assert set(split.y_test.data.tolist()) == {1}
    # So all half-lives are compared on the same users and items.
    other = temporal_split(table, encoder=encoder.set_params(half_life=None), cut=400)
    assert (split.y_test != other.y_test).nnz == 0
    assert_array_equal(split.test_users, other.test_users)
    assert (split.X_train.data < other.X_train.data).any()


def test_ids_that_were_passed():
    """Rows and columns are there, but what has no interaction before is new."""
    encoder = InteractionEncoder(
        time="time",
        user_ids=["cid", "bob", "ann", "dee"],
        item_ids=["D", "C", "B", "A"],
    )
    split = temporal_split(EVENTS, encoder=encoder, cut=6)
    assert split.X_train.toarray().tolist() == [
        [0, 0, 0, 0],
        [0, 0, 1, 0],
        [0, 0, 1, 1],
        [0, 1, 0, 0],
    ]
    assert split.test_users.tolist() == ["bob"]
    assert split.y_test.toarray().tolist() == [[0, 0, 0, 1]]
    assert (split.n_new_users, split.n_new_items) == (1, 1)
    assert split.n_dropped == {"new users": 2, "new items": 1, "repeats": 1}


TABLES = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 9)),
    min_size=1,
    max_size=30,
)


@given(TABLES, st.integers(1, 9))
@settings(max_examples=100)
def test_any_table_by_a_plain_loop(events, cut):
    before = {(user, item) for user, item, time in events if time < cut}
    after = {(user, item) for user, item, time in events if time >= cut}
    users, items = ({pair[i] for pair in before} for i in (0, 1))
    held_out = {
        pair
        for pair in after
        if pair[0] in users and pair[1] in items and pair not in before
    }
    table = dict(
        zip(("user", "item", "time"), map(list, zip(*events, strict=True)), strict=True)
    )
    if not held_out:
        with pytest.raises(ValueError, match=r"none of the|can be held out"):
            temporal_split(table, cut=cut)
        return
    split = temporal_split(table, cut=cut)
    pairs = {
        (split.train_users[row], split.kept_items[column])
        for row, column in zip(*split.X_train.nonzero(), strict=True)
    }
    assert pairs == before
    pairs = {
        (split.test_users[row], split.kept_items[column])
        for row, column in zip(*split.y_test.nonzero(), strict=True)
    }
    assert pairs == held_out
    assert split.n_new_users == len({user for user, _ in after} - users)
    assert split.n_new_items == len({item for _, item in after} - items)
    assert split.n_dropped == {
        "new users": sum(user not in users for user, _ in after),
        "new items": sum(u in users and i not in items for u, i in after),
        "repeats": len(before & after),
    }
    rows = np.searchsorted(split.train_users, split.test_users)
    assert (split.X_test != split.X_train[rows]).nnz == 0
    assert split.X_test.multiply(split.y_test).nnz == 0
    assert (np.diff(split.y_test.indptr) > 0).all()
    # As a matrix, where no pair has two times.
    if len({event[:2] for event in events}) == len(events):
        X, times = np.zeros((5, 5)), np.zeros((5, 5))
        for user, item, time in events:
            X[user, item], times[user, item] = 1, time
        same = temporal_split(X, times, cut=cut)
        for part in ("X_train", "X_test", "y_test"):
            assert (same[part] != split[part]).nnz == 0
        assert same.n_dropped == split.n_dropped


def test_times_of_zero_are_entries():
    X = np.array([[1, 1, 1], [1, 0, 1]])
    users, items = X.nonzero()
    times = coo_array(([0, 0, 5, 0, 0], (users, items)), shape=X.shape)
    split = temporal_split(X, times, cut=1)
    assert split.y_test.toarray().tolist() == [[0, 0, 1]]
    for each in (times.tocsr(), times.tocsc()):
        assert (temporal_split(X, each, cut=1).y_test != split.y_test).nnz == 0
    with pytest.raises(
        ValueError, match="4 interactions of X have no time, such as ro"
    ):
        temporal_split(X, csr_array(times.toarray()), cut=1)


def test_split_of_a_split():
    """The training part is split again, to choose parameters."""
    rng = np.random.default_rng(0)
    X = make_interactions(80, 30, mean_interactions=10, random_state=0)[0]
    times = rng.integers(0, 1000, X.shape)
    outer = temporal_split(X, times, fraction=0.3)
    earlier = times[outer.train_users][:, outer.kept_items]
    inner = temporal_split(outer.X_train, earlier, fraction=0.3)
    assert inner.cut < outer.cut
    assert inner.X_train.nnz + inner.y_test.nnz <= outer.X_train.nnz


@pytest.fixture(scope="module")
def log():
    X = make_interactions(120, 40, mean_interactions=10, random_state=0)[0]
    users, items = X.nonzero()
    times = np.random.default_rng(0).integers(0, 1000, X.nnz)
    return {"user": users, "item": items, "time": times}


def test_search_with_a_split_by_time(log):
    """The rows of X_test, and what is held out of them, are the only fold."""
    split = temporal_split(log)
    n_train, n_test = split.X_train.shape[0], split.X_test.shape[0]
    search = GridSearchCV(
        EASERecommender(),
        {"regularization": [1, 1000]},
        scoring={"ndcg": ranking_scorer("ndcg", k=10), "own": ranking_scorer("ndcg")},
        cv=PredefinedSplit(np.repeat([-1, 0], [n_train, n_test])),
        refit=False,
        error_score="raise",
    )
    nothing = csr_array(split.X_train.shape)
    search.fit(vstack([split.X_train, split.X_test]), vstack([nothing, split.y_test]))
    for params, score, own in zip(
        search.cv_results_["params"],
        search.cv_results_["mean_test_ndcg"],
        search.cv_results_["mean_test_own"],
        strict=True,
    ):
        model = EASERecommender(**params).fit(split.X_train)
        ranks = model.recommend(split.X_test, k=40)
        assert_allclose(score, plain_ndcg(ranks, split.y_test, 10).mean(), rtol=1e-6)
        assert_allclose(own, model.score(split.X_test, split.y_test), rtol=1e-6)


def test_scorer_of_a_popular_list(log):
    split = temporal_split(log, encoder=InteractionEncoder(time="time", half_life=100))
    model = PopularityRecommender().fit(split.X_train)
    score = ranking_scorer("ndcg")(model, split.X_test, split.y_test)
    ranks = model.recommend(split.X_test, k=40)
    assert_allclose(score, plain_ndcg(ranks, split.y_test).mean(), rtol=1e-6)


@pytest.mark.parametrize("cut", [0, 1, 10, 9.5, -5, 1000])
def test_cut_with_an_empty_side(cut):
    side = "before" if cut <= 1 else "after"
    with pytest.raises(
        ValueError,
        match=f"Got cut={cut} but none of the 9 events is {side} it: their times are "
        "from 1 to 9. Pass a cut later than the earliest and not later than the latest",
    ):
        temporal_split(EVENTS, cut=cut)


def test_share_with_an_empty_side():
    with pytest.raises(
        ValueError, match=r"fraction=0.99, a cut at 1, but none of the 9"
    ):
        temporal_split(EVENTS, fraction=0.99)
    with pytest.raises(
        ValueError, match=r"none of the 9 events is before it.*from 4 to 4"
    ):
        temporal_split({**EVENTS, "time": [4] * 9})


def test_cut_of_dates_with_an_empty_side():
    with pytest.raises(
        ValueError, match="cut=2020-01-01 but none of the 9 events is af"
    ):
        temporal_split({**EVENTS, "time": DATES}, cut="2020-01-01")


@pytest.mark.parametrize(
    ("times", "cut", "message"),
    [
        (EVENTS["time"], "1970-01-07", "cut='1970-01-07'.* from 1 to 9. Pass a number"),
        (EVENTS["time"], np.nan, "cut=nan, but the times are from 1 to 9. Pass a num"),
        (EVENTS["time"], np.timedelta64(6, "D"), "cut=.* Pass a number between them"),
        (EVENTS["time"], [6], "cut=.* Pass a number between them"),
        (DATES, 6, "cut=6, but the times are from 1970.* Pass datetime64 between"),
        (DATES, "soon", "cut='soon', but the times are from 1970.* Pass datetime64"),
        (DATES, np.datetime64("NaT"), "cut=.* Pass datetime64 between them"),
        (DATES - DATES.min(), 6, "cut=6, but .* Pass timedelta64 between them"),
        (["1 May"] * 9, None, "'time' of times has dtype object, such as '1 May'; exp"),
        ([-1] + [2] * 8, None, "'time' has negative times, such as -1. Drop"),
        ([np.nan] + [2] * 8, None, "'time' has 1 missing values"),
        ([np.inf] + [2] * 8, None, "'time' has infinite times"),
    ],
)
def test_bad_times(times, cut, message):
    with pytest.raises(ValueError, match=message):
        temporal_split({**EVENTS, "time": times}, cut=cut)


@pytest.mark.parametrize(
    ("times", "message"),
    [
        (np.ones((2, 3)), r"times has shape \(2, 3\), but X has \(2, 2\). Pass"),
        (np.ones(4), r"times has shape \(4,\), but X has"),
        ([[1, 2], [3, -4]], "'times' has negative times, such as -4"),
        ([[1, 2], [3, np.nan]], "'times' has 1 missing values"),
        ([["a", "b"], ["c", "d"]], "'times' of times has dtype"),
        (
            coo_array(([1, 2, 3, 4, 5], ([0, 0, 1, 1, 1], [0, 1, 0, 1, 1]))),
            "two entries for the same user and item",
        ),
    ],
)
def test_bad_matrices_of_times(times, message):
    with pytest.raises(ValueError, match=message):
        temporal_split(np.ones((2, 2)), times)


def test_malformed_times_are_refused_before_native_code():
    times = csr_array(np.ones((2, 2)))
    times.indices[0] = 1000
    with pytest.raises(ValueError, match="ind"):
        temporal_split(np.ones((2, 2)), times)


@pytest.mark.parametrize(
    ("X", "params", "message"),
    [
        (np.ones((2, 2)), {}, "X of type ndarray without times. Pass"),
        (csr_array((2, 2)), {}, "X of type csr_array without times. Pass"),
        (
            np.ones((2, 2)),
            {"times": np.ones((2, 2)), "encoder": InteractionEncoder(time="time")},
            "Got times and an encoder",
        ),
        (csr_array((2, 2)), {"times": np.ones((2, 2))}, "There are no events"),
        (EVENTS, {"encoder": InteractionEncoder()}, "encoder has time=None"),
        (EVENTS, {"encoder": InteractionEncoder("who", time="time")}, "column 'who'"),
        (EVENTS, {"fraction": 1.0}, "'fraction' parameter of temporal_split must be"),
        (EVENTS, {"encoder": "time"}, "'encoder' parameter of temporal_split must be"),
        (
            EVENTS,
            {
                "encoder": InteractionEncoder(time="time", min_user_interactions=3),
                "cut": 6,
            },
            "Events before the cut at 6: None of 4 events is left: there is min_user",
        ),
        (
            EVENTS,
            {
                "encoder": InteractionEncoder(
                    "user", "item", "rating", time="time", threshold=3.5
                ),
                "cut": 6,
            },
            "Nothing after the cut at 6 can be held out, of 5 interactions: {'new us",
        ),
        (
            {**EVENTS, "rating": [5] * 8 + [0]},
            {
                "encoder": InteractionEncoder(
                    "user", "item", "rating", time="time", threshold=4
                ),
                "cut": 9,
            },
            "can be held out",
        ),
    ],
)
def test_bad_input(X, params, message):
    with pytest.raises(ValueError, match=message):
        temporal_split(X, **params)


def test_nothing_is_changed():
    table = {name: np.array(column) for name, column in EVENTS.items()}
    encoder = InteractionEncoder(time="time", half_life=2)
    before = pickle.dumps((table, encoder))
    temporal_split(table, encoder=encoder, cut=6)
    assert pickle.dumps((table, encoder)) == before
    X = csr_array(np.ones((3, 3)))
    times = csr_array(np.arange(1, 10).reshape(3, 3))
    arrays = [a for M in (X, times) for a in (M.data, M.indices, M.indptr)]
    before = [a.tobytes() for a in arrays]
    temporal_split(X, times, cut=6)
    assert [a.tobytes() for a in arrays] == before
