"""Why an item: what its score would be without each item of the history."""

import numpy as np
import torch
from scipy.sparse import csr_array

from sklearn_recvae._batches import InteractionTensors
from sklearn_recvae._ranking import block_users

# Entries of the rows that are made at a time.
CHUNK_ENTRIES = 1 << 20


@torch.inference_mode()
def leave_one_out(scores, X, items):
    """Compute by how much each interaction raises the scores of some items.

    Parameters
    ----------
    scores : ItemScores
        Of the model.
    X : csr_array of shape (n_users, n_items)
        Canonical.
    items : ndarray of shape (n_users, n_targets)
        int64 indices of the items to explain, for each user.

    Returns
    -------
    ndarray of shape (nnz, n_targets)
        float32: the score with all interactions, minus that without this one.
    """
    n_interactions = np.diff(X.indptr)
    users = np.repeat(np.arange(X.shape[0]), n_interactions)  # of each entry
    whole = _score_rows(scores, X, items)
    effects = np.empty((X.nnz, items.shape[1]), dtype=np.float32)
    ends = n_interactions[users].cumsum()  # entries of the rows up to each
    begin = 0
    while begin < X.nnz:
        made = ends[begin - 1] if begin else 0
        end = max(begin + 1, int(np.searchsorted(ends, made + CHUNK_ENTRIES)))
        rows = without_each(X, users[begin:end], np.arange(begin, end))
        some = users[begin:end]
        effects[begin:end] = whole[some] - _score_rows(scores, rows, items[some])
        begin = end
    return effects


def without_each(X, users, entries):
    """Make the rows that are each without one of their entries.

    Parameters
    ----------
    X : csr_array of shape (n_users, n_items)
        Canonical.
    users, entries : ndarray of shape (n_rows,)
        The row of each entry to leave out, and its place among all.

    Returns
    -------
    csr_array of shape (n_rows, n_items)
        Canonical.
    """
    lengths = np.diff(X.indptr)[users]
    rows = np.repeat(np.arange(len(users)), lengths)
    offsets = np.cumsum(lengths) - lengths
    places = np.arange(len(rows)) - offsets[rows] + X.indptr[users][rows]
    kept = places[places != entries[rows]]
    indptr = np.concatenate([[0], np.cumsum(lengths - 1)])
    return csr_array(
        (X.data[kept], X.indices[kept], indptr), shape=(len(users), X.shape[1])
    )


def _score_rows(scores, X, items):
    items = torch.tensor(items, device=scores.device)
    batches = InteractionTensors(X, scores.device).batches(block_users(X.shape[1]))
    parts = [scores.explained(batch, items[rows]) for rows, batch in batches]
    return torch.cat(parts).cpu().numpy()
