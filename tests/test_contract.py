"""The contract of all recommenders, a test for each estimator and check."""

import numpy as np
import pytest

import contract
from contract.checks import CHECKS
from contract.estimators import ESTIMATORS, CosineRecommender


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_contract(estimator, check):
    CHECKS[check](ESTIMATORS[estimator])


# Methods that break a promise, each in a way of its own.


def recommend_what_is_seen(self, X, k=10, *, exclude_seen=True, **options):
    return CosineRecommender.recommend(self, X, k, exclude_seen=False, **options)


def explain_upside_down(self, X, items, k=3, *, return_scores=False):
    reasons = CosineRecommender.explain(self, X, items, k, return_scores=return_scores)
    return (reasons[0], -reasons[1]) if return_scores else reasons


def predict_nothing_for_nobody(self, X):
    scores = CosineRecommender.predict(self, X)
    scores[(scores == 0).all(axis=1)] = np.nan
    return scores


def predict_and_remember(self, X):
    self.scores_ = CosineRecommender.predict(self, X)
    return self.scores_


def fit_in_place(self, X, y=None):
    CosineRecommender.fit(self, X)
    if isinstance(X, np.ndarray) and X.flags.writeable:
        X[:] = 0
    return self


def fit_and_set_before(self, X, y=None):
    self.n_features_in_ = 99
    return CosineRecommender.fit(self, X)


def fit_once(self, X, y=None):
    return self if hasattr(self, "coef_") else CosineRecommender.fit(self, X)


def fit_at_random(self, X, y=None):
    CosineRecommender.fit(self, X)
    self.coef_ += np.random.default_rng().random(self.coef_.shape, np.float32)
    return self


def fit_and_draw(self, X, y=None):
    np.random.random()  # noqa: NPY002
    return CosineRecommender.fit(self, X)


def fit_upside_down(self, X, y=None):
    CosineRecommender.fit(self, X)
    self.coef_ = -self.coef_
    return self


def init_and_change(self, shrinkage=1.0):
    self.shrinkage = (shrinkage,)


BROKEN = {
    "recommend_is_a_full_ranking_cut_off": {"recommend": recommend_what_is_seen},
    "explain_equals_a_loop": {"explain": explain_upside_down},
    "score_is_the_mean_ndcg_of_lists": {"score": lambda *args, **options: 0.5},
    "empty_rows_have_finite_scores": {"predict": predict_nothing_for_nobody},
    "reading_writes_nothing_to_the_estimator": {"predict": predict_and_remember},
    "every_container_gives_the_same_and_stays_as_it_was": {"fit": fit_in_place},
    "failing_fit_changes_nothing": {"fit": fit_and_set_before},
    "fit_that_fails_anywhere_changes_nothing": {"fit": fit_and_set_before},
    "second_fit_forgets_the_first": {"fit": fit_once},
    "equal_seeds_give_equal_results": {"fit": fit_at_random},
    "global_state_is_left_alone": {"fit": fit_and_draw},
    "checkerboard": {"fit": fit_upside_down},
    "parameters": {"__init__": init_and_change},
}


@pytest.mark.parametrize("check", BROKEN)
def test_check_fails_where_the_promise_is_broken(check):
    cls = type("Broken", (CosineRecommender,), BROKEN[check])
    shared = [contract.X, contract.FOLD_IN, contract.HELD_OUT]
    before = [matrix.copy() for matrix in shared]
    try:
        with pytest.raises((AssertionError, ValueError)):
            CHECKS[check](lambda n_iter=1: cls())
    finally:  # one of them writes to the matrices of all tests
        for matrix, whole in zip(shared, before, strict=True):
            matrix[:] = whole
