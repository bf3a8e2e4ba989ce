"""Hand-written gradients, by autograd in float64."""

import functools
import itertools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import sklearn_recvae
from sklearn_recvae import _hardware
from sklearn_recvae._batches import InteractionTensors
from sklearn_recvae._interactions import as_csr
from sklearn_recvae._kernels import (
    _row_maxima,
    item_sums,
    linear,
    product,
    weighted_row_sums,
)
from sklearn_recvae._kernels import mean_log_likelihood as likelihood_of_processes
from sklearn_recvae._training.distributed import OneProcess

CPU = torch.device("cpu")
mean_log_likelihood = functools.partial(
    likelihood_of_processes, communicator=OneProcess()
)
PROJECT = Path(sklearn_recvae.__file__).parents[1]


def make_batch(n_users, n_items, density=0.3, seed=0):
    """A batch with weighted entries and an empty row, and the same rows dense."""
    rng = np.random.default_rng(seed)
    # Weights whose sums are exact in float32, in which matrices are kept.
    X = rng.choice([0.5, 1, 3], size=(n_users, n_items))
    X *= rng.uniform(size=X.shape) < density
    X[n_users // 2] = 0
    X[:, n_items // 2] = 0
    X = as_csr(X)
    batch = InteractionTensors(X, CPU).batch(torch.arange(n_users))
    return batch, torch.tensor(X.toarray())


def draw(*shape, dtype, seed=0, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(shape, generator=generator, dtype=torch.float64) * scale
    return values.to(dtype).requires_grad_()


def dense_log_likelihood(z, weight, bias, x):
    return (x.to(z.dtype) * torch.log_softmax(z @ weight.T + bias, 1)).sum(1).mean()


def relative_errors(grads, expected):
    return [
        ((g.to_dense().double() - e).abs().max() / e.abs().max()).item()
        for g, e in zip(grads, expected, strict=True)
    ]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(3, 4, 5), (1, 1, 1), (0, 2, 3), (40, 200, 7)])
def test_product_equals_matmul(shape, dtype):
    n, m, p = shape
    bound = {torch.float64: 1e-14, torch.float32: 1e-5, torch.bfloat16: 0.03}[dtype]
    a, b = draw(n, m, dtype=dtype).detach(), draw(p, m, dtype=dtype, seed=1).detach()
    bias = draw(p, dtype=dtype, seed=2).detach()
    for left, right, c in (
        (a, b, None),
        (a, b, bias),
        (a.T.contiguous().T, b.T.contiguous().T, bias),  # strided as in the backward
    ):
        got = product(left, right, c)
        expected = a.double() @ b.double().T + (0 if c is None else c.double())
        assert got.dtype == dtype
        torch.testing.assert_close(got.double(), expected, rtol=bound, atol=bound * 9)


OLD_PROCESSOR = """
import numpy as np
import torch
from sklearn_recvae import RecVAERecommender
from sklearn_recvae._hardware import resolve_matmul_dtype

assert resolve_matmul_dtype("auto", torch.device("cpu")) == torch.float32
sizes = dict(latent_dim=2, hidden_dim=4, max_iter=1, random_state=0)
model = RecVAERecommender(**sizes, precision="mixed").fit(np.eye(5))
assert np.isfinite(model.predict(np.eye(5))).all()
"""


def test_mixed_precision_without_avx512():
    environment = {"ONEDNN_MAX_CPU_ISA": "AVX2", "PYTHONPATH": str(PROJECT)}
    done = subprocess.run(
        [sys.executable, "-c", OLD_PROCESSOR],
        env={**os.environ, **environment},
        stderr=subprocess.PIPE,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("multiplies", [True, False])
def test_auto_precision_is_what_the_product_can_do(multiplies, monkeypatch):
    monkeypatch.setattr(
        torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True}, raising=False
    )
    monkeypatch.setattr(_hardware, "onednn_multiplies", lambda dtype: multiplies)
    expected = torch.bfloat16 if multiplies else torch.float32
    assert _hardware.resolve_matmul_dtype("auto", CPU) == expected
    assert _hardware.resolve_matmul_dtype("mixed", CPU) == torch.bfloat16


def test_linear_gradcheck_and_mixed_precision():
    inputs = x, weight, bias, skip = (
        draw(6, 4, dtype=torch.float64),
        draw(3, 4, dtype=torch.float64, seed=1),
        draw(3, dtype=torch.float64, seed=2),
        draw(6, 3, dtype=torch.float64, seed=3),
    )
    torch.testing.assert_close(linear(x, weight, bias), x @ weight.T + bias)
    torch.testing.assert_close(linear(*inputs), x @ weight.T + bias + skip)
    assert torch.autograd.gradcheck(linear, inputs[:3])
    assert torch.autograd.gradcheck(linear, inputs)
    exact = torch.autograd.grad(linear(*inputs).sum(), inputs)
    low = [t.detach().float().requires_grad_() for t in inputs]
    out = linear(*low, matmul_dtype=torch.bfloat16)
    assert out.dtype == torch.float32
    for grad, e in zip(torch.autograd.grad(out.sum(), low), exact, strict=True):
        assert grad.dtype == torch.float32
        assert ((grad.double() - e).norm() / e.norm()).item() < 0.01


def test_weighted_row_sums_are_the_batch_times_the_table():
    batch, x = make_batch(11, 23)
    norms = x.double().norm(dim=1, keepdim=True)
    inputs = torch.where(norms > 0, x.double() / norms, 0.0)
    for dtype, tolerance in ((torch.float64, 1e-6), (torch.float32, 1e-4)):
        table = draw(23, 7, dtype=dtype)
        out = weighted_row_sums(table, batch.items, batch.inputs, batch.offsets)
        assert out.dtype == dtype
        # The inputs themselves are float32, hence 1e-6 and not 1e-15.
        torch.testing.assert_close(
            out.double(), inputs @ table.double(), rtol=0, atol=tolerance
        )


def test_item_sums_are_the_transposed_batch_times_the_table():
    batch, _ = make_batch(11, 23)
    dense = torch.zeros(11, 23, dtype=torch.float64)
    dense[batch.rows, batch.items] = batch.inputs.double()
    table = draw(11, 7, dtype=torch.float64, seed=1).detach()
    entries = batch.by_item(batch.inputs, 23)
    expected = dense.T @ table
    for size in (1, 5, 22, 23):
        parts = [
            item_sums(entries, table, begin, min(begin + size, 23))
            for begin in range(0, 23, size)
        ]
        assert relative_errors([torch.cat(parts)], [expected])[0] < 1e-9


def test_sums_of_a_batch_without_any_entry():
    batch, _ = make_batch(2, 5, density=0)
    table = draw(5, 3, dtype=torch.float32).detach()
    out = weighted_row_sums(table, batch.items, batch.inputs, batch.offsets)
    assert torch.equal(out, torch.zeros(2, 3))
    entries = batch.by_item(batch.inputs, 5)
    assert torch.equal(item_sums(entries, out, 0, 5), torch.zeros(5, 3))
    assert torch.equal(item_sums(entries, out, 1, 3), torch.zeros(2, 3))


@pytest.mark.parametrize("block_bytes", [None, 1, 3 * 6 * 8])
def test_log_likelihood_gradcheck(block_bytes):
    batch, _ = make_batch(5, 6)
    arguments = (
        draw(5, 3, dtype=torch.float64),
        draw(6, 3, dtype=torch.float64, seed=1),
        draw(6, dtype=torch.float64, seed=2),
    )
    assert torch.autograd.gradcheck(
        lambda z, w, b: mean_log_likelihood(z, w, b, batch, block_bytes=block_bytes),
        arguments,
    )


@pytest.mark.parametrize(
    ("dtype", "bound"), [(torch.float64, 1e-9), (torch.float32, 1e-5)]
)
@pytest.mark.parametrize("block_bytes", [None, 10_000])
def test_log_likelihood_and_gradients_equal_the_dense_formula(
    dtype, bound, block_bytes
):
    batch, x = make_batch(40, 300, density=0.05)
    arguments = (
        draw(40, 20, dtype=dtype, scale=2),
        draw(300, 20, dtype=dtype, seed=1, scale=0.5),
        draw(300, dtype=dtype, seed=2),
    )
    exact = [a.detach().double().requires_grad_() for a in arguments]
    expected = dense_log_likelihood(*exact, x.double())
    value = mean_log_likelihood(*arguments, batch, block_bytes=block_bytes)
    assert value.item() == pytest.approx(expected.item(), rel=bound)
    errors = relative_errors(
        torch.autograd.grad(value, arguments), torch.autograd.grad(expected, exact)
    )
    assert max(errors) < bound


@pytest.mark.parametrize("block_bytes", [None, 300_000])
def test_log_likelihood_in_bfloat16_is_within_two_percent(block_bytes):
    # The bound that the documentation states: the relative error of each gradient, in
    # the Euclidean norm, with logits as large as those of a trained model.
    batch, x = make_batch(200, 2000, density=0.02)
    arguments = (
        draw(200, 200, dtype=torch.float32),
        draw(2000, 200, dtype=torch.float32, seed=1, scale=0.15),
        draw(2000, dtype=torch.float32, seed=2),
    )
    exact = [a.detach().double().requires_grad_() for a in arguments]
    expected = dense_log_likelihood(*exact, x.double())
    keys = tuple(a.detach().bfloat16() for a in arguments[1:])
    value = mean_log_likelihood(*arguments, batch, keys=keys, block_bytes=block_bytes)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(expected.item(), rel=1e-3)
    grads = torch.autograd.grad(value, arguments)
    for grad, g in zip(grads, torch.autograd.grad(expected, exact), strict=True):
        assert grad.dtype == torch.float32
        assert ((grad.double() - g).norm() / g.norm()).item() < 0.02


def test_log_likelihood_of_extreme_logits_is_finite_and_exact():
    batch, x = make_batch(6, 9)
    z = draw(6, 4, dtype=torch.float32, scale=100)
    weight = draw(9, 4, dtype=torch.float32, seed=1, scale=100)
    bias = draw(9, dtype=torch.float32, seed=2)
    value = mean_log_likelihood(z, weight, bias, batch)
    expected = dense_log_likelihood(z.double(), weight.double(), bias.double(), x)
    assert value.item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_row_maxima_are_those_of_amax(dtype):
    special = [-torch.inf, -1e30, -2.0, -1e-39, -0.0, 0.0, 1e-39, 0.5, torch.inf]
    rows = torch.tensor(list(itertools.combinations(special, 3)), dtype=dtype)
    rows = torch.cat([rows, rows.flip(1), draw(99, 3, dtype=dtype).detach()])
    assert torch.equal(_row_maxima(rows), rows.amax(1))
    assert _row_maxima(torch.tensor([[0.0, torch.nan, 1.0]], dtype=dtype)).isnan()


@pytest.mark.parametrize("needed", [(True, False, False), (False, True, True)])
def test_log_likelihood_computes_only_the_gradients_that_are_needed(needed):
    batch, _ = make_batch(5, 6)
    arguments = [
        draw(5, 3, dtype=torch.float64),
        draw(6, 3, dtype=torch.float64, seed=1),
        draw(6, dtype=torch.float64, seed=2),
    ]
    for argument, need in zip(arguments, needed, strict=True):
        argument.requires_grad_(need)
    value = mean_log_likelihood(*arguments, batch)
    saved = value.grad_fn.next_functions[0][0]  # a division by the number of rows
    saved = saved if hasattr(saved, "saved_tensors") else value.grad_fn
    assert [t is not None for t in saved.saved_tensors] == list(needed)


def test_log_likelihood_ignores_the_noise_of_the_inputs():
    batch, _ = make_batch(5, 6)
    arguments = (
        draw(5, 3, dtype=torch.float64),
        draw(6, 3, dtype=torch.float64, seed=1),
        draw(6, dtype=torch.float64, seed=2),
    )
    noised = batch.dropout(0.9, torch.Generator().manual_seed(0))
    assert (noised.inputs == 0).any()
    assert mean_log_likelihood(*arguments, noised) == mean_log_likelihood(
        *arguments, batch
    )
