"""Interaction matrices: CSR in, torch batches out.

Every public method passes its matrix through :func:`check_interactions` (or
:func:`as_csr` where there is no estimator), so that what is accepted, what is
refused, and that the caller's object stays as it was is decided in one place.
"""

from typing import NamedTuple

import numpy as np
import torch
from scipy.sparse import csr_array, issparse
from sklearn.utils import check_array
from sklearn.utils.validation import _get_feature_names, validate_data

# What scikit-learn's validators are asked for. float32 is what is computed in.
_CHECKS = {"accept_sparse": "csr", "dtype": np.float32, "ensure_non_negative": True}


def as_csr(X, *, name="X"):
    """Return X as a canonical float32 CSR matrix; the caller's object is untouched.

    Canonical: sorted indices, duplicate entries summed, no explicit zeros. The
    result may share memory with X and is to be read only.

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
    """Raise a ValueError if data frames have not the columns of X, in the same order.

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
        # Another number of them is refused by the check of shapes.
        for place, (own, name) in enumerate(zip(own_names, names, strict=False)):
            if own != name:
                raise ValueError(
                    f"Column {place} of {parameter} is named {own!r}, expected "
                    f"{name!r}. The columns must be the items of the estimator, in the "
                    "same order."
                )


def _check_and_cast_sparse(X):
    """Do what comes before a change of format, which sums duplicates natively."""
    if issparse(X):
        _check_arrays(X)
        if X.dtype.kind in "biu":
            return X.astype(np.float32)  # so that True + True is 2
    return X


def _check_arrays(X):
    """Raise a ValueError if the index arrays of a sparse matrix contradict each other.

    Native code trusts them, also where formats are converted or duplicates summed; a
    wrong one would crash the process. scipy writes to the object it checks, hence a
    shell around the caller's arrays.
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
        # A shell of our own around the caller's arrays: scipy writes to the shell.
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
    """Return the matrix without the entries that another one has too.

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


class Batch(NamedTuple):
    """Some rows of an interaction matrix, in CSR form, as torch tensors."""

    offsets: torch.Tensor  # (n_rows + 1,) where each row's entries begin
    rows: torch.Tensor  # (nnz,) row of each entry, 0 .. n_rows - 1
    items: torch.Tensor  # (nnz,) column of each entry
    values: torch.Tensor  # (nnz,) weight x of each entry
    inputs: torch.Tensor  # (nnz,) x / ||x||_2 of the row: what the encoder sees
    totals: torch.Tensor  # (n_rows,) sum of the row's x

    @property
    def n_rows(self):
        """Number of users in the batch."""
        return len(self.totals)

    def dropout(self, rate, generator):
        """Drop input entries with probability `rate`, scale up those that stay.

        Only what the encoder sees changes: values and totals belong to the
        likelihood and the KL weight, which use the un-noised row.
        """
        if rate == 0:
            return self
        noise = torch.rand(
            self.inputs.shape,
            dtype=self.inputs.dtype,
            device=self.inputs.device,
            generator=generator,
        )
        keep = noise >= rate  # (nnz,)
        return self._replace(inputs=self.inputs * keep / (1 - rate))

    def by_item(self, weights, n_items):
        """Sort the entries by item, each with its weight.

        Parameters
        ----------
        weights : torch.Tensor of shape (nnz,)
            Weight of each entry.
        n_items : int
            Number of columns.

        Returns
        -------
        ItemEntries
            Also of items that have no entry.
        """
        if self.items.device.type == "cpu":
            # scipy transposes by counting, ten times as fast as torch sorts.
            arrays = (weights, self.items, self.offsets)
            matrix = csr_array(
                tuple(array.numpy() for array in arrays), shape=(self.n_rows, n_items)
            ).tocsc()
            arrays = (matrix.indptr, matrix.indices, matrix.data)
            return ItemEntries(*(torch.from_numpy(array) for array in arrays))
        # No shape depends on the data, so the host need not wait for the device.
        items, order = self.items.sort(stable=True)
        bounds = torch.arange(n_items + 1, device=items.device)
        offsets = torch.searchsorted(items, bounds)
        return ItemEntries(offsets, self.rows[order], weights[order])

    def without_empty_inputs(self):
        """Leave out entries whose input is zero, so that no time is spent on them."""
        kept = self.inputs.nonzero()[:, 0]  # (n_kept,)
        return self._replace(
            offsets=torch.searchsorted(kept, self.offsets),
            rows=self.rows[kept],
            items=self.items[kept],
            values=self.values[kept],
            inputs=self.inputs[kept],
        )


class ItemEntries(NamedTuple):
    """Weighted entries of a batch, item by item: the transposed matrix, in CSR form."""

    offsets: torch.Tensor  # (n_items + 1,) where each item's entries begin
    rows: torch.Tensor  # (nnz,) row of each entry
    weights: torch.Tensor  # (nnz,)


def as_tensor(array):
    """Share the memory of an array, read-only or not, which nobody may write to.

    Parameters
    ----------
    array : ndarray
        Not to be written to while the tensor is in use.

    Returns
    -------
    torch.Tensor
        Not to be written to either.
    """
    return torch.from_numpy(np.asarray(_Memory(np.ascontiguousarray(array))))


class _Memory:
    """The memory of an array, said to be writable: torch warns of any other."""

    def __init__(self, array):
        self._array = array  # which lives as long as this
        interface = array.__array_interface__
        address, _ = interface["data"]
        self.__array_interface__ = {**interface, "data": (address, False)}


class InteractionTensors:
    """An interaction matrix that lives on a torch device and hands out batches.

    Parameters
    ----------
    X : csr_array of shape (n_users, n_items)
        As returned by :func:`check_interactions`.
    device : torch.device
        Where the batches are needed.
    """

    def __init__(self, X, device):
        self.shape = X.shape
        self.device = device
        squares = np.square(X.data, dtype=np.float64)
        norms = csr_array((squares, X.indices, X.indptr), shape=X.shape).sum(axis=1)
        norms = np.sqrt(norms)  # (n_users,)
        # An empty row has norm 0 and no entries: any finite scale will do.
        scales = np.divide(1, norms, out=np.zeros_like(norms), where=norms > 0)
        self._indptr = torch.tensor(X.indptr, dtype=torch.int64, device=device)
        self._items = as_tensor(X.indices).to(device)
        self._values = as_tensor(X.data).to(device)
        # Of rows so small that the scale is too large for float32 it is float64.
        fits = scales.max(initial=0) <= np.finfo(np.float32).max
        dtype = torch.float32 if fits else torch.float64
        self._scales = torch.tensor(scales, dtype=dtype, device=device)
        self._totals = torch.tensor(X.sum(axis=1), dtype=torch.float32, device=device)

    def batch(self, users, n_entries=None):
        """Gather some rows as a `Batch`.

        Parameters
        ----------
        users : torch.Tensor of shape (n_rows,)
            int64 row indices, on the device.
        n_entries : int, default=None
            How many entries they have, so that the host need not wait for a device to
            say it.

        Returns
        -------
        Batch
            In the order of `users`.
        """
        starts = self._indptr[users]
        lengths = self._indptr[users + 1] - starts
        offsets = torch.nn.functional.pad(lengths.cumsum(0), (1, 0))
        rows = torch.arange(len(users), device=self.device).repeat_interleave(
            lengths, output_size=n_entries
        )
        positions = torch.arange(len(rows), device=self.device)
        positions += (starts - offsets[:-1])[rows]  # (nnz,)
        values = self._values[positions]
        return Batch(
            offsets=offsets,
            rows=rows,
            items=self._items[positions].long(),
            values=values,
            inputs=(values * self._scales[users][rows]).to(values.dtype),
            totals=self._totals[users],
        )

    def to_sparse_csr(self, dtype, device):
        """Give the matrix as a sparse tensor of torch."""
        arrays = self._indptr, self._items.long(), self._values.to(device, dtype)
        return torch.sparse_csr_tensor(
            *(array.to(device) for array in arrays),
            self.shape,
            check_invariants=False,
        )

    def batches(self, batch_size, order=None):
        """Yield ``(users, batch)`` over all users, in `order` or as they stand."""
        if order is None:
            order = torch.arange(self.shape[0], device=self.device)
        batches = order.split(batch_size)
        lengths = self._indptr.diff()[order].split(batch_size)
        # The only wait for the device in a pass.
        counts = torch.stack([length.sum() for length in lengths]).tolist()
        for users, n_entries in zip(batches, counts, strict=True):
            yield users, self.batch(users, n_entries)
