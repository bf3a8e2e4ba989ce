"""RecVAE for top-N recommendation from implicit feedback, the scikit-learn way."""

from sklearn_recvae._blend import BlendedRecommender
from sklearn_recvae._ease import EASERecommender
from sklearn_recvae._multvae import MultVAERecommender
from sklearn_recvae._recvae import RecVAERecommender
from sklearn_recvae._version import __version__ as __version__

__all__ = [
    "BlendedRecommender",
    "EASERecommender",
    "MultVAERecommender",
    "RecVAERecommender",
]
