"""EASE with parameters that are chosen by validation, from one Gram matrix."""

from itertools import product
from numbers import Real

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils import check_array, check_random_state

from sklearn_recvae._base import mean_ndcg, unchanged_on_error
from sklearn_recvae._batches import InteractionTensors
from sklearn_recvae._files import check_fields
from sklearn_recvae._gram import GramMatrix, check_memory
from sklearn_recvae._interactions import check_columns, check_interactions
from sklearn_recvae._item_item import ItemItemMixin, LinearScores
from sklearn_recvae._sklearn import (
    CallbackSupportMixin,
    Interval,
    _fit_context,
    with_callbacks,
)
from sklearn_recvae._splitting import hold_out_users
from sklearn_recvae._training.callbacks import FitHooks
from sklearn_recvae._validation import check_validation

# Bytes that fit needs for each pair of items.
PAIR_BYTES = 16
_CHOSEN = ("regularization_", "noise_rate_", "best_score_")


class EASERecommenderCV(ItemItemMixin, CallbackSupportMixin, BaseEstimator):
    """EASE whose regularization and noise rate are chosen by validation.

    All pairs of a regularization and a noise rate are tried, and the one with the best
    NDCG@100 of held-out users is kept. They share one matrix X'X, so that a pair costs
    an inverse and the validation, and no pass over the training users.

    Time grows with the cube of the number of items and memory with its square: `fit`
    needs 16 bytes for each pair of items, 6.5 GB for 20,108 items.

    Read more in the :ref:`User Guide <baselines>`.

    Parameters
    ----------
    regularizations : array-like of shape (n_regularizations,), \
default=(100, 200, 500, 1000)
        Values of `regularization` to try, each in the range `(0, inf)`.
    noise_rates : array-like of shape (n_noise_rates,), default=(0, 0.3, 0.6)
        Values of `noise_rate` to try, each in the range `[0, 1)`.
    validation_fraction : float, default=0.1
        Share of users to hold out in (0, 1). Used if :meth:`fit` gets no `X_val`. The
        model that is kept is then fitted to all users.
    random_state : int, RandomState instance or None, default=None
        Chooses the users to hold out.

    Attributes
    ----------
    regularization_ : float
        The best regularization.
    noise_rate_ : float
        The best noise rate.
    best_score_ : float
        Validation NDCG@100 with these.
    scores_ : ndarray of shape (n_regularizations, n_noise_rates)
        Validation NDCG@100 of each pair.
    n_features_in_ : int
        Number of items seen during :meth:`fit`.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the items, if X has feature names that are all strings.
    coef_ : ndarray of shape (n_items, n_items)
        The item-item weights, float32; see :class:`EASERecommender`.

    See Also
    --------
    EASERecommender : The model itself, with references.

    Examples
    --------
    >>> from sklearn_recvae import EASERecommenderCV
    >>> from sklearn_recvae.datasets import make_interactions
    >>> X, _, _ = make_interactions(200, 50, random_state=0)
    >>> model = EASERecommenderCV(regularizations=[10, 100], random_state=0)
    >>> model.fit(X[:150]).scores_.shape
    (2, 3)
    >>> model.recommend(X[150:], k=3).shape
    (50, 3)
    """

    _parameter_constraints: dict = {  # noqa: RUF012 - as in scikit-learn
        "regularizations": ["array-like"],
        "noise_rates": ["array-like"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        regularizations=(100, 200, 500, 1000),
        *,
        noise_rates=(0, 0.3, 0.6),
        validation_fraction=0.1,
        random_state=None,
    ):
        self.regularizations = regularizations
        self.noise_rates = noise_rates
        self.validation_fraction = validation_fraction
        self.random_state = random_state

    @unchanged_on_error  # outermost: callbacks are torn down before it acts
    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None, *, X_val=None, y_val=None):
        """Choose the parameters, and compute the item-to-item weights.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_users, n_items)
            Non-negative interactions; ratings must be thresholded first.
        y : Ignored
            Not used, present here for API consistency by convention.
        X_val : {array-like, sparse matrix} of shape (n_val_users, n_items), \
default=None
            Rows of other users, for validation. Without `y_val` each row is split as in
            :meth:`score`.
        y_val : {array-like, sparse matrix} of shape (n_val_users, n_items), \
default=None
            Held-out interactions of the validation users; `X_val` is then the fold-in
            part.

        Returns
        -------
        self : EASERecommenderCV
            The fitted estimator.

        Raises
        ------
        MemoryError
            If the matrices over pairs of items do not fit into the memory that is
            free; nothing has been computed then.
        ValueError
            If X is not a matrix of non-negative finite numbers with at least one
            interaction, if a regularization or a noise rate is out of range, if
            `y_val` is given without `X_val`, if no validation user can be evaluated,
            or if weights cannot be computed: see :meth:`EASERecommender.fit`.
        """
        X = check_interactions(self, X, reset=True)
        check_columns(self, X_val, {"y_val": y_val})
        self._check_before_fit(X)
        train, X_val = self._split(X, X_val, y_val)
        fold_in, held_out = check_validation(X_val, y_val)
        pairs = list(product(*self._check_grid()))
        hooks = FitHooks(self, X, y)
        scores, weights = _try_all(GramMatrix(train), pairs, fold_in, held_out)
        best = int(np.argmax(scores))
        self.regularization_, self.noise_rate_ = pairs[best]
        self.best_score_ = scores[best]
        self.scores_ = np.reshape(scores, (-1, len(self.noise_rates)))
        if train is not X:
            weights = GramMatrix(X).item_weights(*pairs[best], out=weights)
        self.coef_ = weights
        hooks.end_fit()
        return self

    def _split(self, X, X_val, y_val):
        """Return the training users and the validation users."""
        if X_val is not None:
            return X, check_interactions(self, X_val, reset=False)
        if y_val is not None:
            return X, None  # which check_validation refuses
        rng = check_random_state(self.random_state)
        return hold_out_users(X, self.validation_fraction, rng)

    def _check_before_fit(self, X):
        super()._check_before_fit(X)
        self._check_grid()
        check_memory(X.shape[1], PAIR_BYTES)

    def _check_grid(self):
        """Return the regularizations and the noise rates as lists of float."""
        regularizations = _as_floats(self.regularizations, "regularizations")
        noise_rates = _as_floats(self.noise_rates, "noise_rates")
        for value in regularizations:
            if value <= 0:
                raise ValueError(
                    f"regularizations contains {value!r}, expected numbers greater "
                    "than 0."
                )
        for value in noise_rates:
            if not 0 <= value < 1:
                raise ValueError(
                    f"noise_rates contains {value!r}, expected numbers from 0 to less "
                    "than 1."
                )
        return regularizations, noise_rates

    def _get_fitted(self):
        attributes, arrays = super()._get_fitted()
        attributes |= {name: getattr(self, name) for name in _CHOSEN}
        return attributes | {"scores_": self.scores_.tolist()}, arrays

    def _set_fitted(self, attributes, arrays):
        check_fields(
            attributes, dict.fromkeys(_CHOSEN, (float,)) | {"scores_": (list,)}
        )
        scores = np.array(attributes["scores_"], dtype=np.float64)
        shape = tuple(len(values) for values in self._check_grid())
        if scores.shape != shape:
            raise ValueError(f"scores_ has shape {scores.shape}, expected {shape}")
        super()._set_fitted({}, arrays)
        for name in _CHOSEN:
            setattr(self, name, attributes[name])
        self.scores_ = scores


def _as_floats(values, name):
    values = check_array(values, ensure_2d=False, dtype=np.float64, input_name=name)
    if values.ndim != 1:
        raise ValueError(f"{name} has {values.ndim} dimensions, expected 1.")
    return values.tolist()


@torch.inference_mode()
def _try_all(gram, pairs, fold_in, held_out):
    """Return the validation score of each pair, and the weights of the best one."""
    fold_in = InteractionTensors(fold_in, torch.device("cpu"))
    scores, best, other = [], None, None
    for pair in pairs:
        other = gram.item_weights(*pair, out=other)
        score = mean_ndcg(LinearScores(other), fold_in, held_out)
        if not scores or score > max(scores):
            best, other = other, best
        scores.append(score)
    return scores, best
