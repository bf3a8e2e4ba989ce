"""Neighbours of items, and the ridge regression of each item on its neighbours.

Memory grows linearly with the items: X'X is computed a few rows at a time.
"""

from typing import NamedTuple

import numpy as np
import torch
from scipy.sparse import csc_array

# Entries of X'X that are held at a time while neighbours are chosen.
MAX_ENTRIES = 1 << 22
# Items whose products with each other are held at a time: targets of regressions, and
# their neighbours. The more, the more targets share a product of two items.
MAX_BLOCK_ITEMS = 2048
# Memory for the float64 matrices of one batch of regressions, in bytes.
BATCH_BYTES = 32 * 2**20


class Neighborhoods(NamedTuple):
    """The neighbours of each item, those of item 0 first."""

    indptr: np.ndarray  # (n_items + 1,) int64, where each item's neighbours begin
    indices: np.ndarray  # (n_pairs,) int32, the nearest neighbour of an item first

    def of(self, item):
        """Give the neighbours of one item."""
        return self.indices[self.indptr[item] : self.indptr[item + 1]]


def choose_neighbors(X, ridge, n_neighbors):
    """Choose the items that each item is predicted from.

    They are those from which it would be predicted best if each were the only one: the
    ridge regression of the column x_i on the column x_j alone lowers the squared error
    and the penalty by (x_i'x_j)^2 / (x_j'x_j + ridge_j).

    Parameters
    ----------
    X : csr_array of shape (n_users, n_items)
        Canonical, float64.
    ridge : ndarray of shape (n_items,)
        Positive penalty of the squared weight of each item.
    n_neighbors : int
        How many at most. Items that have no user in common are no neighbours, unless
        all items are.

    Returns
    -------
    Neighborhoods
        Among equals the lower index is first.
    """
    n_items = X.shape[1]
    if n_neighbors >= n_items - 1:
        return _all_others(n_items)
    X_transposed = X.T.tocsr()
    scales = squared_norms(X) + ridge
    lengths = np.diff(X.indptr)
    # What a row of X'X may have: as many entries as the users of the item have.
    costs = np.bincount(X.indices, np.repeat(lengths, lengths), minlength=n_items)
    chosen = []
    for begin, end in _blocks_of_cost(costs.clip(max=n_items), MAX_ENTRIES):
        products = X_transposed[begin:end] @ X
        for row in range(end - begin):
            entries = slice(products.indptr[row], products.indptr[row + 1])
            items, values = products.indices[entries], products.data[entries]
            others = items != begin + row
            items, values = items[others], values[others]
            chosen.append(_first(items, values**2 / scales[items], n_neighbors))
    indptr = np.cumsum([0, *map(len, chosen)])
    return Neighborhoods(indptr, np.concatenate(chosen).astype(np.int32, copy=False))


def _all_others(n_items):
    items = np.arange(n_items, dtype=np.int32)
    pairs = np.tile(items, (n_items, 1))
    indptr = (n_items - 1) * np.arange(n_items + 1)
    return Neighborhoods(indptr, pairs[pairs != items[:, None]])


def _first(items, gains, n):
    """Give the n items with the largest gains, the largest first."""
    if len(items) > n:
        kept = gains >= np.partition(gains, -n)[-n]
        items, gains = items[kept], gains[kept]
    return items[np.lexsort((items, -gains))[:n]]


def squared_norms(X):
    """Sum the squares of each column of a canonical CSR matrix, in float64."""
    squares = np.square(X.data, dtype=np.float64)
    return np.bincount(X.indices, squares, minlength=X.shape[1])


def _blocks_of_cost(costs, limit):
    """Yield begin and end of blocks: of one item, or of at most this cost."""
    ends = np.cumsum(costs)
    begin = 0
    while begin < len(costs):
        before = ends[begin - 1] if begin else 0
        end = max(begin + 1, int(np.searchsorted(ends, before + limit, side="right")))
        yield begin, end
        begin = end


def regress_on_neighbors(X, ridge, neighborhoods):
    """Solve the ridge regression of each column of X on those of its neighbours.

    Parameters
    ----------
    X : csr_array of shape (n_users, n_items)
        Canonical, float64.
    ridge : ndarray of shape (n_items,)
        Positive penalty of the squared weight of each item.
    neighborhoods : Neighborhoods
        Of the items.

    Returns
    -------
    weights : csr_array of shape (n_items, n_items)
        float32; column i has the weights of the neighbours of item i.

    Raises
    ------
    ValueError
        If a regression is singular, or weights are too large for float32.
    """
    indptr, indices = neighborhoods
    n_items = X.shape[1]
    # One item more, which nobody has, fills up lists of neighbours that are shorter.
    columns = csc_array((X.data, X.indices, X.indptr), shape=(n_items + 1, X.shape[0]))
    columns, ridge = columns.tocsr(), np.append(ridge, 1)
    weights = np.empty(len(indices), dtype=np.float32)
    for targets, items, place in _blocks_of_targets(neighborhoods):
        items = np.append(items, n_items)
        some_columns = columns[items]
        products = (some_columns @ some_columns.T).toarray()
        for some in _batches(targets, np.diff(indptr)[targets]):
            lengths = indptr[some + 1] - indptr[some]
            is_neighbor = np.arange(lengths.max()) < lengths[:, None]  # (n, width)
            entries = (indptr[some][:, None] + np.arange(lengths.max()))[is_neighbor]
            places = np.full(is_neighbor.shape, len(items) - 1)
            places[is_neighbor] = place[indices[entries]]
            solved = _solve(products, ridge[items], places, place[some])
            weights[entries] = _as_float32(solved[is_neighbor])
    return csc_array((weights, indices, indptr), shape=(n_items, n_items)).tocsr()


def _blocks_of_targets(neighborhoods):
    """Yield targets, all items that these and their neighbours are, and their places.

    The places, of shape (n_items,), are overwritten with the next block.
    """
    n_items = len(neighborhoods.indptr) - 1
    place = np.full(n_items, -1)
    targets, items = [], np.empty(0, dtype=np.int64)
    for target in _in_order(neighborhoods):
        needed = np.append(neighborhoods.of(target), target)
        new = needed[place[needed] < 0]
        if targets and len(items) + len(new) > MAX_BLOCK_ITEMS:
            yield np.array(targets), items, place
            place[items] = -1
            targets, items, new = [], items[:0], needed
        place[new] = len(items) + np.arange(len(new))
        items = np.append(items, new)
        targets.append(target)
    yield np.array(targets), items, place


def _in_order(neighborhoods):
    """Yield each item once, neighbours together: these have neighbours in common."""
    n_items = len(neighborhoods.indptr) - 1
    is_left = np.ones(n_items, dtype=bool)
    for item in range(n_items):
        if is_left[item]:
            is_left[item] = False
            others = neighborhoods.of(item)
            others = others[is_left[others]]
            is_left[others] = False
            yield item
            yield from others.tolist()


def _batches(targets, lengths):
    """Yield the targets that have neighbours in parts that fit into memory.

    Those with equally many are together, and little is filled up.
    """
    order = np.argsort(lengths, kind="stable")[::-1]
    order = order[lengths[order] > 0]
    begin = 0
    while begin < len(order):
        matrix_bytes = 8 * int(lengths[order[begin]]) ** 2
        end = begin + max(1, BATCH_BYTES // matrix_bytes)
        yield targets[order[begin:end]]
        begin = end


def _solve(products, ridges, places, targets):
    """Give the weights (n, width) of the neighbours in some places for the targets."""
    # Flat indices: three times as fast as pairs of them.
    pairs = len(products) * places[:, :, None] + places[:, None, :]
    squares = torch.from_numpy(products.take(pairs))  # (n, width, width)
    squares.diagonal(dim1=1, dim2=2).add_(torch.from_numpy(ridges[places]))
    factors, failed = torch.linalg.cholesky_ex(squares)
    if failed.any():
        raise ValueError(
            "The regression of an item on its neighbours is singular to working "
            "precision. Raise regularization."
        )
    right = torch.from_numpy(products[places, targets[:, None]])  # (n, width)
    return torch.cholesky_solve(right[:, :, None], factors)[:, :, 0].numpy()


def _as_float32(weights):
    with np.errstate(over="ignore"):
        weights = weights.astype(np.float32)
    if not np.isfinite(weights).all():
        raise ValueError(
            "Some weights are too large for float32: the numbers in the columns of X "
            "differ too much in scale. Scale the columns, or raise regularization."
        )
    return weights
