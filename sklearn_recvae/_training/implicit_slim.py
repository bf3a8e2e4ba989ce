"""ImplicitSLIM: item embeddings get what a linear item-item model would know.

SLIM and EASE reconstruct each item's column of X from those of the other items. So
should an item's embedding be reconstructed from those of the other items, with the same
weights. The embeddings that do so best are computed here in closed form, by products
with the sparse X alone: a matrix of items by items is never made.
"""

import torch

# Columns of an embedding that are multiplied with X at once: n_users times so many
# numbers are held, and they stay near the cache.
BLOCK_COLUMNS = 64


def implicit_slim(embeddings, X, *, regularization, min_count):
    """Move item embeddings W to where a linear item-item model reconstructs them.

    With ``K = X'X + regularization I`` the weights of EASE are B with
    ``(I - B) (I - B)' = C``, and ``C^-1 = K D^2 K`` for ``D = diag(K^-1)``, which is
    approximated by ``1 / diag(K)``. Returned are the V that minimise ::

        ||(I - B)' V||^2 + ||A' (V - W)||^2

    where A is W with rows of zeros for rare items: only the frequent ones hold V near
    W. By Woodbury's identity this takes a matrix of width by width.

    Parameters
    ----------
    embeddings : torch.Tensor of shape (n_items, width)
        W, of any floating dtype.
    X : InteractionTensors of shape (n_users, n_items)
        On the same device.
    regularization : float
        Positive.
    min_count : int
        Items with fewer interactions are rare.

    Returns
    -------
    torch.Tensor of shape (n_items, width)
        V, in the dtype of W.

    References
    ----------
    I. Shenbin, S. I. Nikolenko (2024). ImplicitSLIM and How it Improves
    Embedding-based Collaborative Filtering. ICLR 2024.
    """
    # Apple's GPUs have no float64.
    device = "cpu" if embeddings.device.type == "mps" else embeddings.device
    matrix = X.to_sparse_csr(torch.float64, device)  # (n_users, n_items)
    items, values = matrix.col_indices(), matrix.values()
    n_items = len(embeddings)
    frequent = torch.bincount(items, minlength=n_items) >= min_count
    anchors = embeddings.to(device, torch.float64) * frequent[:, None]  # A
    gram_diagonal = torch.bincount(items, values.square(), n_items) + regularization

    def multiply_gram(factor):
        """Compute K times a matrix (n_items, width)."""
        blocks = factor.split(BLOCK_COLUMNS, dim=1)
        products = [matrix.t() @ (matrix @ block) for block in blocks]
        return torch.cat(products, dim=1).add_(factor, alpha=regularization)

    scaled = multiply_gram(anchors) / gram_diagonal.square()[:, None]
    smoothed = multiply_gram(scaled)  # C^-1 A (n_items, width)
    inner = anchors.T @ smoothed  # A' C^-1 A (width, width)
    inner.diagonal().add_(1)
    target = anchors.T @ anchors  # A' W
    solution = torch.linalg.solve(inner, target)
    return (smoothed @ solution).to(embeddings)
