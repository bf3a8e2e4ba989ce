"""RecVAE as it is usually written: dense rows, plain autograd. What we compare with.

The mathematics is that of `sklearn_recvae`; the work is not. Rows are densified, both
halves are differentiated in both phases, a second encoder computes the old posterior
of every batch, and Adam is PyTorch's default. With ``lean=True`` the same code gets the
fused Adam and no gradients for the idle half.
"""

import copy
import itertools
import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn


class DenseEncoder(nn.Module):
    """Dense-block encoder over a dense ``(batch, n_items)`` input."""

    def __init__(self, n_items, hidden_dim=600, latent_dim=200, n_hidden_layers=5):
        super().__init__()
        widths = [n_items] + [hidden_dim] * n_hidden_layers
        self.layers = nn.ModuleList(
            nn.Linear(a, b) for a, b in itertools.pairwise(widths)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(b, eps=0.1) for b in widths[1:])
        self.mean = nn.Linear(hidden_dim, latent_dim)
        self.log_variance = nn.Linear(hidden_dim, latent_dim)

    def forward(self, x, noise_rate):
        """Map dense rows to mean and log-variance."""
        h = F.dropout(F.normalize(x), noise_rate)
        outputs = []
        for layer, norm in zip(self.layers, self.norms, strict=True):
            h = norm(F.silu(layer(h) + sum(outputs)))
            outputs.append(h)
        return self.mean(h), self.log_variance(h)


def log_normal(z, mean, log_variance):
    """Elementwise log-density of a normal distribution."""
    return -0.5 * (
        math.log(2 * math.pi) + log_variance + (z - mean) ** 2 / log_variance.exp()
    )


class DensePartner:
    """Trains on batches of rows of a CSR matrix, seeded by the global generators."""

    def __init__(self, n_items, *, gamma=0.005, noise_rate=0.5, lr=5e-4, lean=False):
        self.encoder = DenseEncoder(n_items)
        self.decoder = nn.Linear(200, n_items)
        self.old_encoder = copy.deepcopy(self.encoder)
        self.gamma, self.noise_rate, self.lean = gamma, noise_rate, lean
        self.optimizers = {
            half: torch.optim.Adam(getattr(self, half).parameters(), lr, fused=lean)
            for half in ("encoder", "decoder")
        }

    def step(self, X, half):
        """Update one half on the rows X, a CSR matrix."""
        x = torch.tensor(X.toarray())  # (batch, n_items)
        if self.lean:
            for name in ("encoder", "decoder"):
                getattr(self, name).requires_grad_(name == half)
        mean, log_variance = self.encoder(
            x, self.noise_rate if half == "encoder" else 0.0
        )
        z = mean + torch.randn_like(mean) * (0.5 * log_variance).exp()
        loss = -(F.log_softmax(self.decoder(z), dim=1) * x).sum(1).mean()
        if half == "encoder" or not self.lean:
            kl = self._kl(x, z, mean, log_variance)
            loss = loss + (self.gamma * x.sum(1) * kl).mean()
        for optimizer in self.optimizers.values():
            optimizer.zero_grad()
        loss.backward()
        self.optimizers[half].step()

    def _kl(self, x, z, mean, log_variance):
        with torch.no_grad():
            old_mean, old_log_variance = self.old_encoder(x, 0.0)
        zero, wide = torch.zeros(()), torch.full((), 10.0)
        prior = torch.stack(
            [
                math.log(0.15) + log_normal(z, zero, zero),
                math.log(0.75) + log_normal(z, old_mean, old_log_variance),
                math.log(0.10) + log_normal(z, zero, wide),
            ]
        ).logsumexp(0)
        return (log_normal(z, mean, log_variance) - prior).sum(1)

    def refresh(self):
        """Freeze the encoder as it stands as the old one."""
        self.old_encoder.load_state_dict(self.encoder.state_dict())

    def run_cycle(self, X):
        """Three encoder steps, a refresh and a decoder step on the same rows."""
        for _ in range(3):
            self.step(X, "encoder")
        self.refresh()
        self.step(X, "decoder")

    def run_iteration(self, X, batch_size, rng):
        """Three encoder passes, a refresh and a decoder pass over shuffled rows."""
        for phase in ("encoder", "encoder", "encoder", "decoder"):
            if phase == "decoder":
                self.refresh()
            order = rng.permutation(X.shape[0])
            for begin in range(0, len(order), batch_size):
                self.step(X[order[begin : begin + batch_size]], phase)

    @torch.no_grad()
    def rank(self, X, k):
        """Rank the k best unseen items of each row."""
        x = torch.tensor(X.toarray())
        scores = self.decoder(self.encoder(x, 0.0)[0])
        scores[x > 0] = -np.inf
        return scores.topk(min(k, scores.shape[1])).indices.numpy()
