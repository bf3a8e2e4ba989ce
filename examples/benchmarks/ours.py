"""What is timed of `sklearn_recvae`, on the CPU whatever else there is."""

import torch

from sklearn_recvae import RecVAERecommender
from sklearn_recvae._hardware import resolve_matmul_dtype


def precisions():
    """Name the precisions worth timing: "mixed" only with native bfloat16."""
    return ["float32", "mixed"] if has_native_bfloat16() else ["float32"]


def has_native_bfloat16():
    """Whether ``precision="auto"`` is mixed on this CPU."""
    return resolve_matmul_dtype("auto", torch.device("cpu")) == torch.bfloat16


def fit_briefly(X, batch_size=500, latent_dim=200, precision="auto"):
    """Fit one iteration on the first batch: all that timing needs of a fitted model."""
    model = RecVAERecommender(
        latent_dim,
        batch_size=batch_size,
        precision=precision,
        max_iter=1,
        device="cpu",
        random_state=0,
    )
    return model.fit(X[:batch_size])


def training_iteration(X, batch_size=500, latent_dim=200, precision="auto"):
    """Return a function that runs one iteration on X, the refresh included."""
    model = fit_briefly(X, batch_size, latent_dim, precision)
    return model._trainer(model._state, X).run_iteration
