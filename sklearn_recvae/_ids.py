"""Numbers for ids: which ids there are, and the place of each value among them."""

from collections import defaultdict
from itertools import count, repeat

import numpy as np

from sklearn_recvae._tables import describe_gaps

# Kinds of dtypes that are sorted. Others become Python objects, which are hashed.
_NUMBERS = "iuf"


def factorize(values, name):
    """Give the ids that occur, sorted, and the place of each value among them."""
    number = _number_numbers if values.dtype.kind in _NUMBERS else _number_objects
    ids, places = number(values)
    n_missing = np.count_nonzero(places < 0)
    if n_missing:
        raise ValueError(describe_gaps(name, n_missing))
    try:
        order = np.argsort(ids)
    except TypeError as error:
        raise ValueError(
            f"Column {name!r} has ids that cannot be sorted ({error}). Make them all "
            "numbers or all strings."
        ) from error
    rank = np.empty(len(ids), dtype=np.int32)
    rank[order] = np.arange(len(ids))
    return ids[order], rank[places]


def _number_numbers(values):
    """Give the different values, and the place of each among them, -1 for gaps."""
    ids = np.unique(values)
    places = np.searchsorted(ids, values)
    places[values != values] = -1  # NaN
    return ids, places


def _number_objects(values):
    """Give the different values, and the place of each among them, -1 for gaps."""
    values = values.astype(object, copy=False)
    pandas = _import_pandas()
    if pandas:
        places, ids = pandas.factorize(values)
        return as_ids(ids.tolist()), places
    place_of = defaultdict(count().__next__)
    places = _map_values(place_of.__getitem__, values)
    gaps = [place for value, place in place_of.items() if _is_gap(value)]
    places[np.isin(places, gaps)] = -1
    return as_ids(list(place_of)), places


def find_places(values, ids):
    """Give the place of each value among the ids, -1 where it is not there."""
    # An integer and a float would be compared as floats, which may lose digits.
    are_numbers = values.dtype.kind == ids.dtype.kind and ids.dtype.kind in _NUMBERS
    find = _find_numbers if are_numbers else _find_objects
    return find(values, ids).astype(np.int32, copy=False)


def _find_objects(values, ids):
    values, ids = values.astype(object, copy=False), ids.astype(object)
    pandas = _import_pandas()
    if pandas:
        return pandas.Index(ids, dtype=object).get_indexer(values)
    place_of = dict(zip(ids, range(len(ids)), strict=True))
    return _map_values(place_of.get, values, repeat(-1))


def _find_numbers(values, ids):
    if not len(ids):
        return np.full(len(values), -1)
    order = np.argsort(ids)
    nearest = np.searchsorted(ids, values, sorter=order)
    places = order[np.minimum(nearest, len(ids) - 1)]
    places[ids[places] != values] = -1
    return places


def _import_pandas():
    """Give pandas if it is there: it hashes objects several times as fast."""
    try:
        import pandas
    except ImportError:
        return None
    return pandas


def _map_values(function, objects, *defaults):
    """Map each value to an index."""
    places = map(function, objects.tolist(), *defaults)
    return np.fromiter(places, dtype=np.int32, count=len(objects))


def _is_gap(value):
    return value is None or value != value  # NaN


def as_ids(ids):
    """Make an array of a list of ids; other than numbers they stay objects."""
    array = np.asarray(ids)
    return array if array.dtype.kind in _NUMBERS else np.array(ids, dtype=object)


def check_ids(ids, name):
    """Return the ids that were passed for a column, without duplicates."""
    ids = as_ids(ids.tolist() if hasattr(ids, "tolist") else list(ids))
    if ids.ndim != 1 or not len(ids):
        raise ValueError(
            f"The ids of column {name!r} have shape {ids.shape}, expected 1-D and at "
            "least one."
        )
    n_unique = len(set(ids.tolist()))
    if n_unique < len(ids):
        raise ValueError(
            f"Of the {len(ids)} ids passed for column {name!r} only {n_unique} are "
            "different. Pass each id once."
        )
    return ids
