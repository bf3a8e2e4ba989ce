"""What all recommenders share: `recommend`, and `score` as scikit-learn knows it."""

import functools
from abc import ABC, abstractmethod

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted

from sklearn_recvae._batches import InteractionTensors
from sklearn_recvae._explaining import leave_one_out
from sklearn_recvae._interactions import (
    NO_ITEM,
    check_columns,
    check_interactions,
    keep_columns,
    remove_pairs,
)
from sklearn_recvae._ranking import block_users, rank, rank_entries, rank_pairs
from sklearn_recvae._saving import save_estimator
from sklearn_recvae._sklearn import _check_sample_weight, validate_arguments
from sklearn_recvae._splitting import split_or_check_held_out
from sklearn_recvae._validation import (
    POSITIVE_INT,
    check_candidates,
    check_items_of_users,
)
from sklearn_recvae.metrics import ndcg_at_k

# Length of the lists behind `score` and the validation score, as in the paper.
SCORE_K = 100

RECOMMEND_CONSTRAINTS = {
    "k": [POSITIVE_INT],
    "exclude_seen": ["boolean"],
    "items": ["array-like", "sparse matrix", None],
    "exclude_items": ["array-like", "sparse matrix", None],
    "return_scores": ["boolean"],
}


class FitInterrupted(KeyboardInterrupt):
    """The user stopped training, and the estimator has what there was by then."""

    def __init__(self, n_iter):
        super().__init__(
            f"Training was interrupted, and the estimator has {n_iter} iterations."
        )


def unchanged_on_error(method):
    """Decorate a method that fits, so that nobody sees half of what it does.

    It runs on a shallow copy of the estimator, so it may set attributes as it goes, but
    must not change what they are. If it succeeds, the estimator gets all that is fitted
    at once; if it fails, nothing. Other threads may use the estimator meanwhile.
    """

    @functools.wraps(method)
    def wrapper(estimator, *args, **kwargs):
        working = _shallow_copy(estimator)
        before = working.__dict__.copy()
        try:
            method(working, *args, **kwargs)
        except FitInterrupted:
            _publish(working, before, estimator)
            raise
        _publish(working, before, estimator)
        return estimator

    return wrapper


def on_snapshot(method):
    """Decorate a method that only reads, so that all it reads is of one fit.

    It runs on a copy of the estimator, on which nothing changes if another thread fits
    the estimator meanwhile.
    """

    @functools.wraps(method)
    def wrapper(estimator, *args, **kwargs):
        return method(estimator._snapshot(), *args, **kwargs)

    return wrapper


def _shallow_copy(estimator):
    # Not copy.copy, which leaves out what is not pickled.
    copied = object.__new__(type(estimator))
    copied.__dict__.update(estimator.__dict__.copy())
    return copied


def _publish(working, before, estimator):
    """Give the estimator what was fitted or changed in the working copy of it."""
    after = working.__dict__
    state = estimator.__dict__.copy()  # other threads may have set parameters
    # What is fitted goes together, also what is as it was: there may be another by now.
    state.update(
        (name, value)
        for name, value in after.items()
        if name.endswith("_") or name not in before or value is not before[name]
    )
    for name in before.keys() - after.keys():
        state.pop(name, None)
    # By one assignment, so that no other thread sees a part of it.
    estimator.__dict__ = state


class RecommenderMixin(ABC):
    """Mixin for estimators that give each user a score for each item."""

    def _snapshot(self):
        """Give a copy that stays as it is if another thread fits this estimator."""
        return _shallow_copy(self)

    def __getstate__(self):
        # A copy: while it is pickled, another thread may fit this estimator.
        return super().__getstate__().copy()

    @abstractmethod
    def _item_scores(self):
        """Give the `ItemScores` of the fitted estimator."""

    @abstractmethod
    def _check_before_fit(self, X):
        """Raise the errors of `fit` that are found before anything is computed.

        Parameters
        ----------
        X : csr_array of shape (n_users, n_items)
            Canonical. The parameters are each in its range already.
        """

    @abstractmethod
    def _get_fitted(self):
        """Give what goes into a file, beside parameters and names of columns.

        Returns
        -------
        attributes : dict
            What JSON can hold.
        arrays : dict of ndarray
            All else.
        """

    @abstractmethod
    def _set_fitted(self, attributes, arrays):
        """Take over what `_get_fitted` gave, from a file that may be damaged.

        Parameters
        ----------
        attributes : dict
            What JSON can hold.
        arrays : dict of ndarray
            All else.

        Raises
        ------
        ValueError
            If these make no fitted estimator with these parameters.
        """

    @on_snapshot
    @validate_arguments(RECOMMEND_CONSTRAINTS)
    def recommend(
        self,
        X,
        k=10,
        *,
        exclude_seen=True,
        items=None,
        exclude_items=None,
        return_scores=False,
    ):
        """Rank the k best items for each row of X.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_users, n_items)
            Interactions of any users, seen in training or not.
        k : int, default=10
            Number of items for each user, at least 1; may exceed `n_items`.
        exclude_seen : bool, default=True
            Whether items of the row itself (entries > 0) are left out.
        items : array-like of int of shape (n_candidates,) or {array-like, sparse \
matrix} of shape (n_users, n_items), default=None
            Indices of the only items that may be recommended, or a matrix with an
            entry > 0 for each pair that may be; None means all.
        exclude_items : array-like of int of shape (n_excluded,) or {array-like, \
sparse matrix} of shape (n_users, n_items), default=None
            Indices of items that must not be recommended, to anyone, or a matrix with
            an entry > 0 for each pair that must not be.
        return_scores : bool, default=False
            Whether to return the scores too.

        Returns
        -------
        recommended : ndarray of shape (n_users, k)
            int64 item indices, best first; of equal scores the lower index is first.
            Where fewer than k candidates remain, the row is filled with -1.
        scores : ndarray of shape (n_users, k)
            Only if ``return_scores=True``: float32, what `predict` gives; -inf where
            there is no item.

        Raises
        ------
        ValueError
            If X does not fit the model, a matrix does not fit X or names its columns
            differently, `k` is not positive, or an item index is out of range.
        """
        check_is_fitted(self)
        recommended, scores = self._recommend(
            self._item_scores(), X, k, exclude_seen, items, exclude_items
        )
        return (recommended, scores) if return_scores else recommended

    def _recommend(self, scores, X, k, exclude_seen, items, exclude_items):
        check_columns(self, X, {"items": items, "exclude_items": exclude_items})
        X = check_interactions(self, X, reset=False)
        candidates, allowed, excluded = check_candidates(items, exclude_items, X.shape)
        tensors = InteractionTensors(X, scores.device)
        if allowed is None:
            return rank(
                scores,
                tensors,
                k,
                exclude_seen=exclude_seen,
                candidates=candidates,
                excluded=excluded,
            )
        if exclude_seen:
            allowed = remove_pairs(allowed, X)
        if excluded is not None:
            allowed = remove_pairs(allowed, excluded)
        if candidates is not None:
            allowed = keep_columns(allowed, candidates)
        return rank_pairs(scores, tensors, k, allowed)

    @torch.inference_mode()
    def _score_all_items(self, X):
        """Give the scores (n_users, n_items), nothing masked."""
        check_is_fitted(self)
        X = check_interactions(self, X, reset=False)
        scores = self._item_scores()
        batches = InteractionTensors(X, scores.device).batches(block_users(X.shape[1]))
        return torch.cat([scores.all(batch) for _, batch in batches]).cpu().numpy()

    @on_snapshot
    @validate_arguments(
        {
            "items": ["array-like"],
            "k": [POSITIVE_INT],
            "return_scores": ["boolean"],
        }
    )
    def explain(self, X, items, k=3, *, return_scores=False):
        """Rank the items of each row by how much they raise the score of an item.

        Each interaction is left out in turn, and the score computed anew. The score is
        what `predict` gives, or its logarithm where that is a probability.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_users, n_items)
            Interactions of any users, seen in training or not.
        items : array-like of int of shape (n_users,) or (n_users, n_targets)
            The items to explain to each user, such as :meth:`recommend` returns; -1
            is no item.
        k : int, default=3
            Number of reasons for each, at least 1.
        return_scores : bool, default=False
            Whether to return the differences of the score too.

        Returns
        -------
        reasons : ndarray of shape (n_users, k) or (n_users, n_targets, k)
            int64 items of the user's row, the one that raises the score most first.
            -1 where none is left.
        scores : ndarray of shape (n_users, k) or (n_users, n_targets, k)
            Only if ``return_scores=True``: float32, the score minus that without the
            interaction; negative for one that lowers it, -inf where none is left.

        Raises
        ------
        ValueError
            If X does not fit the model, `items` has not a row for each user, or an
            item index is out of range.
        """
        check_is_fitted(self)
        X = check_interactions(self, X, reset=False)
        items = check_items_of_users(items, X.shape)
        targets = items.reshape(len(items), -1)
        effects = leave_one_out(self._item_scores(), X, targets.clip(0))
        reasons = np.full((*targets.shape, k), NO_ITEM, dtype=np.int64)
        scores = np.full(reasons.shape, -np.inf, dtype=np.float32)
        for place, column in enumerate(effects.T):
            reasons[:, place], scores[:, place] = rank_entries(X, column, k)
        reasons[targets < 0], scores[targets < 0] = NO_ITEM, -np.inf
        shape = (*items.shape, k)
        reasons, scores = reasons.reshape(shape), scores.reshape(shape)
        return (reasons, scores) if return_scores else reasons

    def score(self, X, y=None, *, sample_weight=None):
        """Compute the mean NDCG@100 of recommendations for held-out interactions.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_users, n_items)
            Interactions of the test users: all of them, or their fold-in part if `y`
            is given.
        y : {array-like, sparse matrix} of shape (n_users, n_items), default=None
            Their held-out part. If None, one fifth of each row is held out; which
            entries depends on the row's own items alone, see
            :func:`~sklearn_recvae.model_selection.holdout_interactions`. A 1-D `y` is
            ignored with a warning.
        sample_weight : array-like of shape (n_users,), default=None
            Weights of the users in the mean.

        Returns
        -------
        score : float
            Mean over the users that have held-out items.

        Raises
        ------
        ValueError
            If `X` and `y` overlap or name their columns differently, or if no user can
            be evaluated.
        """
        model = self._snapshot()  # no decorator: a warning points at the caller
        check_is_fitted(model)
        check_columns(model, X, {"y": y})
        X = check_interactions(model, X, reset=False)
        if sample_weight is not None:
            sample_weight = _check_sample_weight(sample_weight, X)
        fold_in, held_out = split_or_check_held_out(X, y)
        scores = model._item_scores()
        fold_in = InteractionTensors(fold_in, scores.device)
        return mean_ndcg(scores, fold_in, held_out, sample_weight)

    @on_snapshot
    def save(self, path):
        """Save the fitted estimator to a file, from which `load` makes it anew.

        It is a safetensors file, arrays and JSON; see :func:`sklearn_recvae.load`.
        What was at its place stays until it is written whole; a link stays, and so do
        the permissions of a file. The state of the optimisers is not saved.

        Parameters
        ----------
        path : path-like
            The file, in a folder that exists.

        Raises
        ------
        OSError
            If the file cannot be written, or what is there is no file, but a folder or
            a device.
        ValueError
            If a parameter is no number, str, None or sequence of these, such as a
            `RandomState` instance; or if `load` would refuse the file, for instance
            because a parameter was set to what is invalid, or because the estimator or
            a part of a blend has a class that is not of this package. Nothing is
            written.
        """
        check_is_fitted(self)
        save_estimator(path, self)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.input_tags.positive_only = True
        return tags


def mean_ndcg(scores, fold_in, held_out, sample_weight=None):
    """Mean NDCG@100 over users; `scores` and `fold_in` are as in `rank`."""
    ranked, _ = rank(scores, fold_in, SCORE_K)
    return ndcg_at_k(held_out, ranked, SCORE_K, sample_weight=sample_weight)
