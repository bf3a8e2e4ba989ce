"""Checks of what is accepted and what is refused."""

import warnings

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal

from contract import (
    FOLD_IN,
    HELD_OUT,
    N_ITEMS,
    N_USERS,
    X,
    assert_ranks,
    fit_if_possible,
    is_held_out,
    methods_of,
    needs_users_of_x,
)
from contract.matrices import (
    BOOL_CONTAINERS,
    CONTAINERS,
    SQUARE,
    SUMMED_DUPLICATES,
    duplicates,
    frozen_state,
    malformed,
    refused,
)

# All that is done natively with a matrix is done with one of these.
SOME_CONTAINERS = (
    *("list", "DataFrame", "lil_matrix", "explicit zeros", "duplicates, csr"),
    "mapped csr",
)


def check_every_container_gives_the_same_and_stays_as_it_was(make):
    model = make().fit(X)
    methods = methods_of(make)
    expected = {
        name: method(model, HELD_OUT if is_held_out(name) else X)
        for name, method in methods.items()
    }
    for container, build in CONTAINERS.items():
        names = methods if container in SOME_CONTAINERS else ("fit", "recommend")
        for name in names:
            method = methods[name]
            matrix = build(HELD_OUT if is_held_out(name) else X)
            before = frozen_state(matrix)
            where = f"{name}, {container}"
            assert_array_equal(method(model, matrix), expected[name], err_msg=where)
            assert frozen_state(matrix) == before, where


def check_bool_is_one(make):
    model = make().fit(X)
    for name, method in methods_of(make).items():
        ones = ((HELD_OUT if is_held_out(name) else X) > 0).astype(float)
        expected = method(model, ones)
        for container, build in BOOL_CONTAINERS.items():
            where = f"{name}, {container}"
            assert_array_equal(method(model, build(ones)), expected, err_msg=where)


def check_duplicates_are_summed_after_the_cast(make):
    model = make().fit(X)
    methods = methods_of(make)
    expected = {
        name: methods[name](model, SUMMED_DUPLICATES) for name in ("fit", "recommend")
    }
    for form in ("coo", "csr", "csc", "bsr"):
        for dtype in (bool, np.int8, np.uint8, np.int64, np.float64):
            matrix = duplicates(dtype, form)
            before = frozen_state(matrix)
            for name, result in expected.items():
                where = f"{name}, {form} of {dtype}"
                found = methods[name](model, matrix)
                assert_array_equal(found, result, err_msg=where)
                assert frozen_state(matrix) == before, where


def check_an_explicit_zero_is_no_interaction(make):
    model = make().fit(X)
    row = sp.csr_array((np.array([1.0, 0.0]), [0, 1], [0, 2]), shape=(1, N_ITEMS))
    lists = model.recommend(row, N_ITEMS)[0]
    assert 1 in lists
    assert 0 not in lists
    # And is no overlap of fold-in and held-out.
    y = sp.csr_array((np.array([1.0, 0.0]), [1, 0], [0, 2]), shape=(1, N_ITEMS))
    assert 0 < model.score(row, y) <= 1
    with pytest.raises(ValueError, match="no interactions"):
        make().fit(0 * row)


def check_what_is_no_matrix_is_refused(make):
    model = make().fit(X)
    name_of_class = type(model).__name__
    for case, (matrix, error, message) in refused().items():
        for name, method in methods_of(make).items():
            if matrix is None and name not in ("fit", "predict", "recommend", "score"):
                continue  # no validation data, no candidates
            if needs_users_of_x(name) and not case.startswith(
                ("NaN", "inf", "negative", "complex")
            ):
                continue  # indices of items, or another number of users
            with pytest.raises(error, match=message) as caught:
                method(model, matrix)
            own = name in ("fit", "predict", "recommend", "score")
            if own and case in ("NaN", "negative", "no users"):
                assert name_of_class in str(caught.value), (case, name)


def check_values_too_large_for_float32(make):
    model = make().fit(X)
    huge = X.copy()
    huge[1, 2] = 1e300
    # Two entries that are finite, and whose sum is not.
    data = np.array([3e38, 3e38], dtype=np.float32)
    summed = sp.csr_array((data, [0, 0], [0, 2]), shape=(1, N_ITEMS))
    for matrix in (huge, summed):
        with (
            np.errstate(over="ignore"),
            pytest.raises(ValueError, match=r"infinity|too large"),
        ):
            model.predict(matrix)


def check_malformed_sparse_matrices_are_refused(make):
    model = make().fit(SQUARE)
    zeros = np.zeros(SQUARE.shape)
    calls = {
        "predict": model.predict,
        "recommend": model.recommend,
        "score": model.score,
        "fit": model.fit,
        "y": lambda y: model.score(zeros, y),
        "items": lambda items: model.recommend(zeros, items=items),
        "exclude_items": lambda items: model.recommend(zeros, exclude_items=items),
    }
    for case, matrix in malformed():
        for name, call in calls.items():
            try:
                call(matrix)
            except ValueError:
                continue
            pytest.fail(f"{name} accepted {case}")


def check_other_number_of_columns(make):
    model = make().fit(X)
    message = f"X has 3 features, but {type(model).__name__} is expecting 12 features"
    for container in (np.asarray, sp.csr_array, pd.DataFrame):
        narrow = container(np.ones((N_USERS, 3)))
        for name, method in methods_of(make).items():
            if name == "fit" or (needs_users_of_x(name) and name != "explain"):
                continue
            with pytest.raises(ValueError, match=message):
                method(model, narrow)


def frame_of(library, array, names):
    columns = dict(zip(names, np.asarray(array, np.float32).T, strict=True))
    return pytest.importorskip(library).DataFrame(columns)


def check_columns_of_frames(make):
    names = [f"item {i}" for i in range(N_ITEMS)]
    methods = methods_of(make)
    for library in ("pandas", "polars"):
        model = make().fit(frame_of(library, X, names))
        assert model.feature_names_in_.tolist() == names
        plain = make().fit(X)
        fold_in = frame_of(library, FOLD_IN, names)
        y, other_y = (
            frame_of(library, HELD_OUT, each) for each in (names, names[::-1])
        )
        assert_array_equal(model.recommend(fold_in), plain.recommend(FOLD_IN))
        assert model.score(fold_in, y) == plain.score(FOLD_IN, HELD_OUT)
        assert model.score(fold_in, HELD_OUT) == model.score(fold_in, y)
        for name in set(methods) - {"fit", "fit X_val", "fit y_val"}:
            if needs_users_of_x(name):
                continue
            with pytest.raises(ValueError, match="same order"):
                methods[name](model, frame_of(library, X, names[::-1]))
        for name in ("items", "exclude_items"):
            message = f"Column 0 of {name} is named 'item 11', expected 'item 0'"
            with pytest.raises(ValueError, match=message):
                model.recommend(fold_in, **{name: other_y})
        message = "Column 0 of y is named 'item 11', expected"
        with pytest.raises(ValueError, match=message):
            model.score(fold_in, other_y)
        # Without names in fit, those of X count.
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "X has feature names, but", UserWarning)
            assert plain.score(fold_in, y) == model.score(fold_in, y)
            with pytest.raises(ValueError, match=message):
                plain.score(fold_in, other_y)
        if "fit y_val" in methods:
            X_fit = frame_of(library, X, names)
            make().fit(X_fit, X_val=fold_in, y_val=y)
            with pytest.raises(ValueError, match="Column 0 of y_val is named"):
                make().fit(X_fit, X_val=fold_in, y_val=other_y)
        model.fit(X)
        assert not hasattr(model, "feature_names_in_")


def check_empty_rows_have_finite_scores(make):
    model = make().fit(X)
    for rows in (np.zeros((3, N_ITEMS)), sp.csr_array((3, N_ITEMS))):
        assert np.isfinite(model.predict(rows)).all()
        lists, scores = model.recommend(rows, 5, return_scores=True)
        assert np.isfinite(scores).all()
        assert len(set(lists[0])) == 5
        with pytest.raises(ValueError, match="None of the 3 users can be evaluated"):
            model.score(rows)
    mixed = np.vstack([np.zeros((2, N_ITEMS)), X])
    assert_allclose(model.predict(mixed)[2:], model.predict(X), rtol=1e-5, atol=1e-6)


def check_no_interactions_at_all(make):
    for matrix in (np.zeros((5, 4)), sp.csr_array((5, 4))):
        for name in {"fit", "partial_fit"} & set(dir(make())):
            with pytest.raises(ValueError, match=r"X of shape \(5, 4\) has no inter"):
                getattr(make(), name)(matrix)


def check_one_user_and_one_item(make):
    for shape in [(1, 5), (5, 1), (1, 1), (2, 2)]:
        model = fit_if_possible(make, np.ones(shape))
        if model is None:
            continue
        rows = np.eye(2, shape[1])
        scores = model.predict(rows)
        assert scores.shape == rows.shape
        assert np.isfinite(scores).all()
        lists = model.recommend(rows, 2)
        assert_ranks(lists, scores, rows == 0)
        if shape[1] == 1:
            assert_array_equal(lists, [[-1, -1], [0, -1]])
