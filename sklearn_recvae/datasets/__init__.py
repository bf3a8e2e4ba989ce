"""The data sets of the paper, as published, and a synthetic one with known tastes."""

from sklearn_recvae.datasets._movielens import fetch_movielens, load_movielens
from sklearn_recvae.datasets._msd import load_msd
from sklearn_recvae.datasets._netflix import load_netflix
from sklearn_recvae.datasets._synthetic import make_interactions

__all__ = [
    "fetch_movielens",
    "load_movielens",
    "load_msd",
    "load_netflix",
    "make_interactions",
]
