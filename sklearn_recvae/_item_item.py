"""What linear models share that score items by a matrix over pairs of items."""

import numpy as np
import torch
from scipy.sparse import csr_array
from sklearn.utils.validation import check_is_fitted

from sklearn_recvae._base import RecommenderMixin, on_snapshot
from sklearn_recvae._batches import as_tensor
from sklearn_recvae._files import check_arrays, check_fields
from sklearn_recvae._kernels import weighted_row_sums
from sklearn_recvae._ranking import mask_entries, top_k
from sklearn_recvae._scores import ItemScores
from sklearn_recvae._sklearn import validate_arguments
from sklearn_recvae._validation import (
    POSITIVE_INT,
    check_has_interactions,
    check_item_indices,
)


class ItemItemMixin(RecommenderMixin):
    """Mixin for linear models, of which `coef_` is all that is fitted.

    `coef_` is a float32 array of shape (n_items, n_items): row i is what an interaction
    with item i adds to the scores of all items. A child has parameters and `fit`.
    """

    @on_snapshot
    def predict(self, X):
        """Compute the scores of all items.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_users, n_items)
            Interactions of any users, seen in training or not.

        Returns
        -------
        scores : ndarray of shape (n_users, n_items)
            float32, X times `coef_`; items of the row itself are not masked. For
            large matrices prefer :meth:`recommend`, which never holds all of them.
        """
        return self._score_all_items(X)

    @on_snapshot
    @validate_arguments({"k": [POSITIVE_INT], "return_scores": ["boolean"]})
    def similar_items(self, items, k=10, *, return_scores=False):
        """Rank the items whose scores each of some items raises most.

        Parameters
        ----------
        items : array-like of int of shape (n_queries,)
            Indices of the items to start from.
        k : int, default=10
            Number of items for each, at least 1; may exceed `n_items`.
        return_scores : bool, default=False
            Whether to return the coefficients too.

        Returns
        -------
        neighbors : ndarray of shape (n_queries, k)
            int64 item indices, largest coefficient first, without the item itself.
            Where fewer than k other items exist, the row is filled with -1.
        scores : ndarray of shape (n_queries, k)
            Only if ``return_scores=True``: float32 entries of `coef_`; -inf where
            there is no item.

        Raises
        ------
        ValueError
            If an item index is out of range.
        """
        check_is_fitted(self)
        items = check_item_indices(items, "items", self.n_features_in_)
        rows = torch.from_numpy(self._coefficients(items))  # (n_queries, n_items)
        mask_entries(rows, torch.arange(len(items)), torch.from_numpy(items))
        neighbors, scores = (ranked.numpy() for ranked in top_k(rows, k))
        return (neighbors, scores) if return_scores else neighbors

    def _coefficients(self, items):
        """Copy the rows (n_queries, n_items) of `coef_` of some items."""
        return self.coef_[items]  # an array of indices never gives a view

    def _item_scores(self):
        return LinearScores(self.coef_)

    def _check_before_fit(self, X):
        check_has_interactions(X)

    def _get_fitted(self):
        return {}, {"coef_": self.coef_}

    def _set_fitted(self, attributes, arrays):
        check_fields(attributes, {})
        shape = (self.n_features_in_, self.n_features_in_)
        check_arrays(arrays, {"coef_": (np.dtype(np.float32), shape)})
        self.coef_ = arrays["coef_"]


class SparseItemItemMixin(ItemItemMixin):
    """Mixin for linear models whose `coef_` is a sparse matrix.

    `coef_` is a canonical csr_array, float32, with the rows of `ItemItemMixin`.
    """

    def _coefficients(self, items):
        return self.coef_[items].toarray()

    def _item_scores(self):
        return SparseLinearScores(self.coef_)

    def _get_fitted(self):
        # Indices have one dtype in SciPy, which depends on the number of entries.
        return {}, {
            "coef_data": self.coef_.data,
            "coef_indices": self.coef_.indices.astype(np.int32, copy=False),
            "coef_indptr": self.coef_.indptr.astype(np.int64, copy=False),
        }

    def _set_fitted(self, attributes, arrays):
        check_fields(attributes, {})
        n_items = self.n_features_in_
        shape = (np.size(arrays.get("coef_indices")),)
        expected = {
            "coef_data": (np.dtype(np.float32), shape),
            "coef_indices": (np.dtype(np.int32), shape),
            "coef_indptr": (np.dtype(np.int64), (n_items + 1,)),
        }
        check_arrays(arrays, expected)
        data, indices, indptr = (arrays[name] for name in expected)
        _check_structure(indices, indptr, n_items)
        self.coef_ = csr_array((data, indices, indptr), shape=(n_items, n_items))


def _check_structure(indices, indptr, n_columns):
    """Raise a ValueError unless the index arrays make a canonical CSR matrix."""
    decreases = (indptr[1:] < indptr[:-1]).any()  # a difference could overflow
    if decreases or indptr[0] != 0 or indptr[-1] != len(indices):
        raise ValueError(
            f"coef_indptr does not go from 0 to {len(indices)} without a decrease"
        )
    if len(indices) and not (indices.min() >= 0 and indices.max() < n_columns):
        raise ValueError(
            f"coef_indices has numbers from {indices.min()} to {indices.max()}, "
            f"expected 0 to {n_columns - 1}"
        )
    increases = np.append(indices[1:] > indices[:-1], True)
    increases[indptr[1:] - 1] = True  # the last entry of each row has none after it
    if not increases.all():
        raise ValueError("coef_indices does not increase within each row")


class LinearScores(ItemScores):
    """The rows of interactions times a matrix of coefficients.

    Parameters
    ----------
    coef : ndarray of shape (n_items, n_items)
        float32.
    """

    def __init__(self, coef):
        self.n_items = len(coef)
        self._table = as_tensor(coef)

    def all(self, batch):
        """See `ItemScores`."""
        return weighted_row_sums(self._table, batch.items, batch.values, batch.offsets)


class SparseLinearScores(ItemScores):
    """The rows of interactions times a sparse matrix of coefficients.

    Parameters
    ----------
    coef : csr_array of shape (n_items, n_items)
        Canonical, float32.
    """

    def __init__(self, coef):
        self.n_items = coef.shape[0]
        self._coef = coef

    def all(self, batch):
        """See `ItemScores`."""
        return torch.from_numpy(self._multiply(batch).toarray())

    def candidates(self, batch, items):
        """See `ItemScores`."""
        return torch.from_numpy(self._multiply(batch)[:, items.numpy()].toarray())

    def pairs(self, batch, items):
        """See `ItemScores`."""
        # SciPy sets flags of arrays of indices, which memory of torch does not allow.
        rows, items = np.arange(batch.n_rows)[:, None], items.numpy().copy()
        return torch.from_numpy(self._multiply(batch)[rows, items].toarray())

    def _multiply(self, batch):
        """Give the scores that are not zero, (n_rows, n_items)."""
        arrays = batch.values, batch.items, batch.offsets
        shape = batch.n_rows, self.n_items
        rows = csr_array(tuple(array.numpy() for array in arrays), shape=shape)
        return rows @ self._coef
