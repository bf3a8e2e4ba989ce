"""From a trained model to posterior means, probabilities and ranked lists.

The posterior mean stands for z; nothing is noised or sampled. Everything goes through
blocks of users, so that only what is returned is as large as the matrix asked for.
"""

import warnings

import numpy as np
import torch

from sklearn_recvae._kernels import product
from sklearn_recvae._ranking import (
    MAX_BLOCK_USERS,
    SCORES_BYTES,
    block_users,
    mask_entries,
    top_k,
)
from sklearn_recvae._scores import ItemScores

# To score a pair by itself takes about so many times as long as within a product of
# whole matrices, which reads each weight once for many users.
PAIR_COST = 10

with warnings.catch_warnings():
    # torch warns once that this form of sparse matrices is in beta. Here nobody hears
    # it; later other threads may run, during which filters cannot be changed safely.
    warnings.simplefilter("ignore")
    torch.sparse_csr_tensor([0, 1], [0], [0.0])


@torch.inference_mode()
def encode(module, X):
    """Compute the posterior means.

    Parameters
    ----------
    module : VariationalNetwork
        Trained.
    X : InteractionTensors
        On the module's device.

    Returns
    -------
    ndarray of shape (n_users, latent_dim)
        float32.
    """
    means = [_posterior(module, batch)[0] for _, batch in X.batches(MAX_BLOCK_USERS)]
    return torch.cat(means).cpu().numpy()


def _posterior(module, batch):
    """Give mean and log-variance."""
    # Products in float64 and rounded, so that the result for a user does not depend on
    # who else is in the block; MPS has no float64.
    has_float64 = module.device.type != "mps"
    return module.encoder(batch, torch.float64 if has_float64 else torch.float32)


@torch.inference_mode()
def decode(module, Z):
    """Compute the multinomial probabilities pi(z).

    Parameters
    ----------
    module : VariationalNetwork
        Trained.
    Z : ndarray of shape (n_users, latent_dim)
        float32.

    Returns
    -------
    ndarray of shape (n_users, n_items)
        float32, rows sum to 1.
    """
    decoder = Decoder(module)
    probabilities = np.empty((len(Z), module.n_items), dtype=np.float32)
    size = block_users(module.n_items)
    for begin in range(0, len(Z), size):
        z = torch.tensor(
            np.ascontiguousarray(Z[begin : begin + size]), device=module.device
        )
        block = decoder.all(z).softmax(1)  # (block, n_items)
        probabilities[begin : begin + size] = block.cpu().numpy()
    return probabilities


class LatentScores(ItemScores):
    """The logits of the items, by a trained network.

    Parameters
    ----------
    module : VariationalNetwork
        Trained.
    rng : RandomState, default=None
        If given, z is drawn from the posterior with it; None takes the mean.
    """

    def __init__(self, module, rng=None):
        self.n_items = module.n_items
        self.device = module.device
        self._module = module
        self._rng = rng
        self._decoder = Decoder(module)

    def all(self, batch):
        """See `ItemScores`."""
        return self._decoder.all(self._latent(batch))

    def candidates(self, batch, items):
        """See `ItemScores`."""
        return self._decoder.some(self._latent(batch), items)

    def pairs(self, batch, items):
        """See `ItemScores`."""
        return self._decoder.pairs(self._latent(batch), items)

    def explained(self, batch, items):
        """Give the log-probabilities log pi(z)."""
        logits = self.all(batch)
        return logits.gather(1, items) - logits.logsumexp(1, keepdim=True)

    def _latent(self, batch):
        """Give the posterior mean, or a sample that no other user in the block changes.

        It has shape (n_rows, latent_dim).
        """
        mean, log_variance = _posterior(self._module, batch)
        if self._rng is None or log_variance is None:
            return mean
        noise = torch.from_numpy(self._rng.standard_normal(mean.shape)).to(mean)
        return mean + noise * (log_variance / 2).exp()


class Decoder:
    """The decoder of a trained network, from latent vectors to logits.

    Parameters
    ----------
    module : VariationalNetwork
        Trained.

    Attributes
    ----------
    item_vectors : torch.Tensor of shape (n_items, width)
        The weight of the last layer.
    """

    def __init__(self, module):
        self._expand = module.expand
        self.item_vectors = module.output.weight.detach()
        self._bias = module.output.bias.detach()  # (n_items,)

    def all(self, z):
        """Map z (n_rows, latent_dim) to the logits of all items (n_rows, n_items)."""
        return product(self._expand(z), self.item_vectors, self._bias)

    def some(self, z, items):
        """Give the logits of the items (n_candidates,), the same for all rows."""
        return product(self._expand(z), self.item_vectors[items], self._bias[items])

    def pairs(self, z, items):
        """Give the logits of items (n_rows, width), others for each row."""
        width = items.shape[1]
        if PAIR_COST * width > len(self._bias):
            return self.all(z).gather(1, items)
        features = self._expand(z)  # (n_rows, width of the last layer)
        products = _products_of_pairs(features, self.item_vectors, items)
        return products + self._bias[items]


def _products_of_pairs(z, weight, items):
    """Multiply each row of z (n_rows, latent_dim) with some rows of the weight.

    `items` and the result have shape (n_rows, width).
    """
    if z.device.type != "cpu":
        return _gathered_products(z, weight, items)
    ends = torch.arange(0, items.numel() + 1, items.shape[1])
    zeros = z.new_zeros(items.numel())
    shape = len(z), len(weight)
    pairs = torch.sparse_csr_tensor(ends, items.flatten(), zeros, shape)
    products = torch.sparse.sampled_addmm(pairs, z, weight.T, beta=0)
    return products.values().view(items.shape)


def _gathered_products(z, weight, items):
    """Do the same with copies of the rows of the weight, which is slower on a CPU."""
    size = max(1, SCORES_BYTES // (4 * items.shape[1] * z.shape[1]))
    parts = [
        torch.einsum("uil,ul->ui", weight[some], of_users)  # (size, width)
        for some, of_users in zip(items.split(size), z.split(size), strict=True)
    ]
    return torch.cat(parts)


@torch.inference_mode()
def nearest(vectors, queries, k, own=None):
    """Rank the k vectors nearest to each query by their cosine.

    Parameters
    ----------
    vectors : torch.Tensor of shape (n_vectors, width)
        float32.
    queries : torch.Tensor of shape (n_queries, width)
        float32, on the same device.
    k : int
        Length of the lists, may exceed `n_vectors`.
    own : torch.Tensor of shape (n_queries,), default=None
        The vector that each query is itself, which is not ranked.

    Returns
    -------
    neighbors : ndarray of shape (n_queries, k)
        int64, nearest first; -1 where no vector is left.
    similarities : ndarray of shape (n_queries, k)
        float32 cosines; -inf where no vector is left.
    """
    directions = torch.nn.functional.normalize(vectors, dim=1)
    queries = torch.nn.functional.normalize(queries, dim=1)
    blocks = []
    size = block_users(len(vectors))
    for begin in range(0, max(1, len(queries)), size):
        cosines = queries[begin : begin + size] @ directions.T  # (block, n_vectors)
        if own is not None:
            rows = torch.arange(len(cosines), device=cosines.device)
            mask_entries(cosines, rows, own[begin : begin + size])
        blocks.append(top_k(cosines, k))
    neighbors, similarities = (torch.cat(parts) for parts in zip(*blocks, strict=True))
    return neighbors.cpu().numpy(), similarities.cpu().numpy()
