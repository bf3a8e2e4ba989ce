"""Several recommenders in one: a weighted sum of scores that are made comparable."""

import functools
import reprlib
from math import isclose
from numbers import Integral, Real
from time import monotonic
from types import NoneType

import numpy as np
from joblib import effective_n_jobs
from sklearn.base import BaseEstimator, clone
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import FeatureUnion
from sklearn.utils import Bunch, check_array, check_random_state
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import check_is_fitted, has_fit_parameter

from sklearn_recvae._base import (
    FitInterrupted,
    RecommenderMixin,
    on_snapshot,
    unchanged_on_error,
)
from sklearn_recvae._blending import (
    BlendedScores,
    StandardizedScores,
    learn_weights,
)
from sklearn_recvae._files import check_fields
from sklearn_recvae._hardware import ThreadShare
from sklearn_recvae._interactions import check_columns, check_interactions
from sklearn_recvae._recipe import default_parts
from sklearn_recvae._saving import put_together, take_apart
from sklearn_recvae._sklearn import (
    CallbackSupportMixin,
    Interval,
    StrOptions,
    _BaseComposition,
    _fit_context,
    with_callbacks,
)
from sklearn_recvae._splitting import hold_out_users
from sklearn_recvae._training.callbacks import FitHooks
from sklearn_recvae._validation import (
    NON_NEGATIVE,
    check_has_interactions,
    check_validation,
    scale_weights,
)


class BlendedRecommender(
    RecommenderMixin, CallbackSupportMixin, _BaseComposition, BaseEstimator
):
    """Recommend by a weighted sum of the scores of several recommenders.

    Models that err on different items make a better list together than each of them
    alone. Their scores have different scales, so those of each user are standardised
    first: over the items that the user does not have, their mean is 0 and their
    standard deviation 1.

    Read more in the :ref:`User Guide <blending>`.

    Parameters
    ----------
    estimators : list of (str, recommender) tuples or None, default=None
        Names and recommenders of this package: the parts. The recommenders are cloned,
        and their parameters are set as ``name__parameter``. One that is fitted already
        is taken as it is inside of a :class:`~sklearn.frozen.FrozenEstimator`. None
        takes what is best on most data: "recvae", a :class:`RecVAERecommender` with
        averaged weights and ImplicitSLIM, and "linear", an
        :class:`EASERecommenderCV` where its matrices fit into the memory that is free,
        else a :class:`SparseEASERecommender`.
    weights : array-like of shape (n_parts,), "auto" or None, default="auto"
        Non-negative weights of the parts; they are divided by their sum. None weights
        all alike. "auto" searches the best by the NDCG@100 of held-out users: `X_val`
        in :meth:`fit`, or `validation_fraction` of the users, on whom no part is then
        trained. For two parts these are the best of all multiples of one tenth; for
        more, the search varies one weight at a time.
    validation_fraction : float, default=0.1
        Share of users to hold out in (0, 1). Used if ``weights="auto"`` and there is
        no `X_val`.
    max_seconds : float or None, default=None
        Seconds of a :meth:`fit` after which no part begins another iteration. Only
        parts that have the parameter `max_seconds` themselves keep to it, and each has
        one iteration in any case. None sets no limit.
    n_jobs : int, default=None
        Number of parts to fit at a time. None means 1 unless in a
        :obj:`joblib.parallel_config` context, -1 as many as there are processors. Each
        part has a thread of this process, and they share its number of threads for
        computing; a context may name another backend instead, such as "loky".
    random_state : int, RandomState instance or None, default=None
        Chooses the users to hold out. Each part in `estimators` has a `random_state`
        of its own; those of ``estimators=None`` are seeded by this one.
    verbose : int, default=0
        Whether to print the time of each part, the weights, and with
        ``estimators=None`` why the linear part was chosen.

    Attributes
    ----------
    estimators_ : list of recommenders
        The fitted parts.
    named_estimators_ : Bunch
        The same by their names.
    weights_ : ndarray of shape (n_parts,)
        Their weights, with sum 1.
    best_score_ : float or None
        Validation NDCG@100 with these weights; None unless ``weights="auto"``.
    n_features_in_ : int
        Number of items seen during :meth:`fit`.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the items, if X has feature names that are all strings.

    See Also
    --------
    RecVAERecommender : A nonlinear part.
    EASERecommender : A linear part.

    Notes
    -----
    Scores are standardised over all items that a user does not have, whichever are
    candidates. RecVAE's are log-probabilities. Those of a part that knows nothing of a
    user, and scores all items alike, become 0, so that the other parts decide.

    With any `n_jobs` the parts are the same, as far as fewer threads round alike. What
    other processes fit comes back as from a pickle, and callbacks go there as copies.
    If a part fails, or Ctrl-C comes, parts in other threads run on, and are dropped.

    Examples
    --------
    >>> from sklearn_recvae import (
    ...     BlendedRecommender, EASERecommender, RecVAERecommender
    ... )
    >>> from sklearn_recvae.datasets import make_interactions
    >>> X, _, _ = make_interactions(200, 50, random_state=0)
    >>> model = BlendedRecommender(
    ...     [
    ...         ("recvae", RecVAERecommender(16, max_iter=2, random_state=0)),
    ...         ("ease", EASERecommender(regularization=100)),
    ...     ],
    ...     random_state=0,
    ... ).fit(X[:150])
    >>> model.recommend(X[150:], k=3).shape
    (50, 3)

    Without arguments:

    >>> model = BlendedRecommender(max_seconds=1, random_state=0).fit(X[:150])
    >>> model.recommend(X[150:], k=3).shape
    (50, 3)
    """

    _parameter_constraints: dict = {  # noqa: RUF012 - as in scikit-learn
        "estimators": [list, tuple, None],
        "weights": ["array-like", StrOptions({"auto"}), None],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "max_seconds": [NON_NEGATIVE, None],
        "n_jobs": [Integral, None],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        estimators=None,
        *,
        weights="auto",
        validation_fraction=0.1,
        max_seconds=None,
        n_jobs=None,
        random_state=None,
        verbose=0,
    ):
        self.estimators = estimators
        self.weights = weights
        self.validation_fraction = validation_fraction
        self.max_seconds = max_seconds
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    @unchanged_on_error  # outermost: callbacks are torn down before it acts
    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y=None, *, X_val=None, y_val=None):
        """Fit the parts, and learn their weights if ``weights="auto"``.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_users, n_items)
            Non-negative interactions; ratings must be thresholded first.
        y : Ignored
            Not used, present here for API consistency by convention.
        X_val : {array-like, sparse matrix} of shape (n_val_users, n_items), \
default=None
            Rows of other users, for validation: the weights are learned on them, and
            they are passed on to the parts whose `fit` takes them. Without `y_val`
            each row is split as in :meth:`score`.
        y_val : {array-like, sparse matrix} of shape (n_val_users, n_items), \
default=None
            Held-out interactions of the validation users; `X_val` is then the fold-in
            part.

        Returns
        -------
        self : BlendedRecommender
            The fitted estimator.

        Raises
        ------
        ValueError
            If a part is no recommender, names are not unique, weights do not fit, or a
            part refuses its parameters or the data.
        MemoryError
            If a part needs more memory than is free. All parts are checked before the
            first is fitted.
        """
        began = monotonic()
        X = check_interactions(self, X, reset=True)
        check_columns(self, X_val, {"y_val": y_val})
        self._check_before_fit(X)
        rng = check_random_state(self.random_state)
        if X_val is not None:
            X_val = check_interactions(self, X_val, reset=False)
        elif isinstance(self.weights, str) and y_val is None:
            X, X_val = hold_out_users(X, self.validation_fraction, rng)
        fold_in, held_out = check_validation(X_val, y_val)
        parts = self.estimators
        if parts is None:
            parts, reason = default_parts(X.shape[1], int(rng.randint(2**31 - 1)))
            self._tell(f"linear part: {reason}")
        hooks = FitHooks(self, X, y, len(parts))
        self._fit_parts(parts, hooks, X, fold_in, held_out, began)
        self.weights_, self.best_score_ = self._check_weights(len(parts)), None
        if self.weights_ is None:
            scores = self._snapshot()._scores_of_parts()
            self.weights_, self.best_score_ = learn_weights(scores, fold_in, held_out)
        self._tell(self._describe_result())
        hooks.end_fit()
        return self

    @on_snapshot
    def predict(self, X):
        """Compute the blended scores of all items.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_users, n_items)
            Interactions of any users, seen in training or not.

        Returns
        -------
        scores : ndarray of shape (n_users, n_items)
            float32, the weighted mean of the parts' standardised scores; items of the
            row itself are not masked. For large matrices prefer :meth:`recommend`,
            which never holds all of them.
        """
        return self._score_all_items(X)

    def _fit_parts(self, parts, hooks, X, fold_in, held_out, began):
        """Fit the parts; those that are fitted already stay as they are."""
        names, parts = zip(*parts, strict=True)
        models = [
            None if isinstance(part, FrozenEstimator) else clone(part) for part in parts
        ]
        n_to_fit = sum(model is not None for model in models)
        n_at_a_time = max(1, min(effective_n_jobs(self.n_jobs), n_to_fit))
        share = ThreadShare(n_at_a_time)
        end = None if self.max_seconds is None else began + self.max_seconds
        # Threads, for torch computes without the interpreter's lock.
        fitted = Parallel(n_jobs=n_at_a_time, prefer="threads")(
            [
                delayed(_fit_part)(
                    hooks.part(name), model, X, fold_in, held_out, share, end
                )
                for name, model in zip(names, models, strict=True)
            ]
        )
        models = []
        for name, part, (model, seconds) in zip(names, parts, fitted, strict=True):
            models.append(_thawed(part) if model is None else model)
            if model is not None:
                self._tell(f"{name}: {seconds:.1f} s")
        self._set_parts(names, models)

    def _tell(self, line):
        if self.verbose:
            print(f"[Blend] {line}")

    def _describe_result(self):
        pairs = zip(self._names, self.weights_, strict=True)
        weights = ", ".join(f"{name} {weight:.2f}" for name, weight in pairs)
        score = self.best_score_
        return f"weights: {weights}" + (
            "" if score is None else f"  NDCG@100 {score:.4f}"
        )

    @property
    def named_estimators(self):
        """Bunch of the parts in `estimators`, not fitted, by their names."""
        return Bunch(**dict(self.estimators or []))

    @property
    def named_estimators_(self):
        """Bunch of the fitted parts by their names."""
        return Bunch(**dict(zip(self._names, self.estimators_, strict=True)))

    def get_params(self, deep=True):
        """Get the parameters of this estimator, and of its parts.

        Parameters
        ----------
        deep : bool, default=True
            Whether the parts and their parameters are among them, as ``name`` and
            ``name__parameter``.

        Returns
        -------
        params : dict
            Values by names.
        """
        return self._get_params("estimators", deep=deep)

    def set_params(self, **params):
        """Set parameters of this estimator, its parts, or of these.

        Parameters
        ----------
        **params : keyword arguments
            Parameters by the names that :meth:`get_params` gives.

        Returns
        -------
        self : BlendedRecommender
            The estimator.
        """
        self._set_params("estimators", **params)
        return self

    def _check_parts(self):
        """Raise a ValueError unless `estimators` are names and recommenders."""
        pairs = [isinstance(part, tuple) and len(part) == 2 for part in self.estimators]
        if not pairs or not all(pairs):
            raise ValueError(
                f"Got estimators={self.estimators!r}, expected a list of tuples of a "
                "name and a recommender, at least one."
            )
        self._validate_names([name for name, _ in self.estimators])
        for name, part in self.estimators:
            if not isinstance(_thawed(part), RecommenderMixin):
                raise ValueError(
                    f"The part {name!r} is of type {type(part).__name__}, expected a "
                    "recommender of this package, such as EASERecommender()."
                )

    def _check_before_fit(self, X):
        check_has_interactions(X)
        if self.estimators is None:
            parts, _ = default_parts(X.shape[1], seed=0)
        else:
            self._check_parts()
            parts = self.estimators
        self._check_weights(len(parts))
        feature_names = getattr(self, "feature_names_in_", None)
        for name, part in parts:
            if isinstance(part, FrozenEstimator):
                _check_fitted_part(name, _thawed(part), X.shape[1], feature_names)
            else:
                unfitted = clone(part)
                unfitted._validate_params()
                unfitted._check_before_fit(X)

    def _check_weights(self, n_parts):
        """Return the weights with sum 1, None if they are to be learned."""
        if self.weights is None:
            return np.full(n_parts, 1 / n_parts)
        if isinstance(self.weights, str):  # "auto"
            return None
        weights = check_array(
            self.weights, ensure_2d=False, dtype=np.float64, input_name="weights"
        )
        if weights.shape != (n_parts,) or weights.min() < 0 or not weights.any():
            raise ValueError(
                f"Got weights={self.weights!r}, expected {n_parts} non-negative "
                "numbers, one for each part, that are not all 0."
            )
        weights = scale_weights(weights)
        return weights / weights.sum()

    def _get_fitted(self):
        self._check_same_parts()
        attributes = {
            "weights_": self.weights_.tolist(),
            "best_score_": self.best_score_,
            "names": self._names,
            "frozen": [
                isinstance(part, FrozenEstimator) for _, part in self.estimators or ()
            ],
            "parts": [],
        }
        arrays = {}
        for number, part in enumerate(self.estimators_):
            content, of_part = take_apart(part)
            attributes["parts"].append(content)
            arrays |= {f"{number}.{name}": array for name, array in of_part.items()}
        return attributes, arrays

    def _set_fitted(self, attributes, arrays):
        check_fields(
            attributes,
            {
                "weights_": (list,),
                "best_score_": (float, NoneType),
                "names": (list,),
                "frozen": (list,),
                "parts": (list,),
            },
        )
        numbers = [str(number) for number in range(len(attributes["parts"]))]
        of_parts = {number: {} for number in numbers}
        for name, array in arrays.items():
            number, _, name = name.partition(".")
            of_parts[number][name] = array
        parts = [
            put_together(part, of_parts[number])
            for number, part in zip(numbers, attributes["parts"], strict=True)
        ]
        self._set_parts(_check_names(attributes["names"], len(parts)), parts)
        self._check_same_parts()
        self._check_catalogue()
        self._freeze(attributes["frozen"])
        self.weights_ = _check_fitted_weights(attributes["weights_"], len(parts))
        self.best_score_ = attributes["best_score_"]

    def _freeze(self, frozen):
        """Put fitted parts from a file where frozen ones were given."""
        given = self.estimators or []
        if len(frozen) != len(given) or any(type(each) is not bool for each in frozen):
            raise ValueError(
                f"frozen is {reprlib.repr(frozen)}, expected a bool for each part"
            )
        if given:
            self.estimators = [
                (name, FrozenEstimator(part) if is_frozen else parameter)
                for (name, parameter), part, is_frozen in zip(
                    given, self.estimators_, frozen, strict=True
                )
            ]

    def _check_same_parts(self):
        """Raise a ValueError unless these are the parts that were fitted."""
        if self.estimators is None:
            return
        self._check_parts()
        given = [(name, _class_of(part)) for name, part in self.estimators]
        pairs = zip(self._names, self.estimators_, strict=True)
        fitted = [(name, _class_of(part)) for name, part in pairs]
        if given != fitted:
            raise ValueError(
                f"The parts in estimators are {given}, but those that were fitted are "
                f"{fitted}. Set them back, or fit anew."
            )

    def _check_catalogue(self):
        """Raise a ValueError if a part has become one of another catalogue."""
        feature_names = getattr(self, "feature_names_in_", None)
        for name, part in self.named_estimators_.items():
            _check_fitted_part(name, part, self.n_features_in_, feature_names)

    def _set_parts(self, names, parts):
        self.estimators_, self._names = parts, list(names)

    def _sk_visual_block_(self):
        # The parts stand beside each other in a diagram, as in scikit-learn's union.
        return FeatureUnion(self.estimators or [])._sk_visual_block_()

    def _snapshot(self):
        blend = super()._snapshot()
        if hasattr(blend, "estimators_"):
            # Parts too: a frozen one may be fitted by its owner.
            blend.estimators_ = [part._snapshot() for part in blend.estimators_]
        return blend

    def _scores_of_parts(self):
        self._check_catalogue()  # a frozen part may have been changed by its owner
        return [StandardizedScores(part._item_scores()) for part in self.estimators_]

    def _item_scores(self):
        return BlendedScores(self._scores_of_parts(), self.weights_.tolist())


def _thawed(part):
    return part.estimator if isinstance(part, FrozenEstimator) else part


def _check_fitted_part(name, part, n_items, feature_names):
    """Raise an error unless the part is fitted, with the same catalogue."""
    check_is_fitted(part)
    if part.n_features_in_ != n_items:
        raise ValueError(
            f"The part {name!r} is fitted already, with {part.n_features_in_} items, "
            f"but X of the blend has {n_items}. Fit it with the items of X, and then "
            "the blend."
        )
    of_part = getattr(part, "feature_names_in_", None)
    both = feature_names is not None and of_part is not None
    if both and (feature_names != of_part).any():
        raise ValueError(
            f"The part {name!r} is fitted already, with other feature names than X "
            "of the blend has. Fit it with the items of X, in the same order, and then "
            "the blend."
        )


def _class_of(part):
    return type(_thawed(part)).__name__


def _check_fitted_weights(weights, n_parts):
    """Return weights from a file as an array."""
    if len(weights) != n_parts or any(type(weight) is not float for weight in weights):
        raise ValueError(f"weights_ is {reprlib.repr(weights)}, expected {n_parts}")
    weights = np.array(weights)
    if not (weights >= 0).all() or not isclose(weights.sum(), 1, rel_tol=1e-6):
        raise ValueError(
            f"weights_ is {reprlib.repr(weights.tolist())}, expected non-negative "
            "numbers with sum 1"
        )
    return weights


def _check_names(names, n_parts):
    """Return names of parts from a file."""
    if (
        len(set(map(str, names))) != n_parts
        or len(names) != n_parts
        or any(type(name) is not str for name in names)
    ):
        raise ValueError(f"names is {reprlib.repr(names)}, expected {n_parts} str")
    return names


def _fit_part(hooks, model, X, fold_in, held_out, share, end):
    """Fit a part, which is None if it is fitted already; return it and the seconds.

    It gets the validation users if its `fit` takes them, and the seconds that are left
    until the end, on the clock of `monotonic`, if it has such a limit.
    """
    began, limit, validation = monotonic(), {}, {}
    if model is not None:
        if fold_in is not None and has_fit_parameter(model, "X_val"):
            validation = {"X_val": fold_in, "y_val": held_out}
        if end is not None and "max_seconds" in model.get_params():
            limit = {"max_seconds": model.max_seconds}
            own = np.inf if model.max_seconds is None else model.max_seconds
            model.set_params(max_seconds=min(max(0.0, end - began), own))
    try:
        with hooks.fit_of(model):
            if model is not None:
                share.call(functools.partial(model.fit, X, **validation))
                model.set_params(**limit)
    except FitInterrupted as error:
        # That part could be used, but the blend, which lacks others, could not.
        raise KeyboardInterrupt from error
    return model, monotonic() - began
