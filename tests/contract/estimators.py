"""A small one of every recommender: those that keep the contract."""

import numpy as np
from sklearn.base import BaseEstimator

from sklearn_recvae import (
    BlendedRecommender,
    EASERecommender,
    EASERecommenderCV,
    MultVAERecommender,
    PopularityRecommender,
    RecVAERecommender,
    SparseEASERecommender,
)
from sklearn_recvae._base import unchanged_on_error
from sklearn_recvae._interactions import check_interactions
from sklearn_recvae._item_item import ItemItemMixin
from sklearn_recvae._sklearn import _fit_context
from sklearn_recvae._validation import POSITIVE


class CosineRecommender(ItemItemMixin, BaseEstimator):
    """Items are alike by the cosine of their columns, less so where these are short."""

    _parameter_constraints: dict = {"shrinkage": [POSITIVE]}  # noqa: RUF012

    def __init__(self, shrinkage=1.0):
        self.shrinkage = shrinkage

    @unchanged_on_error
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        X = check_interactions(self, X, reset=True)
        self._check_before_fit(X)
        products = (X.T @ X).toarray()  # (n_items, n_items)
        norms = np.sqrt(products.diagonal())
        coef = products / (np.outer(norms, norms) + self.shrinkage)
        np.fill_diagonal(coef, 0)
        self.coef_ = coef.astype(np.float32)
        return self


def recvae(n_iter=1):
    return RecVAERecommender(
        6,
        hidden_dim=12,
        n_hidden_layers=2,
        n_encoder_epochs=1,
        max_iter=n_iter,
        learning_rate=0.02,
        random_state=0,
    )


def multvae(n_iter=1, **params):
    return MultVAERecommender(
        6,
        hidden_dim=12,
        n_annealing_steps=10,
        max_iter=n_iter,
        learning_rate=0.02,
        random_state=0,
        **params,
    )


def multdae(n_iter=1):
    return multvae(n_iter, variational=False)


def ease(n_iter=1):
    return EASERecommender(regularization=5)


def ease_cv(n_iter=1):
    return EASERecommenderCV((5, 50), noise_rates=(0, 0.5), random_state=0)


def sparse_ease(n_iter=1):
    return SparseEASERecommender(5, n_neighbors=4)


def popularity(n_iter=1):
    return PopularityRecommender()


def blend(n_iter=1):
    parts = [("recvae", recvae(n_iter)), ("ease", ease())]
    return BlendedRecommender(parts, weights=None)


def learned_blend(n_iter=1):
    parts = [("recvae", recvae(n_iter)), ("ease", ease_cv())]
    return BlendedRecommender(parts, random_state=0)


# Each gives a new one; `n_iter` is how long it is trained, where that is a question.
ESTIMATORS = {
    "RecVAE": recvae,
    "Mult-VAE": multvae,
    "Mult-DAE": multdae,
    "EASE": ease,
    "EASE, chosen": ease_cv,
    "EASE, sparse": sparse_ease,
    "popularity": popularity,
    "Blend": blend,
    "Blend, learned": learned_blend,
    "cosine": lambda n_iter=1: CosineRecommender(),
}
