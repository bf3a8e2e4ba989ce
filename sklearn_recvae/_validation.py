"""Checks of parameters and arguments, beyond the type and the range of each."""

import sys
from numbers import Integral, Real

import numpy as np
from sklearn.utils import check_array

from sklearn_recvae._ids import check_begins_with, check_ids, check_kinds
from sklearn_recvae._interactions import as_csr
from sklearn_recvae._sklearn import Interval
from sklearn_recvae._splitting import split_or_check_held_out


class NumberIn(Interval):
    """A constraint of scikit-learn: a number in an interval, and no bool."""

    def is_satisfied_by(self, val):
        """Whether it is one."""
        if isinstance(val, np.generic):
            val = val.item()  # a bound beyond the range of its dtype would warn
        return not isinstance(val, bool) and super().is_satisfied_by(val)


# Upper bounds: torch and NumPy can represent every number up to them.
COUNT = NumberIn(Integral, 0, 2**31 - 1, closed="both")
POSITIVE_INT = NumberIn(Integral, 1, 2**31 - 1, closed="both")
NON_NEGATIVE = NumberIn(Real, 0, sys.float_info.max, closed="both")
POSITIVE = NumberIn(Real, 0, sys.float_info.max, closed="right")


def check_kl_weight(gamma, beta):
    """Raise a ValueError unless exactly one of gamma and beta is given."""
    if gamma is None and beta is None:
        raise ValueError(
            "gamma and beta are both None, expected one of them. Set gamma to rescale "
            "the KL term by the user's feedback, or beta for a fixed weight."
        )
    if gamma is not None and beta is not None:
        raise ValueError(
            f"Got beta={beta!r} together with gamma={gamma!r}, expected one of them. "
            "Set gamma=None to use the fixed beta."
        )


def check_has_interactions(X):
    """Raise a ValueError unless X has at least one interaction."""
    if X.nnz == 0:
        raise ValueError(
            f"X of shape {X.shape} has no interactions, expected at least one "
            "entry > 0. Check how the matrix was built."
        )


def check_frequent_items(X, min_count):
    """Raise a ValueError unless an item has at least so many interactions."""
    most = np.bincount(X.indices).max()
    if most < min_count:
        raise ValueError(
            f"No item of X has slim_min_count={min_count} interactions, the most is "
            f"{most}. Lower slim_min_count, or set slim_interval=None."
        )


def check_prior_weights(prior_weights):
    """Raise a ValueError unless these are three weights that sum to 1."""
    weights = check_array(
        prior_weights,
        ensure_2d=False,
        dtype=np.float64,
        ensure_min_samples=0,
        input_name="prior_weights",
    )
    convex = (weights >= 0).all() and abs(weights.sum() - 1) <= 1e-6
    if weights.shape != (3,) or not convex:
        raise ValueError(
            f"Got prior_weights={prior_weights!r}, expected three non-negative numbers "
            "with sum 1 (of the standard normal, the old posterior and the wide "
            "normal). Divide them by their sum."
        )


def scale_weights(weights):
    """Bring the largest weight to 1/2 or more, below 1, so that sums do not overflow.

    All are multiplied by one power of two, which does not round them.
    """
    _, exponent = np.frexp(weights.max())
    return np.ldexp(weights, -exponent)


def check_validation(X_val, y_val):
    """Return the fold-in and held-out validation matrices, or None and None."""
    if X_val is None:
        if y_val is not None:
            raise ValueError(
                "Got y_val without X_val. Pass the validation users' fold-in "
                "interactions as X_val, or all of them as X_val and no y_val."
            )
        return None, None
    fold_in, held_out = split_or_check_held_out(X_val, y_val)
    if held_out.nnz == 0:
        raise ValueError(
            f"None of the {X_val.shape[0]} validation users can be evaluated "
            f"(n_features={X_val.shape[1]}), expected at least one with two "
            "interactions, one to fold in and one to hold out. "
            "Pass other validation users, or raise validation_fraction."
        )
    return fold_in, held_out


def check_candidates(items, exclude_items, shape):
    """Separate lists of items, for all users, from matrices with a row for each user.

    Returns
    -------
    candidates : ndarray or None
        Ascending indices of the items to rank for all users; None means all.
    allowed, excluded : csr_array of shape (n_users, n_items) or None
        The only pairs to rank, and those not to.
    """
    allowed, items = _split_kinds(items, "items", shape)
    excluded, exclude_items = _split_kinds(exclude_items, "exclude_items", shape)
    if items is None and exclude_items is None:
        return None, allowed, excluded
    if items is None:
        items = np.arange(shape[1])
    if exclude_items is not None:
        items = np.setdiff1d(items, exclude_items)
    return np.unique(items), allowed, excluded


def _split_kinds(items, name, shape):
    """Return a matrix of pairs, or None, and an array of item indices, or None."""
    if items is None:
        return None, None
    n_dimensions = items.ndim if hasattr(items, "ndim") else np.ndim(items)
    if n_dimensions != 2:
        return None, check_item_indices(items, name, shape[1])
    pairs = as_csr(items, name=name)
    if pairs.shape != shape:
        raise ValueError(
            f"{name} is a matrix of shape {pairs.shape}, but X has {shape}. Pass a "
            "matrix with an entry > 0 for each pair of user and item, or the indices "
            "of items for all users."
        )
    return pairs, None


def check_item_indices(items, name, n_items):
    """Return the item indices as a 1-D int64 array."""
    if isinstance(items, Integral):
        raise ValueError(
            f"Got {name}={items!r}, expected a list of column indices of X. Pass "
            f"{name}=[{items!r}] for one."
        )
    items = check_array(
        items, ensure_2d=False, dtype=None, ensure_min_samples=0, input_name=name
    )
    if items.ndim != 1 or (items.size and items.dtype.kind not in "iu"):
        raise ValueError(
            f"{name} is an array of {items.dtype} with {items.ndim} dimensions, "
            "expected a 1-D array of integers: column indices of X."
        )
    wrong = (items < 0) | (items >= n_items)
    if wrong.any():
        raise ValueError(
            f"{name} contains {items[wrong][0]}, expected column indices of X, "
            f"from 0 to {n_items - 1}."
        )
    return items.astype(np.int64)


def check_items_of_users(items, shape):
    """Return the item indices, some for each user, as an int64 array."""
    items = check_array(
        items, ensure_2d=False, dtype=None, ensure_min_features=0, input_name="items"
    )
    n_users, n_items = shape
    if items.ndim > 2 or len(items) != n_users or items.dtype.kind not in "iu":
        raise ValueError(
            f"items is an array of {items.dtype} of shape {items.shape}, expected "
            f"integers of shape ({n_users},) or ({n_users}, n_targets): column indices "
            "of X for each of its rows, or -1 for no item."
        )
    wrong = (items < -1) | (items >= n_items)
    if wrong.any():
        raise ValueError(
            f"items contains {items[wrong][0]}, expected column indices of X, from 0 "
            f"to {n_items - 1}, or -1 for no item."
        )
    return items.astype(np.int64)


def check_new_items(items, known):
    """Return the number of new items, and all ids, or None if there are no ids.

    `known` are the ids that the estimator holds, or None.
    """
    if isinstance(items, Integral):
        if items and known is not None:
            raise ValueError(
                f"Got items={items}, but the estimator knows its items by id. Pass the "
                "ids of the whole catalogue, those that are known first, such as the "
                "item_ids_ of the encoder after partial_fit."
            )
        return int(items), known
    if known is None:
        raise ValueError(
            "Got ids of items, but the estimator does not know those of its columns. "
            "Pass the number of new items, or fit with item_ids or on a data frame."
        )
    ids = check_ids(items, "items")
    check_begins_with(ids.tolist(), known.tolist(), "items")
    check_kinds(ids.tolist(), "items")
    return len(ids) - len(known), ids
