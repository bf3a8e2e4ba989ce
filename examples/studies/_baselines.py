"""The models of ``compare_baselines.py``, each behind a function of the same form.

``fit(split, setting, seed)`` trains on ``split.X_train``, and gives a function that
ranks, for the users of a part of the split, the items that they do not have yet; a
blend gives such a function for each of its parts too. A library is imported where it is
used, so that a missing one takes nothing else away.
"""

import os
from functools import partial
from typing import NamedTuple

import numpy as np
from _runs import N_RANKS, rank_by_scores, stack_all_users
from scipy.sparse import csr_matrix
from sklearn.model_selection import ParameterGrid

from sklearn_recvae import (
    BlendedRecommender,
    EASERecommender,
    PopularityRecommender,
    RecVAERecommender,
    SparseEASERecommender,
)

N_ITERATIONS = 50  # of RecVAE: its default
# Neural models are validated after each epoch, or iteration; so many without a better
# one end the training, and the best one is kept.
PATIENCE = 10


class Model(NamedTuple):
    """How to fit a model, and what its budget is spent on."""

    fit: callable
    settings: list  # of dict; the default of the library or of the paper is the first
    module: str  # of the library, imported before the time is taken
    seeded: bool = False  # whether the fit depends on the seed


def grid(**values):
    """List the settings; the first values of all parameters are the first setting."""
    return list(ParameterGrid({name: values[name] for name in values}))


def fit_ours(estimator, split, setting, seed):
    """Fit a model of this package that has neither validation nor a seed."""
    model = estimator(**setting).fit(split.X_train)
    return lambda part: model.recommend(split[part], k=N_RANKS)


def fit_recvae(split, setting, seed):
    model = RecVAERecommender(
        **setting, early_stopping=True, n_iter_no_change=PATIENCE, random_state=seed
    )
    model.fit(split.X_train, X_val=split.X_val, y_val=split.y_val)
    return lambda part: model.recommend(split[part], k=N_RANKS)


def fit_recipe(split, setting, seed):
    """Fit a blend without arguments; its parts are ranked alone, too."""
    parts = None
    if setting["max_iter"] != N_ITERATIONS:  # the same, as for a large catalogue
        recvae = RecVAERecommender(
            ema_decay=0.8, slim_interval=10, random_state=seed, **setting
        )
        parts = [("linear", SparseEASERecommender()), ("recvae", recvae)]
    model = BlendedRecommender(parts, random_state=seed)
    model.fit(split.X_train, X_val=split.X_val, y_val=split.y_val)
    return rank_with_parts(model, split, "recipe")


def fit_recipe_alone(split, setting, seed):
    """Fit a blend without arguments, which holds out a tenth of its users."""
    model = BlendedRecommender(random_state=seed).fit(split.X_train)
    return lambda part: model.recommend(split[part], k=N_RANKS)


def rank_with_parts(blend, split, name):
    labels = {"linear": "linear part", "recvae": "RecVAE"}
    models = {name: blend}
    for part, model in blend.named_estimators_.items():
        models[f"{labels[part]} of the {name}"] = model
    return {
        name: lambda part, model=model: model.recommend(split[part], k=N_RANKS)
        for name, model in models.items()
    }


def fit_plain_vae(split, setting, seed):
    """Fit RecVAE with every novelty switched off."""
    # A joint iteration is one pass, where an alternating one has three for the encoder.
    plain = {
        "n_hidden_layers": 1,
        "dense_connections": False,
        "prior_weights": (1, 0, 0),
        "gamma": None,
        "alternating": False,
        "max_iter": 150,
    }
    return fit_recvae(split, plain | setting, seed)


def fit_item_knn(split, setting, seed):
    """Fit the nearest neighbours of each item, by one of implicit's weightings."""
    from implicit.nearest_neighbours import CosineRecommender, TFIDFRecommender

    kinds = {"cosine": CosineRecommender, "tf-idf": TFIDFRecommender}
    model = kinds[setting["weighting"]](K=setting["K"])
    model.fit(csr_matrix(split.X_train, dtype=np.float64), show_progress=False)
    return rank_by_scores(
        split, lambda part, rows: (split[part][rows] @ model.similarity).toarray()
    )


def fit_wmf(split, setting, seed):
    """Fit weighted matrix factorisation by alternating least squares."""
    from implicit.als import AlternatingLeastSquares

    model = AlternatingLeastSquares(**setting, random_state=seed)
    model.fit(csr_matrix(split.X_train, dtype=np.float32), show_progress=False)

    def score(part, rows):
        X = csr_matrix(split[part][rows], dtype=np.float32)
        # The least squares of users that were not trained on.
        factors = model.recalculate_user(np.arange(X.shape[0]), X)
        return factors @ model.item_factors.T

    return rank_by_scores(split, score)


def fit_slim(split, setting, seed):
    from irspack import SLIMRecommender

    model = SLIMRecommender(csr_matrix(split.X_train, dtype=np.float64), **setting)
    model.learn()
    return rank_by_scores(
        split, lambda part, rows: model.get_score_cold_user(split[part][rows])
    )


def fit_warp(split, setting, seed):
    """Fit matrix factorisation with the WARP loss, which needs every user in training.

    The fold-in rows of the validation and test users are trained on too.
    """
    from lightfm import LightFM

    model = LightFM(
        no_components=setting["no_components"],
        loss="warp",
        item_alpha=setting["alpha"],
        user_alpha=setting["alpha"],
        random_state=seed,
    )
    X, start = stack_all_users(split)
    model.fit(X.tocoo(), epochs=setting["epochs"], num_threads=os.cpu_count())

    def score(part, rows):
        users = slice(start[part] + rows.start, start[part] + rows.stop)
        return (
            model.user_embeddings[users] @ model.item_embeddings.T + model.item_biases
        )

    return rank_by_scores(split, score)


def fit_recbole(name, split, setting, seed):
    import _baselines_recbole

    return _baselines_recbole.fit_recbole(name, split, setting, seed, PATIENCE)


# As many settings for each model; the first is what its library or its paper has.
# RecVAE and the recipe have their defaults alone: what they choose, they choose inside.
MODELS = {
    "popularity": Model(
        partial(fit_ours, PopularityRecommender), [{}], "sklearn_recvae"
    ),
    "item-kNN": Model(
        fit_item_knn,
        grid(K=[20, 100, 1000], weighting=["cosine", "tf-idf"]),
        "implicit.nearest_neighbours",
    ),
    "WMF": Model(
        fit_wmf,
        grid(alpha=[10], regularization=[10, 1, 50], factors=[64, 128]),
        "implicit.als",
        seeded=True,
    ),
    "WARP": Model(
        fit_warp,
        grid(no_components=[64], epochs=[20, 60], alpha=[0, 1e-5, 1e-4]),
        "lightfm",
        seeded=True,
    ),
    "SLIM": Model(
        fit_slim, grid(alpha=[0.05, 0.02, 0.007, 0.002, 0.0007, 0.0002]), "irspack"
    ),
    "EASE": Model(
        partial(fit_ours, EASERecommender),
        grid(regularization=[100, 300, 30, 1000, 10, 3000]),
        "sklearn_recvae",
    ),
    "EASE with noise": Model(
        partial(fit_ours, EASERecommender),
        grid(noise_rate=[0.5, 0.3], regularization=[100, 300, 30]),
        "sklearn_recvae",
    ),
    "sparse EASE": Model(
        partial(fit_ours, SparseEASERecommender),
        grid(noise_rate=[0.5, 0.3], regularization=[50, 20, 100]),
        "sklearn_recvae",
    ),
    "CDAE": Model(
        partial(fit_recbole, "CDAE"),
        grid(corruption_ratio=[0.5, 0.3, 0.7], embedding_size=[64, 200]),
        "recbole.trainer",
        seeded=True,
    ),
    "Mult-DAE": Model(
        partial(fit_recbole, "MultiDAE"),
        grid(dropout_prob=[0.5, 0.3, 0.7], latent_dimension=[200, 64]),
        "recbole.trainer",
        seeded=True,
    ),
    "Mult-VAE": Model(
        partial(fit_recbole, "MultiVAE"),
        grid(anneal_cap=[0.2, 0.1, 0.5, 0.05, 1, 0.02], latent_dimension=[400]),
        "recbole.trainer",
        seeded=True,
    ),
    "RaCT": Model(
        partial(fit_recbole, "RaCT"),
        grid(anneal_cap=[0.2, 0.1, 0.5, 0.05, 1, 0.02], latent_dimension=[400]),
        "recbole.trainer",
        seeded=True,
    ),
    "RecVAE without its novelties": Model(
        fit_plain_vae,
        grid(beta=[0.2, 0.1, 0.5, 0.05, 1, 0.02]),
        "sklearn_recvae",
        seeded=True,
    ),
    "RecVAE": Model(
        fit_recvae, [{"max_iter": N_ITERATIONS}], "sklearn_recvae", seeded=True
    ),
    "recipe": Model(
        fit_recipe, [{"max_iter": N_ITERATIONS}], "sklearn_recvae", seeded=True
    ),
    "recipe without X_val": Model(
        fit_recipe_alone, [{}], "sklearn_recvae", seeded=True
    ),
}
