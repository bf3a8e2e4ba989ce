"""The time of a training cycle beside a floor: its products, softmaxes and Adam alone.

The floor is the arithmetic and the memory traffic of the formulas, at the rates that
this machine reaches in a loop over nothing else: matrix products of the shapes that
occur, a softmax over a block of logits, and a copy of a large array.
"""

from functools import partial

import torch
import torch.nn.functional as F
from ours import precisions, training_iteration
from timing import time_in_turns

from sklearn_recvae.datasets import make_interactions

BATCH, LATENT, HIDDEN, N_LAYERS = 500, 200, 600, 5
N_COPIED = 2**25


def measure(quick):
    """Yield the measurement of each precision at two sizes of the catalogue."""
    sizes = [(20_108, 72, 4), (3_500, 95, 4)]
    if quick:
        sizes = [(300, 20, 1)]
    for n_items, mean, n_batches in sizes:
        X, _, _ = make_interactions(
            n_batches * BATCH, n_items, mean_interactions=mean, random_state=0
        )
        for precision in precisions():
            yield measure_floor(X, precision, quick)


def measure_floor(X, precision, quick):
    """Time the parts of the floor and a cycle in turns."""
    n_items = X.shape[1]
    dtype = torch.bfloat16 if precision == "mixed" else torch.float32
    columns = min(n_items, 10_000)
    contestants = {
        "wide": partial(products, BATCH, LATENT, columns, dtype),
        "square": partial(products, BATCH, HIDDEN, HIDDEN, dtype),
        "softmax": partial(softmaxes, BATCH, columns, dtype),
        "copy": copies,
        "cycle": partial(training_iteration, X, BATCH, precision=precision),
    }
    timing = time_in_turns(contestants, 1 if quick else 5)
    wide_s, square_s, softmax_s, copy_s, cycle = timing["medians"].values()
    # Three encoder steps and a decoder step: logits and one product with the softmax.
    decoder_products = 4 * 2 * wide_s * n_items / columns
    # Forward and twice as much backward; the refresh is one more forward.
    layers = (N_LAYERS - 1) + 2 * LATENT / HIDDEN
    encoder_products = (3 * 3 + 1) * layers * square_s
    all_softmaxes = 4 * softmax_s * n_items / columns
    # Adam reads the gradient and reads and writes weight and two moments: 28 bytes a
    # weight. A copy moves 8 bytes a number.
    encoder = n_items * HIDDEN + layers * HIDDEN**2
    adam = (3 * encoder + n_items * LATENT) * 28 / 8 * copy_s / N_COPIED
    floor = decoder_products + encoder_products + all_softmaxes + adam
    rows = {
        "products with the decoder": decoder_products,
        "products of the encoder": encoder_products,
        "softmax": all_softmaxes,
        "Adam": adam,
        "the floor: their sum": floor,
        f"sklearn_recvae, {precision}": cycle * BATCH / X.shape[0],
    }
    return {
        "case": f"{n_items:,} items, batch {BATCH}, {precision}",
        "rows": [
            {
                "name": name,
                "value": 1000 * seconds,
                "unit": "ms a cycle",
                "ratios": {"the floor": seconds / floor},
            }
            for name, seconds in rows.items()
        ],
        **timing,
    }


def products(n_rows, n_inner, n_columns, dtype):
    """Return a function that multiplies two matrices."""
    # As in training: once a block of 32 MB was freed, glibc keeps those that are
    # smaller, and their pages need not be mapped anew in each product.
    torch.empty(32 * 2**20 - 2**16, dtype=torch.uint8)
    left = torch.randn(n_rows, n_inner).to(dtype)
    right = torch.randn(n_columns, n_inner).to(dtype)
    if dtype == torch.float32 and torch.backends.mkldnn.is_available():
        # The product of oneDNN, which can be faster than the default one; that of
        # bfloat16 is oneDNN's anyway.
        left, right = left.to_mkldnn(), right.to_mkldnn()
    return partial(F.linear, left, right)


def softmaxes(n_rows, n_columns, dtype):
    """Return a function that replaces the rows of a matrix by their softmax."""
    logits = torch.randn(n_rows, n_columns).to(dtype)
    return partial(torch.softmax, logits, 1, out=logits)


def copies():
    """Return a function that copies an array much larger than the caches."""
    return partial(torch.empty(N_COPIED).copy_, torch.ones(N_COPIED))
