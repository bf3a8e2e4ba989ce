"""Read columns of a table of events from any data frame, and make such a table."""

import math
from collections.abc import Iterable, Mapping

import narwhals
import numpy as np

_BOOLS = bool, np.bool_
_FLOATS = float, np.float32, np.float16  # np.float64 is a float
# float64 represents every whole number up to this one.
_LARGEST_EXACT = 2**53


def read_columns(table, names):
    """Return the columns as 1-D arrays, and the frame's library; None for dicts."""
    if isinstance(table, Mapping):
        present, get, backend = list(table), table.__getitem__, None
    else:
        frame = _as_frame(table)
        present, get, backend = (
            frame.columns,
            frame.get_column,
            frame.implementation.value,
        )
    missing = [name for name in names if name not in present]
    if missing:
        raise ValueError(
            f"The table has no column {missing[0]!r}, it has {present}. Set the "
            "parameters user, item, weight and time to the names of the columns."
        )
    columns = {name: as_column(get(name), name) for name in names}
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"The columns have different lengths: {lengths}.")
    return columns, backend


def take_events(table, names, taken):
    """Return the rows of a table where `taken` is true, with the named columns."""
    names = list(dict.fromkeys(names))
    if isinstance(table, Mapping):
        return {name: as_column(table[name], name)[taken] for name in names}
    return _as_frame(table).select(names).filter(taken.tolist()).to_native()


def _as_frame(table):
    try:
        return narwhals.from_native(table, eager_only=True)
    except TypeError as error:
        raise TypeError(
            f"Got a table of type {type(table).__name__}, expected a data frame in "
            "memory (of pandas, polars, pyarrow, ...) or a dict of arrays."
        ) from error


def as_column(column, name):
    """Turn a column into a 1-D array."""
    if isinstance(column, list | tuple):
        return to_array(column, name)
    column = narwhals.from_native(column, series_only=True, pass_through=True)
    is_series = isinstance(column, narwhals.Series)
    n_missing = column.null_count() if is_series else np.ma.count_masked(column)
    if n_missing:
        raise ValueError(describe_gaps(name, n_missing))
    if is_series:
        return _series_to_array(column, name)
    column = np.asarray(column)
    if column.ndim != 1:
        raise ValueError(
            f"Column {name!r} has {column.ndim} dimensions, expected 1: a value for "
            "each event."
        )
    if column.dtype != object:
        return column
    return column.astype(_choose_dtype(column.tolist(), name), copy=False)


def _series_to_array(column, name):
    """Turn a column of narwhals into an array."""
    dtype = column.dtype
    too_wide = dtype in (narwhals.Int128, narwhals.UInt128)
    is_number = dtype.is_float() or (dtype.is_integer() and not too_wide)
    if is_number or dtype.is_temporal() or dtype == narwhals.Boolean:
        return column.to_numpy()
    # In an array, NumPy's strings would lose zeros at their end.
    return to_array(column.to_list(), name)


def to_array(values, name):
    """Make a 1-D array of a list, so that different values stay different.

    Numbers become int64, uint64 or float64, if one of these represents all of them
    exactly. Other values stay Python objects. (`numpy.asarray` makes floats of 1 and
    2**63, strings of 1 and "1", and removes zeros at the end of strings.)
    """
    dtype = _choose_dtype(values, name)
    return np.fromiter(values, dtype=object, count=len(values)).astype(dtype)


def _choose_dtype(values, name):
    """Return the dtype that represents all values exactly."""
    types = set(map(type, values))
    for cls in types:
        if issubclass(cls, Iterable) and not issubclass(cls, str | bytes):
            raise ValueError(
                f"A value of {name!r} is a {cls.__name__}, expected numbers or "
                "strings. Convert them first."
            )
    kinds = {_kind(cls) for cls in types}
    if "bool" in kinds and kinds & {"int", "float"}:
        raise ValueError(
            f"The values of {name!r} are booleans and numbers, of which True and 1 "
            "would be the same. Convert them first."
        )
    if kinds == {"bool"}:
        return bool
    if kinds == {"int"}:
        low, high = int(min(values)), int(max(values))
        for dtype in (np.int64, np.uint64):
            if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
                return dtype
        return object
    if kinds == {"int", "float"}:
        whole = (int(value) for value in values if not isinstance(value, _FLOATS))
        return np.float64 if max(map(abs, whole)) <= _LARGEST_EXACT else object
    return np.float64 if kinds <= {"float"} else object


def _kind(cls):
    if issubclass(cls, _BOOLS):
        return "bool"
    if issubclass(cls, int | np.integer):
        return "int"
    return "float" if issubclass(cls, _FLOATS) else "other"


def describe_gaps(name, n_missing):
    """Return the message about a column with missing values."""
    return (
        f"Column {name!r} has {n_missing} missing values, expected none. Drop these "
        "events first."
    )


def check_weights(weights, name, threshold):
    """Return float32 weights; with a threshold, 1 for those above it, else 0."""
    if weights.dtype.kind not in "biuf":
        raise ValueError(
            f"Column {name!r} of weights has dtype {weights.dtype}, expected numbers."
        )
    if threshold is None:
        with np.errstate(over="ignore"):
            weights = weights.astype(np.float32)
    if not np.isfinite(weights).all():
        raise ValueError(
            f"Column {name!r} has weights that are NaN, infinite or too large for "
            "float32. Drop these events first."
        )
    if threshold is not None:
        return _is_above(weights, threshold).astype(np.float32)
    if (weights < 0).any():
        raise ValueError(
            f"Column {name!r} has negative weights, such as {weights.min()}. Drop "
            "these events, or set threshold to make interactions of the others."
        )
    return weights


def _is_above(weights, threshold):
    """Compare in the precision of the weights, in which .1 equals float32(.1)."""
    if weights.dtype.kind != "f":
        return weights > math.floor(threshold)  # exact
    with np.errstate(over="ignore"):
        return weights > weights.dtype.type(threshold)


def make_table(columns, backend):
    """Make a data frame of the backend; return the columns if the backend is None."""
    if backend is None:
        return columns
    return narwhals.from_dict(columns, backend=backend).to_native()
