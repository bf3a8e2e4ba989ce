"""Check interaction matrices, and convert them to canonical CSR.

Every public method passes its matrix through :func:`check_interactions`, or through
:func:`as_csr` if there is no estimator. So one place decides what is accepted and what
is refused, and ensures that the caller's object does not change.
"""

import numpy as np
from scipy.sparse import csr_array, issparse
from sklearn.utils import check_array
from sklearn.utils.validation import validate_data

from sklearn_recvae._sklearn import _get_feature_names

# Fills a list that has fewer items than were asked for.
NO_ITEM = -1

# Memory for the float32 scores of one block of users, in bytes. The C library reuses
# blocks of this size, see `keep_freed_memory`.
SCORES_BYTES = 24 * 2**20

# Arguments for scikit-learn's validators. All computation is in float32.
_CHECKS = {"accept_sparse": "csr", "dtype": np.float32, "ensure_non_negative": True}


def as_csr(X, *, name="X"):
    """Return X as a canonical float32 CSR matrix; the caller's object is untouched.

    Canonical: sorted indices, duplicate entries summed, no explicit zeros. The
    result may share memory with X, so nobody may write to it.

    Parameters
    ----------
    X : {array-like, sparse matrix} of shape (n_users, n_items)
        Non-negative interactions.
    name : str, default="X"
        What to call the matrix in error messages.

    Returns
    -------
    X : csr_array of shape (n_users, n_items)
        The same interactions.
    """
    return _canonical(
        check_array(_check_and_cast_sparse(X), input_name=name, **_CHECKS)
    )


def check_interactions(estimator, X, *, reset):
    """Validate X on behalf of an estimator; otherwise as :func:`as_csr`.

    Parameters
    ----------
    estimator : estimator instance
        Named in errors; ``n_features_in_`` and ``feature_names_in_`` are set on it
        if `reset`, checked otherwise.
    X : {array-like, sparse matrix} of shape (n_users, n_items)
        Non-negative interactions.
    reset : bool
        Whether X defines the catalogue (``fit``) or has to match it.

    Returns
    -------
    X : csr_array of shape (n_users, n_items)
        The same interactions.
    """
    X = _check_and_cast_sparse(X)
    try:
        X = validate_data(estimator, X, reset=reset, **_CHECKS)
    except ValueError as error:
        if "Expected 2D array" not in str(error):
            raise
        raise ValueError(
            f"{error} Expected are interactions, a row for each user and a column for "
            "each item. Users whose numbers are known are rows of such a matrix, "
            "as in X[[0, 1, 2]]."
        ) from None
    return _canonical(X)


def check_columns(estimator, X, matrices):
    """Raise a ValueError unless data frames have the columns of X, in the same order.

    Parameters
    ----------
    estimator : estimator instance
        Its ``feature_names_in_`` are the names of the columns; without them those of X
        are, if it has any.
    X : {array-like, sparse matrix} of shape (n_users, n_items)
        As the caller gave it.
    matrices : dict
        What has a column for each of X's, or is something else, by the names of the
        parameters. Only data frames are looked at.
    """
    names = getattr(estimator, "feature_names_in_", None)
    if names is None:
        names = _get_feature_names(X)
    if names is None:
        return
    for parameter, matrix in matrices.items():
        own_names = _get_feature_names(matrix)
        if own_names is None:
            continue
        # The check of shapes refuses another number of columns.
        for place, (own, name) in enumerate(zip(own_names, names, strict=False)):
            if own != name:
                raise ValueError(
                    f"Column {place} of {parameter} is named {own!r}, expected "
                    f"{name!r}. The columns must be the items of the estimator, in the "
                    "same order."
                )


def _check_and_cast_sparse(X):
    """Check and cast before native code changes the format and sums duplicates."""
    if issparse(X):
        check_sparse(X)
        if X.dtype.kind in "biu":
            return X.astype(np.float32)  # so that True + True is 2
    return X


def check_sparse(X):
    """Raise a ValueError if the index arrays of a sparse matrix contradict each other.

    Native code trusts them when it converts formats or sums duplicates; a wrong index
    would crash the process. scipy writes to the object that it checks, so it gets a new
    object with the caller's arrays.
    """
    if X.format in ("csr", "csc", "bsr"):
        # scipy checks nothing if the last number says that there are no entries.
        if (X.indptr[1:] < X.indptr[:-1]).any():
            raise ValueError("The index pointer of a sparse matrix decreases.")
        shell = type(X)((X.data, X.indices, X.indptr), shape=X.shape)
        shell.check_format(full_check=True)
    elif X.format == "coo":
        type(X)((X.data, X.coords), shape=X.shape)
    elif X.format == "dia":
        type(X)((X.data, X.offsets), shape=X.shape)
    elif X.format == "lil":
        _check_lists(X)


def _check_lists(X):
    """Raise a ValueError if the lists of a LIL matrix do not fit its shape."""
    for row, (columns, values) in enumerate(zip(X.rows, X.data, strict=True)):
        if len(columns) != len(values):
            raise ValueError(
                f"Row {row} of a LIL matrix has {len(columns)} indices for "
                f"{len(values)} values."
            )
        if columns and not (min(columns) >= 0 and max(columns) < X.shape[1]):
            raise ValueError(
                f"Row {row} of a LIL matrix has indices from {min(columns)} to "
                f"{max(columns)}, expected 0 to {X.shape[1] - 1}."
            )


def _canonical(X):
    if issparse(X):
        # A new object with the caller's arrays: scipy writes to the object only.
        X = csr_array((X.data, X.indices, X.indptr), shape=X.shape)
    else:
        X = csr_array(X)
    if not X.has_canonical_format or not X.data.all():
        X = X.copy()
        X.sum_duplicates()
        X.eliminate_zeros()
        if not np.isfinite(X.data).all():
            raise ValueError(
                "The sum of duplicate entries is infinity or too large for float32."
            )
    return X


def remove_pairs(X, others):
    """Return the matrix without the entries that another matrix has too.

    Parameters
    ----------
    X, others : csr_array of shape (n_users, n_items)
        Canonical.

    Returns
    -------
    csr_array of shape (n_users, n_items)
        Canonical.
    """
    keys, others = (_pair_numbers(matrix) for matrix in (X, others))
    return _keep_entries(X, ~np.isin(keys, others, assume_unique=True))


def keep_columns(X, columns):
    """Return the matrix with the entries of some columns only, in the same shape.

    Parameters
    ----------
    X : csr_array of shape (n_users, n_items)
        Canonical.
    columns : ndarray of shape (n_kept,)
        Their indices.

    Returns
    -------
    csr_array of shape (n_users, n_items)
        Canonical.
    """
    kept = np.zeros(X.shape[1], dtype=bool)
    kept[columns] = True
    return _keep_entries(X, kept[X.indices])


def _pair_numbers(X):
    rows, columns = X.nonzero()
    return rows.astype(np.int64) * X.shape[1] + columns


def _keep_entries(X, kept):
    n_before = np.concatenate([[0], kept.cumsum()])
    arrays = X.data[kept], X.indices[kept], n_before[X.indptr]
    return csr_array(arrays, shape=X.shape)
