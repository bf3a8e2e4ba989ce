"""Interaction matrices on a torch device, and batches of their rows."""

from typing import NamedTuple

import numpy as np
import torch
from scipy.sparse import csr_array


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
        """Sort the entries, each with its weight, by item.

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
    """Make a tensor that shares the memory of an array; nobody may write to it.

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
    """The memory of an array, declared writable: torch warns about read-only memory."""

    def __init__(self, array):
        self._array = array  # keeps it alive
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
        # An empty row has norm 0 and no entries, so any finite scale is right.
        scales = np.divide(1, norms, out=np.zeros_like(norms), where=norms > 0)
        self._indptr = torch.tensor(X.indptr, dtype=torch.int64, device=device)
        self._items = as_tensor(X.indices).to(device)
        self._values = as_tensor(X.data).to(device)
        # float64: the scale of very small rows is too large for float32.
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
        """Yield ``(users, batch)`` over all users, in `order` or that of the rows."""
        if order is None:
            order = torch.arange(self.shape[0], device=self.device)
        batches = order.split(batch_size)
        lengths = self._indptr.diff()[order].split(batch_size)
        # This is the only time in a pass that the host waits for the device.
        counts = torch.stack([length.sum() for length in lengths]).tolist()
        for users, n_entries in zip(batches, counts, strict=True):
            yield users, self.batch(users, n_entries)
