"""Masks and top-k: from scores to ranked lists of items."""

import numpy as np
import torch

# Filler where a list has fewer items than asked for.
NO_ITEM = -1


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
    # One more than asked for shows whether the cut goes through a group of equals.
    values, items = scores.topk(min(k + 1, n_items), dim=1)
    if n_ranked < n_items:
        cut = values[:, n_ranked - 1]
        ambiguous = (cut == values[:, n_ranked]) & (cut > -torch.inf)
    else:
        ambiguous = torch.zeros(n_rows, dtype=torch.bool, device=scores.device)
    # Order by score, then by index: sort by index and stably by score.
    items, order = items[:, :n_ranked].sort(dim=1)
    values, order = (
        values[:, :n_ranked].gather(1, order).sort(dim=1, descending=True, stable=True)
    )
    items = items.gather(1, order)
    if ambiguous.any():
        exact_values, exact_items = scores[ambiguous].sort(
            dim=1, descending=True, stable=True
        )
        values[ambiguous] = exact_values[:, :n_ranked]
        items[ambiguous] = exact_items[:, :n_ranked]
    items = items.masked_fill(values == -torch.inf, NO_ITEM)
    padding = (0, k - n_ranked)
    return (
        torch.nn.functional.pad(items, padding, value=NO_ITEM),
        torch.nn.functional.pad(values, padding, value=-torch.inf),
    )


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
