"""Find the distinct ids of a column, and the index of each value among them.

Ids are numbers or strings. Two values are the same id only if they are equal in
Python: no value is rounded or truncated before it is compared.
"""

from collections import defaultdict
from itertools import count, repeat

import numpy as np

from sklearn_recvae._tables import describe_gaps, to_array

# Kinds of dtypes that are sorted. Others become Python objects, which are hashed.
_NUMBERS = "iuf"


def factorize(values, name):
    """Return the sorted distinct ids, and the index of each value among them."""
    number = _number_numbers if values.dtype.kind in _NUMBERS else _number_objects
    ids, places = number(values, name)
    n_missing = np.count_nonzero(places < 0)
    if n_missing:
        raise ValueError(describe_gaps(name, n_missing))
    order = _sort(ids, name)
    rank = np.empty(len(ids), dtype=np.int32)
    rank[order] = np.arange(len(ids))
    return ids[order], rank[places]


def _number_numbers(values, name):
    """Return the distinct values, and the index of each value; -1 if missing."""
    ids = np.unique(values)
    places = np.searchsorted(ids, values)
    places[values != values] = -1  # NaN
    return ids, places


def _number_objects(values, name):
    """Return the distinct values, and the index of each value; -1 if missing."""
    place_of = defaultdict(count().__next__)
    places = _map_values(place_of.__getitem__, values)
    gaps = [place_of[value] for value in _find_gaps(place_of)]
    places[np.isin(places, gaps)] = -1
    return as_ids(list(place_of), name), places


def _sort(ids, name):
    try:
        return np.argsort(ids)
    except TypeError as error:
        raise ValueError(
            f"Column {name!r} has ids that cannot be sorted ({error}). Make them all "
            "numbers or all strings."
        ) from error


def append_new(known, values, name):
    """Append the sorted new ids to the known ones; return all, and the indices."""
    ids, places = factorize(values, name)
    if not len(known):
        return ids, places
    places_of_ids = find_places(ids, known, name)
    is_new = places_of_ids < 0
    if is_new.any():
        new = ids[is_new].tolist()
        # Strings cannot follow numbers, nor numbers strings.
        _sort(np.array([known.tolist()[0], new[0]], dtype=object), name)
        places_of_ids[is_new] = len(known) + np.arange(len(new))
        known = as_ids(known.tolist() + new, name)
    return known, places_of_ids[places]


def find_places(values, ids, name):
    """Return the index of each value among the ids, -1 for values that are no id."""
    # An integer and a float would be compared as floats, which may lose digits.
    are_numbers = values.dtype.kind == ids.dtype.kind and ids.dtype.kind in _NUMBERS
    find = _find_numbers if are_numbers else _find_objects
    places = find(values, ids).astype(np.int32, copy=False)
    n_missing = count_gaps(values[places < 0])
    if n_missing:
        raise ValueError(describe_gaps(name, n_missing))
    return places


def _find_objects(values, ids):
    place_of = dict(zip(ids.tolist(), range(len(ids)), strict=True))
    return _map_values(place_of.get, values, repeat(-1))


def _find_numbers(values, ids):
    if not len(ids):
        return np.full(len(values), -1)
    order = np.argsort(ids)
    nearest = np.searchsorted(ids, values, sorter=order)
    places = order[np.minimum(nearest, len(ids) - 1)]
    places[ids[places] != values] = -1
    return places


def _map_values(function, values, *defaults):
    """Map each value to an index."""
    places = map(function, values.tolist(), *defaults)
    return np.fromiter(places, dtype=np.int32, count=len(values))


def count_gaps(values):
    """Say how many of the values are missing."""
    if values.dtype.kind in _NUMBERS:
        return np.count_nonzero(values != values)
    return len(_find_gaps(values.tolist()))


def _find_gaps(values):
    """Return the missing values, such as None, NaN, NaT and NA."""
    return [
        value
        for value in values
        if type(value) is not str and not _equals_itself(value)
    ]


def _equals_itself(value):
    same = value is not None and value == value
    return isinstance(same, bool | np.bool_) and bool(same)


def as_ids(ids, name):
    """Make an array of a list of ids; ids that are no numbers stay Python objects."""
    array = to_array(ids, name)
    return array if array.dtype.kind in _NUMBERS else array.astype(object)


def check_ids(ids, name):
    """Return the ids of a parameter or of a column; each must be there, and once."""
    ids = as_ids(ids.tolist() if hasattr(ids, "tolist") else list(ids), name)
    if not len(ids):
        raise ValueError(f"There are no ids of {name!r}, expected at least one.")
    n_missing = count_gaps(ids)
    if n_missing:
        raise ValueError(
            f"Of the {len(ids)} ids of {name!r} {n_missing} are missing. Leave them "
            "out."
        )
    n_unique = len(set(ids.tolist()))
    if n_unique < len(ids):
        raise ValueError(
            f"Of the {len(ids)} ids of {name!r} only {n_unique} are different. Pass "
            "each id once."
        )
    return ids


def check_item_ids(ids, n_items):
    """Check the ids of the columns of a matrix, and return them as an array."""
    ids = check_ids(ids, "item_ids")
    if len(ids) != n_items:
        raise ValueError(
            f"There are {len(ids)} item_ids, but X has {n_items} columns. Pass an id "
            "for each, such as the item_ids_ of the encoder that made X."
        )
    check_kinds(ids.tolist(), "item_ids")
    return ids


def check_kinds(ids, name):
    """Raise a ValueError unless the ids are all numbers or all strings."""
    for value in ids:
        if not isinstance(value, str | int | float):
            raise ValueError(
                f"An id of {name} is a {type(value).__name__}, expected numbers or "
                "strings. Convert them first."
            )
        if isinstance(value, str) != isinstance(ids[0], str):
            raise ValueError(
                f"There are {ids[0]!r} and {value!r} in {name}, which has both numbers "
                "and strings. Make them all numbers or all strings."
            )


def check_begins_with(ids, known, name):
    """Raise a ValueError unless the ids begin with the known ones, in their order."""
    for place, (own, other) in enumerate(zip(known, ids, strict=False)):
        if own != other:
            raise ValueError(
                f"Item {place} of {name} is {other!r}, but the estimator knows "
                f"{own!r} there. What it knows must come first, in the same order, and "
                "then what is new: InteractionEncoder.partial_fit puts it there, an "
                "encoder fitted anew does not."
            )
    if len(ids) < len(known):
        raise ValueError(
            f"There are {len(ids)} {name}, but the estimator knows {len(known)}. Pass "
            "all of them, those that are known first."
        )
