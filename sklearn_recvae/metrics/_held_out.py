"""Metrics that compare ranked items with held-out ones."""

import numpy as np

from sklearn_recvae._interactions import as_csr
from sklearn_recvae._sklearn import validate_params
from sklearn_recvae.metrics._checks import (
    HELD_OUT,
    OF_MEANS,
    average_users,
    check_ranking,
)

_CONSTRAINTS = {"y_true": ["array-like", "sparse matrix"], **OF_MEANS}


@validate_params(_CONSTRAINTS, prefer_skip_nested_validation=True)
def ndcg_at_k(y_true, y_rank, k=100, *, average="mean", sample_weight=None):
    """Compute the normalised discounted cumulative gain of the top k.

    Relevance is binary. The discount of rank r is ``1 / log2(r + 1)``, with r counted
    from 1. The ideal gain has the first ``min(k, n_held_out)`` ranks filled [1]_, so
    that 1 can be reached by every user with a held-out item.

    Parameters
    ----------
    y_true : {array-like, sparse matrix} of shape (n_users, n_items)
        Held-out interactions. An entry > 0 is relevant, an explicit zero is not, and
        duplicate entries are summed.
    y_rank : array-like of int of shape (n_users, n_ranks)
        Ranked items of each user, best first, as `RecVAERecommender.recommend` returns
        them; -1 holds no item. Columns from the k-th on are not counted; with fewer
        than k columns, fewer items were ranked.
    k : int, default=100
        Number of ranks that count, in the range [1, inf).
    average : {"mean"} or None, default="mean"
        The mean over the users with held-out items, or the value of each user.
    sample_weight : array-like of shape (n_users,), default=None
        Non-negative weights of the users in the mean; not used by ``average=None``.

    Returns
    -------
    float or ndarray of shape (n_users,)
        In the range [0, 1]. For ``average=None`` a float64 array, with NaN for users
        without held-out items.

    Raises
    ------
    ValueError
        If the numbers of rows differ, an item index is out of range, an item is ranked
        twice for a user, no user with held-out items is left to average, or there are
        2**63 pairs of users and items.
    TypeError
        If `y_rank` holds anything but integers.

    See Also
    --------
    recall_at_k : Share of the held-out items among the top k.

    References
    ----------
    .. [1] D. Liang, R. G. Krishnan, M. D. Hoffman, and T. Jebara. "Variational
       Autoencoders for Collaborative Filtering". In Proceedings of the 2018 World Wide
       Web Conference (WWW '18), pp. 689-698, 2018.
       https://doi.org/10.1145/3178876.3186150

    Examples
    --------
    >>> from sklearn_recvae.metrics import ndcg_at_k
    >>> y_true = [[0, 1, 0, 1], [1, 0, 0, 0]]
    >>> y_rank = [[1, 0, 3], [2, 0, -1]]
    >>> round(ndcg_at_k(y_true, y_rank, k=3), 4)
    0.7753
    >>> ndcg_at_k(y_true, y_rank, k=3, average=None).round(4)
    array([0.9197, 0.6309])
    """
    hits, n_ideal = _find_hits(y_true, y_rank, k)
    depth = max(hits.shape[1], n_ideal.max())
    discount = 1 / np.log2(np.arange(2, depth + 2))
    # Both sums run in the order of the ranks: the same rounding, so a perfect ranking
    # gets exactly 1 and nothing gets more.
    ideal = np.concatenate([[np.nan], np.cumsum(discount)])[n_ideal]
    gain = np.cumsum(hits * discount[: hits.shape[1]], axis=1)[:, -1]
    return average_users(gain / ideal, average, sample_weight, HELD_OUT)


@validate_params(_CONSTRAINTS, prefer_skip_nested_validation=True)
def recall_at_k(y_true, y_rank, k=20, *, average="mean", sample_weight=None):
    """Compute the share of held-out items that are among the top k.

    The denominator is ``min(k, n_held_out)`` [1]_, so that 1 can be reached by every
    user with a held-out item.

    Parameters
    ----------
    y_true : {array-like, sparse matrix} of shape (n_users, n_items)
        Held-out interactions. An entry > 0 is relevant, an explicit zero is not, and
        duplicate entries are summed.
    y_rank : array-like of int of shape (n_users, n_ranks)
        Ranked items of each user, best first, as `RecVAERecommender.recommend` returns
        them; -1 holds no item. Columns from the k-th on are not counted; with fewer
        than k columns, fewer items were ranked.
    k : int, default=20
        Number of ranks that count, in the range [1, inf).
    average : {"mean"} or None, default="mean"
        The mean over the users with held-out items, or the value of each user.
    sample_weight : array-like of shape (n_users,), default=None
        Non-negative weights of the users in the mean; not used by ``average=None``.

    Returns
    -------
    float or ndarray of shape (n_users,)
        In the range [0, 1]. For ``average=None`` a float64 array, with NaN for users
        without held-out items.

    Raises
    ------
    ValueError
        If the numbers of rows differ, an item index is out of range, an item is ranked
        twice for a user, no user with held-out items is left to average, or there are
        2**63 pairs of users and items.
    TypeError
        If `y_rank` holds anything but integers.

    See Also
    --------
    ndcg_at_k : The same, with a hit counting more the earlier its rank.

    References
    ----------
    .. [1] D. Liang, R. G. Krishnan, M. D. Hoffman, and T. Jebara. "Variational
       Autoencoders for Collaborative Filtering". In Proceedings of the 2018 World Wide
       Web Conference (WWW '18), pp. 689-698, 2018.
       https://doi.org/10.1145/3178876.3186150

    Examples
    --------
    >>> from sklearn_recvae.metrics import recall_at_k
    >>> y_true = [[0, 1, 0, 1], [1, 0, 0, 0]]
    >>> y_rank = [[1, 0, 3], [2, 0, -1]]
    >>> recall_at_k(y_true, y_rank, k=2)
    0.75
    >>> recall_at_k(y_true, y_rank, k=2, average=None)
    array([0.5, 1. ])
    """
    hits, n_ideal = _find_hits(y_true, y_rank, k)
    recall = hits.sum(axis=1) / _nan_for_none(n_ideal)
    return average_users(recall, average, sample_weight, HELD_OUT)


@validate_params(_CONSTRAINTS, prefer_skip_nested_validation=True)
def precision_at_k(y_true, y_rank, k=10, *, average="mean", sample_weight=None):
    """Compute the share of the top k that is held out.

    The denominator is `k` for every user, also where fewer items are held out or
    ranked. So only users with `k` held-out items can reach 1.

    Parameters
    ----------
    y_true : {array-like, sparse matrix} of shape (n_users, n_items)
        Held-out interactions, as in :func:`ndcg_at_k`.
    y_rank : array-like of int of shape (n_users, n_ranks)
        Ranked items of each user, as in :func:`ndcg_at_k`.
    k : int, default=10
        Number of ranks that count, in the range [1, inf).
    average : {"mean"} or None, default="mean"
        The mean over the users with held-out items, or the value of each user.
    sample_weight : array-like of shape (n_users,), default=None
        Non-negative weights of the users in the mean; not used by ``average=None``.

    Returns
    -------
    float or ndarray of shape (n_users,)
        In the range [0, 1]. For ``average=None`` a float64 array, with NaN for users
        without held-out items.

    Raises
    ------
    ValueError
        For the reasons that :func:`ndcg_at_k` has.
    TypeError
        If `y_rank` holds anything but integers.

    See Also
    --------
    recall_at_k : The same hits, as a share of what could be found.
    hit_rate_at_k : Whether there is a hit at all.

    Examples
    --------
    >>> from sklearn_recvae.metrics import precision_at_k
    >>> y_true = [[0, 1, 0, 1], [1, 0, 0, 0]]
    >>> y_rank = [[1, 0, 3], [2, 0, -1]]
    >>> precision_at_k(y_true, y_rank, k=2)
    0.5
    >>> precision_at_k(y_true, y_rank, k=3, average=None).round(4)
    array([0.6667, 0.3333])
    """
    hits, n_ideal = _find_hits(y_true, y_rank, k)
    precision = np.where(n_ideal > 0, hits.sum(axis=1) / float(k), np.nan)
    return average_users(precision, average, sample_weight, HELD_OUT)


@validate_params(_CONSTRAINTS, prefer_skip_nested_validation=True)
def hit_rate_at_k(y_true, y_rank, k=10, *, average="mean", sample_weight=None):
    """Compute the share of users with a hit among the top k.

    A user has 1 if any of the top k is held out, and else 0. Where every user has one
    held-out item, it is the same as recall.

    Parameters
    ----------
    y_true : {array-like, sparse matrix} of shape (n_users, n_items)
        Held-out interactions, as in :func:`ndcg_at_k`.
    y_rank : array-like of int of shape (n_users, n_ranks)
        Ranked items of each user, as in :func:`ndcg_at_k`.
    k : int, default=10
        Number of ranks that count, in the range [1, inf).
    average : {"mean"} or None, default="mean"
        The mean over the users with held-out items, or the value of each user.
    sample_weight : array-like of shape (n_users,), default=None
        Non-negative weights of the users in the mean; not used by ``average=None``.

    Returns
    -------
    float or ndarray of shape (n_users,)
        In the range [0, 1]. For ``average=None`` a float64 array, with NaN for users
        without held-out items.

    Raises
    ------
    ValueError
        For the reasons that :func:`ndcg_at_k` has.
    TypeError
        If `y_rank` holds anything but integers.

    See Also
    --------
    recall_at_k : How much of what is held out was found.
    mrr_at_k : The same, with a hit counting more the earlier its rank.

    Examples
    --------
    >>> from sklearn_recvae.metrics import hit_rate_at_k
    >>> y_true = [[0, 1, 0, 1], [1, 0, 0, 0]]
    >>> y_rank = [[1, 0, 3], [2, 0, -1]]
    >>> hit_rate_at_k(y_true, y_rank, k=1)
    0.5
    >>> hit_rate_at_k(y_true, y_rank, k=1, average=None)
    array([1., 0.])
    """
    hits, n_ideal = _find_hits(y_true, y_rank, k)
    hit_rate = np.where(n_ideal > 0, hits.any(axis=1), np.nan)
    return average_users(hit_rate, average, sample_weight, HELD_OUT)


@validate_params(_CONSTRAINTS, prefer_skip_nested_validation=True)
def mrr_at_k(y_true, y_rank, k=10, *, average="mean", sample_weight=None):
    """Compute the mean reciprocal rank of the first hit among the top k.

    A user has ``1 / r``, where r is the rank of the first held-out item, counted from
    1; or 0, if none of the top k is held out. What comes after the first hit does not
    count.

    Parameters
    ----------
    y_true : {array-like, sparse matrix} of shape (n_users, n_items)
        Held-out interactions, as in :func:`ndcg_at_k`.
    y_rank : array-like of int of shape (n_users, n_ranks)
        Ranked items of each user, as in :func:`ndcg_at_k`.
    k : int, default=10
        Number of ranks that count, in the range [1, inf).
    average : {"mean"} or None, default="mean"
        The mean over the users with held-out items, or the value of each user.
    sample_weight : array-like of shape (n_users,), default=None
        Non-negative weights of the users in the mean; not used by ``average=None``.

    Returns
    -------
    float or ndarray of shape (n_users,)
        In the range [0, 1]. For ``average=None`` a float64 array, with NaN for users
        without held-out items.

    Raises
    ------
    ValueError
        For the reasons that :func:`ndcg_at_k` has.
    TypeError
        If `y_rank` holds anything but integers.

    See Also
    --------
    hit_rate_at_k : The same without the ranks.
    map_at_k : All hits count, by their ranks.

    Examples
    --------
    >>> from sklearn_recvae.metrics import mrr_at_k
    >>> y_true = [[0, 1, 0, 1], [1, 0, 0, 0]]
    >>> y_rank = [[1, 0, 3], [2, 0, -1]]
    >>> mrr_at_k(y_true, y_rank, k=3)
    0.75
    >>> mrr_at_k(y_true, y_rank, k=3, average=None)
    array([1. , 0.5])
    """
    hits, n_ideal = _find_hits(y_true, y_rank, k)
    # Of a row without a hit, argmax is 0 too.
    reciprocal = hits.any(axis=1) / (hits.argmax(axis=1) + 1)
    reciprocal = np.where(n_ideal > 0, reciprocal, np.nan)
    return average_users(reciprocal, average, sample_weight, HELD_OUT)


@validate_params(_CONSTRAINTS, prefer_skip_nested_validation=True)
def map_at_k(y_true, y_rank, k=10, *, average="mean", sample_weight=None):
    """Compute the mean average precision of the top k.

    The average precision of a user is the precision at the rank of each hit, summed
    and divided by the number of hits that could be::

        AP@k = sum_{r = 1..k} hit(r) * (hits among the first r) / r / min(k, n_held_out)

    With this denominator 1 can be reached by every user with a held-out item. Others
    divide by n_held_out, so that with more than k held-out items it cannot, or by the
    number of hits, so that what was not found does not count.

    Parameters
    ----------
    y_true : {array-like, sparse matrix} of shape (n_users, n_items)
        Held-out interactions, as in :func:`ndcg_at_k`.
    y_rank : array-like of int of shape (n_users, n_ranks)
        Ranked items of each user, as in :func:`ndcg_at_k`.
    k : int, default=10
        Number of ranks that count, in the range [1, inf).
    average : {"mean"} or None, default="mean"
        The mean over the users with held-out items, or the value of each user.
    sample_weight : array-like of shape (n_users,), default=None
        Non-negative weights of the users in the mean; not used by ``average=None``.

    Returns
    -------
    float or ndarray of shape (n_users,)
        In the range [0, 1]. For ``average=None`` a float64 array, with NaN for users
        without held-out items.

    Raises
    ------
    ValueError
        For the reasons that :func:`ndcg_at_k` has.
    TypeError
        If `y_rank` holds anything but integers.

    See Also
    --------
    ndcg_at_k : Discounts ranks by a logarithm, which falls off less at the top.
    mrr_at_k : Only the first hit counts.

    Examples
    --------
    >>> from sklearn_recvae.metrics import map_at_k
    >>> y_true = [[0, 1, 0, 1], [1, 0, 0, 0]]
    >>> y_rank = [[1, 0, 3], [2, 0, -1]]
    >>> round(map_at_k(y_true, y_rank, k=3), 4)
    0.6667
    >>> map_at_k(y_true, y_rank, k=3, average=None).round(4)
    array([0.8333, 0.5   ])
    """
    hits, n_ideal = _find_hits(y_true, y_rank, k)
    precision = np.cumsum(hits, axis=1) / np.arange(1, hits.shape[1] + 1)
    values = (hits * precision).sum(axis=1) / _nan_for_none(n_ideal)
    return average_users(values, average, sample_weight, HELD_OUT)


def _find_hits(y_true, y_rank, k):
    """Mark which of the k first ranks hold a relevant item; count how many could.

    Work and memory grow with the number of ranks and of held-out entries, not with the
    number of all pairs of users and items.
    """
    y_true = as_csr(y_true, name="y_true")
    n_users, n_items = y_true.shape
    y_rank = check_ranking(y_rank, n_items, f"y_true has {n_items} columns")[:, :k]
    if len(y_rank) != n_users:
        raise ValueError(
            f"y_rank has {len(y_rank)} rows and y_true has {n_users}, expected one row "
            "per user in both. Pass the rankings of the users of y_true, in the same "
            "order."
        )
    if n_users * n_items >= 2**63:
        raise ValueError(
            f"y_true of shape {y_true.shape} has too many pairs of users and items to "
            "number them by int64. Evaluate fewer users at a time, with average=None."
        )
    # Entries of a canonical CSR, numbered row by row, are sorted.
    n_held_out = np.diff(y_true.indptr)
    users = np.arange(n_users, dtype=np.int64)
    relevant = np.repeat(users, n_held_out) * n_items + y_true.indices
    ranked = users[:, None] * n_items + y_rank
    # The sentinel is larger than every entry: the search never runs off the end.
    relevant = np.append(relevant, n_users * n_items)
    hits = relevant[np.searchsorted(relevant, ranked)] == ranked
    return hits & (y_rank >= 0), np.minimum(n_held_out, min(k, n_items))


def _nan_for_none(counts):
    """Make counts of 0 NaN, so that what is divided by them is NaN too."""
    return np.where(counts > 0, counts, np.nan)
