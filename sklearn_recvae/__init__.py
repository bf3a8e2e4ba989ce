"""Recommend items from implicit feedback: RecVAE and its partners for scikit-learn.

Estimators are imported when they are first used, since they need torch. Metrics,
splits, encoders of ids and data sets do without it.
"""

import importlib
from typing import TYPE_CHECKING

from sklearn_recvae._version import __version__ as __version__

if TYPE_CHECKING:  # for editors
    from sklearn_recvae._blend import BlendedRecommender as BlendedRecommender
    from sklearn_recvae._ease import EASERecommender as EASERecommender
    from sklearn_recvae._ease_cv import EASERecommenderCV as EASERecommenderCV
    from sklearn_recvae._multvae import MultVAERecommender as MultVAERecommender
    from sklearn_recvae._popularity import (
        PopularityRecommender as PopularityRecommender,
    )
    from sklearn_recvae._recvae import RecVAERecommender as RecVAERecommender
    from sklearn_recvae._saving import load as load
    from sklearn_recvae._sparse_ease import (
        SparseEASERecommender as SparseEASERecommender,
    )

_ROOMS = {
    "BlendedRecommender": "_blend",
    "EASERecommender": "_ease",
    "EASERecommenderCV": "_ease_cv",
    "MultVAERecommender": "_multvae",
    "PopularityRecommender": "_popularity",
    "RecVAERecommender": "_recvae",
    "SparseEASERecommender": "_sparse_ease",
    "load": "_saving",
}
__all__ = list(_ROOMS)


def __getattr__(name):
    """Import what is not here yet, and keep it."""
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    room = importlib.import_module(f"{__name__}.{_ROOMS[name]}")
    value = globals()[name] = getattr(room, name)
    return value


def __dir__():
    """List what is here, and what will be when it is used."""
    return sorted({*globals(), *__all__})
