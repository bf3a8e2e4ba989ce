import pickle
import sys
from zipfile import ZipFile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
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
    pytest.importorskip("narwhals", reason="comes with scikit-learn 1.9")
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


@pytest.fixture(params=["pandas", "no pandas"])
def maybe_pandas(request, monkeypatch):
    """Hash with pandas and without it; numbers are sorted either way."""
    if request.param == "no pandas":
        monkeypatch.setitem(sys.modules, "pandas", None)
    else:
        pytest.importorskip("pandas")


IDS = st.one_of(
    st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1),
    st.lists(st.integers(0, 2**64 - 1).map(np.uint64), min_size=1),
    st.lists(st.floats(allow_nan=False), min_size=1),
    st.lists(st.floats(allow_nan=False, width=32).map(np.float32), min_size=1),
    st.lists(st.text(), min_size=1),
    st.lists(st.booleans(), min_size=1),
)


@pytest.mark.usefixtures("maybe_pandas")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
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


@pytest.mark.usefixtures("maybe_pandas")
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
        ({"user": [[1], [2]], "item": [1, 2]}, {}, "has 2 dimensions"),
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
    pytest.importorskip("narwhals")
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
