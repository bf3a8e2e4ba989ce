"""EASE, the closed-form linear model that every other recommender has to beat."""

from numbers import Real

from sklearn.base import BaseEstimator

from sklearn_recvae._base import unchanged_on_error
from sklearn_recvae._gram import GramMatrix, check_memory
from sklearn_recvae._interactions import check_interactions
from sklearn_recvae._item_item import ItemItemMixin
from sklearn_recvae._sklearn import (
    CallbackSupportMixin,
    Interval,
    _fit_context,
    with_callbacks,
)
from sklearn_recvae._training.callbacks import FitHooks
from sklearn_recvae._validation import POSITIVE


class EASERecommender(ItemItemMixin, CallbackSupportMixin, BaseEstimator):
    """Recommend items from implicit feedback with a linear model in closed form.

    EASE [1]_ predicts each item from all others: it finds the matrix B with zero
    diagonal that minimises ``||X - X B||^2 + regularization ||B||^2``, which takes one
    inverse of an (n_items, n_items) matrix and nothing iterative. On data with strong
    relations between single items it is hard to beat; compare any other model with it.

    With a `noise_rate` it is EDLAE [2]_: each item is predicted from rows of which
    that share of the entries is dropped, in the mean over all ways to drop them. Rare
    items are then penalised less than popular ones.

    Time grows with the cube of the number of items and memory with its square: `fit`
    needs 12 bytes for each pair of items, 4.9 GB for 20,108 items.

    Read more in the :ref:`User Guide <baselines>`.

    Parameters
    ----------
    regularization : float, default=500.0
        Weight of the squared norm of B, in the range `(0, inf)`; lambda in [1]_. Good
        values are between 100 and 1000 for most data, larger where users are many.
    noise_rate : float, default=0.0
        Probability in [0, 1) with which an interaction is dropped from what the model
        sees in training; p in [2]_. It adds p / (1 - p) times the sum of squares of an
        item's column to its regularization. 0 is EASE.

    Attributes
    ----------
    n_features_in_ : int
        Number of items seen during :meth:`fit`.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the items, if X has feature names that are all strings.
    coef_ : ndarray of shape (n_items, n_items)
        B, float32; the diagonal is zero. Row i is what an interaction with item i adds
        to the scores of all items, which are X times `coef_`.

    See Also
    --------
    EASERecommenderCV : The same, with parameters that are chosen by validation.
    SparseEASERecommender : Few weights for each item, for large catalogues.
    RecVAERecommender : A nonlinear model whose memory grows linearly with the items.

    References
    ----------
    .. [1] H. Steck (2019). Embarrassingly Shallow Autoencoders for Sparse Data. WWW
       2019, equation 8. https://doi.org/10.1145/3308558.3313710
    .. [2] H. Steck (2020). Autoencoders that don't Overfit towards the Identity.
       NeurIPS 2020, equations 4, 8 and 9. https://proceedings.neurips.cc/paper/2020/\
hash/e33d974aae13e4d877477d51d8bafdc4-Abstract.html

    Examples
    --------
    >>> from sklearn_recvae import EASERecommender
    >>> from sklearn_recvae.datasets import make_interactions
    >>> X, _, _ = make_interactions(200, 50, random_state=0)
    >>> model = EASERecommender(regularization=100).fit(X[:150])
    >>> model.recommend(X[150:], k=3).shape
    (50, 3)
    """

    _parameter_constraints: dict = {  # noqa: RUF012 - as in scikit-learn
        "regularization": [POSITIVE],
        "noise_rate": [Interval(Real, 0, 1, closed="left")],
    }

    def __init__(self, regularization=500.0, *, noise_rate=0.0):
        self.regularization = regularization
        self.noise_rate = noise_rate

    @unchanged_on_error  # outermost: callbacks are torn down before it acts
    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        """Compute the item-to-item weights.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_users, n_items)
            Non-negative interactions; ratings must be thresholded first.
        y : Ignored
            Not used, present here for API consistency by convention.

        Returns
        -------
        self : EASERecommender
            The fitted estimator.

        Raises
        ------
        MemoryError
            If the matrices over pairs of items do not fit into the memory that is
            free; nothing has been computed then.
        ValueError
            If X is not a matrix of non-negative finite numbers with at least one
            interaction, or `regularization` is too small for the numbers in X, or
            these differ so much in scale that B is too large for float32.
        """
        X = check_interactions(self, X, reset=True)
        self._check_before_fit(X)
        hooks = FitHooks(self, X, y)
        gram = GramMatrix(X)
        self.coef_ = gram.item_weights(self.regularization, self.noise_rate)
        hooks.end_fit()
        return self

    def _check_before_fit(self, X):
        super()._check_before_fit(X)
        check_memory(X.shape[1], pair_bytes=12)
