"""Adam for the first layer, whose gradient has only the rows of the batch's items.

A row without gradient still moves in Adam: its moments decay, and it follows what is
left of them. With a large catalogue these are nearly all rows, and to move them in each
step would take most of the time. `TableAdam` lets them fall behind and catches them up,
all missed steps at once, before they are read.
"""

import numpy as np
import torch
from torch.optim.adam import adam

BETA1, BETA2, EPS = 0.9, 0.999, 1e-8  # the defaults of torch.optim.Adam

# Where a batch has a larger share of the rows, one pass over all of them is faster.
DENSE_SHARE = 0.15

# Rows that are caught up at once, so that temporaries stay in the cache.
CHUNK_ROWS = 512


class TableAdam:
    """Adam for a table whose gradient is sparse, with the result of the dense one.

    In a step s without gradient, Adam moves a row with moments m and v by ::

        -lr m_s / (1 - beta1^s) / (sqrt(v_s / (1 - beta2^s)) + eps)

    with ``m_s = beta1 m_(s-1)`` and ``v_s = beta2 v_(s-1)``. The sum over k such steps
    is ``-lr m sum_j w_j / (sqrt(v) + e_j)``, in which w_j and e_j depend on the numbers
    of the steps only. e_j is eps times a slowly varying factor, so two terms do for all
    k: those of the Gauss quadrature, with the same first four moments of e_j. This is
    exact for eps = 0 and for k <= 2, and within the rounding of float32 else.

    Parameters
    ----------
    weight : torch.nn.Parameter of shape (n_rows, width)
        The table.
    """

    def __init__(self, weight):
        self.weight = weight
        self.lr = None
        self.mean = torch.zeros_like(weight, requires_grad=False)
        self.square = torch.zeros_like(self.mean)
        self.n_steps = 0
        self._row_steps = torch.zeros(len(weight), dtype=torch.int64)  # on the CPU
        self._up_to_date()
        self._selected = None
        self._dense_gradient = self._filled_rows = None

    def _up_to_date(self):
        """Note that no row is behind."""
        self._row_steps.fill_(self.n_steps)
        self._first_step = self.n_steps
        # Sums over j of w_j e_j^p, p = 0 ... 3, with e_j in units of eps, for the rows
        # whose last step was _first_step, _first_step + 1 ... n_steps.
        self._moments = np.zeros((4, 1))

    @torch.no_grad()
    def select(self, items):
        """Choose the rows that the next step is about.

        Parameters
        ----------
        items : torch.Tensor of shape (nnz,)
            Indices of rows, maybe repeated.

        Returns
        -------
        weight : torch.Tensor of shape (n_selected, width)
            Current rows, a leaf of autograd whose gradient `step` uses: those of the
            items in ascending order, or the whole table.
        items : torch.Tensor of shape (nnz,)
            Where the items are in it.
        """
        self._selected = None
        if items.device.type == "cpu":
            present = torch.zeros(len(self.weight), dtype=torch.bool)
            present[items] = True
            rows = present.nonzero()[:, 0]  # (n_selected,)
            if len(rows) <= DENSE_SHARE * len(self.weight):
                tables = self._caught_up(rows)
                self._selected = rows, tables
                return tables[0].requires_grad_(), torch.searchsorted(rows, items)
        self.catch_up()
        return self.weight, items

    @torch.no_grad()
    def step(self):
        """Take a step with the gradient of what was selected, and forget it."""
        if self._selected is None:
            gradient, self.weight.grad = self.weight.grad, None
            if gradient.is_sparse:
                gradient = self._fill_dense_gradient(gradient)
            self._adam(self.weight, gradient, self.mean, self.square)
            self._up_to_date()
        else:
            rows, tables = self._selected
            gradient = tables[0].grad
            if gradient.is_sparse:
                gradient = gradient._values()  # every selected row has an entry
            self._adam(tables[0].detach(), gradient, *tables[1:])
            self._write(rows, tables)
            self._add_missed_step()
            self._row_steps[rows] = self.n_steps
            self._selected = None

    @torch.no_grad()
    def catch_up(self):
        """Bring all rows to where the dense Adam would have them by now."""
        if self._first_step == self.n_steps:
            return
        for rows in torch.arange(len(self.weight)).split(CHUNK_ROWS):
            self._write(rows, self._caught_up(rows))
        self._up_to_date()

    def _caught_up(self, rows):
        """Copy weight, mean and square of some rows, and make up for missed steps."""
        tables = [
            table.detach().index_select(0, rows)
            for table in (self.weight, self.mean, self.square)
        ]
        last_steps = self._row_steps[rows]
        n_missed = (self.n_steps - last_steps).double()
        factors = [
            *torch.from_numpy(_two_point_quadrature(self._moments))[
                :, last_steps - self._first_step
            ],
            BETA1**n_missed,
            BETA2**n_missed,
        ]
        factors = torch.stack(factors).to(self.weight.dtype)[..., None]
        for begin in range(0, len(rows), CHUNK_ROWS):
            chunk = slice(begin, begin + CHUNK_ROWS)
            weight, mean, square = (table[chunk] for table in tables)
            w1, e1, w2, e2, mean_decay, square_decay = factors[:, chunk]  # (chunk, 1)
            root = square.sqrt()
            move = w1 / (root + e1)  # (chunk, width)
            move += w2 / root.add_(e2)
            weight.addcmul_(mean, move, value=-self.lr)
            mean *= mean_decay
            square *= square_decay
        return tables

    def _write(self, rows, tables):
        for table, part in zip(
            (self.weight, self.mean, self.square), tables, strict=True
        ):
            table.index_copy_(0, rows, part.detach())

    def _adam(self, weight, gradient, mean, square):
        """Take a step with the fused kernel of torch."""
        n_steps = torch.tensor(float(self.n_steps), device=weight.device)
        self.n_steps += 1
        adam(
            [weight],
            [gradient],
            [mean],
            [square],
            max_exp_avg_sqs=[],
            state_steps=[n_steps],  # of before the step
            fused=True,
            amsgrad=False,
            beta1=BETA1,
            beta2=BETA2,
            lr=self.lr,
            weight_decay=0,
            eps=EPS,
            maximize=False,
        )

    def _add_missed_step(self):
        """Add the step just taken to the sums of all rows that have not taken it."""
        step = self.n_steps
        n_missed = step - np.arange(self._first_step, step)  # by a row's last step
        e = np.sqrt(1 - BETA2**step) / BETA2 ** (n_missed / 2)
        w = BETA1**n_missed / (1 - BETA1**step) * e
        self._moments += w * e ** np.arange(4)[:, None]
        self._moments = np.pad(self._moments, [(0, 0), (0, 1)])

    def _fill_dense_gradient(self, gradient):
        """Spread the rows over a buffer that is allocated and zeroed only once."""
        # Autograd forgets that rows are unique, so the public names would sort.
        rows, values = gradient._indices()[0], gradient._values()
        if self._dense_gradient is None:
            self._dense_gradient = torch.zeros_like(self.mean)
        else:
            self._dense_gradient.index_fill_(0, self._filled_rows, 0)
        self._dense_gradient.index_copy_(0, rows, values)
        self._filled_rows = rows
        return self._dense_gradient


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
