import copy
import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from joblib import dump, load
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import spearmanr
from sklearn.exceptions import NotFittedError
from sklearn.utils._param_validation import InvalidParameterError

from sklearn_recvae import EASERecommender, RecVAERecommender
from sklearn_recvae.datasets import make_interactions
from sklearn_recvae.model_selection import holdout_interactions

N_USERS, N_ITEMS = 40, 12


def recommender(**params):
    return RecVAERecommender(
        **{
            "latent_dim": 4,
            "hidden_dim": 8,
            "max_iter": 1,
            "random_state": 0,
            **params,
        }
    )


def small_matrix():
    """Counts, with an empty row and an empty column."""
    dense = np.random.default_rng(0).integers(0, 3, (N_USERS, N_ITEMS)).astype(float)
    dense[dense == 1] *= np.random.default_rng(1).random(dense.shape)[dense == 1] > 0.3
    dense[3] = 0
    dense[:, 5] = 0
    return dense


@pytest.fixture(scope="module")
def dense():
    return small_matrix()


@pytest.fixture(scope="module")
def model(dense):
    return recommender().fit(dense)


# Every public method that is given interactions.
METHODS = {
    "fit": lambda model, X: recommender().fit(X).predict(small_matrix()),
    "fit with early stopping": lambda model, X: (
        recommender(early_stopping=True, validation_fraction=0.3)
        .fit(X)
        .predict(small_matrix())
    ),
    "fit X_val": lambda model, X: (
        recommender().fit(small_matrix(), X_val=X).predict(small_matrix())
    ),
    "fit_transform": lambda model, X: recommender().fit_transform(X),
    "partial_fit": lambda model, X: (
        copy.deepcopy(model).partial_fit(X).predict(small_matrix())
    ),
    "predict": lambda model, X: model.predict(X),
    "recommend": lambda model, X: model.recommend(X, 3),
    "transform": lambda model, X: model.transform(X),
    "score": lambda model, X: model.score(X),
}
# The held-out matrix is given to these.
HELD_OUT = {
    "score y": lambda model, fold_in, y: model.score(fold_in, y),
    "fit y_val": lambda model, fold_in, y: (
        recommender(max_iter=2)
        .fit(small_matrix(), X_val=fold_in, y_val=y)
        .history_["validation_score"]
    ),
}


def unsorted_csr(dense, dtype=np.float64):
    X = sp.csr_array(dense.astype(dtype))
    for begin, end in zip(X.indptr[:-1], X.indptr[1:], strict=True):
        X.indices[begin:end] = X.indices[begin:end][::-1].copy()
        X.data[begin:end] = X.data[begin:end][::-1].copy()
    return X


def in_two_halves(dense, dtype=np.float32):
    """Every entry twice, with half its value."""
    rows, columns = np.nonzero(dense)
    halves = (dense[rows, columns] / 2).astype(dtype)
    order = np.random.default_rng(0).permutation(2 * len(rows))
    return sp.coo_array(
        (
            np.tile(halves, 2)[order],
            (np.tile(rows, 2)[order], np.tile(columns, 2)[order]),
        ),
        shape=dense.shape,
    )


def coo_as_csr(X):
    """To CSR without the sum of duplicates that `tocsr` takes."""
    order = np.argsort(X.row, kind="stable")
    counts = np.bincount(X.row, minlength=X.shape[0])
    return sp.csr_array(
        (X.data[order], X.col[order], np.append(0, counts.cumsum())), shape=X.shape
    )


def with_explicit_zeros(dense, dtype=np.float64):
    every = sp.coo_array(np.ones_like(dense))
    return coo_as_csr(
        sp.coo_array(
            (dense[every.row, every.col].astype(dtype), (every.row, every.col)),
            shape=dense.shape,
        )
    )


def with_long_indices(X):
    X = X.copy()
    X.indices = X.indices.astype(np.int64)
    X.indptr = X.indptr.astype(np.int64)
    return X


def reversed_in_memory(dense):
    """CSR whose arrays are views that run backwards."""
    X = sp.csr_array(dense.astype(np.float32))
    data, indices = X.data[::-1].copy()[::-1], X.indices[::-1].copy()[::-1]
    X.data, X.indices = data, indices
    return X


CONTAINERS = {
    "float64": lambda dense: dense,
    "float32": lambda dense: dense.astype(np.float32),
    "float16": lambda dense: dense.astype(np.float16),
    "int": lambda dense: dense.astype(np.int64),
    "uint8": lambda dense: dense.astype(np.uint8),
    "big-endian": lambda dense: dense.astype(">f4"),
    "list": lambda dense: dense.tolist(),
    "Fortran order": np.asfortranarray,
    "view": lambda dense: np.repeat(dense, 2, axis=0)[::-2][::-1],
    "numeric objects": lambda dense: dense.astype(object),
    "DataFrame": lambda dense: pd.DataFrame(dense),
    "DataFrame of int": lambda dense: pd.DataFrame(dense.astype(np.int8)),
    "nullable DataFrame": lambda dense: pd.DataFrame(dense.astype(int)).astype("Int64"),
    "sparse DataFrame": lambda dense: pd.DataFrame.sparse.from_spmatrix(
        sp.csr_matrix(dense)
    ),
    **{
        f"{form}_{kind}": lambda dense, form=form, kind=kind: getattr(
            sp, f"{form}_{kind}"
        )(dense)
        for form in ("csr", "csc", "coo", "lil", "dok", "dia", "bsr")
        for kind in ("array", "matrix")
    },
    "float32 csr": lambda dense: sp.csr_array(dense.astype(np.float32)),
    "int csr": lambda dense: sp.csr_array(dense.astype(np.int64)),
    "int8 csc": lambda dense: sp.csc_array(dense.astype(np.int8)),
    "uint16 coo": lambda dense: sp.coo_array(dense.astype(np.uint16)),
    "int64 indices": lambda dense: with_long_indices(sp.csr_array(dense)),
    "float32, int64 indices": lambda dense: with_long_indices(
        sp.csr_array(dense.astype(np.float32))
    ),
    "unsorted": unsorted_csr,
    "unsorted float32": lambda dense: unsorted_csr(dense, np.float32),
    "unsorted int": lambda dense: unsorted_csr(dense, np.int32),
    "duplicates, coo": in_two_halves,
    "duplicates, csr": lambda dense: coo_as_csr(in_two_halves(dense)),
    "duplicates, float64": lambda dense: coo_as_csr(in_two_halves(dense, np.float64)),
    "explicit zeros": with_explicit_zeros,
    "explicit zeros, float32": lambda dense: with_explicit_zeros(dense, np.float32),
    "explicit zeros, int": lambda dense: with_explicit_zeros(dense, np.int64),
    "reversed in memory": reversed_in_memory,
}


def frozen_state(X):
    """Everything of X that could change, as bytes and values."""
    if isinstance(X, list):
        return copy.deepcopy(X)
    if isinstance(X, pd.DataFrame):
        return [
            X.to_numpy().tolist(),
            X.dtypes.tolist(),
            X.columns.tolist(),
            X.index.tolist(),
        ]
    if isinstance(X, np.ndarray):
        values = X.tolist() if X.dtype == object else X.tobytes()
        return values, X.dtype, X.shape, X.strides, str(X.flags)
    state = [type(X), X.dtype, X.shape, X.nnz]
    for name in ("data", "indices", "indptr", "row", "col", "offsets", "rows"):
        if hasattr(X, name):
            array = getattr(X, name)
            # By identity too: an array put in its place would be another one.
            state += [name, id(array) if name not in ("row", "col") else None]
            state += [frozen_state(array)]
    if X.format == "dok":
        state += [sorted(X.items())]
    return state


@pytest.fixture(scope="module")
def expected(dense, model):
    return {name: method(model, dense) for name, method in METHODS.items()}


@pytest.mark.parametrize("container", CONTAINERS)
def test_every_container_gives_the_same_and_stays_as_it_was(
    dense, model, expected, container
):
    X = CONTAINERS[container](dense)
    before = frozen_state(X)
    for name, method in METHODS.items():
        result = method(model, X)
        assert_array_equal(result, expected[name], err_msg=name)
        assert frozen_state(X) == before, name


@pytest.mark.parametrize("container", CONTAINERS)
def test_every_container_may_hold_out(dense, model, container):
    fold_in, held_out = holdout_interactions(dense)
    y = CONTAINERS[container](held_out.toarray())
    before = frozen_state(y)
    for name, method in HELD_OUT.items():
        expected = method(model, fold_in, held_out)
        assert_array_equal(method(model, fold_in, y), expected, err_msg=name)
        assert frozen_state(y) == before, name


@pytest.mark.parametrize("name", METHODS)
def test_read_only_memory_map(dense, model, expected, name, tmp_path):
    for number, X in enumerate(
        [
            dense,
            dense.astype(np.float32),
            sp.csr_array(dense),
            sp.csr_array(dense.astype(np.float32)),
            unsorted_csr(dense, np.float32),
            with_explicit_zeros(dense, np.float32),
            in_two_halves(dense),
        ]
    ):
        path = tmp_path / f"{number}.joblib"
        dump(X, path)
        mapped = load(path, mmap_mode="r")
        array = mapped.data if sp.issparse(mapped) else mapped
        assert not array.flags.writeable
        assert_array_equal(METHODS[name](model, mapped), expected[name])


@pytest.mark.parametrize("kind", ["csr_array", "csc_array", "coo_array", "dense"])
def test_bool_is_one(model, dense, kind):
    binary = dense > 0
    X = binary if kind == "dense" else getattr(sp, kind)(binary)
    before = frozen_state(X)
    for name, method in METHODS.items():
        assert_array_equal(
            method(model, X), method(model, binary.astype(float)), err_msg=name
        )
        assert frozen_state(X) == before, name


@pytest.mark.parametrize("form", ["coo", "csr", "csc", "bsr"])
@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint8, np.int64, np.float64])
def test_duplicates_are_summed_after_the_cast(model, form, dtype):
    # (0, 1) twice, True + True is 2; (1, 2) so often that an int8 would overflow.
    rows = np.array([0, 0, 0] + [1] * 201)
    columns = np.array([1, 1, 4] + [2] * 200 + [0])
    ones = np.ones(len(rows), dtype=dtype)
    shape = (2, N_ITEMS)
    X = sp.coo_array((ones, (rows, columns)), shape=shape)
    if form == "csr":
        X = coo_as_csr(X)
    elif form == "csc":
        X = coo_as_csr(sp.coo_array((ones, (columns, rows)), shape=shape[::-1])).T
        assert X.format == "csc"
    elif form == "bsr":
        X = sp.bsr_array((ones[:, None, None], columns, [0, 3, len(rows)]), shape=shape)
    assert X.nnz == len(rows)
    before = frozen_state(X)
    summed = np.zeros(shape)
    summed[0, 1], summed[0, 4], summed[1, 2], summed[1, 0] = 2, 1, 200, 1
    for name in ("predict", "transform", "recommend", "score", "fit", "partial_fit"):
        assert_array_equal(
            METHODS[name](model, X), METHODS[name](model, summed), err_msg=name
        )
        assert frozen_state(X) == before, name


def test_an_explicit_zero_is_not_seen(model):
    X = sp.csr_array((np.array([1.0, 0.0]), [0, 1], [0, 2]), shape=(1, N_ITEMS))
    assert 1 in model.recommend(X, N_ITEMS)[0]
    assert 0 not in model.recommend(X, N_ITEMS)[0]
    # And is no overlap of fold-in and held-out.
    y = sp.csr_array((np.array([1.0, 0.0]), [1, 0], [0, 2]), shape=(1, N_ITEMS))
    assert 0 < model.score(X, y) <= 1


# Refused: what is no matrix of non-negative finite numbers.


def nothing_but(value):
    X = small_matrix()
    X[1, 2] = value
    return X


REFUSED = {
    "NaN": (nothing_but(np.nan), ValueError, "contains NaN"),
    "inf": (nothing_but(np.inf), ValueError, "contains infinity"),
    "negative": (nothing_but(-1), ValueError, "Negative values in data"),
    "1-D": (np.ones(N_ITEMS), ValueError, "Expected 2D array, got 1D array"),
    "scalar": (3.0, ValueError, "Expected 2D array, got scalar array"),
    "3-D": (np.ones((2, N_ITEMS, 2)), ValueError, "Found array with dim 3"),
    "complex": (nothing_but(1) * 1j, ValueError, "Complex data not supported"),
    "objects": (
        np.full((2, N_ITEMS), {}, dtype=object),
        TypeError,
        "argument must be .*string.* number",
    ),
    "strings": (np.full((2, N_ITEMS), "a"), ValueError, "could not convert string"),
    "string": ("a", ValueError, "Expected 2D array|could not convert string"),
    "None": (
        None,
        ValueError,
        "Expected 2D array, got scalar|NoneType|dtype='numeric'",
    ),
    "no users": (np.empty((0, N_ITEMS)), ValueError, "0 sample"),
    "no items": (np.empty((3, 0)), ValueError, r"0 feature\(s\)"),
    "ragged": ([[1, 0], [1]], ValueError, "inhomogeneous"),
}
# The same for what can be said of a sparse matrix.
REFUSED_SPARSE = {
    f"{name}, {form}": (getattr(sp, form)(REFUSED[name][0]), *REFUSED[name][1:])
    for name in ("NaN", "inf", "negative", "complex")
    for form in ("csr_array", "csr_matrix", "csc_array", "coo_array")
}
REFUSED_SPARSE["negative int"] = (
    sp.csr_array(nothing_but(-1).astype(int)),
    ValueError,
    "Negative values in data",
)


@pytest.mark.parametrize(
    ("name", "method"),
    [
        (name, method)
        for name in [*REFUSED, *REFUSED_SPARSE]
        for method in METHODS
        if (name, method) != ("None", "fit X_val")  # that is no validation data
    ],
)
def test_what_is_refused(model, method, name):
    X, error, message = {**REFUSED, **REFUSED_SPARSE}[name]
    before = frozen_state(X) if hasattr(X, "dtype") else None
    with pytest.raises(error, match=message) as caught:
        METHODS[method](model, X)
    if name in ("NaN", "negative", "no users"):
        assert "RecVAERecommender" in str(caught.value)
    if before is not None and X.dtype != object:
        assert frozen_state(X) == before


@pytest.mark.parametrize("method", HELD_OUT)
@pytest.mark.parametrize("name", ["NaN", "inf", "negative", "complex"])
def test_what_is_refused_as_held_out(model, method, name):
    X, error, message = REFUSED[name]
    fold_in, _ = holdout_interactions(small_matrix())
    for y in (X, sp.csr_array(X)):
        with pytest.raises(error, match=message):
            HELD_OUT[method](model, fold_in, y)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_too_large_for_float32(model, dtype):
    if dtype == np.float32:
        # Two entries that are finite, and whose sum is not.
        X = sp.csr_array(
            (np.array([3e38, 3e38], dtype=dtype), [0, 0], [0, 2]), shape=(1, N_ITEMS)
        )
    else:
        X = nothing_but(1e300)
    with (
        np.errstate(over="ignore"),
        pytest.raises(ValueError, match=r"infinity|too large"),
    ):
        model.predict(X)


@pytest.mark.parametrize(
    "method", ["partial_fit", "predict", "recommend", "transform", "score", "fit X_val"]
)
@pytest.mark.parametrize("container", [np.asarray, sp.csr_array, pd.DataFrame])
def test_wrong_number_of_columns(model, method, container):
    X = container(np.ones((4, 3)))
    with pytest.raises(
        ValueError,
        match="X has 3 features, but RecVAERecommender is expecting 12 features as in",
    ):
        METHODS[method](model, X)


# Arrays of a sparse matrix that contradict each other. Native code believes them, so
# they go through a process of its own: a crash must not take the tests with it.
MALFORMED = {
    "indptr too large in the middle": "X.indptr[1] = 2**30",
    "indptr that decreases": "X.indptr[1] = X.indptr[2] + 1",
    "indptr too large at the end": "X.indptr[-1] = 2**30",
    "indptr that does not begin with 0": "X.indptr[0] = 1",
    "indptr negative at the end": "X.indptr[-1] = -5",
    "indptr of nothing at the end": "X.indptr[-1] = 0",
    "index one too large": "X.indices[0] = 4",
    "index far too large": "X.indices[0] = 2**30",
    "negative index": "X.indices[0] = -1",
    "far too negative index": "X.indices[0] = -(2**30)",
}
MALFORMED_COO = {
    "row too large": "X.row[0] = 4",
    "row far too large": "X.row[0] = 2**30",
    "negative row": "X.row[0] = -1",
    "column too large": "X.col[0] = 4",
    "negative column": "X.col[0] = -(2**30)",
}
MALFORMED_LIL = {
    "index too large": "X.rows[0][0] = 4",
    "index far too large": "X.rows[0][0] = 2**70",
    "negative index": "X.rows[0][0] = -5",
    "fewer values than indices": "X.data[0].pop()",
    "more values than indices": "X.rows[0].pop()",
}
MALFORMED_DIA = {
    "a diagonal twice": "X.offsets[0] = X.offsets[1]",
    "fewer diagonals than offsets": "X.data = X.data[1:]",
}
MALFORMED_CASES = [
    *(("csr_array", name) for name in MALFORMED),
    *(("csc_array", name) for name in MALFORMED),
    *(("coo_array", name) for name in MALFORMED_COO),
    *(("lil_array", name) for name in MALFORMED_LIL),
    *(("dia_array", name) for name in MALFORMED_DIA),
]


def print_answers_to_malformed():
    """A line for each case, number of ValueErrors and whatever else there was."""
    dense = np.array([[1, 1, 0, 0], [0, 1, 1, 0], [1, 0, 0, 1], [1, 1, 1, 1]])
    model = RecVAERecommender(4, hidden_dim=4, max_iter=1, random_state=0).fit(dense)
    calls = [
        model.predict,
        model.recommend,
        model.score,
        model.fit,
        lambda y: model.score(np.zeros((4, 4)), y),
    ]
    for form, name in MALFORMED_CASES:
        answers = []
        for dtype in ("float32", "float64", "int64", "bool"):
            for call in calls:
                X = getattr(sp, form)(dense.astype(dtype))
                of_form = {
                    "coo_array": MALFORMED_COO,
                    "lil_array": MALFORMED_LIL,
                    "dia_array": MALFORMED_DIA,
                }
                exec(of_form.get(form, MALFORMED)[name])
                try:
                    call(X)
                except Exception as error:
                    answers.append(type(error).__name__)
                else:
                    answers.append("accepted")
        print(form, name, *sorted(set(answers)), sep=", ", flush=True)


@pytest.fixture(scope="module")
def answers_to_malformed():
    script = (
        f"import runpy; runpy.run_path({__file__!r})['print_answers_to_malformed']()"
    )
    process = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    return process.returncode, process.stdout.splitlines()


@pytest.mark.parametrize(("form", "name"), MALFORMED_CASES)
def test_malformed_sparse_matrix_is_a_value_error(answers_to_malformed, form, name):
    returncode, lines = answers_to_malformed
    assert f"{form}, {name}, ValueError" in lines, (
        f"the process ended with {returncode} after {lines[-1:]}"
    )


def test_malformed_sparse_matrix_does_not_crash_the_process(answers_to_malformed):
    assert answers_to_malformed[0] == 0


# Rows and matrices with nothing or little in them.


def test_empty_rows_have_finite_results(model):
    for X in (np.zeros((3, N_ITEMS)), sp.csr_array((3, N_ITEMS))):
        probabilities = model.predict(X)
        assert np.isfinite(probabilities).all()
        assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)
        assert np.isfinite(model.transform(X)).all()
        recommended, scores = model.recommend(X, 5, return_scores=True)
        assert np.isfinite(scores).all()
        assert len(set(recommended[0])) == 5
        with pytest.raises(ValueError, match="None of the 3 users can be evaluated"):
            model.score(X)


def test_empty_rows_among_others_change_nothing_for_those(model, dense):
    mixed = sp.vstack([sp.csr_array((2, N_ITEMS)), dense, sp.csr_array((1, N_ITEMS))])
    assert_allclose(model.predict(mixed)[2:-1], model.predict(dense), rtol=1e-6)


def test_scores_of_an_empty_row_follow_popularity(record_property):
    X, _, _ = make_interactions(300, 50, mean_interactions=10, random_state=0)
    popularity = X.sum(axis=0)
    correlations = []
    for seed in range(3):
        model = recommender(max_iter=20, learning_rate=5e-3, random_state=seed).fit(X)
        scores = model.predict(sp.csr_array((1, 50)))[0]
        assert np.isfinite(scores).all()
        correlations.append(float(spearmanr(scores, popularity).statistic))
    record_property("empty_row_popularity_rank_correlation", correlations)
    print(f"rank correlation of an empty row's scores with popularity: {correlations}")
    assert min(correlations) > 0


@pytest.mark.parametrize("form", [np.asarray, sp.csr_array])
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_no_interactions_at_all(form, method):
    with pytest.raises(
        ValueError,
        match=r"X of shape \(5, 4\) has no interactions, expected at least one entry",
    ):
        getattr(recommender(), method)(form(np.zeros((5, 4))))


def test_a_matrix_of_explicit_zeros_has_no_interactions():
    X = sp.csr_array((np.zeros(3), [0, 1, 2], [0, 3]), shape=(1, 4))
    with pytest.raises(ValueError, match="no interactions"):
        recommender().fit(X)
    assert X.nnz == 3


@pytest.mark.parametrize(
    "shape", [(1, 5), (5, 1), (1, 1), (2, 2), (3, 20)], ids=lambda shape: str(shape)
)
@pytest.mark.parametrize("alternating", [True, False])
def test_tiny_matrices_work(shape, alternating):
    estimator = recommender(alternating=alternating, max_iter=3).fit(np.ones(shape))
    X = np.zeros((2, shape[1]))
    X[0, 0] = 1
    assert_allclose(estimator.predict(X).sum(axis=1), 1, rtol=1e-6)
    assert_array_equal(estimator.recommend(X, 1)[1] >= 0, [True])
    if shape[1] == 1:
        assert_array_equal(estimator.recommend(X, 2), [[-1, -1], [0, -1]])
        assert_array_equal(estimator.similar_items([0], 1), [[-1]])


def test_fewer_users_than_a_batch(dense):
    small = recommender(batch_size=1000).fit(dense)
    exact = recommender(batch_size=N_USERS).fit(dense)
    assert_array_equal(small.predict(dense), exact.predict(dense))


def test_training_users_left_empty_by_the_holdout_are_an_error_or_work():
    # One user with interactions, ten without: whoever is held out.
    X = np.zeros((11, 6))
    X[0] = 1
    for seed in range(6):
        estimator = recommender(
            early_stopping=True, validation_fraction=0.5, random_state=seed
        )
        try:
            estimator.fit(X)
        except ValueError as error:
            assert "validation users can be evaluated" in str(error)  # noqa: PT017
            continue
        assert np.isfinite(estimator.predict(X)).all()


def test_values_of_any_scale_are_the_same_input(model, dense):
    expected = model.predict(dense)
    for scale in (1e-30, 1e-10, 1e10, 1e30):
        assert_allclose(model.predict(dense * scale), expected, rtol=1e-4)


def test_values_near_the_smallest_float_are_the_same_input(model, dense):
    # These are multiples of the smallest float, so that nothing is rounded.
    tiny = dense * np.finfo(np.float32).smallest_subnormal
    assert_allclose(model.predict(tiny), model.predict(dense), rtol=1e-4)
    mixed = np.vstack([tiny, dense])
    assert_allclose(model.predict(mixed)[N_USERS:], model.predict(dense), rtol=1e-4)
    estimator = recommender().fit(mixed)
    assert np.isfinite(estimator.predict(mixed)).all()


def test_numbers_of_users_in_place_of_their_rows(model):
    with pytest.raises(ValueError, match=r"Reshape your data .* X\[\[0, 1, 2\]\]"):
        model.recommend([0, 1, 2])


# Parameters


WRONG = {
    "latent_dim": [0, -1, 2.5, "8", None, True, 2**31],
    "hidden_dim": [0, 1.0, 10**12],
    "n_hidden_layers": [0, "five"],
    "dense_connections": ["yes", 2],
    "gamma": [-0.1, np.nan, np.inf, "auto", 10**400],
    "beta": [-0.1, np.nan],
    "prior_weights": [None, 0.3, "abc"],
    "noise_rate": [-0.1, 1, 1.5, None],
    "decoder_noise": ["no"],
    "alternating": [None],
    "n_encoder_epochs": [0, 1.5],
    "n_decoder_epochs": [0],
    "max_iter": [0, -1, 1.5, None],
    "batch_size": [0, -5, "all", 1.5, None, True],
    "learning_rate": [0, -1e-3, np.nan, np.inf, "auto", 10**400],
    "ema_decay": [-0.1, 1, np.nan, None],
    "slim_interval": [0, 1.5, "auto"],
    "slim_regularization": [0, -1, np.nan, np.inf, None, 10**400],
    "slim_min_count": [-1, 2.5, None],
    "early_stopping": ["auto"],
    "validation_fraction": [0, 1, -0.5, 1.5],
    "n_iter_no_change": [0, 2.5],
    "warm_start": [None],
    "device": [None, 0],
    "precision": ["float64", "bf16", None],
    "random_state": ["seed", -1.5, np.random.default_rng(0)],
    "verbose": [-1, "loud"],
}


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name, values in WRONG.items() for value in values],
    ids=lambda value: str(value)[:20],
)
def test_parameter_out_of_range_is_an_error_of_fit_alone(dense, name, value):
    estimator = recommender(**{name: value})
    estimator.set_params(**{name: value})
    for method in (estimator.fit, estimator.partial_fit):
        with pytest.raises(InvalidParameterError, match=f"'{name}' parameter of RecV"):
            method(dense)


def test_small_integers_of_numpy_do_not_wrap(dense):
    expected = recommender(latent_dim=100, batch_size=20).fit(dense).predict(dense)
    small = recommender(latent_dim=np.int8(100), batch_size=np.int8(20)).fit(dense)
    assert_array_equal(small.predict(dense), expected)


@pytest.mark.parametrize("k", [True, 0, 5_000_000_000])
def test_length_of_lists_out_of_range(model, dense, k):
    for rank in (
        lambda: model.recommend(dense, k),
        lambda: model.explain(dense, np.zeros(N_USERS, dtype=int), k),
        lambda: model.similar_items([0], k),
        lambda: model.similar_users(dense, k),
        lambda: EASERecommender().fit(dense).similar_items([0], k),
    ):
        with pytest.raises(InvalidParameterError, match="'k' parameter of"):
            rank()


@pytest.mark.parametrize("n_items", [10**12, True])
def test_number_of_new_items_out_of_range(model, n_items):
    with pytest.raises(InvalidParameterError, match="'items' parameter of"):
        model.add_items(n_items)
    assert model.n_features_in_ == N_ITEMS


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_parameters_of_numpy_are_numbers_like_others(dense, dtype):
    model = recommender(gamma=dtype(0.25), learning_rate=dtype(0.125)).fit(dense)
    expected = recommender(gamma=0.25, learning_rate=0.125).fit(dense)
    assert_array_equal(model.predict(dense), expected.predict(dense))
    with pytest.raises(InvalidParameterError, match="gamma"):
        recommender(gamma=dtype(np.inf)).fit(dense)


def test_all_parameters_are_tried():
    assert set(WRONG) == set(RecVAERecommender().get_params())


@pytest.mark.parametrize(
    "weights",
    [
        (0.5, 0.5),
        (0.25, 0.25, 0.25, 0.25),
        (0.5, 0.5, 0.5),
        (1.5, -0.5, 0),
        (0, 0, 0),
        [[0.15, 0.75, 0.1]],
        (0.15, 0.75, 0.1 + 1e-5),
        (),
    ],
    ids=str,
)
def test_prior_weights_that_are_no_convex_combination(dense, weights):
    for method in ("fit", "partial_fit"):
        with pytest.raises(ValueError, match="prior_weights"):
            getattr(recommender(prior_weights=weights), method)(dense)


@pytest.mark.parametrize("weights", [(np.nan, 0.5, 0.5), ("a", "b", "c")])
def test_prior_weights_that_are_no_numbers(dense, weights):
    with pytest.raises(ValueError, match=r"prior_weights|could not convert string"):
        recommender(prior_weights=weights).fit(dense)


def test_prior_weights_may_miss_one_by_rounding(dense):
    weights = (0.1, 0.2, 0.7 + 5e-7)
    assert np.isfinite(
        recommender(prior_weights=weights).fit(dense).predict(dense)
    ).all()


def test_prior_weights_say_what_was_got(dense):
    with pytest.raises(
        ValueError, match=r"Got prior_weights=\(1, 1, 1\), expected thr"
    ):
        recommender(prior_weights=(1, 1, 1)).fit(dense)


def test_gamma_and_beta_exclude_each_other(dense):
    for method in ("fit", "partial_fit"):
        with pytest.raises(
            ValueError, match="gamma and beta are both None, expected o"
        ):
            getattr(recommender(gamma=None), method)(dense)
        with pytest.raises(
            ValueError, match=r"beta=0\.2 together with gamma=0\.005.*Set gamma=None"
        ):
            getattr(recommender(beta=0.2), method)(dense)
        # Zero is a weight.
        with pytest.raises(ValueError, match="together with gamma=0,"):
            getattr(recommender(gamma=0, beta=0), method)(dense)


def test_training_that_diverges_names_the_likely_cause(dense):
    for params in ({"alternating": True}, {"alternating": False}):
        with pytest.raises(
            ValueError, match=r"Training diverged in iteration \d+.*lower learning_rate"
        ):
            recommender(learning_rate=1e8, max_iter=5, **params).fit(dense)


def test_a_device_that_is_not_there(dense):
    for device in ("cuda:99", "cuda99", "tpu", "meta", ""):
        with pytest.raises(
            ValueError, match=f"device='{device}' was asked for, .* has: cpu.*'auto'"
        ):
            recommender(device=device).fit(dense)


def test_not_fitted_before_anything_else():
    for name in ("predict", "recommend", "score", "transform"):
        with pytest.raises(NotFittedError, match="not fitted yet"):
            getattr(recommender(), name)("nonsense")


def test_good_input_does_not_warn(dense):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        estimator = recommender().fit(sp.csr_matrix(dense))
        for method in (
            estimator.predict,
            estimator.recommend,
            estimator.score,
            estimator.transform,
        ):
            method(sp.coo_array(dense))
        estimator.partial_fit(dense.tolist())
    assert [str(warning.message) for warning in caught] == []


def test_network_that_does_not_fit_into_memory():
    X, _, _ = make_interactions(20, 10, random_state=0)
    model = RecVAERecommender(10**6, hidden_dim=10**7, n_hidden_layers=2)
    with pytest.raises(
        MemoryError, match=r"takes 1.*e?.* GB in training. Lower hidden"
    ):
        model.fit(X)
    assert not hasattr(model, "module_")


@pytest.mark.parametrize("sizes", [{"latent_dim": 2**31 - 1}, {}])
def test_size_that_no_memory_could_have(sizes):
    X, _, _ = make_interactions(20, 10, random_state=0)
    model = recommender(hidden_dim=2**31 - 1, **sizes)
    with pytest.raises(MemoryError, match=r"overflow.* GB in training. Lower hidden"):
        model.fit(X)


def test_new_items_that_do_not_fit_into_memory(model, monkeypatch):
    def build(*args, **kwargs):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr("sklearn_recvae._recvae.build_recvae", build)
    with pytest.raises(MemoryError, match=r"over 1000012 items takes 0.* GB"):
        model.add_items(1_000_000)
    assert model.n_features_in_ == N_ITEMS


def test_lists_that_do_not_fit_into_memory(model, dense, monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr("sklearn_recvae._ranking.np.full", fail)
    with pytest.raises(MemoryError, match=r"allocate memory Lower k, or ask"):
        model.recommend(dense)
    monkeypatch.undo()
    monkeypatch.setattr("sklearn_recvae._ranking.torch.full", fail)
    with pytest.raises(MemoryError, match=r"allocate memory Lower k, or ask"):
        model.similar_items([0])


def test_prediction_that_does_not_fit_into_memory(monkeypatch):
    X, _, _ = make_interactions(20, 10, random_state=0)
    model = RecVAERecommender(4, hidden_dim=8, max_iter=1).fit(X)

    def empty(*args, **kwargs):
        raise MemoryError("Unable to allocate 1. TiB for an array.")

    monkeypatch.setattr("sklearn_recvae._inference.np.empty", empty)
    with pytest.raises(MemoryError, match=r"1\. TiB for an array\. Use recommend"):
        model.predict(X)
