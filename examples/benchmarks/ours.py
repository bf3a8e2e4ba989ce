"""What is timed of `sklearn_recvae`, on the CPU whatever else there is."""

import functools

import numpy as np
from timing import OwnTime

from sklearn_recvae import RecVAERecommender


def precisions():
    """Name the precisions worth timing: "mixed" only with native bfloat16."""
    return ["float32", "mixed"] if has_native_bfloat16() else ["float32"]


@functools.cache
def has_native_bfloat16():
    """Whether ``precision="auto"`` is mixed on this CPU: it gives other bits then."""
    X = np.eye(8, dtype=np.float32)
    auto, exact = (
        RecVAERecommender(
            4, hidden_dim=8, max_iter=1, precision=name, device="cpu", random_state=0
        )
        .fit(X)
        .predict(X)
        for name in ("auto", "float32")
    )
    return not np.array_equal(auto, exact)


def fit_briefly(X, batch_size=500, latent_dim=200, precision="auto"):
    """Fit one iteration on the first batch: all that timing needs of a fitted model."""
    model = RecVAERecommender(
        latent_dim,
        gamma=0.005,  # as the dense implementation
        batch_size=batch_size,
        precision=precision,
        max_iter=1,
        device="cpu",
        random_state=0,
    )
    return model.fit(X[:batch_size])


def training_iteration(X, batch_size=500, latent_dim=200, precision="auto"):
    """Return a function that runs one iteration on X, the refresh included.

    Its time is that in ``history_``, which is of the iteration alone: the passes over
    the encoder, the refresh and the pass over the decoder. What `partial_fit` does
    before, such as a copy of the state and the first table of posteriors, is left out,
    as `fit` does it once, not in each iteration.
    """
    model = fit_briefly(X, batch_size, latent_dim, precision)
    return lambda: OwnTime(model.partial_fit(X).history_["seconds"][-1])
