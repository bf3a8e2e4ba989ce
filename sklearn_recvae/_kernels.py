"""Hand-written autograd functions, which keep computation sparse and fast.

No dense ``(batch, n_items)`` input is ever made, and only one block of the
``(batch, n_items)`` logits exists at a time. All functions work in any floating dtype.
"""

import functools

import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable

# Bytes of logits held at once by the likelihood. On a CPU the block should stay
# near the last-level cache; a GPU wants few large kernels.
BLOCK_BYTES = {"cpu": 24 * 2**20, "cuda": 2**30, "mps": 2**28}

# oneDNN's float32 product took half the time of the default one (MKL) where it was
# measured, on an AMD processor with AVX-512. torch has no public switch for it, so a
# private op is used, and the default product where that op does not exist.
_ONEDNN_LINEAR = None
if torch.backends.mkldnn.is_available():
    _ONEDNN_LINEAR = getattr(torch.ops.mkldnn, "_linear_pointwise", None)


@functools.cache
def onednn_multiplies(dtype):
    """Try whether oneDNN can multiply this dtype on this processor.

    It cannot multiply bfloat16 if the processor, or ``ONEDNN_MAX_CPU_ISA``, is below
    AVX-512.
    """
    if _ONEDNN_LINEAR is None:
        return False
    ones = torch.ones(1, 1, dtype=dtype, device="cpu")
    try:
        _ONEDNN_LINEAR(ones, ones, ones[0], "none", [], "")
    except RuntimeError:
        return False
    return True


def product(a, b, bias=None):
    """Compute ``a @ b.T + bias`` in the fastest way; not differentiable.

    Parameters
    ----------
    a : torch.Tensor of shape (n, m)
        Left factor.
    b : torch.Tensor of shape (p, m)
        Right factor, transposed.
    bias : torch.Tensor of shape (p,), default=None
        Added to each row.

    Returns
    -------
    torch.Tensor of shape (n, p)
        In the dtype of the factors.
    """
    # torch multiplies two bfloat16 matrices with oneDNN too, unless there is a bias.
    dtypes = [torch.float32] if bias is None else [torch.float32, torch.bfloat16]
    if a.device.type == "cpu" and a.dtype in dtypes and onednn_multiplies(a.dtype):
        return _ONEDNN_LINEAR(a, b, bias, "none", [], "")
    return a @ b.T if bias is None else torch.addmm(bias, a, b.T)


def linear(x, weight, bias, skip=None, *, matmul_dtype=None):
    """Compute ``x @ weight.T + bias + skip`` with all its products in `matmul_dtype`.

    Parameters
    ----------
    x : torch.Tensor of shape (n_rows, in_features)
        Input.
    weight : torch.Tensor of shape (out_features, in_features)
        As in :class:`torch.nn.Linear`.
    bias : torch.Tensor of shape (out_features,)
        As in :class:`torch.nn.Linear`.
    skip : torch.Tensor of shape (n_rows, out_features), default=None
        What a skip connection adds.
    matmul_dtype : torch.dtype, default=None
        None is the dtype of x.

    Returns
    -------
    torch.Tensor of shape (n_rows, out_features)
        In the dtype of x, as are the gradients.
    """
    return _Linear.apply(x, weight, bias, skip, matmul_dtype or x.dtype)


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, skip, matmul_dtype):
        low_x, low_weight = x.to(matmul_dtype), weight.to(matmul_dtype)
        ctx.save_for_backward(low_x, low_weight)
        ctx.dtype = x.dtype
        out = product(low_x, low_weight).to(x.dtype).add_(bias)
        return out if skip is None else out.add_(skip)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        low_x, low_weight = ctx.saved_tensors
        low_grad = grad.to(low_x.dtype)
        grad_x = product(low_grad, low_weight.T)
        grad_weight = product(low_grad.T, low_x.T)
        grad_skip = grad if ctx.needs_input_grad[3] else None
        grad_x, grad_weight = grad_x.to(ctx.dtype), grad_weight.to(ctx.dtype)
        return grad_x, grad_weight, grad.sum(0), grad_skip, None


def weighted_row_sums(table, indices, weights, offsets):
    """Multiply a sparse matrix in CSR form with a table.

    Parameters
    ----------
    table : torch.Tensor of shape (n_columns, width)
        A row for each column of the matrix.
    indices : torch.Tensor of shape (nnz,)
        Columns of the entries, row by row.
    weights : torch.Tensor of shape (nnz,)
        Values of the entries.
    offsets : torch.Tensor of shape (n_rows + 1,)
        Where each row's entries begin, of the same dtype as the indices.

    Returns
    -------
    torch.Tensor of shape (n_rows, width)
        For each row the weighted sum of the table's rows.
    """
    return F.embedding_bag(
        indices,
        table,
        offsets,
        mode="sum",
        per_sample_weights=weights.to(table.dtype),
        include_last_offset=True,
    )


def item_sums(entries, table, begin, end):
    """Multiply some rows of a transposed batch with a table.

    Parameters
    ----------
    entries : ItemEntries
        The transposed batch.
    table : torch.Tensor of shape (n_rows, width)
        A row for each row of the batch.
    begin, end : int
        The range of items.

    Returns
    -------
    torch.Tensor of shape (end - begin, width)
        For each item the weighted sum of the rows that have it.
    """
    offsets, rows, weights = entries
    if end - begin < len(offsets) - 1:  # else the host need not know the offsets
        offsets = offsets[begin : end + 1]
        first, last = int(offsets[0]), int(offsets[-1])
        offsets = offsets - first
        rows, weights = rows[first:last], weights[first:last]
    return weighted_row_sums(table, rows, weights, offsets)


def mean_log_likelihood(
    z, weight, bias, batch, *, communicator, keys=None, block_bytes=None
):
    """Compute the mean over users of sum_i x_i log softmax(W z + b)_i.

    The gradient of the log-sum-exp with respect to z is attention with the decoder
    weights as keys and values: one pass over blocks of items gives the value and that
    gradient, without a matrix of size (n_rows, n_items). The gradients of W and b need
    the log-sum-exp first, so they take a second pass if there is more than one block.

    Parameters
    ----------
    z : torch.Tensor of shape (n_rows, latent)
        Latent samples.
    weight : torch.Tensor of shape (n_items, latent)
        Decoder weights W.
    bias : torch.Tensor of shape (n_items,)
        Decoder bias b.
    batch : Batch
        The rows x; values and totals are used, not the noised inputs.
    communicator : Communicator
        Joins the items of several processes; W, b and the entries of the batch are
        then of this process alone, its totals of all.
    keys : tuple of torch.Tensor, default=None
        W and b in the dtype of the large matrix products, if it is another one.
    block_bytes : int, default=None
        Memory for the logits of one block of items; None takes `BLOCK_BYTES`.

    Returns
    -------
    torch.Tensor of shape ()
        The mean log-likelihood.
    """
    if keys is None:
        keys = weight.detach(), bias.detach()
    if block_bytes is None:
        block_bytes = BLOCK_BYTES[z.device.type]
    column_bytes = max(1, batch.n_rows) * keys[0].dtype.itemsize
    n_blocks = -(-len(weight) * column_bytes // block_bytes)
    block_items = -(-len(weight) // n_blocks)  # blocks of equal size
    return _MeanLogLikelihood.apply(
        z, weight, bias, batch, communicator, keys, block_items
    )


class _MeanLogLikelihood(torch.autograd.Function):
    @staticmethod
    def forward(ctx, z, weight, bias, batch, communicator, keys, block_items):
        need_z, need_weight, need_bias = ctx.needs_input_grad[:3]
        low_z = z.to(keys[0].dtype)
        starts = range(0, len(weight), block_items)
        blocks = list(zip(*(key.split(block_items) for key in keys), strict=True))
        log_normalizer = z.new_full((batch.n_rows,), -torch.inf)
        attended = torch.zeros_like(z)  # softmax(W z + b) W
        for block in blocks:
            softmax, log_mass = _softmax(low_z, *block)  # (n_rows, block_items)
            before = log_normalizer
            log_normalizer = torch.logaddexp(before, log_mass)
            if need_z:
                attended *= (before - log_normalizer).exp_()[:, None]
                share = (log_mass - log_normalizer).exp_()[:, None]
                attended += share * product(softmax, block[0].T)
        own_normalizer = log_normalizer  # over the items of this process
        log_normalizer = communicator.logsumexp(own_normalizer)
        if need_z and log_normalizer is not own_normalizer:
            attended *= (own_normalizer - log_normalizer).exp_()[:, None]
        values = batch.values.to(z.dtype)
        # sum_i x_i w_i, so that sum_i x_i logit_i = z observed + sum_i x_i b_i
        observed = communicator.sum_(
            weighted_row_sums(weight, batch.items, values, batch.offsets)
        )
        totals = batch.totals.to(z.dtype)
        likelihood = ((z * observed).sum(1) - totals * log_normalizer).sum()
        likelihood += communicator.sum_(values @ bias[batch.items])
        grad_z = grad_weight = grad_bias = None
        if need_z:
            attended = communicator.sum_(attended)
            grad_z = (observed - totals[:, None] * attended).div_(batch.n_rows)
        if need_weight or need_bias:
            # The bias is the weight of one more latent variable, which is always 1.
            extended = torch.cat([z, torch.ones_like(z[:, :1])], dim=1) / batch.n_rows
            shares = z / batch.n_rows
            entries = batch.by_item(values, len(weight))
            grad_weight = torch.empty_like(weight)
            grad_bias = torch.zeros_like(bias)
            grad_bias.index_add_(0, batch.items, values / batch.n_rows)
            for begin, block in zip(starts, blocks, strict=True):
                end = begin + len(block[1])
                if len(blocks) > 1:
                    softmax, log_mass = _softmax(low_z, *block)
                scale = totals * (log_mass - log_normalizer).exp_()
                # The left factor of a product is read fastest as it lies in memory.
                left = (extended * -scale[:, None]).to(low_z.dtype).T.contiguous()
                part = product(left, softmax.T)  # (latent + 1, block_items)
                grad_weight[begin:end] = item_sums(entries, shares, begin, end)
                grad_weight[begin:end] += part[:-1].T
                grad_bias[begin:end] += part[-1]
        ctx.save_for_backward(grad_z, grad_weight, grad_bias)
        return likelihood / batch.n_rows

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        grads = [None if saved is None else saved * grad for saved in ctx.saved_tensors]
        return *grads, None, None, None, None


def _softmax(z, keys, offset):
    """Compute the softmax over the items of one block, and its log-normaliser."""
    logits = product(z, keys, offset)  # (n_rows, block_items)
    top = _row_maxima(logits)
    # In place; it works in float32 inside and rounds once, at the end.
    softmax = torch.softmax(logits, 1, out=logits)
    dtype = torch.promote_types(z.dtype, torch.float32)
    return softmax, top.to(dtype) - _row_maxima(softmax).to(dtype).log()


def _row_maxima(x):
    """Compute the maximum of each row, as ``x.amax(1)`` does."""
    if x.dtype != torch.bfloat16:
        return x.amax(1)
    # torch compares integers five times as fast. The bits of floats are ordered like
    # integers where the sign is +, and in reverse where it is -.
    bits = x.view(torch.int16)
    highest = bits.amax(1)
    return torch.where(highest < 0, bits.amin(1), highest).view(x.dtype)
