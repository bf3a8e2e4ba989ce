"""Check and compare times of events, and let weights halve with the age of events."""

from datetime import UTC, timedelta
from numbers import Real

import numpy as np

from sklearn_recvae._tables import describe_gaps

_DAY = np.timedelta64(1, "D")
_DURATIONS = timedelta, np.timedelta64
# However old an event is, it keeps this share of its weight, so that it stays seen.
LEAST_SHARE = 1e-6
_LEAST_WEIGHT = np.finfo(np.float32).tiny  # what is smaller, some devices make 0
_KINDS = {"M": "datetime64", "m": "timedelta64"}  # others are numbers


def check_times(times, name):
    """Return the times as an array that can be sorted."""
    if times.dtype.kind not in "iufmM":
        example = f", such as {times.tolist()[0]!r}" if len(times) else ""
        raise ValueError(
            f"Column {name!r} of times has dtype {times.dtype}{example}; expected "
            "numbers, datetime64 or timedelta64. Convert them first."
        )
    n_missing = int((times != times).sum())  # NaN, NaT
    if n_missing:
        raise ValueError(describe_gaps(name, n_missing))
    return times


def check_can_be_cut(times, name):
    """Raise a ValueError if a difference of checked times would mean nothing."""
    kind = times.dtype.kind
    if kind == "m" and np.datetime_data(times.dtype)[0] in ("Y", "M", "generic"):
        raise ValueError(
            f"Column {name!r} of times has dtype {times.dtype}, whose unit has no "
            "fixed length. Convert it to days or seconds first."
        )
    if kind == "f" and not np.isfinite(times).all():
        raise ValueError(
            f"Column {name!r} has infinite times. Drop these events first."
        )
    if kind in "ifm" and len(times) and times.min() < times.dtype.type(0):
        raise ValueError(
            f"Column {name!r} has negative times, such as {times.min()}. Drop these "
            "events, or count time from an earlier moment; datetime64 has any moment."
        )


def check_half_life(half_life, time):
    """Raise a ValueError unless it is None, or positive with a column of times."""
    if half_life is None:
        return
    if time is None:
        raise ValueError(
            f"Got half_life={half_life!r} and time=None, but only events with a time "
            "have an age. Set time to the name of their column."
        )
    # A timedelta64 counts as an integer in Python.
    is_right = isinstance(half_life, Real | timedelta)
    if not is_right or not _to_number(half_life) > 0:
        raise ValueError(
            f"Got half_life={half_life!r}, expected a number or a timedelta above 0: "
            "the age at which an event has half its weight. Set it to None to keep "
            "the weights of all ages."
        )


def find_reference(times, name, known):
    """Return the latest of the times and of the time that is known; None if none."""
    if not len(times):
        return known
    latest = times.max()
    if known is None:
        return latest
    check_same_kind(times, name, known)
    # In days: NumPy compares times of different units with silent overflow.
    return latest if numbers_of(latest) > numbers_of(known) else known


def check_same_kind(times, name, reference):
    """Raise a ValueError if times are compared with a time of another kind."""
    kinds = [
        _KINDS.get(np.asarray(each).dtype.kind, "numbers")
        for each in (times, reference)
    ]
    if kinds[0] != kinds[1]:
        raise ValueError(
            f"Column {name!r} of times has {kinds[0]}, but it is compared with "
            f"{reference!r}, one of {kinds[1]}. Convert them to the same kind first."
        )


def decay(weights, times, reference, half_life, name):
    """Multiply weights by 2^(-age / half_life); return float64.

    What is later than the reference has age 0. The half-life is a number in the unit
    of the times, for dates in days, or a timedelta.
    """
    if isinstance(half_life, _DURATIONS) and times.dtype.kind not in "mM":
        raise ValueError(
            f"Got half_life={half_life!r}, but column {name!r} has numbers, of which "
            "the unit is not known. Pass half_life as a number in that unit, or "
            "convert the column to datetime64."
        )
    ages = np.maximum(numbers_of(reference) - numbers_of(times), 0)
    with np.errstate(over="ignore"):
        shares = np.exp2(-ages / _to_number(half_life))
    decayed = weights * np.maximum(shares, LEAST_SHARE)
    # A tiny weight does not vanish either, and none grows.
    return np.minimum(weights, np.maximum(decayed, _LEAST_WEIGHT))


def numbers_of(times):
    """Return times as float64, those with a unit in days."""
    times = np.asarray(times)
    if times.dtype.kind not in "mM":
        return times.astype(np.float64)
    unit, n_units = np.datetime_data(times.dtype)
    if unit in ("Y", "M", "W"):
        return numbers_of(times.astype(f"{times.dtype.kind}8[D]"))
    # A quotient of whole numbers: midnight is a whole number of days exactly.
    return times.astype(np.int64) / (_DAY / np.timedelta64(n_units, unit))


def _to_number(half_life):
    """Return the half-life as a float, a timedelta in days; NaN if it has no length."""
    if not isinstance(half_life, _DURATIONS):
        return float(half_life)
    try:
        return float(np.timedelta64(half_life) / _DAY)
    except TypeError:  # months and years
        return np.nan


def find_cut(times, fraction):
    """Return the time from which on there is this share of the times, or more."""
    n_after = min(max(1, round(fraction * len(times))), len(times))
    return np.partition(times, len(times) - n_after)[len(times) - n_after]


def parse_cut(cut, times):
    """Return the cut as a number, datetime64 or timedelta64, as the times are."""
    kind = _KINDS.get(times.dtype.kind, "a number")
    try:
        if times.dtype.kind == "M":
            parsed = np.datetime64(_without_zone(cut))
            is_right = not np.isnat(parsed)
        elif times.dtype.kind == "m":
            parsed = np.timedelta64(cut)
            is_right = isinstance(cut, _DURATIONS) and not np.isnat(parsed)
        else:
            parsed = cut
            is_number = isinstance(cut, Real) and not isinstance(cut, _DURATIONS)
            is_right = is_number and bool(np.isfinite(cut))
    except (TypeError, ValueError):
        is_right = False
    if not is_right:
        raise ValueError(
            f"Got cut={cut!r}, but the times are from {times.min()} to {times.max()}. "
            f"Pass {kind} between them."
        )
    return parsed


def _without_zone(moment):
    """Return a moment in UTC, in which frames give theirs to NumPy."""
    if getattr(moment, "tzinfo", None) is None:
        return moment
    return moment.astimezone(UTC).replace(tzinfo=None)


def are_at_or_after(times, cut):
    """Say which times are not before the cut."""
    if times.dtype.kind not in "mM":
        return times >= cut
    # In days: NumPy compares times of different units with silent overflow.
    return numbers_of(times) >= numbers_of(cut)
