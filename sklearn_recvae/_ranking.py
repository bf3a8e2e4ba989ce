"""Masks and top-k: from scores to ranked lists of items, in blocks of users."""

import numpy as np
import torch

from sklearn_recvae._hardware import keep_freed_memory, memory_hint
from sklearn_recvae._interactions import NO_ITEM, SCORES_BYTES

# Groups of columns for each rank that is asked for: more leave fewer candidates. Few
# groups are long ones, over which a maximum is slow.
GROUPS_PER_RANK = 4
MIN_GROUPS = 256

# Users of one block at most, however few the items are.
MAX_BLOCK_USERS = 1024

_LISTS_HINT = "Lower k, or ask for fewer rows at a time."


def block_users(n_items):
    """Count the users whose scores fit into the memory of one block."""
    return min(MAX_BLOCK_USERS, max(1, SCORES_BYTES // (4 * n_items)))


def mask_entries(scores, rows, items):
    """Set the scores of the entries to -inf, in place.

    Parameters
    ----------
    scores : torch.Tensor of shape (n_rows, n_items)
        Overwritten.
    rows, items : torch.Tensor of shape (nnz,)
        Coordinates of the entries.
    """
    scores[rows, items] = -torch.inf


@memory_hint(_LISTS_HINT)
def top_k(scores, k):
    """Rank the k best columns of each row; among equals the lower index is first.

    Parameters
    ----------
    scores : torch.Tensor of shape (n_rows, n_items)
        A score of -inf means that the item must not be ranked.
    k : int
        Length of the lists, may exceed n_items.

    Returns
    -------
    items : torch.Tensor of shape (n_rows, k)
        int64, best first; -1 where no item is left.
    values : torch.Tensor of shape (n_rows, k)
        Their scores; -inf where no item is left.
    """
    n_rows, n_items = scores.shape
    k = int(k)  # a small integer of NumPy would wrap
    n_ranked = min(k, n_items)
    # Few candidates are left by a threshold, in ascending order of items: to sort them
    # is many times as fast as a top-k of whole rows, and a stable sort settles ties.
    rows, items = _entries_from(scores, _threshold(scores, n_ranked))
    counts = torch.bincount(rows, minlength=n_rows)
    width = max([n_ranked, *counts.tolist()])
    places = torch.arange(len(rows), device=rows.device)
    places -= (counts.cumsum(0) - counts)[rows]
    shape = (n_rows, width)
    values = torch.full(shape, -torch.inf, dtype=scores.dtype, device=scores.device)
    candidates = torch.full(shape, NO_ITEM, device=scores.device)
    values[rows, places] = scores[rows, items]
    candidates[rows, places] = items
    values, order = values.sort(dim=1, descending=True, stable=True)
    items = candidates.gather(1, order)
    padding = (0, k - n_ranked)
    return (
        torch.nn.functional.pad(items[:, :n_ranked], padding, value=NO_ITEM),
        torch.nn.functional.pad(values[:, :n_ranked], padding, value=-torch.inf),
    )


def _threshold(scores, n_ranked):
    """Return (n_rows, 1) scores that at least `n_ranked` of the row's reach, if finite.

    The columns are dealt out to groups, and the maxima of `n_ranked` groups are as many
    scores: the last of the best maxima is what is asked for, and not far from optimal.
    """
    n_rows, n_items = scores.shape
    lowest = torch.finfo(scores.dtype).min  # above -inf, which must not be ranked
    if n_ranked == 0:
        return scores.new_full((n_rows, 1), lowest)
    n_groups = max(MIN_GROUPS, GROUPS_PER_RANK * n_ranked)
    size = n_items // n_groups
    if size > 1:
        scores = scores[:, : size * n_groups].unflatten(1, (size, n_groups)).amax(1)
    return scores.topk(n_ranked, dim=1).values[:, -1:].clamp_min(lowest)


def _entries_from(scores, threshold):
    """Rows and columns, in this order, of the scores that reach the threshold."""
    reached = (scores >= threshold).flatten()
    if reached.device.type == "cpu":
        # Three times as fast as torch.
        positions = torch.from_numpy(np.flatnonzero(reached.numpy()))
    else:
        positions = reached.nonzero()[:, 0]
    n_items = max(1, scores.shape[1])
    rows = positions // n_items
    return rows, positions - rows * n_items


@torch.inference_mode()
def rank(scores, X, k, *, exclude_seen=True, candidates=None, excluded=None):
    """Rank the k best items of each user.

    Parameters
    ----------
    scores : ItemScores
        Of the model.
    X : InteractionTensors
        On the model's device.
    k : int
        Length of the lists, may exceed the number of items.
    exclude_seen : bool, default=True
        Whether the items of the row itself are left out.
    candidates : ndarray of shape (n_candidates,), default=None
        Ascending indices of the items to rank; None means all.
    excluded : csr_array of shape (n_users, n_items), default=None
        More pairs to leave out.

    Returns
    -------
    items : ndarray of shape (n_users, k)
        int64, best first; -1 where no item is left.
    scores : ndarray of shape (n_users, k)
        float32; -inf where no item is left.
    """
    n_users, n_items = X.shape
    all_items, all_scores = _no_items(n_users, k)
    if candidates is not None and len(candidates) == 0:
        return all_items, all_scores
    if candidates is not None:
        candidates = torch.tensor(candidates, dtype=torch.int64, device=X.device)
        place = torch.full((n_items,), -1, device=X.device)
        place[candidates] = torch.arange(len(candidates), device=X.device)
    size = block_users(n_items if candidates is None else len(candidates))
    _kept_memory = keep_freed_memory()  # until this returns
    for number, (_, batch) in enumerate(X.batches(size)):
        block = slice(number * size, number * size + size)
        if candidates is None:
            block_scores = scores.all(batch)  # (block, n_items)
        else:
            block_scores = scores.candidates(batch, candidates)
        pairs = [(batch.rows, batch.items)] if exclude_seen else []
        if excluded is not None:
            pairs.append(entries(excluded[block], X.device))
        for rows, items in pairs:
            if candidates is not None:
                items = place[items]
                rows, items = rows[items >= 0], items[items >= 0]
            mask_entries(block_scores, rows, items)
        items, values = top_k(block_scores, k)
        if candidates is not None:
            items = torch.where(items >= 0, candidates[items], items)
        all_items[block] = items.cpu().numpy()
        all_scores[block] = values.cpu().numpy()
    return all_items, all_scores


@torch.inference_mode()
def rank_pairs(scores, X, k, pairs):
    """Rank the k best of each user's own candidates.

    Parameters
    ----------
    scores : ItemScores
        Of the model.
    X : InteractionTensors
        On the model's device.
    k : int
        Length of the lists, may exceed the number of candidates.
    pairs : csr_array of shape (n_users, n_items)
        Canonical; its entries are the candidates.

    Returns
    -------
    items, scores : ndarray of shape (n_users, k)
        As of `rank`.
    """
    all_items, all_scores = _no_items(X.shape[0], k)
    size = block_users(X.shape[1])
    for number, (_, batch) in enumerate(X.batches(size)):
        block = slice(number * size, number * size + size)
        counts = torch.tensor(np.diff(pairs.indptr[block.start : block.stop + 1]))
        width = int(counts.max())
        if width == 0:
            continue
        rows, items = entries(pairs[block], X.device)
        starts = (counts.cumsum(0) - counts).to(X.device)
        places = torch.arange(len(rows), device=X.device) - starts[rows]
        candidates = torch.zeros(
            (len(counts), width), dtype=torch.int64, device=X.device
        )
        candidates[rows, places] = items  # (block, width), ascending
        block_scores = scores.pairs(batch, candidates)
        is_none = torch.ones_like(block_scores, dtype=torch.bool)
        is_none[rows, places] = False
        block_scores[is_none] = -torch.inf
        best, values = top_k(block_scores, k)
        found = candidates.gather(1, best.clamp_min(0))
        all_items[block] = torch.where(best >= 0, found, best).cpu().numpy()
        all_scores[block] = values.cpu().numpy()
    return all_items, all_scores


@memory_hint(_LISTS_HINT)
def _no_items(n_users, k):
    """Make lists in which no item is left."""
    items = np.full((n_users, k), NO_ITEM, dtype=np.int64)
    return items, np.full((n_users, k), -np.inf, dtype=np.float32)


def entries(X, device):
    """Give rows and columns of the entries of a matrix as tensors."""
    X = X.tocoo()
    return (torch.tensor(c, dtype=torch.int64, device=device) for c in (X.row, X.col))


def rank_entries(X, values, k):
    """Rank the entries of each row by values of their own.

    Parameters
    ----------
    X : csr_array of shape (n_rows, n_items)
        Canonical.
    values : ndarray of shape (nnz,)
        Finite, one for each entry.
    k : int
        Length of the lists, may exceed the number of entries.

    Returns
    -------
    items : ndarray of shape (n_rows, k)
        int64 columns of the entries, best first; -1 where no entry is left.
    values : ndarray of shape (n_rows, k)
        float32; -inf where no entry is left.
    """
    counts = np.diff(X.indptr)
    rows = np.repeat(np.arange(X.shape[0]), counts)
    places = np.arange(X.nnz) - X.indptr[rows]
    padded = np.full((X.shape[0], max(counts, default=0)), -np.inf, dtype=np.float32)
    padded[rows, places] = values
    best, values = (ranked.numpy() for ranked in top_k(torch.from_numpy(padded), k))
    items = np.full(best.shape, NO_ITEM, dtype=np.int64)
    found = best >= 0
    items[found] = X.indices[(X.indptr[:-1, None] + best)[found]]
    return items, values
