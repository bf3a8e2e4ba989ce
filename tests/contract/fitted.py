"""Checks of what is fitted, copied and saved."""

import copy
import inspect
import pickle
import sys
import tempfile
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

import sklearn_recvae
from contract import (
    HELD_OUT,
    N_ITEMS,
    N_USERS,
    X,
    assert_same,
    assert_same_parameters,
    assert_unchanged,
    is_held_out,
    methods_of,
)


def check_unfitted(make):
    model = make()
    for name, method in methods_of(make).items():
        if name.startswith("fit") or name == "partial_fit":
            continue
        with pytest.raises(NotFittedError, match="not fitted yet"):
            method(model, X)
    with pytest.raises(NotFittedError, match="not fitted yet"):
        model.predict("nonsense")  # before anything else
    with pytest.raises(NotFittedError):
        model.save("nowhere")


def check_parameters(make):
    cls = type(make())
    names = set(inspect.signature(cls).parameters)
    assert names == set(cls._parameter_constraints)
    given_parameters = {name: object() for name in names}
    model = cls(**given_parameters)  # an error of fit, never of __init__
    for name, value in given_parameters.items():
        assert getattr(model, name) is value
    model = make()
    assert model.set_params(**model.get_params(deep=False)) is model
    assert_same_parameters(model, make())
    with pytest.raises(ValueError, match="Invalid parameter"):
        model.set_params(no_such_parameter=1)


def check_clone(make):
    model = make().fit(X)
    copied = clone(model)
    assert_same_parameters(copied, model)
    with pytest.raises(NotFittedError):
        check_is_fitted(copied)
    assert_same(copied.fit(X), model)


def check_equal_seeds_give_equal_results(make):
    model = make()
    assert model.fit(X) is model
    assert_same(make().fit(X), model)
    assert model.n_features_in_ == N_ITEMS
    if "random_state" in model.get_params():
        seeded = make().set_params(random_state=np.random.RandomState(0))
        assert_same(seeded.fit(X), model)


def check_second_fit_forgets_the_first(make):
    model = make().fit(X[:15, :7])
    assert model.predict(X[:3, :7]).shape == (3, 7)
    other, names = make().fit(X), set(vars(make().fit(X)))
    assert_same(model.fit(X), other)
    assert set(vars(model)) == names
    assert model.n_features_in_ == N_ITEMS


def check_failing_fit_changes_nothing(make):
    wrong = [
        (np.full((3, 7), np.nan), "contains NaN"),
        (np.zeros((3, 7)), "no interactions"),
        (np.ones(7), "Expected 2D array"),
    ]
    for model in (make(), make().fit(X)):
        before = vars(model).copy()
        for matrix, message in wrong:
            with pytest.raises(ValueError, match=message):
                model.fit(matrix)
            assert_unchanged(model, before)


class Failure(Exception):
    """What no code expects."""


class CallCounter:
    """Counts the calls of the package's functions, and fails at one of them."""

    def __init__(self, fail_at=None):
        self.n_calls, self.fail_at = 0, fail_at
        self.folder = str(Path(sklearn_recvae.__file__).parent)

    def __call__(self, frame, event, argument):
        if event == "call" and frame.f_code.co_filename.startswith(self.folder):
            self.n_calls += 1
            if self.n_calls == self.fail_at:
                raise Failure

    def __enter__(self):
        self.before = sys.gettrace()
        sys.settrace(self)
        return self

    def __exit__(self, *error):
        sys.settrace(self.before)


def check_fit_that_fails_anywhere_changes_nothing(make):
    matrix = X[:, :9]
    with CallCounter() as calls:
        make().fit(matrix)
    for fitted in (False, True):
        n_failures = 0
        for place in np.linspace(1, calls.n_calls, 12).astype(int):
            model = make().fit(X) if fitted else make()
            before = vars(model).copy()
            try:
                with CallCounter(place):
                    model.fit(matrix)
            except Failure:
                n_failures += 1
                assert_unchanged(model, before)
        assert n_failures >= 10  # some code may go on after an error


def check_reading_writes_nothing_to_the_estimator(make):
    model = make().fit(X)
    before, predictions = vars(model).copy(), model.predict(X)
    for name, method in methods_of(make).items():
        method(model, HELD_OUT if is_held_out(name) else X)
        assert_unchanged(model, before)
    assert_array_equal(model.predict(X), predictions)


def check_pickles(make):
    model = make().fit(X)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.joblib"
        joblib.dump(model, path)
        copies = {
            "pickle": pickle.loads(pickle.dumps(model)),
            "deepcopy": copy.deepcopy(model),
            "joblib": joblib.load(path),
            "mapped": joblib.load(path, mmap_mode="r"),
        }
        # torch warns of read-only arrays once, and never again.
        warned = torch.is_warn_always_enabled()
        torch.set_warn_always(True)
        for loaded in copies.values():
            assert_same(loaded, model)
            assert_same_parameters(loaded, model)
            targets = np.zeros(N_USERS, dtype=int)
            assert_array_equal(loaded.explain(X, targets), model.explain(X, targets))
            assert_same(clone(loaded).fit(X), model)
            if hasattr(model, "partial_fit"):
                longer = pickle.loads(pickle.dumps(model)).partial_fit(X)
                assert_same(loaded.partial_fit(X), longer)
        torch.set_warn_always(warned)
        del copies, loaded  # else the file stays open, which matters on Windows


def check_files(make):
    model = make().fit(X)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model"
        if type(model).__name__ not in sklearn_recvae.__all__:
            with pytest.raises(ValueError, match="load would not find"):
                model.save(path)
            return
        assert model.save(path) is None
        for mmap in (True, False):
            loaded = sklearn_recvae.load(path, mmap=mmap)
            assert type(loaded) is type(model)
            assert_same(loaded, model)
            assert_same_parameters(loaded, model)
            assert_same(clone(loaded).fit(X), model)
        loaded.save(Path(folder) / "again")
        assert path.read_bytes() == (Path(folder) / "again").read_bytes()
        path.write_bytes(path.read_bytes()[:-20])
        with pytest.raises(ValueError, match="model"):
            sklearn_recvae.load(path)
