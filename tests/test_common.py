"""The checks of scikit-learn, for every recommender."""

import pytest
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import parametrize_with_checks

from contract.estimators import ESTIMATORS

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
    )
    if hasattr(estimator_checks, name)
]
UNLISTED_CHECKS_OF_TRANSFORMERS = [
    name
    for name in (
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
CHECKS = parametrize_with_checks(
    [make() for make in ESTIMATORS.values()],
    expected_failed_checks=lambda _: EXPECTED_FAILED_CHECKS,
)


# As a list: some versions of scikit-learn give a generator, which pytest deprecates.
@pytest.mark.parametrize(CHECKS.args[0], list(CHECKS.args[1]), **CHECKS.kwargs)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize(
    ("estimator", "check"),
    [
        (name, check)
        for name, make in ESTIMATORS.items()
        for check in UNLISTED_CHECKS
        + (UNLISTED_CHECKS_OF_TRANSFORMERS if hasattr(make(), "transform") else [])
    ],
)
def test_unlisted_check(estimator, check):
    model = ESTIMATORS[estimator]()
    getattr(estimator_checks, check)(type(model).__name__, model)


def test_the_checks_named_in_the_reference_are_still_there():
    assert {
        "check_param_validation",
        "check_dataframe_column_names_consistency",
        "check_inplace_ensure_writeable",
    } == set(UNLISTED_CHECKS)
    assert {
        "check_set_output_transform",
        "check_transformer_get_feature_names_out",
    } <= set(UNLISTED_CHECKS_OF_TRANSFORMERS)
