import inspect

import pytest
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import parametrize_with_checks

from sklearn_recvae import (
    BlendedRecommender,
    EASERecommender,
    MultVAERecommender,
    RecVAERecommender,
)

TWO_DIMENSIONAL = "predict returns (n_users, n_items), the check expects (n_users,)"
EXPECTED_FAILED_CHECKS = {
    "check_estimator_sparse_array": TWO_DIMENSIONAL,
    "check_estimator_sparse_matrix": TWO_DIMENSIONAL,
}
# Checks of scikit-learn that it runs for its own estimators only. Where a version
# does not have one of them, there is nothing to run.
UNLISTED_CHECKS = [
    name
    for name in (
        "check_param_validation",
        "check_dataframe_column_names_consistency",
        "check_inplace_ensure_writeable",
        "check_transformer_get_feature_names_out",
        "check_transformer_get_feature_names_out_pandas",
        "check_set_output_transform",
        "check_set_output_transform_pandas",
        "check_global_output_transform_pandas",
    )
    if hasattr(estimator_checks, name)
]


# What is expected of a 1-D y, and of arrays after a data frame, is tested elsewhere.
pytestmark = [
    pytest.mark.filterwarnings("ignore:A 1-D y is ignored:UserWarning"),
    pytest.mark.filterwarnings("ignore:X does not have valid feature:UserWarning"),
    pytest.mark.filterwarnings("ignore:X has feature names, but:UserWarning"),
]


def recommender():
    return RecVAERecommender(max_iter=1, random_state=0)


def blend():
    parts = [("recvae", recommender()), ("ease", EASERecommender())]
    return BlendedRecommender(parts)


CHECKS = parametrize_with_checks(
    [
        recommender(),
        MultVAERecommender(max_iter=1, random_state=0),
        EASERecommender(),
        blend(),
    ],
    expected_failed_checks=lambda _: EXPECTED_FAILED_CHECKS,
)


# As a list: some versions of scikit-learn give a generator, which pytest deprecates.
@pytest.mark.parametrize(CHECKS.args[0], list(CHECKS.args[1]), **CHECKS.kwargs)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize("name", UNLISTED_CHECKS)
def test_unlisted_check(name):
    check = getattr(estimator_checks, name)
    check("RecVAERecommender", recommender())


def test_the_checks_named_in_the_reference_are_still_there():
    assert {
        "check_param_validation",
        "check_dataframe_column_names_consistency",
        "check_inplace_ensure_writeable",
        "check_set_output_transform",
        "check_transformer_get_feature_names_out",
    } <= set(UNLISTED_CHECKS)


def test_every_parameter_has_a_constraint_and_is_stored_as_given():
    parameters = set(inspect.signature(RecVAERecommender).parameters)
    assert parameters == set(RecVAERecommender._parameter_constraints)
    given = {name: object() for name in parameters}
    assert RecVAERecommender(**given).get_params() == given
