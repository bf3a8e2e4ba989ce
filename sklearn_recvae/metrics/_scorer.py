"""Scorers for model selection, and the rankings that they score."""

from numbers import Integral, Real

import numpy as np
from sklearn.utils import check_array

from sklearn_recvae._interactions import SCORES_BYTES, as_csr, check_columns
from sklearn_recvae._sklearn import (
    Interval,
    StrOptions,
    _get_feature_names,
    validate_params,
)
from sklearn_recvae._splitting import split_or_check_held_out
from sklearn_recvae.metrics._checks import (
    HELD_OUT,
    ONE_OR_MORE,
    average_users,
    weigh_users,
)
from sklearn_recvae.metrics._held_out import (
    hit_rate_at_k,
    map_at_k,
    mrr_at_k,
    ndcg_at_k,
    precision_at_k,
    recall_at_k,
)

_MEANS = {
    "ndcg": ndcg_at_k,
    "recall": recall_at_k,
    "precision": precision_at_k,
    "hit_rate": hit_rate_at_k,
    "mrr": mrr_at_k,
    "map": map_at_k,
}


@validate_params(
    {
        "metric": [StrOptions({*_MEANS, "coverage"})],
        "k": [ONE_OR_MORE],
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
    metric : {"ndcg", "recall", "precision", "hit_rate", "mrr", "map", "coverage"}, \
            default="ndcg"
        The function of that name with ``_at_k``, such as :func:`ndcg_at_k`; "coverage"
        is :func:`catalogue_coverage_at_k`, where the catalogue is the columns of X.
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
        of X is split, and users with fewer than two interactions are left out, as are
        those with `sample_weight` 0; coverage does not use the weights otherwise. A 2-D
        `y` is taken for the held-out part of the same users, and X for the fold-in
        part.

    Raises
    ------
    ValueError
        From here, if a parameter is out of its range. From the scorer, if X and a 2-D
        `y` overlap, if no user can be evaluated, or if ``estimator.predict`` does not
        return one score per column of X.

    Notes
    -----
    There is no scorer of :func:`novelty_at_k` and :func:`mean_popularity_at_k`: they
    need the popularity among the training users, whom a scorer does not see.

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
        has_held_out = np.diff(held_out.indptr) > 0
        weight = weigh_users(has_held_out, sample_weight, HELD_OUT)
        users = np.flatnonzero(weight)
        lists = self._rank(estimator, fold_in, users, like=X)
        if self.metric == "coverage":
            return _cover(lists, fold_in.shape[1])
        values = np.full(len(weight), np.nan)
        for block, y_rank in lists:
            metric = _MEANS[self.metric]
            values[block] = metric(held_out[block], y_rank, self.k, average=None)
        return average_users(values, "mean", weight, HELD_OUT)

    def _rank(self, estimator, fold_in, users, *, like):
        """Give blocks of the users and their rankings; few scores at a time."""
        n_items = fold_in.shape[1]
        block_size = max(1, SCORES_BYTES // (4 * n_items))
        for start in range(0, len(users), block_size):
            block = users[start : start + block_size]
            scores = _predict_scores(estimator, fold_in[block], like=like)
            yield block, rank_scores(scores, fold_in[block], min(self.k, n_items))


def _cover(lists, n_items):
    """Compute the catalogue coverage of rankings that come in blocks."""
    is_ranked = np.zeros(n_items + 1, dtype=bool)
    for _, y_rank in lists:
        is_ranked[y_rank] = True  # -1 is the place after the last item
    return float(is_ranked[:-1].mean())


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


@validate_params(
    {
        "scores": ["array-like"],
        "seen": ["array-like", "sparse matrix"],
        "k": [ONE_OR_MORE],
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
