"""Checks of threads, and of what all in a process share."""

import pickle
import re
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal, assert_equal

from contract import HELD_OUT, X, is_held_out, methods_of


def check_many_threads_on_one_estimator(make):
    model = make().fit(X)
    calls = {
        name: (method, HELD_OUT if is_held_out(name) else X)
        for name, method in methods_of(make).items()
        if not name.startswith(("fit", "partial_fit"))
    }
    expected = {name: method(model, matrix) for name, (method, matrix) in calls.items()}
    names = 8 * list(calls)
    with ThreadPoolExecutor(8) as executor:
        found = executor.map(lambda name: calls[name][0](model, calls[name][1]), names)
        for name, result in zip(names, found, strict=True):
            assert_array_equal(result, expected[name], err_msg=name)


def check_threads_beside_a_fit_to_another_width(make):
    model, narrow = make().fit(X), X[:, :7]
    expected = model.recommend(X, return_scores=True), model.predict(X)
    stop = threading.Event()

    def read():
        n_read = 0
        while not stop.is_set() or not n_read:
            try:
                found = model.recommend(X, return_scores=True), model.predict(X)
            except ValueError as error:
                if not re.search("X has 12 features, .* expecting 7", str(error)):
                    raise
            else:
                assert_equal(found, expected)
            n_read += 1

    with ThreadPoolExecutor(4) as executor:
        readers = [executor.submit(read) for _ in range(4)]
        try:
            for _ in range(4):
                model.fit(narrow).fit(X)
        finally:
            stop.set()
    for reader in readers:
        reader.result()


def global_state():
    return {
        "numpy": pickle.dumps(np.random.get_state()),  # noqa: NPY002
        "torch": torch.random.get_rng_state().numpy().tobytes(),
        "threads": torch.get_num_threads(),
        "dtype": torch.get_default_dtype(),
        "device": torch.get_default_device(),
        "gradients": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "errors": np.geterr(),
        "filters": list(warnings.filters),
    }


def check_global_state_is_left_alone(make):
    model = make().fit(X)
    before = global_state()
    for name, method in methods_of(make).items():
        method(model, HELD_OUT if is_held_out(name) else X)
        assert global_state() == before, name
    pickle.loads(pickle.dumps(model))
    with pytest.raises(ValueError, match="no interactions"):
        model.fit(0 * X)
    assert global_state() == before
