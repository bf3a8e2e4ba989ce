"""The hand-written pieces of autograd that keep everything sparse and fast.

A dense ``(batch, n_items)`` input never exists, and of the ``(batch, n_items)``
logits only a block of rows at a time. All functions work in any floating dtype.
"""

import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable

# Bytes of logits held at once by the likelihood. On a CPU the block should stay
# near the last-level cache; a GPU wants few large kernels.
BLOCK_BYTES = {"cpu": 32 * 2**20, "cuda": 2**30, "mps": 2**28}

# oneDNN's float32 product took half the time of the default one (MKL) where it was
# measured, on an AMD processor with AVX-512. torch has no public switch for it, hence
# the private op, and the way back where it does not exist.
_ONEDNN_LINEAR = None
if torch.backends.mkldnn.is_available():
    _ONEDNN_LINEAR = getattr(torch.ops.mkldnn, "_linear_pointwise", None)


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
    on_cpu = a.device.type == "cpu"
    if _ONEDNN_LINEAR and on_cpu and a.dtype in (torch.float32, torch.bfloat16):
        return _ONEDNN_LINEAR(a, b, bias, "none", [], "")
    return a @ b.T if bias is None else torch.addmm(bias, a, b.T)


def linear(x, weight, bias, *, matmul_dtype=None):
    """Compute ``x @ weight.T + bias`` with all its products in `matmul_dtype`.

    Parameters
    ----------
    x : torch.Tensor of shape (n_rows, in_features)
        Input.
    weight : torch.Tensor of shape (out_features, in_features)
        As in :class:`torch.nn.Linear`.
    bias : torch.Tensor of shape (out_features,)
        As in :class:`torch.nn.Linear`.
    matmul_dtype : torch.dtype, default=None
        None is the dtype of x.

    Returns
    -------
    torch.Tensor of shape (n_rows, out_features)
        In the dtype of x, as are the gradients.
    """
    return _Linear.apply(x, weight, bias, matmul_dtype or x.dtype)


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, matmul_dtype):
        low_x, low_weight = x.to(matmul_dtype), weight.to(matmul_dtype)
        ctx.save_for_backward(low_x, low_weight)
        ctx.dtype = x.dtype
        return product(low_x, low_weight).to(x.dtype) + bias

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        low_x, low_weight = ctx.saved_tensors
        low_grad = grad.to(low_x.dtype)
        grad_x = product(low_grad, low_weight.T)
        grad_weight = product(low_grad.T, low_x.T)
        return grad_x.to(ctx.dtype), grad_weight.to(ctx.dtype), grad.sum(0), None


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
        ``inputs @ weight``. The gradient of the weight is a sparse tensor, which has
        the rows of the batch's items only.
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
        touched, counts = items.unique_consecutive(return_counts=True)
        grad_rows = _weighted_row_sums(
            grad.contiguous(),
            rows[order],
            inputs[order],
            F.pad(counts.cumsum(0), (1, 0)),
        )  # (n_touched, hidden)
        grad_weight = torch.sparse_coo_tensor(
            touched[None],
            grad_rows,
            (ctx.n_items, grad.shape[1]),
            is_coalesced=True,
            check_invariants=False,
        )
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
            logits = product(z[block].to(matmul_dtype), keys, offset)
            top = logits.amax(1).to(z.dtype)
            observed = logits[rows, items].to(z.dtype)  # (nnz,)
            # In place; it works in float32 inside and rounds once, at the end.
            error = torch.softmax(logits, 1, out=logits)
            log_normalizer = top - error.amax(1).to(z.dtype).log()  # (block,)
            likelihood += values @ (observed - log_normalizer[rows])
            # d likelihood / d logits = x - n softmax = -n (softmax - x / n)
            share = values / batch.totals[block].to(z.dtype)[rows]
            error[rows, items] -= share.to(matmul_dtype)
            if need_z:
                grad_z[block] = -scale * product(error, keys.T)
            if need_weight:
                values_t = (scale * z[block]).to(matmul_dtype).T
                grad_weight -= product(values_t, error.T).T
            if need_bias:
                grad_bias -= product(scale.to(matmul_dtype).T, error.T)[0]
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
