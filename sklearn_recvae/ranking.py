"""Masks and top-k: from scores to ranked lists of items."""

import numpy as np
import torch

# Filler where a list has fewer items than asked for.
NO_ITEM = -1

# Groups of columns for each rank that is asked for: more leave fewer candidates. Few
# groups are long ones, over which a maximum is slow.
GROUPS_PER_RANK = 4
MIN_GROUPS = 256


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


def rank_scores(scores, seen, k):
    """Rank the k best unseen items of each row of a score array.

    Parameters
    ----------
    scores : ndarray of shape (n_rows, n_items)
        Left as it is.
    seen : csr_array of shape (n_rows, n_items)
        Items that must not be ranked; canonical.
    k : int
        Length of the lists.

    Returns
    -------
    ndarray of shape (n_rows, k)
        int64 item indices, best first; -1 where no item is left.
    """
    scores = torch.tensor(np.ascontiguousarray(scores))
    seen = seen.tocoo()
    rows, items = (torch.tensor(c, dtype=torch.int64) for c in (seen.row, seen.col))
    mask_entries(scores, rows, items)
    return top_k(scores, k)[0].numpy()
