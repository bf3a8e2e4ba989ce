"""The encoder of ids: tables to matrices, and lists back."""

import datetime
import pickle
from zipfile import ZipFile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline

from sklearn_recvae import RecVAERecommender
from sklearn_recvae.datasets import load_movielens
from sklearn_recvae.preprocessing import InteractionEncoder

EVENTS = {
    "user": ["bob", "ann", "bob", "cid", "ann", "bob"],
    "item": [30, 10, 10, 10, 30, 10],
    "rating": [5.0, 4.0, 2.0, 4.5, 1.0, 4.0],
    "when": [1, 2, 3, 4, 5, 6],
}
MIXED = np.array([1, "a"], dtype=object)
FRAMES = ["pandas", "polars", "pyarrow"]


def as_frame(library, table):
    module = pytest.importorskip(library)
    return module.table(table) if library == "pyarrow" else module.DataFrame(table)


def ids_and_values(encoder, X):
    """Give the matrix as a dict that does not know the order of rows and columns."""
    X = X.tocoo()
    users, items = encoder.user_ids_[X.row].tolist(), encoder.item_ids_[X.col].tolist()
    return dict(zip(zip(users, items, strict=True), X.data.tolist(), strict=True))


def test_pairs_by_hand():
    encoder = InteractionEncoder()
    X = encoder.fit_transform(EVENTS)
    assert isinstance(X, csr_array)
    assert X.dtype == np.float32
    assert X.has_canonical_format
    assert encoder.user_ids_.tolist() == ["ann", "bob", "cid"]
    assert encoder.item_ids_.tolist() == [10, 30]
    assert X.toarray().tolist() == [[1, 1], [1, 1], [1, 0]]


def test_weights_are_summed():
    X = InteractionEncoder(weight="rating").fit_transform(EVENTS)
    assert X.toarray().tolist() == [[4, 1], [6, 5], [4.5, 0]]


def test_threshold():
    encoder = InteractionEncoder(weight="rating", threshold=3.5)
    assert encoder.fit_transform(EVENTS).toarray().tolist() == [[1, 0], [1, 1], [1, 0]]
    encoder.set_params(threshold=4)  # above, not at
    assert ids_and_values(encoder, encoder.fit_transform(EVENTS)) == {
        ("bob", 30): 1,
        ("cid", 10): 1,
    }
    assert encoder.dropped_user_ids_.tolist() == ["ann"]


def test_last_event_of_a_pair_counts():
    encoder = InteractionEncoder(weight="rating", time="when")
    X = encoder.fit_transform(EVENTS)
    assert X.toarray().tolist() == [[4, 1], [4, 5], [4.5, 0]]
    backwards = {**EVENTS, "when": [-t for t in EVENTS["when"]]}
    X = encoder.fit_transform(backwards)
    assert X.toarray().tolist() == [[4, 1], [2, 5], [4.5, 0]]
    # At the same time the one further down is the last.
    X = encoder.fit_transform({**EVENTS, "when": [0] * 6})
    assert X.toarray().tolist() == [[4, 1], [4, 5], [4.5, 0]]
    # The last rating is below the threshold, so the pair is none.
    encoder.set_params(threshold=3.5)
    X = encoder.fit_transform(backwards)
    assert ("bob", 10) not in ids_and_values(encoder, X)


def test_minimum_counts():
    events = {"user": list("aabbbc"), "item": [1, 2, 1, 2, 3, 2]}
    encoder = InteractionEncoder(min_item_interactions=2, min_user_interactions=2)
    X = encoder.fit_transform(events)
    assert encoder.item_ids_.tolist() == [1, 2]
    assert encoder.user_ids_.tolist() == ["a", "b"]
    assert encoder.dropped_item_ids_.tolist() == [3]
    assert encoder.dropped_user_ids_.tolist() == ["c"]
    assert X.toarray().tolist() == [[1, 1], [1, 1]]
    # What fit left out is not unknown.
    np.testing.assert_array_equal(encoder.transform(events).toarray(), X.toarray())


@pytest.mark.parametrize("library", FRAMES)
def test_frames_give_what_arrays_give(library):
    settings = {"weight": "rating", "time": "when"}
    expected = InteractionEncoder(**settings)
    X = expected.fit_transform(EVENTS)
    frame = as_frame(library, EVENTS)
    encoder = InteractionEncoder(**settings)
    np.testing.assert_array_equal(encoder.fit_transform(frame).toarray(), X.toarray())
    assert encoder.user_ids_.tolist() == expected.user_ids_.tolist()
    assert encoder.item_ids_.tolist() == expected.item_ids_.tolist()
    back = encoder.inverse_transform(X)
    assert type(back) is type(frame)
    np.testing.assert_array_equal(
        InteractionEncoder("user", "item", "rating").fit_transform(back).toarray(),
        X.toarray(),
    )
    decoded = pickle.loads(pickle.dumps(encoder)).decode([[0], [1], [-1]])
    assert type(decoded) is type(frame)


@pytest.mark.parametrize("library", FRAMES)
def test_times_of_frames(library):
    times = np.array(EVENTS["when"], dtype="datetime64[D]").astype("datetime64[ms]")
    frame = as_frame(library, {**EVENTS, "when": times})
    encoder = InteractionEncoder(weight="rating", time="when")
    X = encoder.fit_transform(frame)
    assert X.toarray().tolist() == [[4, 1], [4, 5], [4.5, 0]]
    dates = as_frame(library, {**EVENTS, "when": [time.item() for time in times]})
    if library != "pandas":  # where they are Python objects
        assert (encoder.fit_transform(dates) != X).nnz == 0


IDS = st.one_of(
    st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1),
    st.lists(st.integers(0, 2**64 - 1).map(np.uint64), min_size=1),
    st.lists(st.floats(allow_nan=False), min_size=1),
    st.lists(st.floats(allow_nan=False, width=32).map(np.float32), min_size=1),
    st.lists(st.text(), min_size=1),
    st.lists(st.booleans(), min_size=1),
)


@given(IDS, IDS)
def test_any_ids_by_a_dict(known, others):
    """Learnt are the sorted ids, and the others are found, or not, as by a dict."""
    table = {"user": np.array(known), "item": np.zeros(len(known), int)}
    encoder = InteractionEncoder(handle_unknown="ignore").fit(table)
    known = table["user"].tolist()
    assert encoder.user_ids_.tolist() == sorted(set(known))
    rows = {user: row for row, user in enumerate(sorted(set(known)))}
    others = np.array(others)
    X = encoder.transform({"user": others, "item": np.zeros(len(others), int)})
    expected = {rows[user] for user in others.tolist() if user in rows}
    assert set(X.nonzero()[0].tolist()) == expected


@pytest.mark.parametrize(
    ("ids", "n_missing"),
    [
        ([1.0, float("nan"), float("nan")], 2),
        (np.array(["a", None, "b"], dtype=object), 1),
        (np.array(["a", float("nan"), None], dtype=object), 2),
    ],
)
def test_gaps_are_counted(ids, n_missing):
    with pytest.raises(ValueError, match=f"'item' has {n_missing} missing values"):
        InteractionEncoder().fit({"user": [1, 2, 3], "item": ids})


@given(
    st.lists(
        st.tuples(
            st.integers(-3, 3), st.sampled_from(["x", "y", ""]), st.integers(0, 9)
        ),
        min_size=1,
        max_size=30,
    )
)
def test_any_table_by_a_plain_loop(events):
    sums = {}
    for user, item, weight in events:
        sums[user, item] = sums.get((user, item), 0) + weight
    sums = {pair: weight for pair, weight in sums.items() if weight}
    users, items, weights = (list(column) for column in zip(*events, strict=True))
    table = {"user": users, "item": items, "weight": weights}
    encoder = InteractionEncoder(weight="weight")
    if not sums:
        with pytest.raises(ValueError, match="None of"):
            encoder.fit_transform(table)
        return
    X = encoder.fit_transform(table)
    assert ids_and_values(encoder, X) == sums
    assert encoder.user_ids_.tolist() == sorted({user for user, _ in sums})
    assert encoder.item_ids_.tolist() == sorted({item for _, item in sums})
    back = encoder.inverse_transform(X)
    assert sums == {
        (user, item): weight for user, item, weight in zip(*back.values(), strict=True)
    }


def test_order_of_events_does_not_matter():
    rng = np.random.default_rng(0)
    table = {"user": rng.integers(0, 20, 100), "item": rng.integers(0, 9, 100)}
    order = rng.permutation(100)
    shuffled = {name: column[order] for name, column in table.items()}
    X, Y = (InteractionEncoder().fit_transform(t) for t in (table, shuffled))
    np.testing.assert_array_equal(X.toarray(), Y.toarray())


def test_unknown_ids():
    encoder = InteractionEncoder().fit(EVENTS)
    later = {"user": ["ann", "eve", "cid"], "item": [30, 10, 99]}
    with pytest.raises(ValueError, match="1 of 3 events have an unknown user, such as"):
        encoder.transform(later)
    encoder.set_params(handle_unknown="ignore")
    assert encoder.transform(later).toarray().tolist() == [[0, 1], [0, 0], [0, 0]]


def test_new_users_for_a_fitted_catalogue():
    encoder = InteractionEncoder(handle_unknown="ignore").fit(EVENTS)
    others = clone(encoder).set_params(item_ids=encoder.item_ids_)
    X = others.fit_transform({"user": [7, 5, 7], "item": [30, 10, 99]})
    assert others.user_ids_.tolist() == [5, 7]
    assert others.item_ids_.tolist() == [10, 30]
    assert X.toarray().tolist() == [[1, 0], [0, 1]]
    others.set_params(handle_unknown="error")
    with pytest.raises(ValueError, match="unknown item, such as 99"):
        others.fit({"user": [7, 5, 7], "item": [30, 10, 99]})


def test_given_ids_keep_their_order():
    encoder = InteractionEncoder(item_ids=[30, 20, 10], min_item_interactions=3)
    X = encoder.fit_transform(EVENTS)
    assert encoder.item_ids_.tolist() == [30, 20, 10]
    assert X.toarray().tolist() == [[1, 0, 1], [1, 0, 1], [0, 0, 1]]


def test_decode():
    encoder = InteractionEncoder().fit(EVENTS)
    table = encoder.decode(
        [[1, 0], [-1, -1]], [[2.0, 1.0], [-np.inf, -np.inf]], user_ids=["x", "y"]
    )
    assert {name: column.tolist() for name, column in table.items()} == {
        "user": ["x", "x"],
        "item": [30, 10],
        "rank": [1, 2],
        "score": [2.0, 1.0],
    }


@pytest.mark.parametrize(
    ("table", "params", "message"),
    [
        ({"user": [1]}, {}, "no column 'item', it has"),
        ({"user": [1, 2], "item": [1]}, {}, "different lengths"),
        ({"user": [], "item": []}, {}, "has no events"),
        ({"user": [1, None], "item": [1, 2]}, {}, "'user' has 1 missing values"),
        ({"user": [1.0, np.nan], "item": [1, 2]}, {}, "'user' has 1 missing values"),
        ({"user": MIXED, "item": [1, 2]}, {}, "cannot be sorted"),
        ({"user": [[1], [2]], "item": [1, 2]}, {}, "'user' is a list"),
        ({"user": np.ones((2, 1)), "item": [1, 2]}, {}, "has 2 dimensions"),
        (EVENTS, {"threshold": 3}, "Set weight"),
        (EVENTS, {"min_user_interactions": 3}, "None of 6 events is left"),
        (EVENTS, {"weight": "user"}, "'user' of weights has dtype"),
        ({**EVENTS, "rating": [-1] * 6}, {"weight": "rating"}, "negative weights"),
        ({**EVENTS, "rating": [np.inf] * 6}, {"weight": "rating"}, "infinite"),
        (EVENTS, {"time": "user"}, "'user' of times has dtype"),
        ({**EVENTS, "when": [np.nan] * 6}, {"time": "when"}, "6 missing values"),
        (EVENTS, {"item_ids": [1, 1]}, "only 1 are different"),
        (EVENTS, {"item_ids": []}, "at least one"),
        (EVENTS, {"min_user_interactions": 0}, "must be an int in the range"),
        (EVENTS, {"handle_unknown": "no"}, "must be a str among"),
    ],
)
def test_bad_tables(table, params, message):
    encoder = InteractionEncoder(**params)
    with pytest.raises(ValueError, match=message):
        encoder.fit(table)
    with pytest.raises(NotFittedError):
        encoder.transform(EVENTS)


def test_what_is_no_table():
    with pytest.raises(TypeError, match="of type list, expected a data frame"):
        InteractionEncoder().fit([[1, 2]])
    polars = pytest.importorskip("polars")
    with pytest.raises(TypeError, match="of type LazyFrame"):
        InteractionEncoder().fit(polars.LazyFrame(EVENTS))


def test_bad_recommendations():
    encoder = InteractionEncoder().fit(EVENTS)
    with pytest.raises(ValueError, match="contains 2, expected item indices from 0 to"):
        encoder.decode([[0], [1], [2]])
    with pytest.raises(ValueError, match="has 1 rows, but there are 3 users"):
        encoder.decode([[0]])
    with pytest.raises(ValueError, match="2-D array of integers"):
        encoder.decode([0.5])
    with pytest.raises(ValueError, match="scores has shape"):
        encoder.decode([[0], [1], [1]], [1, 2, 3])
    with pytest.raises(ValueError, match="X has shape"):
        encoder.inverse_transform(np.ones((2, 2)))


FAR = 2**63
DIFFERENT_IDS = {
    "both sides of 2**63": [5, FAR + 1, FAR + 2],
    "negative and above 2**63": [-1, FAR + 1, FAR + 2],
    "above 2**64": [5, 2**64, 2**64 + 1],
    "above 2**53 beside a float": [2**53, 2**53 + 1, 0.5],
    "strings with zeros": ["a", "a\0", "a\0\0"],
    "lone surrogates": ["\ud800", "\ud801", "a"],
    "bytes with zeros": [b"a", b"a\0", b"b"],
}


@pytest.mark.parametrize("ids", DIFFERENT_IDS.values(), ids=list(DIFFERENT_IDS))
@pytest.mark.parametrize("make", [list, lambda ids: np.array(ids, dtype=object)])
def test_different_ids_stay_different(ids, make):
    table = {"user": make(ids), "item": [0, 1, 2]}
    encoder = InteractionEncoder()
    X = encoder.fit_transform(table)
    assert encoder.user_ids_.tolist() == sorted(ids)
    assert (encoder.transform(table) != X).nnz == 0
    assert encoder.inverse_transform(X)["user"].tolist() == sorted(ids)
    given = InteractionEncoder(user_ids=make(ids))
    assert given.fit_transform(table).toarray().tolist() == np.eye(3).tolist()


@pytest.mark.parametrize("library", FRAMES)
@pytest.mark.parametrize("ids", [[5, FAR + 1, FAR + 2], ["a", "a\0", "b"]])
def test_different_ids_of_frames(library, ids):
    numbers = isinstance(ids[0], int)
    column = np.array(ids, dtype=np.uint64) if numbers else ids
    encoder = InteractionEncoder()
    X = encoder.fit_transform(as_frame(library, {"user": column, "item": column}))
    assert X.toarray().tolist() == np.eye(3).tolist()
    assert encoder.transform({"user": ids, "item": ids}).nnz == 3
    decoded = encoder.decode([[0], [1], [2]])
    assert (encoder.transform(decoded) != X).nnz == 0


def test_wide_integers_of_polars():
    polars = pytest.importorskip("polars")
    if not hasattr(polars, "Int128"):
        pytest.skip("this polars has no Int128")
    ids = [2**100, 2**100 + 1, -5]
    table = polars.DataFrame({"user": polars.Series(ids, dtype=polars.Int128)})
    table = table.with_columns(item=polars.col("user"))
    encoder = InteractionEncoder()
    assert encoder.fit_transform(table).nnz == 3
    assert encoder.user_ids_.tolist() == sorted(ids)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (["1", 1], "cannot be sorted"),
        ([True, 1], "booleans and numbers"),
        ([(1, 2), (1, 3)], "is a tuple"),
        (np.ma.array([1, 2], mask=[False, True]), "'user' has 1 missing values"),
        (np.ma.array(["a", "b"], mask=[True, True]), "'user' has 2 missing values"),
        ([1, np.ma.masked], "is a MaskedConstant"),
    ],
)
def test_ids_that_cannot_be_told_apart(ids, message):
    with pytest.raises(ValueError, match=message):
        InteractionEncoder().fit({"user": ids, "item": [1, 2]})


@pytest.mark.parametrize("gap", [None, np.nan, np.datetime64("NaT")])
@pytest.mark.parametrize("known", [["a", "b"], [1, 2]])
def test_gaps_are_no_unknown_ids(gap, known):
    """An id that is missing is an error even where unknown ones are ignored."""
    ids = [known[0], gap]
    encoder = InteractionEncoder(
        user_ids=known, item_ids=[7], handle_unknown="ignore"
    ).fit({"user": known, "item": [7, 7]})
    for method in (encoder.fit, encoder.transform, encoder.partial_fit):
        with pytest.raises(ValueError, match="'user' has 1 missing values"):
            method({"user": ids, "item": [7, 7]})
    with pytest.raises(ValueError, match="2 ids of 'user' 1 are mis"):
        clone(encoder).set_params(user_ids=ids).fit({"user": known, "item": [7, 7]})


def test_gaps_of_pandas_in_a_dict():
    pandas = pytest.importorskip("pandas")
    for gap, dtype in ((pandas.NA, "Int64"), (pandas.NA, object), (None, str)):
        column = pandas.Series([gap, gap], dtype=dtype)
        with pytest.raises(ValueError, match="'user' has 2 missing values"):
            InteractionEncoder().fit({"user": column, "item": [1, 2]})
    with pytest.raises(ValueError, match="'user' has 1 missing values"):
        InteractionEncoder().fit({"user": [pandas.NA, "a"], "item": [1, 2]})


@pytest.mark.parametrize(
    ("weights", "threshold", "expected"),
    [
        ([0.1, 1.0], 0.1, [0, 1]),
        ([0.1, 1.0], np.float64(0.1), [0, 1]),
        ([0.1, 1.0], np.float32(0.1), [0, 1]),
        (np.array([0.1, 1.0], np.float32), np.float64(0.1), [0, 1]),
        (np.array([0.1, 1.0], np.float32), 0.1, [0, 1]),
        (np.array([0.1, 1.0], np.float16), 0.1, [0, 1]),
        ([2**24 + 1, 2**24], 2**24, [1, 0]),
        ([2.0**24 + 1, 2.0**24], 2**24, [1, 0]),
        ([2**53 + 1, 2**53], 2**53, [1, 0]),
        ([FAR + 1, FAR], FAR, [1, 0]),
        ([1, 2], 1.5, [0, 1]),
        ([-2, -1], -1.5, [0, 1]),
        (np.array([1, 2], np.int8), 300, [0, 0]),
        ([True, False], 0, [1, 0]),
        ([1e300, 1.0], 1, [1, 0]),
    ],
)
def test_threshold_is_compared_exactly(weights, threshold, expected):
    table = {"user": [0, 0], "item": [0, 1], "w": weights}
    encoder = InteractionEncoder(
        weight="w", threshold=threshold, user_ids=[0], item_ids=[0, 1]
    )
    assert encoder.fit_transform(table).toarray().tolist() == [expected]


def test_weights_of_a_pair_that_overflow():
    table = {"user": [0, 0], "item": [0, 0], "w": [3e38, 3e38]}
    with pytest.raises(ValueError, match="sum to more than float32 can hold"):
        InteractionEncoder(weight="w").fit(table)
    with pytest.raises(ValueError, match="too large for float32"):
        InteractionEncoder(weight="w").fit({**table, "w": [1e39, 1]})


@pytest.mark.parametrize("column", ["w", "when"])
def test_masked_weights_and_times(column):
    table = {"user": [0, 0], "item": [0, 1], "w": [1, 2], "when": [1, 2]}
    table[column] = np.ma.array(table[column], mask=[False, True])
    with pytest.raises(ValueError, match=f"'{column}' has 1 missing values"):
        InteractionEncoder(weight="w", time="when").fit(table)


@pytest.mark.parametrize("library", [None, *FRAMES])
@pytest.mark.parametrize("kind", ["datetime64", "timedelta64"])
@pytest.mark.parametrize("unit", ["ns", "us", "ms"])
def test_times_keep_their_precision(library, kind, unit):
    """The last event is the first one, by one tick; far from 1970 too."""
    far = {"ns": 2**62, "us": 2**53 + 2, "ms": 2**43}[unit]
    times = np.array([far + 1, far]).astype(f"{kind}[{unit}]")
    table = {"user": [0, 0], "item": [0, 0], "w": [1, 2], "when": times}
    if library is not None:
        table = as_frame(library, table)
    X = InteractionEncoder(weight="w", time="when").fit_transform(table)
    assert X.data.tolist() == [1]


def test_times_of_day():
    polars = pytest.importorskip("polars")
    times = [datetime.time(1), datetime.time(2)]
    table = {"user": [0, 0], "item": [0, 0], "when": times}
    for each in (table, polars.DataFrame(table)):
        with pytest.raises(ValueError, match="expected numbers, datetime64 or timed"):
            InteractionEncoder(time="when").fit(each)


@pytest.mark.parametrize("name", ["rank", "score"])
@pytest.mark.parametrize("parameter", ["user", "item"])
def test_decode_overwrites_no_ids(name, parameter):
    table = {"user": ["a"], "item": ["b"]}
    table[name] = table.pop(parameter)
    encoder = InteractionEncoder(**{parameter: name}).fit(table)
    with pytest.raises(ValueError, match=f"ids in a column '{name}'"):
        encoder.decode([[0]], [[1.0]])
    if name == "score":
        assert encoder.decode([[0]])["rank"].tolist() == [1]


def test_decode_takes_ids_as_they_are():
    encoder = InteractionEncoder().fit(EVENTS)
    decoded = encoder.decode([[0], [0]], user_ids=["1", 1])
    assert decoded["user"].tolist() == ["1", 1]


def test_users_that_were_asked_for_have_rows():
    known = {"item_ids": ["A", "B"], "handle_unknown": "ignore"}
    encoder = InteractionEncoder(user_ids=["yan", "zoe"], **known)
    unknown = {"user": ["yan"], "item": ["unknown"]}
    for table in (unknown, {"user": [], "item": []}):
        assert encoder.fit_transform(table).toarray().tolist() == [[0, 0], [0, 0]]
        assert encoder.transform(table).nnz == 0
        assert encoder.item_ids_.tolist() == ["A", "B"]
    both = {"user": ["yan", "zoe"], "item": ["unknown", "A"]}
    assert encoder.fit_transform(both).toarray().tolist() == [[0, 0], [1, 0]]
    # A user whom only the table names is left out, and named.
    encoder = InteractionEncoder(**known).fit(both)
    assert encoder.dropped_user_ids_.tolist() == ["yan"]
    with pytest.raises(
        ValueError, match="1 events is left: 1 have an unknown item, such as 'unknown'"
    ):
        encoder.fit(unknown)
    with pytest.raises(ValueError, match="has no events"):
        encoder.fit({"user": [], "item": []})


@pytest.mark.parametrize("library", FRAMES)
def test_empty_frames(library):
    empty = as_frame(library, {"user": [], "item": [], "w": [], "when": []})
    encoder = InteractionEncoder(
        weight="w", time="when", user_ids=["a"], item_ids=["b"]
    )
    assert encoder.fit_transform(empty).shape == (1, 1)
    assert type(encoder.inverse_transform([[1]])) is type(empty)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"threshold": 9}, "6 events is left: there is threshold=9. Pass"),
        ({"min_item_interactions": 4}, "left: there is min_item_interactions=4. Pass"),
        (
            {"item_ids": [30, 5], "handle_unknown": "ignore", "threshold": 5},
            "left: 4 have an unknown item, such as 10; there is threshold=5. Pass",
        ),
    ],
)
def test_message_names_only_what_was_set(params, message):
    with pytest.raises(ValueError, match=message):
        InteractionEncoder(weight="rating", **params).fit(EVENTS)


TABLES = st.lists(
    st.tuples(
        st.one_of(st.integers(-2, 2), st.integers(FAR - 2, FAR + 2)), st.text("ab\0")
    ),
    min_size=1,
    max_size=20,
).map(
    lambda events: dict(zip(["user", "item"], zip(*events, strict=True), strict=True))
)


@pytest.mark.parametrize("library", [None, *FRAMES])
@given(tables=st.lists(TABLES, min_size=2, max_size=3))
@settings(max_examples=25)
def test_new_ids_come_behind_the_known_ones(library, tables):
    """Each table appends what it has new; matrices are those of a dict."""
    encoder = InteractionEncoder()
    users, items = [], []
    for table in tables:
        users += sorted(set(table["user"]).difference(users))
        items += sorted(set(table["item"]).difference(items))
        # Frames have no column with negative numbers and ones above 2**63.
        if library is not None and min(users) >= 0:
            column = np.array(table["user"], dtype=np.uint64)
            table = as_frame(library, {"user": column, "item": list(table["item"])})
        assert encoder.partial_fit(table) is encoder
        assert encoder.user_ids_.tolist() == users
        assert encoder.item_ids_.tolist() == items
    expected = np.zeros((len(users), len(items)))
    for user, item in zip(*tables[-1].values(), strict=True):
        expected[users.index(user), items.index(item)] = 1
    np.testing.assert_array_equal(encoder.transform(tables[-1]).toarray(), expected)


def test_partial_fit_counts_in_its_own_table():
    encoder = InteractionEncoder(min_user_interactions=2, min_item_interactions=2)
    encoder.fit({"user": list("aabbc"), "item": [1, 2, 1, 2, 3]})
    assert encoder.dropped_user_ids_.tolist() == ["c"]
    assert encoder.dropped_item_ids_.tolist() == [3]
    # Known ones stay, here with one interaction; 3 is frequent now, c still is not.
    later = {"user": list("acddee"), "item": [3, 3, 3, 4, 3, 1]}
    encoder.partial_fit(later)
    assert encoder.item_ids_.tolist() == [1, 2, 3]
    assert encoder.dropped_item_ids_.tolist() == [4]
    assert encoder.user_ids_.tolist() == ["a", "b", "e"]
    assert encoder.dropped_user_ids_.tolist() == ["c", "d"]
    assert encoder.transform(later).toarray().tolist() == [
        [0, 0, 1],
        [0, 0, 0],
        [1, 0, 1],
    ]


def test_partial_fit_without_anything_new():
    encoder = InteractionEncoder().fit(EVENTS)
    users, items = encoder.user_ids_, encoder.item_ids_
    for table in (EVENTS, {"user": ["bob"], "item": [30]}, {"user": [], "item": []}):
        encoder.partial_fit(table)
        np.testing.assert_array_equal(encoder.user_ids_, users)
        np.testing.assert_array_equal(encoder.item_ids_, items)


def test_partial_fit_leaves_ids_that_were_passed():
    encoder = InteractionEncoder(item_ids=[30, 10], handle_unknown="ignore")
    encoder.fit(EVENTS).partial_fit({"user": ["eve"], "item": [10]})
    encoder.partial_fit({"user": ["fay"], "item": [99]})
    assert encoder.item_ids_.tolist() == [30, 10]
    assert encoder.user_ids_.tolist() == ["ann", "bob", "cid", "eve"]
    with pytest.raises(ValueError, match="have an unknown item, such as 99"):
        encoder.set_params(handle_unknown="error").partial_fit(
            {"user": ["fay"], "item": [99]}
        )


def test_partial_fit_refuses_ids_of_another_kind():
    """Numbers that were read as strings would all be new."""
    encoder = InteractionEncoder().fit(EVENTS)
    before = encoder.__dict__.copy()
    with pytest.raises(ValueError, match="'item' has ids that cannot be sorted"):
        encoder.partial_fit({"user": ["bob"], "item": ["10"]})
    with pytest.raises(ValueError, match="'item' is a tuple"):
        encoder.partial_fit({"user": ["new"], "item": [(1, 2)]})
    assert encoder.__dict__ == before


def test_no_data_frame_of_a_sparse_matrix():
    pytest.importorskip("pandas")
    encoder = InteractionEncoder().fit(EVENTS).set_output(transform="pandas")
    with pytest.raises(ValueError, match="outputs a scipy sparse matrix"):
        encoder.transform(EVENTS)


def test_conventions():
    encoder = InteractionEncoder(weight="rating", threshold=3)
    assert clone(encoder).get_params() == encoder.get_params()
    assert encoder.fit(EVENTS) is encoder
    assert encoder.get_feature_names_out().tolist() == ["10", "30"]
    with pytest.raises(NotFittedError):
        clone(encoder).decode([[0]])


def test_table_stays_as_it_was():
    table = {name: np.array(column) for name, column in EVENTS.items()}
    before = {name: column.copy() for name, column in table.items()}
    InteractionEncoder(weight="rating", time="when", threshold=2).fit_transform(table)
    for name, column in table.items():
        np.testing.assert_array_equal(column, before[name])


def test_first_step_of_a_pipeline():
    model = RecVAERecommender(4, hidden_dim=8, max_iter=1, random_state=0)
    pipeline = make_pipeline(InteractionEncoder(), model).fit(EVENTS)
    assert pipeline.predict(EVENTS).shape == (3, 2)


def test_round_trip_on_movielens(data_dir):
    movielens_zip = data_dir / "ml-latest-small" / "ml-latest-small.zip"
    pandas = pytest.importorskip("pandas")
    with ZipFile(movielens_zip) as archive:
        with archive.open("ml-latest-small/ratings.csv") as file:
            ratings = pandas.read_csv(file)
        with archive.open("ml-latest-small/movies.csv") as file:
            titles = pandas.read_csv(file).set_index("movieId")["title"]
    encoder = InteractionEncoder(
        "userId", "movieId", "rating", threshold=3.5, min_user_interactions=5
    )
    X = encoder.fit_transform(ratings)
    loaded = load_movielens(movielens_zip)
    np.testing.assert_array_equal(encoder.user_ids_, loaded.user_ids)
    np.testing.assert_array_equal(encoder.item_ids_, loaded.item_ids)
    assert (X != loaded.data).nnz == 0

    back = encoder.inverse_transform(X)
    encoder.set_params(threshold=None, min_user_interactions=1)
    assert (encoder.fit_transform(back) != X).nnz == 0

    model = RecVAERecommender(8, hidden_dim=16, max_iter=1, random_state=0).fit(X)
    recommended = model.recommend(X[:5], k=3)
    table = encoder.decode(recommended, user_ids=encoder.user_ids_[:5])
    expected = loaded.item_titles[recommended].ravel().tolist()
    assert titles[table["movieId"]].tolist() == expected
