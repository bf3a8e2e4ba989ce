"""Ranking metrics on held-out interactions or of lists alone, and scorers of them."""

from sklearn_recvae.metrics._held_out import (
    hit_rate_at_k,
    map_at_k,
    mrr_at_k,
    ndcg_at_k,
    precision_at_k,
    recall_at_k,
)
from sklearn_recvae.metrics._lists import (
    catalogue_coverage_at_k,
    mean_popularity_at_k,
    novelty_at_k,
)
from sklearn_recvae.metrics._scorer import rank_scores, ranking_scorer

__all__ = [
    "catalogue_coverage_at_k",
    "hit_rate_at_k",
    "map_at_k",
    "mean_popularity_at_k",
    "mrr_at_k",
    "ndcg_at_k",
    "novelty_at_k",
    "precision_at_k",
    "rank_scores",
    "ranking_scorer",
    "recall_at_k",
]
