"""Fixtures of more than one test file."""

import importlib
import multiprocessing
import os
import sys
from pathlib import Path

import pytest
import torch

from sklearn_recvae.datasets import make_interactions

pytest.register_assert_rewrite("common", "contract")
from common import N_ITEMS, N_USERS, recommender  # noqa: E402 - rewritten first

PROJECT = Path(__file__).parents[1]

# The core: what other versions of the libraries, or a wheel that lacks a file, break.
# What only torch could break is not in it, since torch is the same there.
CORE = {
    "test_blend.py",
    "test_callbacks.py",
    "test_common.py",
    "test_contract.py",
    "test_datasets_synthetic.py",
    "test_ease.py",
    "test_house.py",
    "test_interactions.py",
    "test_metrics.py",
    "test_metrics_lists.py",
    "test_model_selection.py",
    "test_model_selection_with_sklearn.py",
    "test_multvae.py",
    "test_preprocessing.py",
    "test_ranking.py",
    "test_recency.py",
    "test_recvae_fit.py",
    "test_recvae_partial_fit.py",
    "test_saving.py",
    "test_temporal_split.py",
}

# Networks are tiny here: one thread is faster, above all on a busy machine.
torch.set_num_threads(1)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.name in CORE:
            item.add_marker("core")


@pytest.fixture(scope="session")
def data_dir():
    """Folder with the real data sets, where there is one."""
    folder = os.environ.get("SKLEARN_RECVAE_DATA")
    if not folder:
        pytest.skip("set SKLEARN_RECVAE_DATA to the folder of the data sets")
    return Path(folder)


@pytest.fixture
def run_script(monkeypatch, capfd):
    """Give a function that runs a script of the examples to its end, in this process.

    It returns what the script printed, and its progress. Names of the script can be
    given another value, such as a smaller estimator.
    """
    pytest.importorskip("matplotlib", reason="the scripts draw: extra 'examples'")
    pytest.importorskip("rich", reason="the scripts print tables: extra 'examples'")
    pytest.importorskip("psutil", reason="they watch memory: extra 'examples'")

    def run(name, *options, **names):
        path = PROJECT / "examples" / name
        with monkeypatch.context() as patch:
            patch.syspath_prepend(path.parent)  # as Python does for a script
            script = importlib.import_module(path.stem)
            patch.setattr(sys, "argv", [path.name, *map(str, options)])
            for replaced, value in names.items():
                patch.setattr(script, replaced, value)
            capfd.readouterr()
            status = 0
            try:
                script.main()
            except SystemExit as end:
                status = end.code
            assert not status
            return capfd.readouterr()

    return run


@pytest.fixture
def start_method():
    """Give the quickest way to begin a process; a fork has all imports already."""
    methods = multiprocessing.get_all_start_methods()
    return "fork" if "fork" in methods else "spawn"


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
