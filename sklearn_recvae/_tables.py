"""Columns of a table of events, from any data frame, and back."""

from collections.abc import Mapping

import numpy as np


def read_columns(table, names):
    """Give the columns as 1-D arrays, and what to build tables with, None for dicts."""
    if isinstance(table, Mapping):
        present, get, backend = list(table), table.__getitem__, None
    else:
        frame = _as_frame(table)
        present, get, backend = frame.columns, frame.get_column, frame.implementation
    missing = [name for name in names if name not in present]
    if missing:
        raise ValueError(
            f"The table has no column {missing[0]!r}, it has {present}. Set the "
            "parameters user, item, weight and time to the names of the columns."
        )
    columns = {name: _as_array(get(name), name) for name in names}
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"The columns have different lengths: {lengths}.")
    if not len(columns[names[0]]):
        raise ValueError("The table has no events, expected at least one.")
    return columns, backend


def _as_frame(table):
    try:
        import narwhals
    except ImportError as error:
        raise ImportError(
            "Data frames are read by narwhals, which is not installed. Run 'python -m "
            "pip install narwhals', or pass a dict of arrays."
        ) from error
    try:
        return narwhals.from_native(table, eager_only=True)
    except TypeError as error:
        raise TypeError(
            f"Got a table of type {type(table).__name__}, expected a data frame in "
            "memory (of pandas, polars, pyarrow, ...) or a dict of arrays."
        ) from error


def _as_array(column, name):
    """Turn a column into a 1-D array; times become numbers or datetime64."""
    if hasattr(column, "null_count"):  # of a data frame
        n_missing = column.null_count()
        if n_missing:
            raise ValueError(describe_gaps(name, n_missing))
        if column.dtype.is_temporal():
            column = column.dt.timestamp("us")
        column = column.to_numpy()
    column = np.asarray(column)
    if column.ndim != 1:
        raise ValueError(
            f"Column {name!r} has {column.ndim} dimensions, expected 1: a value for "
            "each event."
        )
    return column


def describe_gaps(name, n_missing):
    return (
        f"Column {name!r} has {n_missing} missing values, expected none. Drop these "
        "events first."
    )


def check_weights(weights, name, threshold):
    """Return the weights as float32; only with a threshold may they be negative."""
    if weights.dtype.kind not in "biuf":
        raise ValueError(
            f"Column {name!r} of weights has dtype {weights.dtype}, expected numbers."
        )
    weights = weights.astype(np.float32)
    if not np.isfinite(weights).all():
        raise ValueError(
            f"Column {name!r} has weights that are NaN, infinite or too large for "
            "float32. Drop these events first."
        )
    if threshold is None and (weights < 0).any():
        raise ValueError(
            f"Column {name!r} has negative weights, such as {weights.min()}. Drop "
            "these events, or set threshold to make interactions of the others."
        )
    return weights


def check_times(times, name):
    """Return the times as an array that can be sorted."""
    if times.dtype.kind not in "iufmM":
        raise ValueError(
            f"Column {name!r} of times has dtype {times.dtype}, expected numbers or "
            "datetime64. Convert them first."
        )
    n_missing = int((times != times).sum())  # NaN, NaT
    if n_missing:
        raise ValueError(describe_gaps(name, n_missing))
    return times


def make_table(columns, backend):
    """Give the columns as a frame of the backend, or as they are if it is None."""
    if backend is None:
        return columns
    import narwhals

    return narwhals.from_dict(columns, backend=backend).to_native()
