"""Weights of events that halve with their age, by hand and by a plain formula."""

import datetime
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from sklearn_recvae import EASERecommender
from sklearn_recvae._times import LEAST_SHARE
from sklearn_recvae.preprocessing import InteractionEncoder

FRAMES = ["pandas", "polars", "pyarrow"]
# The latest event is on day 100; ann saw film 1 twice.
EVENTS = {
    "user": ["ann", "ann", "ann", "bob"],
    "item": [1, 1, 2, 2],
    "rating": [5.0, 4.0, 3.0, 5.0],
    "day": [80, 90, 100, 60],
}
DAYS = np.array(EVENTS["day"]).astype("datetime64[D]")


def encoder_of(half_life=10, **params):
    return InteractionEncoder(time="day", half_life=half_life, **params)


def with_days(days):
    return {**EVENTS, "day": days}


def test_weights_by_hand():
    encoder = encoder_of()
    X = encoder.fit_transform(EVENTS)
    assert X.dtype == np.float32
    assert X.toarray().tolist() == [[0.5, 1], [0, 0.0625]]
    assert encoder.reference_time_ == 100
    X = encoder.set_params(weight="rating").fit_transform(EVENTS)
    assert X.toarray().tolist() == [[2, 3], [0, 0.3125]]
    X = encoder.set_params(repeats="sum").fit_transform(EVENTS)
    assert X.toarray().tolist() == [[3.25, 3], [0, 0.3125]]


def test_threshold_acts_before_decay():
    encoder = encoder_of(weight="rating", threshold=3.5)
    # Of ann's events with film 1 the last counts, a 4; her 3 is no interaction.
    assert encoder.fit_transform(EVENTS).toarray().tolist() == [[0.5, 0], [0, 0.0625]]
    encoder.set_params(threshold=4.5)
    X = encoder.fit_transform(EVENTS)
    assert encoder.user_ids_.tolist() == ["bob"]
    assert X.toarray().tolist() == [[0.0625]]
    # All of them are asked: the 5 before counts, decayed by 20 days.
    encoder.set_params(repeats="sum")
    assert encoder.fit_transform(EVENTS).toarray().tolist() == [[0.25, 0], [0, 0.0625]]
    # The reference is the latest of all events, whatever they weigh.
    assert encoder.reference_time_ == 100


def test_repeats_without_decay():
    counts = InteractionEncoder(repeats="sum").fit_transform(EVENTS)
    assert counts.toarray().tolist() == [[2, 1], [0, 1]]
    params = {"weight": "rating", "threshold": 3.5, "repeats": "sum", "time": "day"}
    likes = InteractionEncoder(**params).fit_transform(EVENTS)
    assert likes.toarray().tolist() == [[2, 0], [0, 1]]


@pytest.mark.parametrize(
    "half_life",
    [
        10,
        10.0,
        np.float32(10),
        datetime.timedelta(days=10),
        np.timedelta64(240, "h"),
        np.timedelta64(10, "D"),
    ],
)
@pytest.mark.parametrize("unit", ["D", "h", "s", "ms", "us", "ns"])
def test_half_life_of_dates_has_days(half_life, unit):
    X = encoder_of(half_life).fit_transform(with_days(DAYS.astype(f"M8[{unit}]")))
    assert_allclose(X.toarray(), [[0.5, 1], [0, 0.0625]], rtol=1e-6)
    since = (DAYS - DAYS.min()).astype(f"m8[{unit}]")
    X = encoder_of(half_life).fit_transform(with_days(since))
    assert_allclose(X.toarray(), [[0.5, 1], [0, 0.0625]], rtol=1e-6)


def test_months_and_years_as_times():
    times = np.array(["2024-01", "2024-02", "2024-03", "2024-03"], "datetime64[M]")
    encoder = encoder_of(31).fit(with_days(times))
    assert encoder.transform(with_days(times)).toarray()[0, 0] == np.float32(
        2 ** (-29 / 31)
    )


@pytest.mark.parametrize("library", FRAMES)
def test_times_of_frames(library):
    module = pytest.importorskip(library)
    table = with_days(DAYS.astype("datetime64[ms]"))
    make = module.table if library == "pyarrow" else module.DataFrame
    X = encoder_of(repeats="sum").fit_transform(make(table))
    assert X.toarray().tolist() == [[0.75, 1], [0, 0.0625]]


def test_half_life_of_pandas_and_dates_of_a_zone():
    pandas = pytest.importorskip("pandas")
    days = pandas.to_datetime(DAYS).tz_localize("UTC").tz_convert("Asia/Tokyo")
    table = pandas.DataFrame(with_days(days))
    X = encoder_of(pandas.Timedelta("10D")).fit_transform(table)
    assert X.toarray().tolist() == [[0.5, 1], [0, 0.0625]]


@pytest.mark.parametrize("weight", [1.0, 1e-30, 1e-38, 1e-45, 3e38])
def test_event_of_twenty_years_stays_seen(weight):
    days = np.array(["2006-01-01", "2026-01-01"], "datetime64[D]")
    table = {"user": [0, 0], "item": [0, 1], "day": days, "w": [weight, 1.0]}
    X = encoder_of(7, weight="w").fit_transform(table)
    assert X.nnz == 2
    assert 0 < X[0, 0] <= np.float32(weight)
    if weight > 1e-32:
        assert_allclose(X[0, 0], weight * LEAST_SHARE, rtol=1e-6)
    # A model sees it: it is not recommended again.
    model = EASERecommender(regularization=1).fit(np.ones((3, 2)))
    assert model.recommend(X, k=1).tolist() == [[-1]]


def test_later_tables_have_the_reference_of_fit():
    encoder = encoder_of().fit(EVENTS)
    later = {"user": ["ann", "bob"], "item": [1, 2], "day": [300, 90]}
    assert encoder.transform(later).toarray().tolist() == [[1, 0], [0, 0.5]]
    assert encoder.reference_time_ == 100


def test_partial_fit_moves_the_reference():
    encoder = encoder_of().fit(EVENTS)
    before = encoder.transform(EVENTS)
    encoder.partial_fit({"user": ["eve"], "item": [1], "day": [120]})
    assert encoder.reference_time_ == 120
    after = encoder.transform(EVENTS)
    assert after.toarray()[:2].tolist() == (before.toarray() / 4).tolist()
    # Earlier events, or none, do not move it back.
    for user, item, day in (["eve"], [1], [5]), ([], [], []):
        encoder.partial_fit({"user": user, "item": item, "day": day})
        assert encoder.reference_time_ == 120
    encoder.fit(EVENTS)
    assert encoder.reference_time_ == 100


def test_reference_of_another_unit():
    """NumPy itself would compare these with an overflow, and say nothing."""
    encoder = encoder_of().fit(with_days(DAYS.astype("datetime64[ns]")))
    far = np.array(["3000-01-01"], "datetime64[s]")
    encoder.partial_fit({"user": ["ann"], "item": [1], "day": far})
    assert encoder.reference_time_ == far[0]
    X = encoder.transform(with_days(DAYS.astype("datetime64[ns]")))
    assert_allclose(X.data, LEAST_SHARE)


def test_reference_is_kept():
    for table in (EVENTS, with_days(DAYS)):
        encoder = encoder_of().fit(table)
        again = pickle.loads(pickle.dumps(encoder))
        assert again.reference_time_ == encoder.reference_time_
        assert (again.transform(table) != encoder.transform(table)).nnz == 0


def test_reference_is_kept_by_skops():
    skops_io = pytest.importorskip("skops.io")
    encoder = encoder_of(datetime.timedelta(10)).fit(with_days(DAYS))
    stored = skops_io.dumps(encoder)
    names = skops_io.get_untrusted_types(data=stored)
    again = skops_io.loads(stored, trusted=names)
    assert again.reference_time_ == encoder.reference_time_


def test_decay_may_be_switched_on_later():
    encoder = InteractionEncoder(time="day").fit(EVENTS)
    encoder.set_params(half_life=10)
    assert encoder.transform(EVENTS).toarray().tolist() == [[0.5, 1], [0, 0.0625]]


def test_no_event_has_no_reference():
    encoder = encoder_of(user_ids=["ann", "bob"], item_ids=[1, 2])
    nothing = {"user": [], "item": [], "day": []}
    assert encoder.fit_transform(nothing).nnz == 0
    assert encoder.reference_time_ is None
    assert encoder.transform(nothing).nnz == 0
    with pytest.raises(ValueError, match="has not seen the time of any event"):
        encoder.transform(EVENTS)
    assert encoder.partial_fit(EVENTS).reference_time_ == 100
    assert InteractionEncoder().fit(EVENTS).reference_time_ is None


@pytest.mark.parametrize(
    "half_life",
    [
        0,
        -1,
        np.nan,
        -np.inf,
        "30",
        [30],
        datetime.timedelta(0),
        np.timedelta64(-1, "D"),
        np.timedelta64("NaT"),
        np.timedelta64(3, "M"),
    ],
)
def test_bad_half_life(half_life):
    encoder = encoder_of(half_life)
    for days in (EVENTS["day"], DAYS):
        with pytest.raises(ValueError, match=r"half_life=.*above 0.*Set it to None"):
            encoder.fit(with_days(days))
    with pytest.raises(NotFittedError):
        encoder.transform(EVENTS)


def test_half_life_needs_a_time():
    with pytest.raises(ValueError, match=r"half_life=30 and time=None.*Set time to"):
        InteractionEncoder(half_life=30).fit(EVENTS)
    encoder = InteractionEncoder().fit(EVENTS).set_params(half_life=30)
    with pytest.raises(ValueError, match=r"half_life=30 and time=None.*Set time to"):
        encoder.transform(EVENTS)


@pytest.mark.parametrize(
    ("days", "half_life", "message"),
    [
        ([-3, 0, 1, 2], 1, "'day' has negative times, such as -3. Drop"),
        ([-0.5, 0, 1, 2], 1, "'day' has negative times, such as -0.5. Drop"),
        (DAYS - DAYS.max(), 1, "'day' has negative times"),
        ([0, 0, 1, np.inf], 1, "'day' has infinite times"),
        ([0, 0, 1, np.nan], 1, "'day' has 1 missing values"),
        (["1 May"] * 4, 1, "'day' of times has dtype object, such as '1 May'; expec"),
        ([1, 2, 3, 4], datetime.timedelta(1), "of which the unit is not known. Pass"),
        ([1, 2, 3, 4], np.timedelta64(1, "D"), "of which the unit is not known. Pass"),
        (np.arange(4).astype("m8[M]"), 1, "whose unit has no fixed length. Convert"),
    ],
)
def test_bad_times(days, half_life, message):
    encoder = encoder_of(half_life, repeats="sum")
    with pytest.raises(ValueError, match=message):
        encoder.fit(with_days(days))
    with pytest.raises(NotFittedError):
        encoder.transform(EVENTS)
    fitted = encoder_of().fit(EVENTS).set_params(half_life=half_life)
    before = fitted.__dict__.copy()
    for method in (fitted.partial_fit, fitted.fit, fitted.transform):
        with pytest.raises(ValueError, match="'day'"):
            method(with_days(days))
        assert fitted.__dict__ == before


def test_times_of_another_kind():
    encoder = encoder_of().fit(EVENTS)
    for method in (encoder.partial_fit, encoder.transform):
        with pytest.raises(ValueError, match="has datetime64, but it is compared with"):
            method(with_days(DAYS))
    assert encoder.fit(with_days(DAYS)).reference_time_ == DAYS.max()
    with pytest.raises(ValueError, match="has numbers, but it is compared with"):
        encoder.transform(EVENTS)


def test_table_stays_as_it_was():
    table = {name: np.array(column) for name, column in EVENTS.items()}
    before = pickle.dumps(table)
    encoder_of(weight="rating", repeats="sum").fit(table).transform(table)
    assert pickle.dumps(table) == before


TABLES = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.integers(0, 3),
        st.floats(0.0625, 100, width=32),
        st.integers(0, 1000),
    ),
    min_size=1,
    max_size=20,
).map(
    lambda events: dict(
        zip(["user", "item", "w", "day"], map(list, zip(*events, strict=True)))  # noqa: B905
    )
)
HALF_LIVES = st.floats(1e-3, 1e6)


@given(TABLES, HALF_LIVES)
@settings(max_examples=50)
def test_any_table_by_a_plain_loop(table, half_life):
    """Sums, and the last one of each pair, in float64."""
    sums, last = {}, {}
    rows = zip(*table.values(), strict=True)
    for user, item, weight, day in sorted(rows, key=lambda row: row[3]):
        age = max(table["day"]) - day
        value = weight * max(2 ** (-age / half_life), LEAST_SHARE)
        sums[user, item] = sums.get((user, item), 0) + value
        last[user, item] = value
    encoder = encoder_of(half_life, weight="w")
    for repeats, expected in ("sum", sums), ("last", last):
        X = encoder.set_params(repeats=repeats).fit_transform(table).tocoo()
        users, items = encoder.user_ids_[X.row], encoder.item_ids_[X.col]
        assert X.nnz == len(expected)
        if repeats == "sum" or len(set(table["day"])) == len(table["day"]):
            values = [expected[pair] for pair in zip(users, items, strict=True)]
            assert_allclose(X.data, values, rtol=1e-6)


@given(TABLES, HALF_LIVES, st.integers(1, 500))
@settings(max_examples=50)
def test_weights_never_increase_with_age(table, half_life, days):
    """What is some days older weighs as much or less, but it is still there."""
    n_events = len(table["day"])
    single = {**table, "user": list(range(n_events)), "item": [0] * n_events}
    encoder = encoder_of(half_life, weight="w").fit(
        {**single, "day": [2000] * n_events}
    )
    now = encoder.transform({**single, "day": np.add(single["day"], days)})
    older = encoder.transform(single)
    assert now.nnz == older.nnz == n_events
    assert (older.data <= now.data).all()
    assert (now.data <= np.float32(single["w"])).all()
    by_age = np.argsort(single["day"])
    shares = (older.data / np.float32(single["w"]))[by_age]
    assert (np.diff(shares) >= -1e-6 * shares[1:]).all()


@given(TABLES, HALF_LIVES, st.randoms(use_true_random=False))
@settings(max_examples=50)
def test_order_of_events_does_not_matter(table, half_life, random):
    order = list(range(len(table["day"])))
    random.shuffle(order)
    shuffled = {name: [column[i] for i in order] for name, column in table.items()}
    encoder = encoder_of(half_life, weight="w", repeats="sum")
    X, Y = (encoder.fit_transform(each).toarray() for each in (table, shuffled))
    assert_allclose(X, Y, rtol=1e-6)


@pytest.mark.parametrize("half_life", [1e300, np.inf])
@pytest.mark.parametrize(
    "params", [{}, {"weight": "w"}, {"weight": "w", "threshold": 2}]
)
@pytest.mark.parametrize("repeats", ["last", "sum"])
@given(table=TABLES)
@settings(max_examples=15)
def test_endless_half_life_is_none(half_life, params, repeats, table):
    encoder = encoder_of(
        half_life, repeats=repeats, user_ids=range(4), item_ids=range(4), **params
    )
    X = encoder.fit_transform(table)
    expected = clone(encoder).set_params(half_life=None).fit_transform(table)
    # Sums without decay are of float32.
    assert_allclose(X.toarray(), expected.toarray(), rtol=1e-6)
    if repeats == "last":
        assert_array_equal(X.toarray(), expected.toarray())
