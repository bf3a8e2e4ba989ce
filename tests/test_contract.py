"""The contract of all recommenders, a test for each estimator and check."""

import pytest

from contract import fitted, inputs, lists, process
from contract.estimators import ESTIMATORS

CHECKS = {
    name: check
    for room in (lists, inputs, fitted, process)
    for name, check in vars(room).items()
    if name.startswith("check_") and check.__module__ == room.__name__
}


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_contract(estimator, check):
    CHECKS[check](ESTIMATORS[estimator])
