"""Ranking metrics on held-out interactions, and a scorer for model selection."""

from numbers import Integral, Real

import numpy as np
from sklearn.utils import check_array

from sklearn_recvae._interactions import SCORES_BYTES, as_csr, check_columns
from sklearn_recvae._sklearn import (
    Interval,
    StrOptions,
    _check_sample_weight,
    _get_feature_names,
    validate_params,
)
from sklearn_recvae._splitting import split_or_check_held_out
from sklearn_recvae._validation import NumberIn, scale_weights

__all__ = ["ndcg_at_k", "rank_scores", "ranking_scorer", "recall_at_k"]

_RANKS = NumberIn(Integral, 1, None, closed="left")

_METRIC_CONSTRAINTS = {
    "y_true": ["array-like", "sparse matrix"],
    "y_rank": ["array-like"],
    "k": [_RANKS],
    "average": [StrOptions({"mean"}), None],
    "sample_weight": ["array-like", None],
}


@validate_params(_METRIC_CONSTRAINTS, prefer_skip_nested_validation=True)
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
    return _average(gain / ideal, average, sample_weight)


@validate_params(_METRIC_CONSTRAINTS, prefer_skip_nested_validation=True)
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
    n_ideal = np.where(n_ideal > 0, n_ideal, np.nan)
    return _average(hits.sum(axis=1) / n_ideal, average, sample_weight)


@validate_params(
    {
        "metric": [StrOptions({"ndcg", "recall"})],
        "k": [_RANKS],
        "fraction": [Interval(Real, 0, 1, closed="neither")],
        "random_state": [Interval(Integral, 0, 2**32 - 1, closed="both")],
    },
    prefer_skip_nested_validation=True,
)
def ranking_scorer(metric="ndcg", k=100, *, fraction=0.2, random_state=0):
    """Make a scorer of recommendations for `GridSearchCV` and `cross_validate`.

    The scorer splits each test row into fold-in and held-out interactions, calls
    ``estimator.predict`` on the fold-in rows, masks what is seen there, and computes
    the metric of the top k. Because it looks at the raw rows, it also works on a
    `Pipeline` that weights them; what is relevant is then still any entry > 0 of the
    raw row, so ratings must be thresholded before the search.

    Parameters
    ----------
    metric : {"ndcg", "recall"}, default="ndcg"
        See :func:`ndcg_at_k` and :func:`recall_at_k`.
    k : int, default=100
        Number of ranks that count, in the range [1, inf).
    fraction : float, default=0.2
        Share of each user's interactions to hold out, in the open range (0, 1).
    random_state : int, default=0
        Seed of the split, see
        :func:`~sklearn_recvae.model_selection.holdout_interactions`. Only an int, so
        that all candidates are compared on the same held-out items.

    Returns
    -------
    callable
        Called as ``scorer(estimator, X, y=None, sample_weight=None)`` it returns a
        float. For ``y=None`` (or a 1-D `y`, which is ignored with a warning) each row
        of X is split, and users with fewer than two interactions are left out of the
        mean. A 2-D `y` is taken for the held-out part of the same users, and X for the
        fold-in part.

    Raises
    ------
    ValueError
        From here, if a parameter is out of its range. From the scorer, if X and a 2-D
        `y` overlap, if no user can be evaluated, or if ``estimator.predict`` does not
        return one score per column of X.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.dummy import DummyRegressor
    >>> from sklearn_recvae.metrics import ranking_scorer
    >>> X = np.array([[1, 1, 1, 0], [0, 1, 1, 1], [1, 1, 0, 1]])
    >>> popularity = DummyRegressor().fit(X, X)
    >>> scorer = ranking_scorer("recall", k=2)
    >>> scorer
    ranking_scorer(metric='recall', k=2, fraction=0.2, random_state=0)
    >>> scorer(popularity, X)
    1.0
    """
    return _RankingScorer(metric, k, fraction, random_state)


class _RankingScorer:
    """Callable behind `ranking_scorer`; a class, so that it pickles and prints."""

    def __init__(self, metric, k, fraction, random_state):
        self.metric = metric
        self.k = k
        self.fraction = fraction
        self.random_state = random_state

    def __repr__(self):
        return (
            f"ranking_scorer(metric={self.metric!r}, k={self.k}, "
            f"fraction={self.fraction}, random_state={self.random_state})"
        )

    def __call__(self, estimator, X, y=None, sample_weight=None):
        check_columns(estimator, X, {"X": X, "y": y})
        fold_in, held_out = split_or_check_held_out(
            as_csr(X, name="X"),
            y,
            fraction=self.fraction,
            random_state=self.random_state,
        )
        metric = {"ndcg": ndcg_at_k, "recall": recall_at_k}[self.metric]
        n_users, n_items = fold_in.shape
        users = np.flatnonzero(np.diff(held_out.indptr))
        values = np.full(n_users, np.nan)
        block_size = max(1, SCORES_BYTES // (4 * n_items))
        for start in range(0, len(users), block_size):
            block = users[start : start + block_size]
            scores = _predict_scores(estimator, fold_in[block], like=X)
            y_rank = rank_scores(scores, fold_in[block], min(self.k, n_items))
            values[block] = metric(held_out[block], y_rank, self.k, average=None)
        return _average(values, "mean", sample_weight)


def _predict_scores(estimator, X, *, like):
    """Compute the scores of one block of users, and check that each item has one."""
    # An estimator that was fitted on a data frame expects its column names again.
    scores = np.asarray(estimator.predict(_convert(X, like)))
    if scores.shape != X.shape:
        raise ValueError(
            f"{type(estimator).__name__}.predict returned an array of shape "
            f"{scores.shape} for X of shape {X.shape}, expected one score per user and "
            "item. Remove pipeline steps that add, drop or reorder columns: the items "
            "must be the columns of X."
        )
    if scores.dtype.kind not in "biuf":
        raise ValueError(
            f"{type(estimator).__name__}.predict returned an array of {scores.dtype}, "
            "expected real numbers that can be ranked."
        )
    if np.isnan(scores).any():
        raise ValueError(
            f"{type(estimator).__name__}.predict returned NaN, expected scores that "
            "can be ranked. Fit it again with other parameters, or check X."
        )
    return scores


def _convert(X, like):
    """Make a data frame of a matrix if `like` is a data frame, with its columns."""
    if hasattr(like, "iloc"):  # pandas, where names need not be strings
        return type(like)(X.toarray(), columns=like.columns)
    names = _get_feature_names(like)
    if names is None:
        return X
    import narwhals

    backend = narwhals.from_native(like).implementation
    return narwhals.from_numpy(X.toarray(), list(names), backend=backend).to_native()


def _find_hits(y_true, y_rank, k):
    """Mark which of the k first ranks hold a relevant item; count how many could.

    Work and memory grow with the number of ranks and of held-out entries, not with the
    number of all pairs of users and items.
    """
    y_true = as_csr(y_true, name="y_true")
    n_users, n_items = y_true.shape
    y_rank = _check_ranking(y_rank, n_users, n_items)[:, :k]
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


def _check_ranking(y_rank, n_users, n_items):
    y_rank = check_array(
        y_rank, dtype=None, ensure_all_finite=False, input_name="y_rank"
    )
    if y_rank.dtype.kind not in "iu":
        raise TypeError(
            f"y_rank has dtype {y_rank.dtype}, expected integers: the indices of the "
            "ranked items, best first. Pass what `recommend` returns, not scores."
        )
    if y_rank.shape[0] != n_users:
        raise ValueError(
            f"y_rank has {y_rank.shape[0]} rows and y_true has {n_users}, expected one "
            "row per user in both. Pass the rankings of the users of y_true, in the "
            "same order."
        )
    wrong = (y_rank < -1) | (y_rank >= n_items)
    if wrong.any():
        raise ValueError(
            f"y_rank holds the item index {y_rank[wrong][0]}, expected 0 to "
            f"{n_items - 1} (y_true has {n_items} columns), or -1 for no item. Pass "
            "rankings of the items of y_true."
        )
    y_rank = y_rank.astype(np.int64, copy=False)
    in_order = np.sort(y_rank, axis=1)
    twice = (in_order[:, 1:] == in_order[:, :-1]) & (in_order[:, 1:] >= 0)
    if twice.any():
        user, place = np.argwhere(twice)[0]
        raise ValueError(
            f"y_rank ranks item {in_order[user, place]} more than once in row {user}, "
            "expected every item at most once: it would be counted twice. Remove the "
            "duplicates, or fill with -1."
        )
    return y_rank


def _average(values, average, sample_weight):
    """Return the mean over users that have a value, as a float; or all values."""
    if average is None:
        return values
    weight = _check_sample_weight(
        sample_weight, values, dtype=np.float64, ensure_non_negative=True
    )
    evaluated = ~np.isnan(values) & (weight > 0)
    if not evaluated.any():
        raise ValueError(
            f"None of the {len(values)} users can be evaluated, expected at least one "
            "with a held-out interaction (> 0) and a positive weight. Pass users with "
            "at least two interactions, one to recommend from and one to hold out."
        )
    weight = scale_weights(weight[evaluated])
    return float(np.average(values[evaluated], weights=weight))


@validate_params(
    {
        "scores": ["array-like"],
        "seen": ["array-like", "sparse matrix"],
        "k": [_RANKS],
    },
    prefer_skip_nested_validation=True,
)
def rank_scores(scores, seen, k):
    """Rank the k best unseen items of each row of a score array.

    Parameters
    ----------
    scores : array-like of shape (n_rows, n_items)
        Real numbers, higher is better. Infinities are ranked as numbers are, but -inf
        means that the item must not be ranked. Left as it is.
    seen : {array-like, sparse matrix} of shape (n_rows, n_items)
        Interactions: items with an entry > 0 must not be ranked.
    k : int
        Length of the lists, at least 1; may exceed n_items.

    Returns
    -------
    ndarray of shape (n_rows, k)
        int64 item indices, best first; of equal scores the lower index is first. -1
        where no item is left.

    Raises
    ------
    ValueError
        If the shapes differ, or if scores are NaN or no real numbers.

    Examples
    --------
    >>> from sklearn_recvae.metrics import rank_scores
    >>> rank_scores([[0.3, 0.9, 0.1], [2, 1, 3]], [[0, 1, 0], [0, 0, 0]], k=2)
    array([[0, 2],
           [2, 0]])
    """
    import torch  # imported here, so that the other metrics do not need it

    from sklearn_recvae._ranking import entries, mask_entries, top_k

    scores = _check_scores(scores)
    seen = as_csr(seen, name="seen")
    if scores.shape != seen.shape:
        raise ValueError(
            f"scores has shape {scores.shape} and seen has {seen.shape}, expected a "
            "score for each entry of seen. Pass the same users and items in both."
        )
    scores = torch.tensor(scores)
    mask_entries(scores, *entries(seen, scores.device))
    return top_k(scores, k)[0].numpy()


def _check_scores(scores):
    """Return the scores as a C-contiguous array of float32 or float64."""
    scores = check_array(scores, ensure_all_finite=False, input_name="scores")
    if scores.dtype.kind not in "biuf":
        raise ValueError(f"scores has dtype {scores.dtype}, expected real numbers.")
    if np.isnan(scores).any():
        raise ValueError(
            "scores contains NaN, expected numbers that can be ranked. Set the scores "
            "of what must not be ranked to -inf."
        )
    # Counts are scores too, but have no -inf to mask with.
    is_exact = np.can_cast(scores.dtype, np.float32)
    return np.ascontiguousarray(scores, np.float32 if is_exact else np.float64)
