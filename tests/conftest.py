"""Fixtures of more than one test file."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from sklearn_recvae.datasets import make_interactions

pytest.register_assert_rewrite("common", "contract")
from common import N_ITEMS, N_USERS, recommender  # noqa: E402 - rewritten first

PROJECT = Path(__file__).parents[1]

# Networks are tiny here: one thread is faster, above all on a busy machine.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def data_dir():
    """Folder with the real data sets, where there is one."""
    folder = os.environ.get("SKLEARN_RECVAE_DATA")
    if not folder:
        pytest.skip("set SKLEARN_RECVAE_DATA to the folder of the data sets")
    return Path(folder)


@pytest.fixture
def run_script():
    """Give a function that runs a script of the examples to its end.

    It returns what the script printed, and its progress.
    """
    pytest.importorskip("matplotlib", reason="the scripts draw: extra 'examples'")
    pytest.importorskip("rich", reason="the scripts print tables: extra 'examples'")
    pytest.importorskip("psutil", reason="they watch memory: extra 'examples'")
    # One thread, as in these tests; UTF-8 also where that is not the default.
    environment = {
        "OMP_NUM_THREADS": "1",
        "PYTHONUTF8": "1",
        "PYTHONPATH": os.pathsep.join([str(PROJECT), os.environ.get("PYTHONPATH", "")]),
    }

    def run(name, *options, timeout=300):
        done = subprocess.run(
            [sys.executable, str(PROJECT / "examples" / name), *map(str, options)],
            env=os.environ | environment,
            capture_output=True,
            encoding="utf-8",
            timeout=timeout,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout, done.stderr

    return run


@pytest.fixture(scope="session")
def X():
    return make_interactions(
        N_USERS, N_ITEMS, n_groups=4, mean_interactions=8, random_state=0
    )[0]


@pytest.fixture(scope="session")
def X_val():
    return make_interactions(30, N_ITEMS, mean_interactions=8, random_state=1)[0]


@pytest.fixture(scope="session")
def model(X):
    """Give a fitted RecVAE, which no test may change."""
    return recommender().fit(X)
