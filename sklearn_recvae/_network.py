"""Networks: what all variational ones share, and RecVAE's.

RecVAE has a densely connected encoder and a linear decoder. The weights are always
float32; `matmul_dtype` says what the large products are computed in.
"""

import itertools
import math
import reprlib

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from sklearn_recvae._batches import as_tensor
from sklearn_recvae._files import check_arrays
from sklearn_recvae._kernels import linear, weighted_row_sums

LAYER_NORM_EPS = 0.1

# How layers are made: without memory, and with nothing drawn from the global generator.
# Not within ``torch.device("meta")``, from which an interrupt may not find back.
BLANK = {"device": "meta", "dtype": torch.float32}


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
        self.weight = nn.Parameter(torch.empty(in_features, out_features, **BLANK))
        self.bias = nn.Parameter(torch.empty(out_features, **BLANK))

    def forward(self, batch, sums=None):
        """Map a `Batch` to a tensor of shape (n_rows, out_features).

        `sums` is the batch times the weight, where it is at hand already.
        """
        if sums is None:
            sums = self.sums(batch)
        return sums + self.bias

    def sums(self, batch):
        """Multiply a `Batch` with the weight, to (n_rows, out_features)."""
        return weighted_row_sums(self.weight, batch.items, batch.inputs, batch.offsets)


class VariationalNetwork(nn.Module):
    """Base of networks with an encoder, and a decoder whose last layer is linear.

    A child makes two modules without memory for their weights. `encoder` maps a batch
    to the mean and the log-variance of the posterior, see `Encoder`, and its layer
    `input` is a `SparseLinear`. `decoder` has the last layer, a `torch.nn.Linear`
    named by `output_name`; `expand` gives what this layer gets.

    Parameters
    ----------
    sizes : tuple
        What the child is made of, besides the number of items: integers and bools.
    """

    # Types of the sizes, in order.
    size_types = ()
    # The tensors with a row for each item: those that grow with the catalogue.
    input_table = "encoder.input.weight"
    output_name = "decoder"

    def __init__(self, sizes):
        super().__init__()
        self.sizes = sizes

    @staticmethod
    def weight_shapes(n_items, *sizes):
        """Yield name and shape of each weight, for sizes of any magnitude.

        Parameters
        ----------
        n_items : int
            Number of columns of the interaction matrix.
        *sizes : int or bool
            As in the child.
        """
        raise NotImplementedError

    def expand(self, z, matmul_dtype=None):
        """Give what the last layer gets: here the latent variables themselves.

        Parameters
        ----------
        z : torch.Tensor of shape (n_rows, latent)
            Latent variables.
        matmul_dtype : torch.dtype, default=None
            Of the large products.

        Returns
        -------
        torch.Tensor of shape (n_rows, width)
            Features.
        """
        return z

    @property
    def output(self):
        """The last layer of the decoder."""
        return self.get_submodule(self.output_name)

    @property
    def output_tables(self):
        """Names of the weight and the bias of the last layer."""
        return f"{self.output_name}.weight", f"{self.output_name}.bias"

    @property
    def item_tables(self):
        """Names of all tensors with a row for each item."""
        return self.input_table, *self.output_tables

    @property
    def n_items(self):
        """Number of items."""
        return self.output.out_features

    @property
    def latent_dim(self):
        """Width of the latent space."""
        raise NotImplementedError

    @property
    def device(self):
        """Where the parameters live."""
        return self.output.weight.device

    @torch.no_grad()
    def reset_parameters(self, generator):
        """Draw the weights as PyTorch's layers do by default.

        Parameters
        ----------
        generator : torch.Generator
            On the CPU, so that every device starts alike.
        """
        for layer in self.modules():
            if isinstance(layer, nn.LayerNorm):
                nn.init.ones_(layer.weight)
                nn.init.zeros_(layer.bias)
            elif isinstance(layer, SparseLinear | nn.Linear):
                transposed = isinstance(layer, SparseLinear)
                fan_in = layer.weight.shape[0 if transposed else 1]
                bound = 1 / math.sqrt(fan_in)
                nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
                nn.init.uniform_(layer.bias, -bound, bound, generator=generator)

    @classmethod
    def build(cls, n_items, *sizes, seed):
        """Make a network with weights that depend on `seed` alone.

        Parameters
        ----------
        n_items : int
            Number of items.
        *sizes : int or bool
            As in the child.
        seed : int
            Of the weights.

        Returns
        -------
        VariationalNetwork
            On the CPU.
        """
        network = cls(n_items, *sizes).to_empty(device="cpu")
        network.reset_parameters(torch.Generator().manual_seed(seed))
        return network

    def take_apart(self):
        """Give what `rebuild` makes the same network of, beside the number of items.

        Returns
        -------
        sizes : list of int or bool
            As in the child.
        weights : dict of ndarray
            By the names of the `state_dict`. On the CPU they are not copied.
        """
        weights = self.state_dict().items()
        return list(self.sizes), {name: w.cpu().numpy() for name, w in weights}

    @classmethod
    def rebuild(cls, n_items, *sizes, weights):
        """Make a network of trained weights.

        Parameters
        ----------
        n_items : int
            Number of items.
        *sizes : int or bool
            As in the child.
        weights : dict of ndarray
            By the names of its `state_dict`. They are not copied, and may be read-only.

        Returns
        -------
        VariationalNetwork
            On the CPU.

        Raises
        ------
        ValueError
            If these are not its weights.
        """
        # Before anything is made of sizes that may be wrong.
        cls._check_sizes(n_items, *sizes)
        shapes = cls.weight_shapes(n_items, *sizes)
        # More names than there are weights are not looked at.
        shapes = dict(itertools.islice(shapes, len(weights) + 1))
        float32 = np.dtype(np.float32)
        check_arrays(
            weights, {name: (float32, shape) for name, shape in shapes.items()}
        )
        network = cls(n_items, *sizes)
        tensors = {name: as_tensor(array) for name, array in weights.items()}
        network.load_state_dict(tensors, assign=True)
        return network

    @classmethod
    def _check_sizes(cls, *sizes):
        types = (int, *cls.size_types)
        fit = len(sizes) == len(types) and all(
            type(size) is of_type and (of_type is bool or size > 0)
            for size, of_type in zip(sizes, types, strict=True)
        )
        if not fit:
            expected = ", ".join(each.__name__ for each in types)
            raise ValueError(
                f"the sizes are {reprlib.repr(sizes)}, expected {expected}, with "
                "positive integers"
            )

    @classmethod
    def count_weights(cls, n_items, *sizes):
        """Count the weights of a network of any sizes.

        Parameters
        ----------
        n_items : int
            Number of items.
        *sizes : int or bool
            As in the child.

        Returns
        -------
        first, others : int
            Those of the first layer's table, whose input is sparse, and all others.
        """
        counts = {
            name: math.prod(shape) for name, shape in cls.weight_shapes(n_items, *sizes)
        }
        first = counts.pop(cls.input_table)
        return first, sum(counts.values())


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
            nn.Linear(hidden_dim, hidden_dim, **BLANK)
            for _ in range(n_hidden_layers - 1)
        )
        self.norms = nn.ModuleList(
            nn.LayerNorm(hidden_dim, eps=LAYER_NORM_EPS, **BLANK)
            for _ in range(n_hidden_layers)
        )
        # Mean and log-variance side by side: one product instead of two.
        self.posterior = nn.Linear(hidden_dim, 2 * latent_dim, **BLANK)

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


class RecVAE(VariationalNetwork):
    """RecVAE's encoder and its linear decoder.

    Parameters
    ----------
    n_items : int
        Number of columns of the interaction matrix.
    latent_dim, hidden_dim, n_hidden_layers, dense_connections
        See `Encoder`.
    """

    size_types = (int, int, int, bool)

    def __init__(
        self, n_items, latent_dim, hidden_dim, n_hidden_layers, dense_connections
    ):
        super().__init__((latent_dim, hidden_dim, n_hidden_layers, dense_connections))
        self.encoder = Encoder(
            n_items, latent_dim, hidden_dim, n_hidden_layers, dense_connections
        )
        self.decoder = nn.Linear(latent_dim, n_items, **BLANK)

    @property
    def latent_dim(self):
        """Width of the latent space."""
        return self.decoder.in_features

    @staticmethod
    def weight_shapes(n_items, latent_dim, hidden_dim, n_hidden_layers, *_):
        """Yield name and shape of each weight, for sizes of any magnitude.

        Parameters
        ----------
        n_items, latent_dim, hidden_dim, n_hidden_layers, *_
            As in the constructor.

        Yields
        ------
        name : str
            As in its `state_dict`.
        shape : tuple of int
            Of the weight.
        """
        yield "encoder.input.weight", (n_items, hidden_dim)
        yield "encoder.input.bias", (hidden_dim,)
        yield "encoder.posterior.weight", (2 * latent_dim, hidden_dim)
        yield "encoder.posterior.bias", (2 * latent_dim,)
        yield "decoder.weight", (n_items, latent_dim)
        yield "decoder.bias", (n_items,)
        for number in range(n_hidden_layers):
            yield f"encoder.norms.{number}.weight", (hidden_dim,)
            yield f"encoder.norms.{number}.bias", (hidden_dim,)
            if number > 0:
                yield f"encoder.hidden.{number - 1}.weight", (hidden_dim, hidden_dim)
                yield f"encoder.hidden.{number - 1}.bias", (hidden_dim,)
