"""The two hand-written pieces of autograd that keep everything sparse.

A dense ``(batch, n_items)`` input never exists, and of the ``(batch, n_items)``
logits only a block of rows at a time. Both functions work in any floating dtype.
"""

import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable

# Bytes of logits held at once by the likelihood. On a CPU the block should stay
# near the last-level cache; a GPU wants few large kernels.
BLOCK_BYTES = {"cpu": 32 * 2**20, "cuda": 2**30, "mps": 2**28}


def sparse_linear(weight, batch):
    """Multiply the batch's sparse inputs with a weight stored ``(n_items, hidden)``.

    Parameters
    ----------
    weight : torch.Tensor of shape (n_items, hidden)
        Transposed with respect to :class:`torch.nn.Linear`: a row an item.
    batch : Batch
        ``batch.inputs`` are the weights of the items in each row.

    Returns
    -------
    torch.Tensor of shape (n_rows, hidden)
        ``inputs @ weight``.
    """
    return _SparseLinear.apply(
        weight, batch.inputs, batch.items, batch.rows, batch.offsets
    )


class _SparseLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx, weight, inputs, items, rows, offsets):
        ctx.n_items = len(weight)
        ctx.save_for_backward(inputs, items, rows)
        return _weighted_row_sums(weight, items, inputs, offsets)  # (n_rows, hidden)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        # The gradient is the same operation over the transposed batch: sort the
        # entries by item, and sum for each item the rows in which it occurs.
        inputs, items, rows = ctx.saved_tensors
        items, order = items.sort(stable=True)
        bounds = torch.arange(ctx.n_items + 1, device=items.device)
        offsets = torch.searchsorted(items, bounds)
        grad_weight = _weighted_row_sums(
            grad.contiguous(), rows[order], inputs[order], offsets
        )  # (n_items, hidden)
        return grad_weight, None, None, None, None


def _weighted_row_sums(table, indices, weights, offsets):
    return F.embedding_bag(
        indices,
        table,
        offsets,
        mode="sum",
        per_sample_weights=weights.to(table.dtype),
        include_last_offset=True,
    )


def mean_log_likelihood(z, weight, bias, batch, *, matmul_dtype=None, block_bytes=None):
    """Mean over users of sum_i x_i log softmax(W z + b)_i.

    The gradient of the log-sum-exp with respect to z is attention with the decoder
    weights as keys and values, so one pass over the logits gives the value and the
    gradients of z, W and b that are asked for; no logits are kept for later.

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
    matmul_dtype : torch.dtype, default=None
        What the matrix products are computed in; None is the dtype of z.
    block_bytes : int, default=None
        Memory for the logits of one block of rows; None takes `BLOCK_BYTES`.

    Returns
    -------
    torch.Tensor of shape ()
        The mean log-likelihood.
    """
    if matmul_dtype is None:
        matmul_dtype = z.dtype
    if block_bytes is None:
        block_bytes = BLOCK_BYTES[z.device.type]
    block_rows = max(1, block_bytes // (len(weight) * matmul_dtype.itemsize))
    return _MeanLogLikelihood.apply(z, weight, bias, batch, matmul_dtype, block_rows)


class _MeanLogLikelihood(torch.autograd.Function):
    @staticmethod
    def forward(ctx, z, weight, bias, batch, matmul_dtype, block_rows):
        need_z, need_weight, need_bias = ctx.needs_input_grad[:3]
        keys = weight.to(matmul_dtype)  # (n_items, latent)
        offset = bias.to(matmul_dtype)
        scales = batch.totals.to(z.dtype)[:, None] / batch.n_rows  # (n_rows, 1)
        likelihood = z.new_zeros(())
        grad_z = torch.empty_like(z) if need_z else None
        grad_weight = torch.zeros_like(weight) if need_weight else None
        grad_bias = torch.zeros_like(bias) if need_bias else None
        for begin in range(0, batch.n_rows, block_rows):
            block = slice(begin, begin + block_rows)
            rows, items, values = _entries(batch, begin, begin + block_rows)
            values = values.to(z.dtype)
            scale = scales[block]
            logits = torch.addmm(
                offset, z[block].to(matmul_dtype), keys.T
            )  # (block, n_items)
            top = logits.amax(1).to(z.dtype)
            observed = logits[rows, items].to(z.dtype)  # (nnz,)
            # softmax works in float32 inside and rounds once, at the end.
            error = torch.softmax(logits, 1)
            log_normalizer = top - error.amax(1).to(z.dtype).log()  # (block,)
            likelihood += values @ (observed - log_normalizer[rows])
            # d likelihood / d logits = x - n softmax = -n (softmax - x / n)
            share = values / batch.totals[block].to(z.dtype)[rows]
            error[rows, items] -= share.to(matmul_dtype)
            if need_z:
                grad_z[block] = -scale * (error @ keys)
            if need_weight:
                grad_weight -= error.T @ (scale * z[block]).to(matmul_dtype)
            if need_bias:
                grad_bias -= error.T @ scale[:, 0].to(matmul_dtype)
        ctx.save_for_backward(grad_z, grad_weight, grad_bias)
        return likelihood / batch.n_rows

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        grads = [None if saved is None else saved * grad for saved in ctx.saved_tensors]
        return *grads, None, None, None


def _entries(batch, begin, end):
    """Rows (counted from `begin`), items and values of some rows of the batch."""
    if begin == 0 and end >= batch.n_rows:  # all of it: the host need not wait
        return batch.rows, batch.items, batch.values
    first, last = batch.offsets[[begin, min(end, batch.n_rows)]].tolist()
    entries = slice(first, last)
    return batch.rows[entries] - begin, batch.items[entries], batch.values[entries]
