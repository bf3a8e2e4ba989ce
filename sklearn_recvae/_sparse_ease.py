"""EASE with few weights for each item, for catalogues of any size."""

from numbers import Real

import numpy as np
from sklearn.base import BaseEstimator

from sklearn_recvae._base import unchanged_on_error
from sklearn_recvae._hardware import available_memory
from sklearn_recvae._interactions import check_interactions
from sklearn_recvae._item_item import SparseItemItemMixin
from sklearn_recvae._neighborhoods import (
    choose_neighbors,
    regress_on_neighbors,
    squared_norms,
)
from sklearn_recvae._sklearn import (
    CallbackSupportMixin,
    Interval,
    _fit_context,
    with_callbacks,
)
from sklearn_recvae._training.callbacks import FitHooks
from sklearn_recvae._validation import POSITIVE, POSITIVE_INT

# Bytes that fit needs for each neighbour of an item, and besides.
NEIGHBOR_BYTES = 16
OTHER_BYTES = 3 * 2**27


class SparseEASERecommender(SparseItemItemMixin, CallbackSupportMixin, BaseEstimator):
    """Recommend items with EASE of few weights for each item.

    Each item is predicted from `n_neighbors` other items alone, those that would
    predict it best if each were the only one. Within them the weights are those of
    :class:`EASERecommender`: the ridge regression of the item's column of X. So there
    is a small matrix to solve for each item instead of one of all items, as in [1]_,
    and memory grows linearly with the number of items.

    Time grows linearly with the items, too, and with the sum of the squares of the
    numbers of items of the users: leave out users with tens of thousands of items,
    which no person has. With fewer than some thousand items
    :class:`EASERecommender` is as fast.

    Read more in the :ref:`User Guide <sparse_ease>`.

    Parameters
    ----------
    regularization : float, default=50.0
        Weight of the squared norm of the weights, in the range `(0, inf)`, as in
        :class:`EASERecommender`. Good values are smaller here, for there are fewer
        weights.
    noise_rate : float, default=0.5
        Probability in [0, 1) with which an interaction is dropped from what the model
        sees in training, as in :class:`EASERecommender`.
    n_neighbors : int, default=100
        Number of items from which an item is predicted, at most: those that have users
        in common with it. If it is the number of all other items, the weights are those
        of :class:`EASERecommender`.

    Attributes
    ----------
    n_features_in_ : int
        Number of items seen during :meth:`fit`.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the items, if X has feature names that are all strings.
    coef_ : csr_array of shape (n_items, n_items)
        The item-item weights, float32, at most `n_neighbors` in a column. Row i is what
        an interaction with item i adds to the scores of all items, which are X times
        `coef_`.

    See Also
    --------
    EASERecommender : All weights, where they fit into memory.
    RecVAERecommender : A nonlinear model whose memory grows linearly with the items.

    References
    ----------
    .. [1] H. Steck (2019). Markov Random Fields for Collaborative Filtering. NeurIPS
       2019. https://proceedings.neurips.cc/paper/2019/hash/\
170c944978496731ba71f34c25826a34-Abstract.html

    Examples
    --------
    >>> from sklearn_recvae import SparseEASERecommender
    >>> from sklearn_recvae.datasets import make_interactions
    >>> X, _, _ = make_interactions(200, 50, random_state=0)
    >>> model = SparseEASERecommender(n_neighbors=10).fit(X[:150])
    >>> model.recommend(X[150:], k=3).shape
    (50, 3)
    >>> model.coef_.nnz
    500
    """

    _parameter_constraints: dict = {  # noqa: RUF012 - as in scikit-learn
        "regularization": [POSITIVE],
        "noise_rate": [Interval(Real, 0, 1, closed="left")],
        "n_neighbors": [POSITIVE_INT],
    }

    def __init__(self, regularization=50.0, *, noise_rate=0.5, n_neighbors=100):
        self.regularization = regularization
        self.noise_rate = noise_rate
        self.n_neighbors = n_neighbors

    @unchanged_on_error  # outermost: callbacks are torn down before it acts
    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        """Choose the neighbours of each item, and compute their weights.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_users, n_items)
            Non-negative interactions; ratings must be thresholded first.
        y : Ignored
            Not used, present here for API consistency by convention.

        Returns
        -------
        self : SparseEASERecommender
            The fitted estimator.

        Raises
        ------
        MemoryError
            If the weights do not fit into the memory that is free; nothing has been
            computed then.
        ValueError
            If X is not a matrix of non-negative finite numbers with at least one
            interaction, or `regularization` is too small for the numbers in X, or
            these differ so much in scale that weights are too large for float32.
        """
        X = check_interactions(self, X, reset=True)
        self._check_before_fit(X)
        hooks = FitHooks(self, X, y)
        X = X.astype(np.float64)
        noise = self.noise_rate / (1 - self.noise_rate)
        ridge = self.regularization + noise * squared_norms(X)
        neighborhoods = choose_neighbors(X, ridge, self.n_neighbors)
        self.coef_ = regress_on_neighbors(X, ridge, neighborhoods)
        hooks.end_fit()
        return self

    def _check_before_fit(self, X):
        super()._check_before_fit(X)
        n_items = X.shape[1]
        n_neighbors = min(self.n_neighbors, n_items - 1)
        needed = NEIGHBOR_BYTES * n_items * n_neighbors + OTHER_BYTES
        free = available_memory()
        if free is not None and needed > free:
            raise MemoryError(
                f"{n_neighbors} neighbours of {n_items} items need "
                f"{needed / 1e9:.1f} GB, but {free / 1e9:.1f} GB are free. Lower "
                "n_neighbors."
            )
