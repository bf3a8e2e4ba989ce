"""From a trained model to posterior means, probabilities and ranked lists.

The posterior mean stands for z; nothing is noised or sampled. Everything goes through
blocks of users, so that only what is returned is as large as the matrix asked for.
"""

import numpy as np
import torch

from sklearn_recvae._hardware import keep_freed_memory
from sklearn_recvae.kernels import product
from sklearn_recvae.ranking import NO_ITEM, mask_entries, top_k

# Memory for the float32 scores of one block of users, in bytes. The C library reuses
# blocks of this size, see `keep_freed_memory`.
SCORES_BYTES = 24 * 2**20
MAX_BLOCK_USERS = 1024


def block_users(n_items):
    """Count the users whose scores fit into the memory of one block."""
    return min(MAX_BLOCK_USERS, max(1, SCORES_BYTES // (4 * n_items)))


@torch.inference_mode()
def encode(module, X):
    """Compute the posterior means.

    Parameters
    ----------
    module : RecVAE
        Trained.
    X : InteractionTensors
        On the module's device.

    Returns
    -------
    ndarray of shape (n_users, latent_dim)
        float32.
    """
    means = [_posterior_mean(module, batch) for _, batch in X.batches(MAX_BLOCK_USERS)]
    return torch.cat(means).cpu().numpy()


def _posterior_mean(module, batch):
    # Products in float64 and rounded, so that the result for a user does not depend on
    # who else is in the block; MPS has no float64.
    has_float64 = module.device.type != "mps"
    return module.encoder(batch, torch.float64 if has_float64 else torch.float32)[0]


@torch.inference_mode()
def decode(module, Z):
    """Compute the multinomial probabilities pi(z).

    Parameters
    ----------
    module : RecVAE
        Trained.
    Z : ndarray of shape (n_users, latent_dim)
        float32.

    Returns
    -------
    ndarray of shape (n_users, n_items)
        float32, rows sum to 1.
    """
    probabilities = np.empty((len(Z), module.n_items), dtype=np.float32)
    size = block_users(module.n_items)
    for begin in range(0, len(Z), size):
        z = torch.tensor(
            np.ascontiguousarray(Z[begin : begin + size]), device=module.device
        )
        logits = product(z, module.decoder.weight, module.decoder.bias)
        block = logits.softmax(1)  # (block, n_items)
        probabilities[begin : begin + size] = block.cpu().numpy()
    return probabilities


def scorer(module, candidates=None):
    """Return what `rank` ranks by: the logits of the candidates.

    Parameters
    ----------
    module : RecVAE
        Trained.
    candidates : ndarray of shape (n_candidates,), default=None
        As in `rank`.

    Returns
    -------
    callable
        The argument `score` of `rank`.
    """
    weight, bias = module.decoder.weight.detach(), module.decoder.bias.detach()
    if candidates is not None:
        candidates = torch.tensor(candidates, dtype=torch.int64, device=module.device)
        weight, bias = weight[candidates], bias[candidates]
    return lambda batch: product(_posterior_mean(module, batch), weight, bias)


@torch.inference_mode()
def rank(score, X, k, *, exclude_seen=True, candidates=None):
    """Rank the k best items of each user.

    Parameters
    ----------
    score : callable
        Maps a `Batch` to a new float32 tensor of shape (n_rows, n_candidates), higher
        is better.
    X : InteractionTensors
        On the model's device.
    k : int
        Length of the lists, may exceed the number of items.
    exclude_seen : bool, default=True
        Whether the items of the row itself are left out.
    candidates : ndarray of shape (n_candidates,), default=None
        Ascending indices of the items to rank; None means all.

    Returns
    -------
    items : ndarray of shape (n_users, k)
        int64, best first; -1 where no item is left.
    scores : ndarray of shape (n_users, k)
        float32; -inf where no item is left.
    """
    n_users, n_items = X.shape
    if candidates is not None and len(candidates) == 0:
        no_items = np.full((n_users, k), NO_ITEM, dtype=np.int64)
        return no_items, np.full((n_users, k), -np.inf, dtype=np.float32)
    if candidates is not None:
        candidates = torch.tensor(candidates, dtype=torch.int64, device=X.device)
        place = torch.full((n_items,), -1, device=X.device)
        place[candidates] = torch.arange(len(candidates), device=X.device)
    all_items = np.empty((n_users, k), dtype=np.int64)
    all_scores = np.empty((n_users, k), dtype=np.float32)
    size = block_users(n_items if candidates is None else len(candidates))
    _kept_memory = keep_freed_memory()  # until this returns
    for number, (_, batch) in enumerate(X.batches(size)):
        scores = score(batch)  # (block, n_candidates)
        rows, seen = batch.rows, batch.items
        if candidates is not None:
            seen = place[seen]
            rows, seen = rows[seen >= 0], seen[seen >= 0]
        if exclude_seen:
            mask_entries(scores, rows, seen)
        items, values = top_k(scores, k)
        if candidates is not None:
            items = torch.where(items >= 0, candidates[items], items)
        block = slice(number * size, number * size + size)
        all_items[block] = items.cpu().numpy()
        all_scores[block] = values.cpu().numpy()
    return all_items, all_scores


@torch.inference_mode()
def nearest_items(module, items, k):
    """Rank the k items nearest to each item by the cosine of their decoder weights.

    Parameters
    ----------
    module : RecVAE
        Trained.
    items : ndarray of shape (n_queries,)
        int64 item indices.
    k : int
        Length of the lists, may exceed the number of items.

    Returns
    -------
    neighbors : ndarray of shape (n_queries, k)
        int64, nearest first, without the item itself; -1 where no item is left.
    similarities : ndarray of shape (n_queries, k)
        float32 cosines; -inf where no item is left.
    """
    directions = torch.nn.functional.normalize(module.decoder.weight, dim=1)
    queries = torch.tensor(items, dtype=torch.int64, device=module.device)
    blocks = []
    for block in queries.split(block_users(module.n_items)):
        cosines = directions[block] @ directions.T  # (block, n_items)
        mask_entries(cosines, torch.arange(len(block), device=module.device), block)
        blocks.append(top_k(cosines, k))
    neighbors, similarities = (torch.cat(parts) for parts in zip(*blocks, strict=True))
    return neighbors.cpu().numpy(), similarities.cpu().numpy()
