"""The parts of a blend for data of which nothing is known but the size."""

from sklearn_recvae._ease_cv import PAIR_BYTES, EASERecommenderCV
from sklearn_recvae._gram import memory_of_pairs
from sklearn_recvae._hardware import available_memory
from sklearn_recvae._recvae import RecVAERecommender
from sklearn_recvae._sparse_ease import SparseEASERecommender

# Share of the free memory that the linear part may take: RecVAE needs some too.
MEMORY_SHARE = 0.8


def default_parts(n_items, seed):
    """Choose the parts of a blend.

    Parameters
    ----------
    n_items : int
        Number of items.
    seed : int
        For the parts.

    Returns
    -------
    parts : list of (str, recommender) tuples
        Not fitted. The linear one is first, so that RecVAE has the rest of the time.
    reason : str
        Why the linear part is what it is, in a sentence.
    """
    recvae = RecVAERecommender(ema_decay=0.8, slim_interval=10, random_state=seed)
    needed, free = memory_of_pairs(n_items, PAIR_BYTES), available_memory()
    reason = f"all pairs of {n_items} items take {needed / 1e9:.1f} GB" + (
        "" if free is None else f", {free / 1e9:.1f} GB are free"
    )
    if free is None or needed <= MEMORY_SHARE * free:
        linear = EASERecommenderCV(
            (50, 200, 800), noise_rates=(0.0, 0.5), random_state=seed
        )
        kind = "EASE"
    else:
        linear, kind = SparseEASERecommender(), "EASE of few weights for each item"
    return [("linear", linear), ("recvae", recvae)], f"{kind}, {reason}"
