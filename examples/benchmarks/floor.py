"""The time of a training cycle beside a floor: its products, softmaxes and Adam alone.

The floor is the arithmetic and the memory traffic of the formulas, at the rates that
this machine reaches in a loop over nothing else: matrix products of the shapes that
occur, a softmax over a block of logits, and a copy of a large array.
"""

import torch
from ours import precisions, training_iteration
from timing import time_in_turns

from sklearn_recvae._hardware import keep_freed_memory
from sklearn_recvae.datasets import make_interactions
from sklearn_recvae.kernels import product

N_BATCHES, BATCH, LATENT, HIDDEN, N_LAYERS = 4, 500, 200, 600, 5
N_REPEATS = 10


def measure(quick):
    """Yield the measurement of each precision at two sizes of the catalogue."""
    keep_freed_memory()
    for n_items, mean in [(500, 20)] if quick else [(20_108, 72), (3_500, 95)]:
        X, _, _ = make_interactions(
            N_BATCHES * BATCH, n_items, mean_interactions=mean, random_state=0
        )
        for precision in precisions():
            yield measure_floor(X, precision, quick)


def measure_floor(X, precision, quick):
    """Time the parts of the floor and a cycle in turns."""
    n_items = X.shape[1]
    dtype = torch.bfloat16 if precision == "mixed" else torch.float32
    wide = product_of(BATCH, LATENT, min(n_items, 10_000), dtype)
    square = product_of(BATCH, HIDDEN, HIDDEN, dtype)
    logits = torch.randn(BATCH, min(n_items, 10_000)).to(dtype)
    large, other = torch.ones(2**25), torch.empty(2**25)
    contestants = {
        "wide": repeat(lambda: product(*wide)),
        "square": repeat(lambda: product(*square)),
        "softmax": repeat(lambda: torch.softmax(logits, 1, out=logits)),
        "copy": repeat(lambda: other.copy_(large)),
        "cycle": training_iteration(X, BATCH, precision=precision),
    }
    timing = time_in_turns(contestants, 2 if quick else 5)
    *parts, cycle = timing["medians"].values()
    wide_s, square_s, softmax_s, copy_s = (part / N_REPEATS for part in parts)
    # Three encoder steps and a decoder step: logits and one product with the softmax.
    decoder_products = 4 * 2 * wide_s * n_items / wide[1].shape[0]
    # Forward and twice as much backward; the refresh is one more forward.
    layers = (N_LAYERS - 1) + 2 * LATENT / HIDDEN
    encoder_products = (3 * 3 + 1) * layers * square_s
    softmaxes = 4 * softmax_s * n_items / logits.shape[1]
    # Adam reads the gradient and reads and writes weight and two moments: 28 bytes a
    # weight. A copy moves 8 bytes a number.
    encoder = n_items * HIDDEN + layers * HIDDEN**2
    adam = (3 * encoder + n_items * LATENT) * 28 / 8 * copy_s / large.numel()
    floor = decoder_products + encoder_products + softmaxes + adam
    rows = {
        "products with the decoder": decoder_products,
        "products of the encoder": encoder_products,
        "softmax": softmaxes,
        "Adam": adam,
        "the floor: their sum": floor,
        f"sklearn_recvae, {precision}": cycle / N_BATCHES,
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


def product_of(n_rows, n_inner, n_columns, dtype):
    """Draw the factors of a matrix product."""
    return torch.randn(n_rows, n_inner).to(dtype), torch.randn(n_columns, n_inner).to(
        dtype
    )


def repeat(run):
    """Return a function that runs another several times."""

    def repeated():
        for _ in range(N_REPEATS):
            run()

    return repeated
