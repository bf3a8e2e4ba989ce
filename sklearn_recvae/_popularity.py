"""The same list for everyone: the baseline, and what a new user can be given."""

import numpy as np
from sklearn.base import BaseEstimator

from sklearn_recvae._base import RecommenderMixin, on_snapshot, unchanged_on_error
from sklearn_recvae._batches import as_tensor
from sklearn_recvae._files import check_arrays, check_fields
from sklearn_recvae._interactions import check_interactions
from sklearn_recvae._scores import ItemScores
from sklearn_recvae._sklearn import CallbackSupportMixin, _fit_context, with_callbacks
from sklearn_recvae._training.callbacks import FitHooks
from sklearn_recvae._validation import check_has_interactions


class PopularityRecommender(RecommenderMixin, CallbackSupportMixin, BaseEstimator):
    """Recommend the items with the most feedback, to everyone alike.

    It is the baseline that every other recommender has to beat, and a list for users
    of whom nothing is known. The score of an item is the sum of its column of X.

    Attributes
    ----------
    n_features_in_ : int
        Number of items seen during :meth:`fit`.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the items, if X has feature names that are all strings.
    popularity_ : ndarray of shape (n_items,)
        Sum of the feedback of each item, float64.

    See Also
    --------
    EASERecommender : The simplest model that knows of a user's items.

    Examples
    --------
    >>> from sklearn_recvae import PopularityRecommender
    >>> X = [[1, 1, 0], [0, 1, 0], [0, 1, 1], [1, 0, 0]]
    >>> model = PopularityRecommender().fit(X)
    >>> model.popularity_
    array([2., 3., 1.])
    >>> model.recommend([[0, 0, 0], [0, 1, 0]], k=2)
    array([[1, 0],
           [0, 2]])
    """

    _parameter_constraints: dict = {}  # noqa: RUF012 - as in scikit-learn

    @unchanged_on_error  # outermost: callbacks are torn down before it acts
    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        """Sum the columns of X.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_users, n_items)
            Non-negative interactions; ratings must be thresholded first.
        y : Ignored
            Not used, present here for API consistency by convention.

        Returns
        -------
        self : PopularityRecommender
            The fitted estimator.

        Raises
        ------
        ValueError
            If X is not a matrix of non-negative finite numbers with at least one
            interaction.
        """
        X = check_interactions(self, X, reset=True)
        self._check_before_fit(X)
        hooks = FitHooks(self, X, y)
        # SciPy's own sum would be rounded to float32.
        self.popularity_ = np.bincount(X.indices, X.data, minlength=X.shape[1])
        hooks.end_fit()
        return self

    @on_snapshot
    def predict(self, X):
        """Repeat the scores of all items for each row of X.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_users, n_items)
            Interactions of any users, seen in training or not.

        Returns
        -------
        scores : ndarray of shape (n_users, n_items)
            float32, shares of all feedback: `popularity_` divided by its sum. Items of
            the row itself are not masked.
        """
        return self._score_all_items(X)

    def _item_scores(self):
        return _SameScores(self.popularity_ / self.popularity_.sum())

    def _check_before_fit(self, X):
        check_has_interactions(X)

    def _get_fitted(self):
        return {}, {"popularity_": self.popularity_}

    def _set_fitted(self, attributes, arrays):
        check_fields(attributes, {})
        expected = (np.dtype(np.float64), (self.n_features_in_,))
        check_arrays(arrays, {"popularity_": expected})
        if arrays["popularity_"].min() < 0 or not arrays["popularity_"].any():
            raise ValueError(
                "popularity_ has no numbers > 0, or some that are negative"
            )
        self.popularity_ = arrays["popularity_"]


class _SameScores(ItemScores):
    """The same scores for all users.

    Parameters
    ----------
    scores : ndarray of shape (n_items,)
        Of the items.
    """

    def __init__(self, scores):
        self.n_items = len(scores)
        self._scores = as_tensor(scores.astype(np.float32))

    def all(self, batch):
        """See `ItemScores`."""
        return self._scores.repeat(batch.n_rows, 1)
