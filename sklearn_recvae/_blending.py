"""Scores of several models in one, and the search for the weights of each."""

import numpy as np
import torch

from sklearn_recvae._base import SCORE_K
from sklearn_recvae._batches import Batch, InteractionTensors
from sklearn_recvae._ranking import block_users, mask_entries, top_k
from sklearn_recvae._scores import ItemScores
from sklearn_recvae.metrics import ndcg_at_k

# Weights that are tried are multiples of one part of so many.
N_STEPS = 10
# Scores that are standardised at a time; as float64 numbers they fit into the cache.
CHUNK_SCORES = 1 << 16


class StandardizedScores(ItemScores):
    """Scores with mean 0 and variance 1 over what a user does not have.

    Parameters
    ----------
    scores : ItemScores
        Of a part. Batches are brought to its device.
    """

    def __init__(self, scores):
        self.n_items = scores.n_items
        self._scores = scores

    def all(self, batch):
        """See `ItemScores`."""
        device = self._scores.device
        scores = self._scores.all(Batch(*(tensor.to(device) for tensor in batch))).cpu()
        standardize(scores, batch.rows, batch.items)
        return scores


class BlendedScores(ItemScores):
    """A weighted sum of scores; of all items, whichever are candidates.

    Parameters
    ----------
    parts : list of ItemScores
        At least one, of the same items.
    weights : list of float
        One for each part.
    """

    def __init__(self, parts, weights):
        self.n_items = parts[0].n_items
        self._parts = parts
        self._weights = weights

    def all(self, batch):
        """See `ItemScores`."""
        scores = self._parts[0].all(batch)
        scores *= self._weights[0]
        for part, weight in zip(self._parts[1:], self._weights[1:], strict=True):
            scores.add_(part.all(batch), alpha=weight)
        return scores


def standardize(scores, rows, items):
    """Give each row mean 0 and variance 1 over what is not among the entries, in place.

    A row all of whose other scores are the same gets mean 0 alone; one without any
    others has mean 0 and variance 1 over everything.

    Parameters
    ----------
    scores : torch.Tensor of shape (n_rows, n_items)
        float32, overwritten.
    rows, items : torch.Tensor of shape (nnz,)
        Coordinates of the entries, row by row.
    """
    n_rows, n_items = scores.shape
    size = max(1, CHUNK_SCORES // n_items)
    begins = torch.arange(0, n_rows + size, size)
    bounds = torch.searchsorted(rows, begins).tolist()  # of the entries of each chunk
    for number, chunk in enumerate(scores.split(size)):
        entries = slice(bounds[number], bounds[number + 1])
        exact = chunk.double()  # squares of float32 numbers may leave its range
        _standardize(exact, rows[entries] - number * size, items[entries])
        chunk.copy_(exact)


def _standardize(scores, rows, items):
    n_rows, n_items = scores.shape
    n_others = n_items - torch.bincount(rows, minlength=n_rows)  # (n_rows,)
    some = (n_others > 0)[rows]
    rows, items = rows[some], items[some]
    n_others[n_others == 0] = n_items
    # Zeros stand for the entries, which if subtracted from sums would leave rounding.
    entries = scores[rows, items]
    scores[rows, items] = 0
    means = scores.sum(dim=1) / n_others
    scores -= means[:, None]
    scores[rows, items] = 0
    deviations = (torch.linalg.vecdot(scores, scores) / n_others).sqrt()
    scores[rows, items] = entries - means[rows]
    scores /= deviations.where(deviations > 0, 1.0)[:, None]


@torch.inference_mode()
def learn_weights(parts, fold_in, held_out):
    """Search the weights with the best NDCG@100 of validation users.

    Parameters
    ----------
    parts : list of ItemScores
        Of the same items.
    fold_in, held_out : csr_array of shape (n_users, n_items)
        The validation users.

    Returns
    -------
    weights : ndarray of shape (n_parts,)
        The best, with sum 1.
    score : float
        Their score.
    """
    return search_weights(
        len(parts), lambda rows: _validate(parts, rows, fold_in, held_out)
    )


def search_weights(n_parts, evaluate):
    """Search weights for the best score, one weight after the other.

    The search begins with the best single part. Then each weight in turn takes all
    multiples of one tenth, while the others keep their proportions; the best of all of
    these is the next to begin with. For two parts those are all there are.

    Parameters
    ----------
    n_parts : int
        Number of parts.
    evaluate : callable
        Gives the score of each row of an array of weights.

    Returns
    -------
    weights : ndarray of shape (n_parts,)
        The best, with sum 1.
    score : float
        Their score.
    """
    tried = {}  # scores of weights
    candidates = [tuple(row) for row in np.eye(n_parts).tolist()]
    while candidates:
        before = max(tried.values(), default=-np.inf)
        tried |= zip(candidates, evaluate(np.array(candidates)).tolist(), strict=True)
        best = max(tried, key=tried.get)
        if tried[best] <= before:
            break
        candidates = [row for row in _vary(best) if row not in tried]
    return np.array(best) / sum(best), tried[best]


def _vary(weights):
    """List weights that differ in one, which is a multiple of one tenth.

    The others keep their proportions.
    """
    if len(weights) == 1:
        return []
    weights = np.array(weights)
    varied = {}  # in order, each once
    for part in range(len(weights)):
        others = weights.copy()
        others[part] = 0
        if not others.any():
            others[:] = 1
            others[part] = 0
        others /= others.sum()
        for step in range(N_STEPS + 1):
            share = step / N_STEPS
            row = (1 - share) * others
            row[part] = share
            varied[tuple(row.round(6).tolist())] = None
    return list(varied)


def _validate(parts, rows, fold_in, held_out):
    """Compute the validation NDCG@100 of each row of weights."""
    X = InteractionTensors(fold_in, torch.device("cpu"))
    sums, n_users = np.zeros(len(rows)), 0
    for users, batch in X.batches(block_users(X.shape[1])):
        of_parts = torch.stack([part.all(batch) for part in parts])
        relevant = held_out[users.numpy()]
        for place, weights in enumerate(rows):
            scores = torch.tensordot(
                torch.tensor(weights, dtype=torch.float32), of_parts, 1
            )
            mask_entries(scores, batch.rows, batch.items)
            ranked, _ = top_k(scores, SCORE_K)
            values = ndcg_at_k(relevant, ranked.numpy(), SCORE_K, average=None)
            sums[place] += np.nansum(values)
        n_users += np.count_nonzero(~np.isnan(values))
    return sums / n_users
