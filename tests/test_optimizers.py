"""Adam that moves rows late, beside Adam that moves all."""

import copy

import numpy as np
import pytest
import torch

from sklearn_recvae._batches import InteractionTensors
from sklearn_recvae._interactions import as_csr
from sklearn_recvae._training import optimizers
from sklearn_recvae._training.optimizers import RowAdam

N_ITEMS, WIDTH = 60, 5
LEARNING_RATE = 5e-4  # the default of the estimator


def draw_batch(rng, popularity):
    """Four rows of weighted entries; unpopular items are seldom among them."""
    X = rng.uniform(0.5, 2, size=(4, N_ITEMS)) * (
        rng.uniform(size=(4, N_ITEMS)) < popularity
    )
    return InteractionTensors(as_csr(X), torch.device("cpu")).batch(torch.arange(4))


def run_beside_dense_adam(dtype, scale, shares, monkeypatch, n_steps=600):
    """Feed the same gradients to both; return the largest difference ever seen."""
    monkeypatch.setattr(optimizers, "DEFERRED_SHARES", shares)
    rng = np.random.default_rng(0)
    start = torch.tensor(rng.normal(size=(N_ITEMS, WIDTH)), dtype=dtype) / 10
    dense = torch.nn.Parameter(start.clone())
    adam = torch.optim.Adam([dense], lr=LEARNING_RATE)
    table = RowAdam(torch.nn.Parameter(start.clone()))
    table.lr = LEARNING_RATE
    popularity = np.linspace(0.001, 0.1, N_ITEMS) ** 1.5 * 4
    worst, n_deferred = 0, 0
    for step in range(n_steps):
        batch = draw_batch(rng, popularity)
        x = torch.zeros(4, N_ITEMS, dtype=dtype)
        x[batch.rows, batch.items] = batch.inputs.to(dtype)
        gradient = torch.tensor(rng.normal(size=(4, WIDTH)) * scale, dtype=dtype)
        look_up = table.look_up(batch)
        n_deferred += look_up.rows is not None
        worst = max(worst, (look_up.sums - x @ dense).abs().max().item())
        table.step(look_up, gradient)
        dense.grad = x.T @ gradient
        adam.step()
        if step % 250 == 249:
            table.catch_up()
            worst = max(worst, (table.weight - dense).abs().max().item())
    table.catch_up()
    return max(worst, (table.weight - dense).abs().max().item()), n_deferred


@pytest.mark.parametrize("shares", [(1, 1), (0.1, 0.2), (0, 0)], ids=str)
def test_equal_to_dense_adam(shares, monkeypatch):
    # Always deferred, sometimes, never.
    difference, n_deferred = run_beside_dense_adam(
        torch.float64, 1e-2, shares, monkeypatch
    )
    assert difference < 1e-9
    assert (n_deferred > 0) == (shares[0] > 0)
    assert (n_deferred == 600) == (shares[0] == 1)


@pytest.mark.parametrize("scale", [1e-3, 1e-5])
def test_within_1e_6_of_dense_adam_where_eps_matters(scale, monkeypatch):
    # On MovieLens 99 in 100 gradients are larger than 2e-5; smaller ones than 1e-5, as
    # small as eps itself, are followed less closely.
    difference, _ = run_beside_dense_adam(torch.float64, scale, (1, 1), monkeypatch)
    assert difference < 1e-6


def test_within_1e_6_of_dense_adam_in_float32(monkeypatch):
    # Both round in each of the steps; the weights are a tenth in size, as real ones.
    difference, _ = run_beside_dense_adam(torch.float32, 1e-2, (1, 1), monkeypatch, 200)
    assert difference < 1e-6


def test_two_points_stand_for_all_steps():
    # Rows that missed 1 to 40 steps from the 30th on, against the plain sums.
    table = RowAdam(torch.nn.Parameter(torch.zeros(1, 1)))
    clock = table._up_to_date_clock(30)
    for _ in range(40):
        clock = optimizers._after_a_step(clock)
    w1, e1, w2, e2 = optimizers._two_point_quadrature(clock.moments)
    for root in (1e-3, 1e-7):
        got = w1 / (root + e1) + w2 / (root + e2)
        for last in range(30, 70):
            expected = sum(
                0.9 ** (s - last)
                / (1 - 0.9**s)
                / (root * 0.999 ** ((s - last) / 2) / np.sqrt(1 - 0.999**s) + 1e-8)
                for s in range(last + 1, 71)
            )
            assert got[last - 30] == pytest.approx(expected, rel=1e-7)
    assert (w1[-1], w2[-1]) == (0, 0)  # of a row that is not behind


def test_chunks_and_blocks_do_not_change_the_result(monkeypatch):
    weights = []
    for chunk_bytes, gradient_bytes in ((2**20, 2**20), (1, 1), (100, 70)):
        monkeypatch.setattr(optimizers, "CHUNK_BYTES", chunk_bytes)
        monkeypatch.setattr(optimizers, "GRADIENT_BYTES", gradient_bytes)
        monkeypatch.setattr(optimizers, "DEFERRED_SHARES", (0.1, 0.1))
        rng = np.random.default_rng(1)
        table = RowAdam(torch.nn.Parameter(torch.ones(N_ITEMS, WIDTH)))
        table.lr = 0.1
        for _ in range(30):
            look_up = table.look_up(draw_batch(rng, np.linspace(0, 0.05, N_ITEMS)))
            table.step(look_up, look_up.sums - 0.3)
        table.catch_up()
        weights.append(table.weight.detach())
    # Where a vectorised loop ends, single numbers are rounded otherwise.
    for other in weights[1:]:
        torch.testing.assert_close(other, weights[0], rtol=1e-6, atol=1e-6)


def test_a_copy_goes_on_by_itself():
    rng = np.random.default_rng(0)
    table = RowAdam(torch.nn.Parameter(torch.ones(N_ITEMS, WIDTH)))
    table.lr = 0.1
    table.step(table.look_up(draw_batch(rng, 0.02)), torch.ones(4, WIDTH))
    copied = copy.deepcopy(table)
    before = table.weight.detach().clone()
    copied.step(copied.look_up(draw_batch(rng, 0.02)), torch.ones(4, WIDTH))
    copied.catch_up()
    assert torch.equal(table.weight, before)
    assert not torch.equal(copied.weight, before)


def test_gradients_for_each_row_are_those_of_adam():
    rng = np.random.default_rng(0)
    for shape in ((N_ITEMS, WIDTH), (N_ITEMS,)):
        start = torch.tensor(rng.normal(size=shape))
        dense, table = torch.nn.Parameter(start.clone()), torch.nn.Parameter(start)
        adam, rows = torch.optim.Adam([dense], lr=0.1, fused=True), RowAdam(table)
        rows.lr = 0.1
        for _ in range(5):
            dense.grad = torch.tensor(rng.normal(size=shape))
            rows.step_dense(dense.grad.clone())
            adam.step()
        assert torch.equal(dense, table)
        assert rows.n_steps == 5


def test_a_dense_step_comes_after_the_missed_ones():
    rng = np.random.default_rng(0)
    start = torch.tensor(rng.normal(size=(N_ITEMS, WIDTH)))
    dense, table = torch.nn.Parameter(start.clone()), torch.nn.Parameter(start)
    adam, rows = torch.optim.Adam([dense], lr=0.1), RowAdam(table)
    rows.lr = 0.1
    for step in range(9):
        batch = draw_batch(rng, 0.02)
        x = torch.zeros(4, N_ITEMS, dtype=torch.float64)
        x[batch.rows, batch.items] = batch.inputs.double()
        gradient = torch.tensor(rng.normal(size=(4, WIDTH)))
        dense.grad = x.T @ gradient
        adam.step()
        if step % 3 == 2:
            rows.step_dense(dense.grad)
        else:
            rows.step(rows.look_up(batch), gradient)
    rows.catch_up()
    torch.testing.assert_close(table, dense, rtol=0, atol=1e-6)
