"""Adam for tables with a row for each item.

A batch touches only some rows of the first layer's table. Its gradient is the
transposed batch times the gradient of the layer's output, and is never held whole. In
Adam a row without gradient still moves: its moments decay, and it follows what is left
of them. In a large catalogue nearly all rows are without gradient, and moving them in
each step would take most of the time. So they fall behind: before a row is read, it
makes all missed steps at once.

An interrupt may strike between any two statements. So rows, and the steps they have
taken, are written in such a way that they can be written again.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch.optim.adam import adam

from sklearn_recvae._batches import ItemEntries
from sklearn_recvae._kernels import item_sums, weighted_row_sums

BETA1, BETA2, EPS = 0.9, 0.999, 1e-8  # the defaults of torch.optim.Adam

# Rows are left behind once a batch has less than the first share of them, and until one
# has more than the second: then one pass over all of them is faster.
DEFERRED_SHARES = 0.15, 0.3

# Memory of temporaries, small enough that a CPU keeps them in its cache.
CHUNK_BYTES = 2**20
GRADIENT_BYTES = 8 * 2**20


class _Clock(NamedTuple):
    """Which steps have been taken."""

    n_steps: int
    row_steps: torch.Tensor  # (n_rows,), the last step of each row, on the CPU
    first_step: int  # the lowest of these, or lower
    # (4, n_steps - first_step + 1): sums over j of w_j e_j^p, p = 0 ... 3, with e_j in
    # units of eps, for the rows whose last step was first_step, first_step + 1 ...
    moments: np.ndarray


class LookUp(NamedTuple):
    """The product of a batch with a table, and what a step needs to know of it."""

    sums: torch.Tensor  # (n_rows of the batch, width)
    entries: ItemEntries  # of the batch
    rows: torch.Tensor | None  # (n_selected,) rows of the table; None means all
    tables: tuple | None  # weight, mean and square of these rows, caught up


class RowAdam:
    """Adam for a table, of which it may leave behind the rows without gradient.

    In a step s without gradient, Adam moves a row with moments m and v by ::

        -lr m_s / (1 - beta1^s) / (sqrt(v_s / (1 - beta2^s)) + eps)

    with ``m_s = beta1 m_(s-1)`` and ``v_s = beta2 v_(s-1)``. The sum over k such steps
    is ``-lr m sum_j w_j / (sqrt(v) + e_j)``, in which w_j and e_j depend on the numbers
    of the steps only. e_j is eps times a slowly varying factor, so two terms do for all
    k: those of the Gauss quadrature, with the same first four moments of e_j. This is
    exact for eps = 0, and close as long as gradients are much larger than eps.

    Parameters
    ----------
    weight : torch.nn.Parameter of shape (n_rows, width) or (n_rows,)
        The table.
    """

    def __init__(self, weight):
        self.weight = weight
        self.lr = None
        self.mean = torch.zeros_like(weight, requires_grad=False)
        self.square = torch.zeros_like(self.mean)
        self._clock = self._up_to_date_clock(0)
        self._unfinished = None

    @property
    def n_steps(self):
        """Number of steps that have been taken."""
        return self._clock.n_steps

    def _up_to_date_clock(self, n_steps):
        """Give a clock by which no row is behind."""
        row_steps = torch.full((len(self.weight),), n_steps)
        return _Clock(n_steps, row_steps, n_steps, np.zeros((4, 1)))

    def restore(self, mean, square, n_steps):
        """Take over the moments of another table, none of whose rows was behind."""
        self.mean.copy_(mean)
        self.square.copy_(square)
        self._clock = self._up_to_date_clock(n_steps)

    @torch.no_grad()
    def look_up(self, batch):
        """Multiply the inputs of a batch with the table.

        Parameters
        ----------
        batch : Batch
            Rows over the items.

        Returns
        -------
        LookUp
            For `step`, with the gradient of its sums.
        """
        self._finish()
        entries = batch.by_item(batch.inputs, len(self.weight))
        rows = tables = None
        weight, items = self.weight, batch.items
        if items.device.type == "cpu":
            touched = entries.offsets.diff().nonzero()[:, 0]  # (n_selected,)
            share = DEFERRED_SHARES[self._clock.first_step < self.n_steps]
            if len(touched) <= share * len(weight):
                rows, tables = touched, self._caught_up(touched)
                weight, items = tables[0], torch.searchsorted(rows, items)
        if rows is None:
            self.catch_up()
        sums = weighted_row_sums(weight, items, batch.inputs, batch.offsets)
        return LookUp(sums, entries, rows, tables)

    @torch.no_grad()
    def step(self, look_up, gradient):
        """Take a step of Adam, by the gradient of a look-up.

        Parameters
        ----------
        look_up : LookUp
            There was no step since.
        gradient : torch.Tensor of shape (n_rows of the batch, width)
            With respect to its sums.
        """
        if look_up.rows is None:
            self._step_all(look_up.entries, gradient)
        else:
            self._step_selected(look_up, gradient)

    @torch.no_grad()
    def step_dense(self, gradient):
        """Take a step of Adam, by a gradient for each row.

        Parameters
        ----------
        gradient : torch.Tensor of the shape of the table
            With respect to the table.
        """
        self.catch_up()
        self._adam(self._tables(), gradient)
        self._clock = self._up_to_date_clock(self.n_steps + 1)

    def _step_all(self, entries, gradient):
        n_rows, width = self.weight.shape
        size = n_rows
        if gradient.device.type == "cpu":
            size = max(1, GRADIENT_BYTES // (width * gradient.itemsize))
        for begin in range(0, n_rows, size):
            end = min(begin + size, n_rows)
            part = item_sums(entries, gradient, begin, end)
            self._adam([table[begin:end] for table in self._tables()], part)
        self._clock = self._up_to_date_clock(self.n_steps + 1)

    def _step_selected(self, look_up, gradient):
        rows, tables = look_up.rows, look_up.tables
        offsets, columns, weights = look_up.entries
        # Rows in between have no entries: the next selected one begins where this ends.
        offsets = torch.cat([offsets[rows], offsets[-1:]])
        part = weighted_row_sums(gradient, columns, weights, offsets)
        self._adam(tables, part)
        self._write(rows, tables, _after_a_step(self._clock))

    @torch.no_grad()
    def catch_up(self):
        """Bring all rows to where the dense Adam would have them by now."""
        self._finish()
        if self._clock.first_step == self.n_steps:
            return
        for rows in torch.arange(len(self.weight)).split(self._chunk_rows()):
            self._write(rows, self._caught_up(rows), self._clock)
        self._clock = self._up_to_date_clock(self.n_steps)

    def _write(self, rows, tables, clock):
        """Give rows what they are by the last step of the clock, which is then ours."""
        self._unfinished = rows, tables, clock  # from here on it counts as written
        self._finish()

    def _finish(self):
        """Write what is to be written; nothing changes if some of it has been."""
        if self._unfinished is None:
            return
        rows, tables, clock = self._unfinished
        for table, part in zip(self._tables(), tables, strict=True):
            table.index_copy_(0, rows, part)
        clock.row_steps[rows] = clock.n_steps
        self._clock = clock
        self._unfinished = None

    def _tables(self):
        return self.weight.detach(), self.mean, self.square

    def _chunk_rows(self):
        return max(1, CHUNK_BYTES // (self.weight.shape[1] * self.weight.itemsize))

    def _caught_up(self, rows):
        """Copy weight, mean and square of some rows, and make up for missed steps."""
        tables = [table.index_select(0, rows) for table in self._tables()]
        last_steps = self._clock.row_steps[rows]
        n_missed = (self.n_steps - last_steps).double()
        factors = [
            *torch.from_numpy(_two_point_quadrature(self._clock.moments))[
                :, last_steps - self._clock.first_step
            ],
            BETA1**n_missed,
            BETA2**n_missed,
        ]
        factors = torch.stack(factors).to(self.weight.dtype)[..., None]
        size = self._chunk_rows()
        for begin in range(0, len(rows), size):
            chunk = slice(begin, begin + size)
            weight, mean, square = (table[chunk] for table in tables)
            w1, e1, w2, e2, mean_decay, square_decay = factors[:, chunk]  # (chunk, 1)
            root = square.sqrt()
            move = w1 / (root + e1)  # (chunk, width)
            move += w2 / root.add_(e2)
            weight.addcmul_(mean, move, value=-self.lr)
            mean *= mean_decay
            square *= square_decay
        return tables

    def _adam(self, tables, gradient):
        """Take a step with the fused kernel of torch, in place."""
        weight, mean, square = tables
        adam(
            [weight],
            [gradient],
            [mean],
            [square],
            max_exp_avg_sqs=[],
            state_steps=[weight.new_full((), self.n_steps, dtype=torch.float32)],
            fused=True,
            amsgrad=False,
            beta1=BETA1,
            beta2=BETA2,
            lr=self.lr,
            weight_decay=0,
            eps=EPS,
            maximize=False,
        )


def _after_a_step(clock):
    """Add a step to the sums of all rows, none of which has taken it yet."""
    step = clock.n_steps + 1
    n_missed = step - np.arange(clock.first_step, step)  # by a row's last step
    e = np.sqrt(1 - BETA2**step) / BETA2 ** (n_missed / 2)
    w = BETA1**n_missed / (1 - BETA1**step) * e
    moments = clock.moments + w * e ** np.arange(4)[:, None]
    moments = np.pad(moments, [(0, 0), (0, 1)])
    return clock._replace(n_steps=step, moments=moments)


def _two_point_quadrature(moments):
    """Return w1, e1, w2, e2 with the moments sum_i w_i (e_i / eps)^p, p = 0 ... 3."""
    total, raw = moments[0], moments[1:]
    # A row that has missed nothing has no moments, and gets no weight.
    m1, m2, m3 = np.divide(raw, total, out=np.ones_like(raw), where=total > 0)
    deviation = np.sqrt(np.maximum(m2 - m1**2, 0))
    third = m3 - 3 * m1 * m2 + 2 * m1**3
    # Of a single value, and where rounding leaves nothing else, the skewness is 0.
    enough = deviation > 1e-4 * m1
    skewness = np.divide(third, deviation**3, out=np.zeros_like(m1), where=enough)
    half = skewness / 2
    radius = np.sqrt(1 + half**2)
    e1, e2 = (m1 + deviation * (half + sign * radius) for sign in (-1, 1))
    w1, w2 = (total / 2 * (1 - sign * half / radius) for sign in (-1, 1))
    return np.stack([w1, EPS * e1, w2, EPS * e2])
