"""RecVAE for top-N recommendation from implicit feedback, the scikit-learn way."""

from sklearn_recvae.blend import BlendedRecommender
from sklearn_recvae.ease import EASERecommender
from sklearn_recvae.recommender import RecVAERecommender

__version__ = "0.1.0"
__all__ = ["BlendedRecommender", "EASERecommender", "RecVAERecommender"]
