"""The networks of RecVAE: a densely connected encoder and a linear decoder.

Read from the bottom up: `SparseLinear`, `Encoder`, `RecVAE`. The parameters are
always float32; `matmul_dtype` says what the large products are computed in.
"""

import math
import reprlib

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from sklearn_recvae._files import check_arrays, check_finite
from sklearn_recvae._kernels import linear, weighted_row_sums

LAYER_NORM_EPS = 0.1

# How layers are made: without memory, and with nothing drawn from the global generator.
# Not within ``torch.device("meta")``, from which an interrupt may not find back.
_BLANK = {"device": "meta", "dtype": torch.float32}


class SparseLinear(nn.Module):
    """A linear layer over sparse rows, its weight stored transposed.

    Parameters
    ----------
    in_features : int
        Number of items.
    out_features : int
        Width of the output.
    """

    def __init__(self, in_features, out_features):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(in_features, out_features, **_BLANK))
        self.bias = nn.Parameter(torch.empty(out_features, **_BLANK))

    def forward(self, batch, sums=None):
        """Map a `Batch` to a tensor of shape (n_rows, out_features).

        `sums` is the batch times the weight, where it is at hand already.
        """
        if sums is None:
            sums = weighted_row_sums(
                self.weight, batch.items, batch.inputs, batch.offsets
            )
        return sums + self.bias


def swish(x, matmul_dtype):
    """Compute x sigmoid(x), in float64 if the products are, else in x's dtype."""
    dtype = torch.promote_types(x.dtype, matmul_dtype or x.dtype)
    return F.silu(x.to(dtype)).to(x.dtype)


class Encoder(nn.Module):
    """The inference network: a row of interactions to a Gaussian posterior.

    Parameters
    ----------
    n_items : int
        Number of columns of the interaction matrix.
    latent_dim : int
        Width of the posterior.
    hidden_dim : int
        Width of every hidden layer.
    n_hidden_layers : int
        Number of hidden layers, at least 1.
    dense_connections : bool
        Whether each layer also receives the sum of all earlier layers' outputs.
    """

    def __init__(
        self, n_items, latent_dim, hidden_dim, n_hidden_layers, dense_connections
    ):
        super().__init__()
        self.dense_connections = dense_connections
        self.input = SparseLinear(n_items, hidden_dim)
        self.hidden = nn.ModuleList(
            nn.Linear(hidden_dim, hidden_dim, **_BLANK)
            for _ in range(n_hidden_layers - 1)
        )
        self.norms = nn.ModuleList(
            nn.LayerNorm(hidden_dim, eps=LAYER_NORM_EPS, **_BLANK)
            for _ in range(n_hidden_layers)
        )
        # Mean and log-variance side by side: one product instead of two.
        self.posterior = nn.Linear(hidden_dim, 2 * latent_dim, **_BLANK)

    def forward(self, batch, matmul_dtype=None, sums=None):
        """Map a `Batch` to mean and log-variance, each (n_rows, latent_dim).

        `sums` is the batch times the first weight, where it is at hand already.
        """
        pre = self.input(batch, sums)
        h = self.norms[0](swish(pre, matmul_dtype))  # (n_rows, hidden)
        skip = None  # sum of all outputs so far
        for layer, norm in zip(self.hidden, self.norms[1:], strict=True):
            if self.dense_connections:
                skip = h if skip is None else skip + h
            pre = linear(h, layer.weight, layer.bias, skip, matmul_dtype=matmul_dtype)
            h = norm(swish(pre, matmul_dtype))
        head = self.posterior
        posterior = linear(h, head.weight, head.bias, matmul_dtype=matmul_dtype)
        return posterior.chunk(2, dim=1)


class RecVAE(nn.Module):
    """Encoder and decoder; the parameters of the model and nothing else.

    It is made without memory for them, see `build_recvae` and `rebuild_recvae`.

    Parameters
    ----------
    n_items : int
        Number of columns of the interaction matrix.
    latent_dim, hidden_dim, n_hidden_layers, dense_connections
        See `Encoder`.
    """

    def __init__(
        self, n_items, latent_dim, hidden_dim, n_hidden_layers, dense_connections
    ):
        super().__init__()
        self.encoder = Encoder(
            n_items, latent_dim, hidden_dim, n_hidden_layers, dense_connections
        )
        self.decoder = nn.Linear(latent_dim, n_items, **_BLANK)
        self.sizes = (latent_dim, hidden_dim, n_hidden_layers, dense_connections)

    @property
    def n_items(self):
        """Number of items."""
        return self.decoder.out_features

    @property
    def latent_dim(self):
        """Width of the latent space."""
        return self.decoder.in_features

    @property
    def device(self):
        """Where the parameters live."""
        return self.decoder.weight.device


def build_recvae(*args, seed):
    """Make a `RecVAE` with PyTorch's default initialisation, from `seed` alone.

    Parameters
    ----------
    *args : see RecVAE
        Its sizes.
    seed : int
        Drawn from on the CPU, so that every device starts alike.

    Returns
    -------
    RecVAE
        On the CPU.
    """
    module = RecVAE(*args).to_empty(device="cpu")
    generator = torch.Generator().manual_seed(seed)
    for layer in module.modules():
        if isinstance(layer, nn.LayerNorm):
            nn.init.ones_(layer.weight)
            nn.init.zeros_(layer.bias)
        elif isinstance(layer, SparseLinear | nn.Linear):
            transposed = isinstance(layer, SparseLinear)
            fan_in = layer.weight.shape[0 if transposed else 1]
            bound = 1 / math.sqrt(fan_in)
            nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
            nn.init.uniform_(layer.bias, -bound, bound, generator=generator)
    return module


def rebuild_recvae(*args, weights):
    """Make a `RecVAE` of trained weights.

    Parameters
    ----------
    *args : see RecVAE
        Its sizes.
    weights : dict of ndarray
        By the names of its `state_dict`. They are not copied.

    Returns
    -------
    RecVAE
        On the CPU.

    Raises
    ------
    ValueError
        If these are not its weights, or if they are not finite.
    """
    # Before anything is made of sizes that may be wrong.
    check_arrays(weights, _describe_weights(len(weights), *args))
    check_finite(weights)
    module = RecVAE(*args)
    tensors = {name: torch.from_numpy(array) for name, array in weights.items()}
    module.load_state_dict(tensors, assign=True)
    return module


def _describe_weights(
    n_weights,
    n_items,
    latent_dim,
    hidden_dim,
    n_hidden_layers,
    dense_connections,
):
    """Give dtype and shape of the weights of a `RecVAE`, of which there are so many."""
    sizes = n_items, latent_dim, hidden_dim, n_hidden_layers
    are_sizes = all(type(size) is int and size > 0 for size in sizes)
    if not are_sizes or type(dense_connections) is not bool:
        raise ValueError(
            f"the sizes are {reprlib.repr((*sizes, dense_connections))}, expected 4 "
            "positive integers and whether connections are dense"
        )
    n_expected = 4 * n_hidden_layers + 4
    if n_weights != n_expected:
        raise ValueError(f"there are {n_weights} weights, expected {n_expected}")
    shapes = {"encoder.input.weight": (n_items, hidden_dim)}
    shapes["encoder.input.bias"] = (hidden_dim,)
    for number in range(n_hidden_layers - 1):
        shapes[f"encoder.hidden.{number}.weight"] = (hidden_dim, hidden_dim)
        shapes[f"encoder.hidden.{number}.bias"] = (hidden_dim,)
    for number in range(n_hidden_layers):
        shapes[f"encoder.norms.{number}.weight"] = (hidden_dim,)
        shapes[f"encoder.norms.{number}.bias"] = (hidden_dim,)
    shapes["encoder.posterior.weight"] = (2 * latent_dim, hidden_dim)
    shapes["encoder.posterior.bias"] = (2 * latent_dim,)
    shapes["decoder.weight"] = (n_items, latent_dim)
    shapes["decoder.bias"] = (n_items,)
    return {name: (np.dtype(np.float32), shape) for name, shape in shapes.items()}


def training_bytes(*args):
    """Count the memory of a `RecVAE` in training, but for what a batch takes.

    Parameters
    ----------
    *args : see RecVAE
        Its sizes.

    Returns
    -------
    int
        Of the weights, two moments for each, and a copy of the best ones.
    """
    return 4 * 4 * sum(_count_weights(*args))


def step_work(n_rows, *args):
    """Count the multiply-adds of a `RecVAE` in one direction of a training step.

    Parameters
    ----------
    n_rows : int
        Users in the batch.
    *args : see RecVAE
        Its sizes.

    Returns
    -------
    int
        One for each user and weight, but for the first layer, whose input is sparse.
    """
    return n_rows * _count_weights(*args)[1]


def _count_weights(n_items, latent_dim, hidden_dim, n_hidden_layers, dense_connections):
    """Count the weights of the first matrix, and all others, of any size."""
    encoder = (n_hidden_layers - 1) * hidden_dim**2 + hidden_dim * 2 * latent_dim
    decoder = latent_dim * n_items
    biases = n_hidden_layers * hidden_dim + 2 * latent_dim + n_items
    norms = 2 * n_hidden_layers * hidden_dim
    return n_items * hidden_dim, encoder + decoder + biases + norms
