"""What every recommender promises: a check for each promise.

A check is given a function that makes a small estimator, such as those of
`contract.estimators`, and raises an error if the estimator breaks the promise.
"""

import copy

import numpy as np
from numpy.testing import assert_allclose, assert_array_equal, assert_equal
from sklearn.utils.validation import has_fit_parameter

from contract.matrices import small_matrix
from sklearn_recvae.datasets import make_interactions
from sklearn_recvae.model_selection import holdout_interactions

X = small_matrix()
N_USERS, N_ITEMS = X.shape
FOLD_IN, HELD_OUT = (half.toarray() for half in holdout_interactions(X))
# Larger, for what is about many users.
MANY, _, _ = make_interactions(60, N_ITEMS, mean_interactions=4, random_state=0)


def methods_of(make):
    """Give each use of an interaction matrix: a function of a fitted model and it."""
    model = make()
    has_validation = has_fit_parameter(model, "X_val")
    methods = {
        "fit": lambda model, X: make().fit(X).predict(FOLD_IN),
        "fit X_val": has_validation
        and (lambda model, X: make().fit(FOLD_IN, X_val=X).predict(FOLD_IN)),
        "fit y_val": has_validation
        and (
            lambda model, X: make().fit(MANY, X_val=FOLD_IN, y_val=X).predict(FOLD_IN)
        ),
        "partial_fit": hasattr(model, "partial_fit")
        and (lambda model, X: copy.deepcopy(model).partial_fit(X).predict(FOLD_IN)),
        "predict": lambda model, X: model.predict(X),
        "recommend": lambda model, X: model.recommend(X, 3),
        "recommend items": lambda model, X: model.recommend(FOLD_IN, items=X),
        "recommend exclude_items": lambda model, X: model.recommend(
            FOLD_IN, exclude_items=X
        ),
        "score": lambda model, X: model.score(X),
        "score y": lambda model, X: model.score(FOLD_IN, X),
        "explain": lambda model, X: model.explain(X, np.zeros(len(FOLD_IN), int)),
        "transform": hasattr(model, "transform")
        and (lambda model, X: model.transform(X)),
        "similar_users": hasattr(model, "similar_users")
        and (lambda model, X: model.similar_users(X)),
    }
    return {name: method for name, method in methods.items() if method}


def fit_if_possible(make, X):
    """Fit; give None if the estimator holds users out of so few that this fails."""
    try:
        return make().fit(X)
    except ValueError as error:
        refusal = str(error)
        assert "validation_fraction" in make().get_params()
        assert "validation users can be ev" in refusal or "Validation holds" in refusal
        return None


def is_held_out(name):
    """Whether a method takes a matrix beside its own."""
    return name in ("fit y_val", "score y")


def needs_users_of_x(name):
    """Whether the matrix of a method has to have a row for each user of another one."""
    return is_held_out(name) or name.startswith("recommend ") or name == "explain"


def rank_plainly(scores, k, allowed):
    """Sort what is allowed by (score descending, index ascending), in plain Python."""
    lists = []
    for row, kept in zip(scores, allowed, strict=True):
        best = sorted(np.flatnonzero(kept), key=lambda item: (-row[item], item))[:k]
        lists.append([*best, *[-1] * (k - len(best))])
    return np.array(lists, dtype=np.int64).reshape(len(scores), k)


def values_at(lists, values):
    """Give the value of each item in the lists, -inf where there is none."""
    return np.where(
        lists >= 0, np.take_along_axis(values, lists.clip(0), axis=1), -np.inf
    )


def assert_ranks(lists, probabilities, allowed):
    """Compare lists with a full ranking of what predict gives, up to its rounding."""
    expected = rank_plainly(probabilities, lists.shape[1], allowed)
    assert lists.dtype == np.int64
    assert_array_equal(lists == -1, expected == -1)
    found, expected = (values_at(each, probabilities) for each in (lists, expected))
    assert_allclose(found, expected, rtol=2e-6, atol=2e-6)
    for items, kept in zip(lists, allowed, strict=True):
        items = items[items >= 0]
        assert kept[items].all()
        assert len(set(items)) == len(items)


def assert_same(model, other, X=X):
    """Compare all that two fitted estimators answer, bit for bit."""
    assert_array_equal(model.predict(X), other.predict(X))
    assert_equal(
        model.recommend(X, return_scores=True), other.recommend(X, return_scores=True)
    )
    assert model.score(X) == other.score(X)


def assert_same_parameters(model, other):
    """Compare parameters; those that are estimators by what is printed of them."""
    one, another = ({**m.get_params(deep=False)} for m in (model, other))
    assert one.keys() == another.keys()
    for name, value in one.items():
        assert repr(another[name]) == repr(value), name


def assert_unchanged(model, before):
    assert vars(model).keys() == before.keys()
    for name, value in before.items():
        assert vars(model)[name] is value, name
