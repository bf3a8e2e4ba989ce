"""How the time of a training iteration grows with each of five variables."""

from functools import partial

from ours import training_iteration
from timing import time_in_turns

from sklearn_recvae.datasets import make_interactions


def measure(quick):
    """Yield the growth with users, items, interactions, latent width, batch size."""
    n_users, n_items = (30, 300) if quick else (2_000, 20_108)

    X = interactions(8 * n_users, n_items)
    sizes = [2 * n_users, 4 * n_users, 8 * n_users]
    runs = [partial(training_iteration, X[:size]) for size in sizes]
    yield growth("users", sizes, runs, quick)

    sizes = [400, 800] if quick else [20_000, 40_000, 80_000, 240_000]
    runs = [partial(training_iteration, interactions(n_users, size)) for size in sizes]
    yield growth("items", sizes, runs, quick)

    means = [10, 20] if quick else [36, 72, 144, 288]
    matrices = [interactions(n_users, n_items, mean) for mean in means]
    # The mean is met roughly, so what counts is what was drawn.
    sizes = [round(X.nnz / X.shape[0], 1) for X in matrices]
    runs = [partial(training_iteration, X) for X in matrices]
    yield growth("interactions a user", sizes, runs, quick)

    X = interactions(n_users, n_items)
    sizes = [100, 200, 400]
    runs = [partial(training_iteration, X, latent_dim=size) for size in sizes]
    yield growth("latent_dim", sizes, runs, quick)

    sizes = [50, 150, 500]
    runs = [partial(training_iteration, X, batch_size=size) for size in sizes]
    yield growth("batch_size", sizes, runs, quick)


def interactions(n_users, n_items, mean=72):
    """Draw a matrix."""
    X, _, _ = make_interactions(
        n_users, n_items, mean_interactions=mean, random_state=0
    )
    return X


def growth(variable, sizes, runs, quick):
    """Time an iteration at each size of the variable, beside the first."""
    names = [f"{size:,} {variable}" for size in sizes]
    timing = time_in_turns(dict(zip(names, runs, strict=True)), 1 if quick else 5)
    times = list(timing["medians"].values())
    return {
        "case": f"iteration against {variable}",
        "variable": variable,
        "sizes": sizes,
        "rows": [
            {
                "name": name,
                "value": time,
                "unit": "s",
                "ratios": {
                    "the time": time / times[0],
                    "the variable": size / sizes[0],
                },
            }
            for name, size, time in zip(names, sizes, times, strict=True)
        ],
        **timing,
    }
