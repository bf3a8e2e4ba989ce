"""Print a table of what every recommender keeps: `python -m contract`, in tests."""

import pytest
import torch

from contract.checks import CHECKS
from contract.estimators import ESTIMATORS


def outcome(check, make):
    try:
        check(make)
    except pytest.skip.Exception:
        return "has none"
    except Exception as error:
        return type(error).__name__
    return "kept"


torch.set_num_threads(1)
print(f"| check | {' | '.join(ESTIMATORS)} |")
print("|---" * (1 + len(ESTIMATORS)) + "|")
for name, check in CHECKS.items():
    outcomes = [outcome(check, make) for make in ESTIMATORS.values()]
    print(f"| {name.replace('_', ' ')} | {' | '.join(outcomes)} |", flush=True)
