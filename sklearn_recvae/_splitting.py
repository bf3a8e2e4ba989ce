"""Private functions that split users, and the interactions of each user."""

import warnings

import numpy as np
from scipy.sparse import csr_array, issparse
from sklearn.utils import check_random_state

from sklearn_recvae._interactions import as_csr


def hold_out_users(X, fraction, rng):
    """Split the rows of X at random into training and validation users.

    Parameters
    ----------
    X : csr_array of shape (n_users, n_items)
        Canonical.
    fraction : float
        Share of validation users, of whom there is at least one.
    rng : RandomState
        Chooses them.

    Returns
    -------
    training, validation : csr_array
        Rows in the order of X.

    Raises
    ------
    ValueError
        If no training users would be left.
    """
    n_users = X.shape[0]
    n_val = max(1, round(fraction * n_users))
    if n_val >= n_users:
        raise ValueError(
            f"Validation holds out {n_val} of {n_users} users (n_samples={n_users}), "
            "which leaves none to train on. Pass more users, or X_val, or do without "
            "validation."
        )
    order = rng.permutation(n_users)
    return X[np.sort(order[n_val:])], X[np.sort(order[:n_val])]


def split_or_check_held_out(X, y, *, fraction=0.2, random_state=0):
    """Return the fold-in and the held-out matrix that ``score(X, y)`` compares.

    Parameters
    ----------
    X : csr_array of shape (n_users, n_items)
        Interactions as `as_csr` returns them.
    y : None or {array-like, sparse matrix} of shape (n_users, n_items) or (n_users,)
        A matrix holds the held-out interactions, X is then the fold-in part. Otherwise
        each row of X is split; a 1-D `y` is ignored with a warning.
    fraction : float, default=0.2
        See :func:`holdout_interactions`; not used where `y` is a matrix.
    random_state : int, RandomState instance or None, default=0
        See :func:`holdout_interactions`; not used where `y` is a matrix.

    Returns
    -------
    X_fold_in : csr_array of shape (n_users, n_items)
        Interactions to recommend from.
    X_held_out : csr_array of shape (n_users, n_items)
        Interactions to be found; no entry is also in `X_fold_in`.

    Raises
    ------
    ValueError
        If `y` is a matrix of another shape than X, has negative or non-finite entries,
        or overlaps X.

    Examples
    --------
    >>> from scipy.sparse import csr_array
    >>> from sklearn_recvae._splitting import split_or_check_held_out
    >>> X_fold_in, X_held_out = split_or_check_held_out(csr_array([[1, 1, 1]]), None)
    >>> X_fold_in.nnz, X_held_out.nnz
    (2, 1)
    """
    if y is None:
        return split_rows_by_hash(X, fraction, random_state)
    if (y.ndim if issparse(y) else np.ndim(y)) == 1:
        warnings.warn(
            "A 1-D y is ignored: each row of X is split into fold-in and held-out "
            "interactions instead. Pass y=None, or the held-out matrix of shape "
            f"{X.shape} as y.",
            UserWarning,
            stacklevel=3,
        )
        return split_rows_by_hash(X, fraction, random_state)
    y = as_csr(y, name="y")
    if y.shape != X.shape:
        raise ValueError(
            f"y has shape {y.shape}, expected {X.shape} as X: y holds the held-out "
            "interactions of the same users and items. Pass y=None to have each row of "
            "X split."
        )
    # Multiply presence, not values: a product of values could underflow to zero.
    n_overlapping = (X > 0).multiply(y > 0).nnz
    if n_overlapping:
        raise ValueError(
            f"{n_overlapping} of the {y.nnz} held-out entries of y are also in X: "
            "those items can never be recommended because they are seen. Expected X "
            "(fold-in) and y (held-out) to share no entry. Remove them from X, or pass "
            "y=None to have each row of X split."
        )
    return X, y


def split_rows_by_hash(X, fraction, random_state):
    """Split each row of a canonical CSR by a hash of the seed and its own items."""
    n_interactions = np.diff(X.indptr)
    n_out = np.rint(fraction * n_interactions).astype(np.int64)
    n_out = np.where(n_interactions < 2, 0, np.clip(n_out, 1, n_interactions - 1))

    # An array of one number, not a scalar: a scalar would warn when uint64 wraps
    # around, which is intended here.
    seed = check_random_state(random_state).randint(2**63 - 1, size=1, dtype=np.int64)
    item_hash = _mix_bits(X.indices.astype(np.uint64) + _mix_bits(seed.view(np.uint64)))
    # A sum does not depend on the order of the items; the difference of two running
    # sums is exact, because both wrap around alike.
    running_sum = np.concatenate([[np.uint64(0)], np.cumsum(item_hash)])
    row_hash = running_sum[X.indptr[1:]] - running_sum[X.indptr[:-1]]
    # Each step is a bijection of the item's index, so no two keys of a row are equal.
    keys = _mix_bits(item_hash ^ np.repeat(row_hash, n_interactions))
    return _hold_out_smallest(X, keys, n_out)


def _mix_bits(x):
    """SplitMix64 finaliser: every bit of the result depends on every bit of x."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _hold_out_smallest(X, keys, n_out):
    """Move the n_out[u] entries with the smallest keys of each row u to held-out."""
    n_interactions = np.diff(X.indptr)
    rows = np.repeat(np.arange(X.shape[0]), n_interactions)
    order = np.lexsort((keys, rows))
    # Sorting leaves every row where it was: entry p is number p - indptr[u] of row u.
    place = np.arange(X.nnz) - np.repeat(X.indptr[:-1], n_interactions)
    held = np.empty(X.nnz, dtype=bool)
    held[order] = place < np.repeat(n_out, n_interactions)
    return select(X, ~held), select(X, held)


def select_columns(X, columns):
    """Copy some columns, in ascending order, with memory for their entries only."""
    places = np.searchsorted(columns, X.indices).astype(X.indices.dtype, copy=False)
    mask = columns[places.clip(max=len(columns) - 1)] == X.indices
    selected = select(X, mask)
    arrays = selected.data, places[mask], selected.indptr
    return csr_array(arrays, shape=(X.shape[0], len(columns)))


def select(X, mask):
    """Copy the entries of X where mask is true."""
    indptr = np.concatenate([[0], np.cumsum(mask)])[X.indptr]
    # A wider indptr would make scipy widen the indices too.
    indptr = indptr.astype(X.indptr.dtype)
    return csr_array((X.data[mask], X.indices[mask], indptr), shape=X.shape)
