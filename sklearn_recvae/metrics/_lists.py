"""Metrics of ranked items alone, which need no held-out ones."""

import numpy as np
from sklearn.utils import check_array

from sklearn_recvae._sklearn import validate_params
from sklearn_recvae._validation import scale_weights
from sklearn_recvae.metrics._checks import (
    OF_MEANS,
    ONE_OR_MORE,
    RANKED,
    average_users,
    check_ranking,
)

_CONSTRAINTS = {"popularity": ["array-like"], **OF_MEANS}


@validate_params(
    {"y_rank": ["array-like"], "n_items": [ONE_OR_MORE], "k": [ONE_OR_MORE]},
    prefer_skip_nested_validation=True,
)
def catalogue_coverage_at_k(y_rank, n_items, k=10):
    """Compute the share of all items that are in the top k of at least one user.

    It grows with the number of users: compare models on the same users alone, and no
    value with ``n_users * k`` far below `n_items`.

    Parameters
    ----------
    y_rank : array-like of int of shape (n_users, n_ranks)
        Ranked items of each user, as in :func:`ndcg_at_k`.
    n_items : int
        Number of items in the catalogue, ranked or not.
    k : int, default=10
        Number of ranks that count, in the range [1, inf).

    Returns
    -------
    float
        In the range [0, 1]; 0 if all lists are empty.

    Raises
    ------
    ValueError
        If an item index is out of range, or an item is ranked twice for a user.
    TypeError
        If `y_rank` holds anything but integers.

    See Also
    --------
    novelty_at_k : How rare the items of the lists are.

    Examples
    --------
    >>> from sklearn_recvae.metrics import catalogue_coverage_at_k
    >>> catalogue_coverage_at_k([[1, 0, 3], [1, 0, -1]], n_items=4, k=2)
    0.5
    """
    y_rank = check_ranking(y_rank, n_items, f"n_items is {n_items}")[:, :k]
    return np.unique(y_rank[y_rank >= 0]).size / int(n_items)


@validate_params(_CONSTRAINTS, prefer_skip_nested_validation=True)
def novelty_at_k(y_rank, popularity, k=10, *, average="mean", sample_weight=None):
    """Compute the mean self-information of the top k, in bits.

    An item gives ``-log2(p)``, where p is its share of all feedback: the less popular,
    the more. An item without feedback counts as the least popular one that has some;
    its own value would be infinite.

    Parameters
    ----------
    y_rank : array-like of int of shape (n_users, n_ranks)
        Ranked items of each user, as in :func:`ndcg_at_k`.
    popularity : array-like of shape (n_items,)
        Feedback of each item, non-negative: the column sums of the matrix that was
        trained on, or these times any number.
    k : int, default=10
        Number of ranks that count, in the range [1, inf).
    average : {"mean"} or None, default="mean"
        The mean over the users with a ranked item, or the value of each user, which is
        itself the mean over the items that are ranked.
    sample_weight : array-like of shape (n_users,), default=None
        Non-negative weights of the users in the mean; not used by ``average=None``.

    Returns
    -------
    float or ndarray of shape (n_users,)
        In the range [0, inf). For ``average=None`` a float64 array, with NaN for users
        without a ranked item.

    Raises
    ------
    ValueError
        If an item index is out of range, an item is ranked twice for a user, no user
        with a ranked item is left to average, or no item has feedback.
    TypeError
        If `y_rank` holds anything but integers.

    See Also
    --------
    mean_popularity_at_k : The same items, by their feedback itself.

    Notes
    -----
    The share of the feedback is that of [1]_. With the share of the users, as in [2]_,
    the value of each item is less by one number: the binary logarithm of the mean
    feedback of a user. So models have the same differences.

    References
    ----------
    .. [1] S. Vargas and P. Castells. "Rank and Relevance in Novelty and Diversity
       Metrics for Recommender Systems". In Proceedings of the Fifth ACM Conference on
       Recommender Systems (RecSys '11), pp. 109-116, 2011.
       https://doi.org/10.1145/2043932.2043955
    .. [2] T. Zhou, Z. Kuscsik, J.-G. Liu, M. Medo, J. R. Wakeling, and Y.-C. Zhang.
       "Solving the Apparent Diversity-Accuracy Dilemma of Recommender Systems".
       Proceedings of the National Academy of Sciences, 107(10), pp. 4511-4515, 2010.
       https://doi.org/10.1073/pnas.1000488107

    Examples
    --------
    >>> from sklearn_recvae.metrics import novelty_at_k
    >>> popularity = [4, 2, 1, 1, 0]
    >>> novelty_at_k([[1, 0, 2], [4, 3, -1]], popularity, k=2)
    2.25
    >>> novelty_at_k([[1, 0, 2], [4, 3, -1]], popularity, k=2, average=None)
    array([1.5, 3. ])
    """
    popularity = _check_popularity(popularity)
    if not popularity.any():
        raise ValueError(
            f"None of the {len(popularity)} items has popularity > 0, expected some. "
            "Pass the column sums of the matrix that was trained on."
        )
    popularity = scale_weights(popularity)
    least = popularity[popularity > 0].min()
    information = np.log2(popularity.sum()) - np.log2(np.maximum(popularity, least))
    values = _average_items(y_rank, information, k)
    return average_users(values, average, sample_weight, RANKED)


@validate_params(_CONSTRAINTS, prefer_skip_nested_validation=True)
def mean_popularity_at_k(
    y_rank, popularity, k=10, *, average="mean", sample_weight=None
):
    """Compute the mean popularity of the items in the top k.

    It is also called average recommendation popularity [1]_.

    Parameters
    ----------
    y_rank : array-like of int of shape (n_users, n_ranks)
        Ranked items of each user, as in :func:`ndcg_at_k`.
    popularity : array-like of shape (n_items,)
        Feedback of each item, non-negative, in the unit that the result shall have:
        the column sums of the matrix that was trained on, or these divided by the
        number of its users.
    k : int, default=10
        Number of ranks that count, in the range [1, inf).
    average : {"mean"} or None, default="mean"
        The mean over the users with a ranked item, or the value of each user, which is
        itself the mean over the items that are ranked.
    sample_weight : array-like of shape (n_users,), default=None
        Non-negative weights of the users in the mean; not used by ``average=None``.

    Returns
    -------
    float or ndarray of shape (n_users,)
        From the lowest to the highest popularity. For ``average=None`` a float64 array,
        with NaN for users without a ranked item.

    Raises
    ------
    ValueError
        If an item index is out of range, an item is ranked twice for a user, or no user
        with a ranked item is left to average.
    TypeError
        If `y_rank` holds anything but integers.

    See Also
    --------
    novelty_at_k : On a logarithmic scale, where rare items count more.

    References
    ----------
    .. [1] H. Yin, B. Cui, J. Li, J. Yao, and C. Chen. "Challenging the Long Tail
       Recommendation". Proceedings of the VLDB Endowment, 5(9), pp. 896-907, 2012.
       https://doi.org/10.14778/2311906.2311916

    Examples
    --------
    >>> from sklearn_recvae.metrics import mean_popularity_at_k
    >>> popularity = [4, 2, 1, 1, 0]
    >>> mean_popularity_at_k([[1, 0, 2], [4, 3, -1]], popularity, k=2)
    1.75
    >>> mean_popularity_at_k([[1, 0, 2], [4, 3, -1]], popularity, k=2, average=None)
    array([3. , 0.5])
    """
    values = _average_items(y_rank, _check_popularity(popularity), k)
    return average_users(values, average, sample_weight, RANKED)


def _check_popularity(popularity):
    popularity = check_array(
        popularity,
        ensure_2d=False,
        allow_nd=True,
        dtype=np.float64,
        ensure_non_negative=True,
        input_name="popularity",
    )
    if popularity.ndim != 1:
        raise ValueError(
            f"popularity has shape {popularity.shape}, expected one number for each "
            "item. Pass np.ravel(X.sum(axis=0)) of the matrix that was trained on."
        )
    return popularity


def _average_items(y_rank, values, k):
    """Average the values of the items in the top k; NaN where none is ranked."""
    n_items = len(values)
    reason = f"popularity has {n_items} numbers"
    y_rank = check_ranking(y_rank, n_items, reason)[:, :k]
    is_item = y_rank >= 0
    sums = np.where(is_item, values[y_rank], 0).sum(axis=1)
    n_ranked = is_item.sum(axis=1)
    return sums / np.where(n_ranked > 0, n_ranked, np.nan)
