"""A training iteration beside the RecVAE of other packages.

Each runs its own loop over the same matrix: three encoder passes, a refresh, one
decoder pass; hidden 600, latent 200, batch 500. Loading and evaluation are left out.

    python -m pip install -c constraints.txt cornac==3.0.1
    python -m pip install --no-deps recpack==0.3.6

recpack asks for numpy 1 and pandas 2, though its RecVAE runs without them. RecBole
1.2.1 has a RecVAE too, but its `Config`, without which nothing of it starts, reads
`np.float_`, which numpy 2 no longer has.
"""

from functools import partial
from importlib.util import find_spec

import torch
from ours import precisions, training_iteration
from scipy.sparse import csr_matrix
from timing import time_in_turns

from sklearn_recvae.datasets import make_interactions

BATCH_SIZE = 500


def measure(quick):
    """Yield the measurement of each size."""
    sizes = [(60, 300)] if quick else [(2_000, 3_500), (2_000, 20_108)]
    for n_users, n_items in sizes:
        X, _, _ = make_interactions(
            n_users, n_items, mean_interactions=72, random_state=0
        )
        contestants, missing = {}, []
        for name, make_iteration in PEERS.items():
            if find_spec(name):
                contestants[name] = partial(make_iteration, X)
            else:
                missing.append({"name": name, "note": "not installed"})
        for precision in precisions():
            make = partial(training_iteration, X, BATCH_SIZE, precision=precision)
            contestants[f"sklearn_recvae, {precision}"] = make
        timing = time_in_turns(contestants, 1 if quick else 5)
        medians = timing["medians"]
        reference = medians["sklearn_recvae, float32"]
        yield {
            "case": f"iteration, {n_users:,} users, {n_items:,} items",
            "rows": [
                {
                    "name": name,
                    "value": seconds,
                    "unit": "s",
                    "ratios": {"the time of our float32": seconds / reference},
                }
                for name, seconds in medians.items()
            ]
            + missing,
            **timing,
        }


def cornac_iteration(X):
    """Return a function that runs one iteration of cornac's RecVAE."""
    from cornac.data import Dataset
    from cornac.models import RecVAE
    from cornac.models.recvae.recvae import VAE

    users, items = X.nonzero()
    # Not by its builders, which would leave out items that nobody has.
    train_set = Dataset(*X.shape, {}, {}, (users, items, X.data))
    recommender = RecVAE(batch_size=BATCH_SIZE, use_gpu=False)
    model = VAE(recommender.hidden_dim, recommender.latent_dim, X.shape[1])
    encoder_optimizer, decoder_optimizer = (
        torch.optim.Adam(half.parameters(), recommender.lr)
        for half in (model.encoder, model.decoder)
    )

    def run():
        # As in its `fit`, which goes on to rank the training set.
        settings = (train_set, BATCH_SIZE)
        recommender.run(model, [encoder_optimizer], *settings, 3, None, 0.005, 0.5)
        model.update_prior()
        recommender.run(model, [decoder_optimizer], *settings, 1, None, 0.005, 0)

    return run


def recpack_iteration(X):
    """Return a function that runs one iteration of recpack's RecVAE."""
    from recpack.algorithms import RecVAE

    X = csr_matrix(X)
    recommender = RecVAE(batch_size=BATCH_SIZE, seed=0)
    recommender.device = torch.device("cpu")
    recommender._init_model(X)
    return lambda: recommender._train_epoch(X)


PEERS = {"cornac": cornac_iteration, "recpack": recpack_iteration}
