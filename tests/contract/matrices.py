"""Interaction matrices in every container, what is refused, and what is damaged."""

import copy
import tempfile

import numpy as np
import pandas as pd
import scipy.sparse as sp

FORMATS = ("csr", "csc", "coo", "lil", "dok", "dia", "bsr")


def small_matrix():
    """Counts, with an empty row and an empty column."""
    dense = np.random.default_rng(0).integers(0, 3, (20, 12)).astype(float)
    dense[dense == 1] *= np.random.default_rng(1).random(dense.shape)[dense == 1] > 0.3
    dense[3] = 0
    dense[:, 5] = 0
    return dense


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
    places = np.tile(rows, 2)[order], np.tile(columns, 2)[order]
    return sp.coo_array((np.tile(halves, 2)[order], places), shape=dense.shape)


def coo_as_csr(X):
    """To CSR without the sum of duplicates that `tocsr` takes."""
    order = np.argsort(X.row, kind="stable")
    counts = np.bincount(X.row, minlength=X.shape[0])
    arrays = X.data[order], X.col[order], np.append(0, counts.cumsum())
    return sp.csr_array(arrays, shape=X.shape)


def with_explicit_zeros(dense, dtype=np.float64):
    every = sp.coo_array(np.ones_like(dense))
    values = dense[every.row, every.col].astype(dtype)
    return coo_as_csr(sp.coo_array((values, (every.row, every.col)), dense.shape))


def with_long_indices(X):
    X = X.copy()
    X.indices, X.indptr = X.indices.astype(np.int64), X.indptr.astype(np.int64)
    return X


def reversed_in_memory(dense):
    """CSR whose arrays are views that run backwards."""
    X = sp.csr_array(dense.astype(np.float32))
    data, indices = X.data[::-1].copy()[::-1], X.indices[::-1].copy()[::-1]
    X.data, X.indices = data, indices
    return X


def mapped(array):
    """Give the numbers as a part of a file, which cannot be written to."""
    with tempfile.TemporaryFile() as file:
        array.tofile(file)
        return np.memmap(file, array.dtype, "r", shape=array.shape)


def mapped_csr(X):
    return sp.csr_array((mapped(X.data), mapped(X.indices), mapped(X.indptr)), X.shape)


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
    "memory map": mapped,
    "memory map of float32": lambda dense: mapped(dense.astype(np.float32)),
    "DataFrame": lambda dense: pd.DataFrame(dense),
    "DataFrame of int": lambda dense: pd.DataFrame(dense.astype(np.int8)),
    "nullable DataFrame": lambda dense: pd.DataFrame(dense.astype(int)).astype("Int64"),
    "sparse DataFrame": lambda dense: pd.DataFrame.sparse.from_spmatrix(
        sp.csr_matrix(dense)
    ),
    **{
        f"{form}_{kind}": getattr(sp, f"{form}_{kind}")
        for form in FORMATS
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
    "mapped csr": lambda dense: mapped_csr(sp.csr_array(dense.astype(np.float32))),
    "mapped, unsorted": lambda dense: mapped_csr(unsorted_csr(dense, np.float32)),
    "mapped, explicit zeros": lambda dense: mapped_csr(with_explicit_zeros(dense)),
}
# For a matrix of zeros and ones.
BOOL_CONTAINERS = {
    "bool": lambda dense: dense > 0,
    **{
        f"bool {form}": lambda dense, form=form: getattr(sp, f"{form}_array")(dense > 0)
        for form in ("csr", "csc", "coo")
    },
}


def frozen_state(X):
    """Everything of X that could change, as bytes and values."""
    if isinstance(X, list):
        return copy.deepcopy(X)
    if isinstance(X, pd.DataFrame):
        parts = X.to_numpy(), X.dtypes, X.columns, X.index
        return [part.tolist() for part in parts]
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


def duplicates(dtype, form):
    """Give a matrix that is SUMMED_DUPLICATES, with entries of 1 again and again."""
    # (0, 1) twice, True + True is 2; (1, 2) so often that an int8 would overflow.
    rows = np.array([0, 0, 0] + [1] * 201)
    columns = np.array([1, 1, 4] + [2] * 200 + [0])
    ones = np.ones(len(rows), dtype=dtype)
    shape = (2, 12)
    X = sp.coo_array((ones, (rows, columns)), shape=shape)
    if form == "csr":
        X = coo_as_csr(X)
    elif form == "csc":
        X = coo_as_csr(sp.coo_array((ones, (columns, rows)), shape=shape[::-1])).T
    elif form == "bsr":
        X = sp.bsr_array((ones[:, None, None], columns, [0, 3, len(rows)]), shape=shape)
    assert (X.format, X.nnz) == (form, len(rows))
    return X


SUMMED_DUPLICATES = np.zeros((2, 12))
SUMMED_DUPLICATES[[0, 0, 1, 1], [1, 4, 2, 0]] = 2, 1, 200, 1


# Refused: what is no matrix of non-negative finite numbers.


def nothing_but(value):
    X = small_matrix()
    X[1, 2] = value
    return X


def refused():
    """Give what is no interaction matrix, its error and a part of the message."""
    n_items = small_matrix().shape[1]
    no_numbers = np.full((2, n_items), {}, dtype=object)
    dense = {
        "NaN": (nothing_but(np.nan), ValueError, "contains NaN"),
        "inf": (nothing_but(np.inf), ValueError, "contains infinity"),
        "negative": (nothing_but(-1), ValueError, "Negative values in data"),
        "complex": (nothing_but(1) * 1j, ValueError, "Complex data not supported"),
    }
    forms = ("csr_array", "csr_matrix", "csc_array", "coo_array")
    sparse = {
        f"{name}, {form}": (getattr(sp, form)(X), error, message)
        for name, (X, error, message) in dense.items()
        for form in forms
    }
    return {
        **dense,
        **sparse,
        "negative int": (
            sp.csr_array(nothing_but(-1).astype(int)),
            ValueError,
            "Negative values in data",
        ),
        "1-D": (np.ones(n_items), ValueError, "Expected 2D array, got 1D array"),
        "scalar": (3.0, ValueError, "Expected 2D array, got scalar array"),
        "numbers of users": ([0, 1, 2], ValueError, r"Reshape .* X\[\[0, 1, 2\]\]"),
        "3-D": (np.ones((2, n_items, 2)), ValueError, "Found array with dim 3"),
        "objects": (no_numbers, TypeError, "argument must be .*string.* number"),
        "strings": (np.full((2, n_items), "a"), ValueError, "could not convert string"),
        "string": ("a", ValueError, "Expected 2D array|could not convert string"),
        "None": (None, ValueError, "got scalar|NoneType|dtype='numeric'"),
        "no users": (np.empty((0, n_items)), ValueError, "0 sample"),
        "no items": (np.empty((3, 0)), ValueError, r"0 feature\(s\)"),
        "ragged": ([[1, 0], [1]], ValueError, "inhomogeneous"),
    }


# Arrays of a sparse matrix that contradict each other. Native code believes them, and
# may end the process.


def _set(attribute, place, value):
    def damage(X):
        getattr(X, attribute)[place] = value

    return damage


def _set_first_of_row(value):
    def damage(X):
        X.rows[0][0] = value

    return damage


_POINTERS_AND_INDICES = {
    "indptr too large in the middle": _set("indptr", 1, 2**30),
    "indptr that decreases": lambda X: _set("indptr", 1, X.indptr[2] + 1)(X),
    "indptr too large at the end": _set("indptr", -1, 2**30),
    "indptr that does not begin with 0": _set("indptr", 0, 1),
    "indptr negative at the end": _set("indptr", -1, -5),
    "indptr of nothing at the end": _set("indptr", -1, 0),
    "index one too large": _set("indices", 0, 4),
    "index far too large": _set("indices", 0, 2**30),
    "negative index": _set("indices", 0, -1),
    "far too negative index": _set("indices", 0, -(2**30)),
}
_DAMAGES = {
    "csr_array": _POINTERS_AND_INDICES,
    "csc_array": _POINTERS_AND_INDICES,
    "coo_array": {
        "row too large": _set("row", 0, 4),
        "row far too large": _set("row", 0, 2**30),
        "negative row": _set("row", 0, -1),
        "column too large": _set("col", 0, 4),
        "negative column": _set("col", 0, -(2**30)),
    },
    "lil_array": {
        "index too large": _set_first_of_row(4),
        "index far too large": _set_first_of_row(2**70),
        "negative index": _set_first_of_row(-5),
        "fewer values than indices": lambda X: X.data[0].pop(),
        "more values than indices": lambda X: X.rows[0].pop(),
    },
    "dia_array": {
        "a diagonal twice": lambda X: _set("offsets", 0, X.offsets[1])(X),
        "fewer diagonals than offsets": lambda X: setattr(X, "data", X.data[1:]),
    },
}
SQUARE = np.array([[1, 1, 0, 0], [0, 1, 1, 0], [1, 0, 0, 1], [1, 1, 1, 1]])


def malformed():
    """Yield a name and a sparse matrix of shape (4, 4) that is damaged."""
    for form, damages in _DAMAGES.items():
        for name, damage in damages.items():
            for dtype in ("float32", "float64", "int64", "bool"):
                X = getattr(sp, form)(SQUARE.astype(dtype))
                damage(X)
                yield f"{name}, {form} of {dtype}", X
