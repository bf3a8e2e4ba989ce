"""Splits of users and of their interactions."""

from zipfile import ZipFile

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from sklearn_recvae._splitting import split_or_check_held_out
from sklearn_recvae.datasets import load_movielens
from sklearn_recvae.model_selection import (
    holdout_interactions,
    strong_generalization_split,
)


def random_matrix(seed=0, n_users=40, n_items=30, density=0.3):
    """Float32 CSR of weights 1 to 5, whose first three rows are explicit zeros."""
    rng = np.random.default_rng(seed)
    present = rng.random((n_users, n_items)) < density
    X = sp.csr_array(present * rng.integers(1, 6, size=present.shape), dtype=np.float32)
    X.data[: X.indptr[3]] = 0
    return X


def held_out_sets(X_held_out):
    return [set(row) for row in np.split(X_held_out.indices, X_held_out.indptr[1:-1])]


def snapshot(X):
    return [(a.dtype, a.tobytes()) for a in (X.data, X.indices, X.indptr)]


matrices = st.builds(
    random_matrix,
    seed=st.integers(0, 2**32 - 1),
    n_users=st.integers(4, 12),
    n_items=st.integers(1, 15),
    density=st.floats(0.05, 1),
)
fractions = st.floats(0.01, 0.99)
seeds = st.integers(0, 2**32 - 1)
property_test = settings(deadline=None, max_examples=50, derandomize=True)


# holdout_interactions


@property_test
@given(X=matrices, fraction=fractions, seed=seeds)
def test_holdout_partitions_every_row_exactly(X, fraction, seed):
    fold_in, held_out = holdout_interactions(X, fraction, seed)

    for part in (fold_in, held_out):
        assert isinstance(part, sp.csr_array)
        assert part.shape == X.shape
        assert part.dtype == np.float32
        assert part.has_canonical_format
        assert (part.data > 0).all()
    assert_array_equal((fold_in + held_out).toarray(), X.toarray())
    assert fold_in.multiply(held_out).nnz == 0


@property_test
@given(X=matrices, fraction=fractions, seed=seeds)
def test_holdout_counts(X, fraction, seed):
    _, held_out = holdout_interactions(X, fraction, seed)

    for n, n_out in zip(
        (X.toarray() > 0).sum(axis=1), np.diff(held_out.indptr), strict=True
    ):
        expected = 0 if n < 2 else min(max(round(fraction * n), 1), n - 1)
        assert n_out == expected


@property_test
@given(X=matrices, seed=seeds, data=st.data())
def test_holdout_depends_on_the_row_alone(X, seed, data):
    """Any selection of rows, in any order and repeated, is split alike."""
    rows = data.draw(st.lists(st.integers(0, X.shape[0] - 1), min_size=1))
    n_more = data.draw(st.integers(0, 5))
    fold_in, held_out = holdout_interactions(X, 0.3, seed)

    wider = sp.hstack([X, sp.csr_array((X.shape[0], n_more))], format="csr")
    fold_in_rows, held_out_rows = holdout_interactions(wider[rows], 0.3, seed)

    n_items = X.shape[1]
    assert_array_equal(fold_in_rows.toarray()[:, :n_items], fold_in.toarray()[rows])
    assert_array_equal(held_out_rows.toarray()[:, :n_items], held_out.toarray()[rows])


@property_test
@given(X=matrices, fraction=fractions, seed=seeds)
def test_holdout_leaves_the_input_alone_and_shares_no_memory(X, fraction, seed):
    before = snapshot(X)
    for part in holdout_interactions(X, fraction, seed):
        part.data[:] = -1
        part.indices[:] = 0
        part.indptr[:] = 0
    assert snapshot(X) == before


def test_holdout_shares_no_memory_where_nothing_is_held_out():
    X = sp.csr_array(np.eye(3, dtype=np.float32))
    fold_in, held_out = holdout_interactions(X)
    assert held_out.nnz == 0
    fold_in.data[:] = 7
    assert_array_equal(X.toarray(), np.eye(3))


def test_holdout_does_not_depend_on_the_representation():
    X = random_matrix(1)
    expected = holdout_interactions(X)[1].toarray()
    dense = X.toarray()
    rng = np.random.default_rng(0)

    coo = sp.coo_array(dense)
    shuffled = rng.permutation(coo.nnz)
    # Halves of every value as duplicate entries, in random order, and explicit zeros.
    zeros = np.argwhere(dense == 0)[:10].T
    rows = np.concatenate([coo.coords[0][shuffled], coo.coords[0], zeros[0]])
    columns = np.concatenate([coo.coords[1][shuffled], coo.coords[1], zeros[1]])
    values = np.concatenate([coo.data[shuffled] / 2, coo.data / 2, np.zeros(10)])
    messy = sp.coo_array((values, (rows, columns)), shape=X.shape)
    reversed_rows = sp.csr_array(X[:, ::-1])[:, ::-1]  # unsorted indices
    wide_index = sp.csr_array(X)
    wide_index.indices = wide_index.indices.astype(np.int64)
    wide_index.indptr = wide_index.indptr.astype(np.int64)

    for same in (
        dense,
        dense.tolist(),
        dense.astype(int),
        X.astype(np.float64),
        sp.csr_matrix(X),
        sp.csc_array(X),
        messy,
        reversed_rows,
        wide_index,
    ):
        assert_array_equal(holdout_interactions(same)[1].toarray(), expected)


def test_holdout_depends_on_the_presence_not_on_the_values():
    X = random_matrix(2)
    expected = holdout_interactions(X)[1].toarray() > 0
    for other in (X > 0, X * 3.5):
        assert_array_equal(holdout_interactions(other)[1].toarray() > 0, expected)


def test_holdout_is_a_fixed_function_of_the_seed():
    """Pinned: a change would silently change every published score."""
    X = np.ones((2, 10))
    X[1, 3] = 0
    _, held_out = holdout_interactions(X, 0.3, 0)
    assert held_out_sets(held_out) == [{3, 4, 6}, {4, 5, 7}]
    _, again = holdout_interactions(X, 0.3, np.random.RandomState(0))
    assert_array_equal(again.toarray(), held_out.toarray())


def test_holdout_seeds():
    X = np.ones((1, 1000))
    one, same, other = (
        holdout_interactions(X, random_state=seed)[1].toarray() for seed in (1, 1, 2)
    )
    assert_array_equal(one, same)
    assert 0.02 < (one * other).mean() < 0.06  # independent choices: 0.04
    # A generator moves on, and None is another seed in every call.
    for moving in (np.random.RandomState(0), None):
        first, second = (holdout_interactions(X, 0.2, moving)[1] for _ in range(2))
        assert (first != second).nnz


def test_holdout_leaves_the_global_random_state_alone():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    holdout_interactions(np.ones((3, 4)), random_state=3)
    assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_holdout_chooses_uniformly():
    n_users = 4000
    rng = np.random.default_rng(0)
    X = (rng.random((n_users, 20)) < 0.5).astype(np.float32)
    held_out = holdout_interactions(X, 0.25, 0)[1].toarray() > 0

    share = held_out.sum(axis=0) / X.sum(axis=0)
    expected = held_out.sum() / X.sum()
    error = np.sqrt(expected * (1 - expected) / (n_users / 2))
    assert np.abs(share - expected).max() < 4 * error
    # Pairs of items are held out together as often as independent draws would be.
    together = (held_out.T / 1.0) @ held_out
    both = X.T @ X
    pairs = (together / both)[np.triu_indices(20, 1)]
    assert np.abs(pairs - pairs.mean()).max() < 6 * np.sqrt(
        pairs.mean() / (n_users / 4)
    )


def test_holdout_of_a_large_catalogue_stays_sparse():
    shape = (50_000, 2_000_000)  # 400 GB if it were dense
    rng = np.random.default_rng(0)
    columns = rng.integers(shape[1], size=4 * shape[0], dtype=np.int32)
    indptr = np.arange(0, 4 * shape[0] + 1, 4, dtype=np.int32)
    X = sp.csr_array((np.ones(4 * shape[0], np.float32), columns, indptr), shape=shape)
    fold_in, held_out = holdout_interactions(X)
    assert fold_in.nnz + held_out.nnz == 200_000 - (X.nnz - (X > 0).nnz)
    assert held_out.indices.dtype == held_out.indptr.dtype == np.int32


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 1.5, "a", None])
def test_holdout_refuses_fractions_out_of_range(fraction):
    with pytest.raises(ValueError, match="'fraction' parameter of holdout_interactio"):
        holdout_interactions(np.ones((2, 2)), fraction)


def test_holdout_refuses_bad_matrices():
    with pytest.raises(ValueError, match="Negative values in data"):
        holdout_interactions([[1, -1]])
    with pytest.raises(ValueError, match="X contains NaN"):
        holdout_interactions([[1, np.nan]])
    with pytest.raises(ValueError, match="Expected 2D array"):
        holdout_interactions([1, 1])
    with pytest.raises(ValueError, match="'random_state' parameter"):
        holdout_interactions([[1, 1]], random_state="a")


# split_or_check_held_out


def test_held_out_none_is_the_split():
    X = random_matrix(3)
    X.eliminate_zeros()
    parts = split_or_check_held_out(X, None, fraction=0.4, random_state=7)
    expected = holdout_interactions(X, 0.4, 7)
    for part, expected_part in zip(parts, expected, strict=True):
        assert_array_equal(part.toarray(), expected_part.toarray())


def test_held_out_1d_is_ignored_with_a_warning():
    X = random_matrix(3)
    X.eliminate_zeros()
    expected = holdout_interactions(X, 0.4, 7)
    for y in (np.zeros(40), [0] * 40):
        with pytest.warns(UserWarning, match=r"1-D y is ignored.*shape \(40, 30\)"):
            parts = split_or_check_held_out(X, y, fraction=0.4, random_state=7)
        for part, expected_part in zip(parts, expected, strict=True):
            assert_array_equal(part.toarray(), expected_part.toarray())


@pytest.mark.parametrize("convert", [np.asarray, sp.csr_array, sp.coo_matrix])
def test_held_out_2d_is_taken_as_given(convert):
    X = sp.csr_array(np.array([[1, 0, 0], [0, 2, 0]], dtype=np.float32))
    y = np.array([[0, 0, 5], [0, 0, 0]])
    fold_in, held_out = split_or_check_held_out(X, convert(y))
    assert_array_equal(fold_in.toarray(), X.toarray())
    assert_array_equal(held_out.toarray(), y)


def test_held_out_overlap_counts_interactions_only():
    X = sp.csr_array(np.array([[1e-30, 1, 0]], dtype=np.float32))
    y = sp.csr_array(np.array([[1e-30, 1, 1]], dtype=np.float32))
    message = (
        "2 of the 3 held-out entries of y are also in X: those items can never be "
        "recommended because they are seen"
    )
    with pytest.raises(ValueError, match=message):
        split_or_check_held_out(X, y)
    y.data[:2] = 0  # explicit zeros
    assert split_or_check_held_out(X, y)[1].nnz == 1


def test_held_out_refuses_bad_matrices():
    X = sp.csr_array(np.eye(2, dtype=np.float32))
    with pytest.raises(ValueError, match=r"y has shape \(2, 3\), expected \(2, 2\)"):
        split_or_check_held_out(X, np.zeros((2, 3)))
    with pytest.raises(ValueError, match="Negative values in data"):
        split_or_check_held_out(X, [[0, -1], [0, 0]])
    with pytest.raises(ValueError, match="y contains NaN"):
        split_or_check_held_out(X, [[0, np.nan], [0, 0]])


# strong_generalization_split


@property_test
@given(X=matrices, fraction=fractions, seed=seeds, data=st.data())
def test_strong_split_is_the_protocol(X, fraction, seed, data):
    n_users = X.shape[0]
    n_val = data.draw(st.integers(0, n_users - 1))
    n_test = data.draw(st.integers(0, n_users - 1 - n_val))
    before = snapshot(X)
    try:
        split = strong_generalization_split(
            X, n_val, n_test, fraction=fraction, random_state=seed
        )
    except ValueError as error:
        assert "no interactions" in str(error) or "can be split" in str(error)  # noqa: PT017
        return
    finally:
        assert snapshot(X) == before
    X = X.toarray()

    assert len(split.train_users) == n_users - n_val - n_test
    assert len(split.val_users) <= n_val
    assert len(split.test_users) <= n_test
    users = np.concatenate([split.train_users, split.val_users, split.test_users])
    assert len(np.unique(users)) == len(users)

    assert_array_equal(
        split.kept_items, np.flatnonzero(X[split.train_users].sum(axis=0))
    )
    assert_array_equal(
        split.X_train.toarray(), X[split.train_users][:, split.kept_items]
    )
    for users, fold_in, held_out in (
        (split.val_users, split.X_val, split.y_val),
        (split.test_users, split.X_test, split.y_test),
    ):
        assert isinstance(fold_in, sp.csr_array)
        assert isinstance(held_out, sp.csr_array)
        rows = X[users][:, split.kept_items]
        assert_array_equal((fold_in + held_out).toarray(), rows)
        assert fold_in.multiply(held_out).nnz == 0
        n_out = [int(fraction * n) for n in (rows > 0).sum(axis=1)]
        assert_array_equal(np.diff(held_out.indptr), n_out)
        assert (np.diff(held_out.indptr) > 0).all()
        assert (np.diff(fold_in.indptr) > 0).all()


def test_strong_split_drops_exactly_the_users_with_an_empty_half():
    # Every user of X has its number of items; all of them are training items.
    X = np.tri(12, 12)
    X = np.vstack([X, np.ones((60, 12))])
    split = strong_generalization_split(X, 0, 50, random_state=0)
    drawn = np.setdiff1d(np.arange(72), split.train_users)
    assert len(drawn) == 50
    assert_array_equal(split.test_users, drawn[X[drawn].sum(axis=1) >= 5])
    assert len(split.test_users) < 50  # the example does drop some
    assert split.val_users.shape == (0,)
    assert split.X_val.shape == split.y_val.shape == (0, 12)


def test_strong_split_cuts_where_holdout_rounds():
    X = np.ones((3, 9))
    split = strong_generalization_split(X, 1, 1, random_state=0)
    assert split.y_val.nnz == split.y_test.nnz == 1  # int(1.8)
    assert holdout_interactions(X)[1].nnz == 3 * 2  # round(1.8)


def test_strong_split_chooses_per_user():
    """Users with equal rows are held out differently, and uniformly."""
    X = np.ones((2001, 10))
    split = strong_generalization_split(X, 1000, 1000, random_state=0)
    share = split.y_val.toarray().mean(axis=0)
    assert np.abs(share - 0.2).max() < 4 * np.sqrt(0.2 * 0.8 / 1000)
    assert len({frozenset(row) for row in held_out_sets(split.y_val)}) == 45  # 10 * 9/2


def test_strong_split_draws_users_uniformly():
    X = np.ones((30, 5))
    drawn = np.zeros(30)
    rng = np.random.RandomState(0)
    for _ in range(300):
        split = strong_generalization_split(X, 3, 6, random_state=rng)
        drawn[split.val_users] += 1
    assert np.abs(drawn / 300 - 0.1).max() < 4 * np.sqrt(0.1 * 0.9 / 300)


def test_strong_split_seeds():
    X = random_matrix(5, n_users=100, density=0.5)
    one, same, other = (
        strong_generalization_split(X, 20, 20, random_state=seed) for seed in (1, 1, 2)
    )
    assert set(one) == {
        "X_train",
        "X_val",
        "y_val",
        "X_test",
        "y_test",
        "kept_items",
        "train_users",
        "val_users",
        "test_users",
    }
    for name in one:
        first, second = one[name], same[name]
        if sp.issparse(first):
            first, second = first.toarray(), second.toarray()
        assert_array_equal(first, second)
    assert set(one.test_users) != set(other.test_users)


def published_split(ratings, n_heldout, seed):
    """The procedure of the paper's protocol, on a table as it is in the file."""
    users = np.sort(ratings["userId"].unique())
    users = users[np.random.RandomState(seed).permutation(len(users))]
    n_train = len(users) - 2 * n_heldout
    parts = np.split(users, [n_train, n_train + n_heldout])
    train = ratings[ratings["userId"].isin(parts[0])]
    pairs = [set(zip(train["userId"], train["movieId"], strict=True))]
    for part in parts[1:]:
        rows = ratings[
            ratings["userId"].isin(part) & ratings["movieId"].isin(train["movieId"])
        ]
        rng = np.random.RandomState(seed)
        fold_in, held_out = set(), set()
        for user, group in rows.groupby("userId"):
            n = len(group)
            if n < 5:
                continue
            chosen = rng.choice(n, size=int(0.2 * n), replace=False)
            items = group["movieId"].to_numpy()
            held_out |= {(user, item) for item in items[chosen]}
            fold_in |= {(user, item) for item in np.delete(items, chosen)}
        pairs += [fold_in, held_out]
    return pairs


def test_strong_split_is_the_published_one_to_the_letter(data_dir):
    path = data_dir / "ml-latest-small" / "ml-latest-small.zip"
    movielens = load_movielens(path)
    split = strong_generalization_split(movielens.data, 50, 50, random_state=98765)
    with ZipFile(path) as archive:
        ratings = pd.read_csv(archive.open("ml-latest-small/ratings.csv"))
    ratings = ratings[ratings["rating"] > 3.5]
    ratings = ratings[ratings.groupby("userId")["movieId"].transform("size") >= 5]
    expected = published_split(ratings, 50, 98765)

    item_ids = movielens.item_ids[split.kept_items]
    assert set(item_ids) == {item for _, item in expected[0]}
    for pairs, name, users in zip(
        expected,
        ["X_train", "X_val", "y_val", "X_test", "y_test"],
        ["train_users", "val_users", "val_users", "test_users", "test_users"],
        strict=True,
    ):
        rows, columns = split[name].nonzero()
        user_ids = movielens.user_ids[split[users]]
        got = set(zip(user_ids[rows].tolist(), item_ids[columns].tolist(), strict=True))
        assert got == pairs
        assert len(pairs) > 300


def test_strong_split_of_columns_without_number():
    X = sp.csr_array(random_matrix(density=0.3))
    items = np.sort(np.random.default_rng(0).choice(2**43, X.shape[1], replace=False))
    arrays = X.data, items[X.indices], X.indptr.astype(np.int64)
    wide = sp.csr_array(arrays, shape=(X.shape[0], 2**43))
    split, expected = (
        strong_generalization_split(matrix, 5, 5, random_state=0)
        for matrix in (wide, X)
    )
    assert_array_equal(split.kept_items, items[expected.kept_items])
    for name in ("X_train", "X_val", "y_val", "X_test", "y_test"):
        assert_array_equal(split[name].toarray(), expected[name].toarray())


def test_strong_split_errors():
    X = np.ones((5, 6))
    with pytest.raises(
        ValueError,
        match=r"n_val \+ n_test = 2 \+ 3 = 5 leaves no training user: X has 5 rows, "
        r"expected n_val \+ n_test < 5\. Lower",
    ):
        strong_generalization_split(X, 2, 3)
    with pytest.raises(
        ValueError,
        match=r"None of the 2 validation users can be split: they have at most 4 "
        r"interactions .* expected at least 5 .* Raise fraction",
    ):
        strong_generalization_split(np.ones((5, 4)), 2, 1)
    with pytest.raises(ValueError, match="None of the 1 test users can be split"):
        strong_generalization_split(np.ones((5, 4)), 0, 1)
    with pytest.raises(
        ValueError, match="The 4 training users drawn have no interactions, expected"
    ):
        strong_generalization_split(np.zeros((5, 4)), 0, 1)
    with pytest.raises(ValueError, match="'n_val' parameter of strong_generalization"):
        strong_generalization_split(X, -1, 1)
    with pytest.raises(ValueError, match="'n_test' parameter of strong_generalization"):
        strong_generalization_split(X, 1, 0.2)
    with pytest.raises(ValueError, match="'fraction' parameter of strong_general"):
        strong_generalization_split(X, 1, 1, fraction=1)
    with pytest.raises(ValueError, match="Negative values in data"):
        strong_generalization_split(-X, 1, 1)


def test_strong_split_of_ml_1m(data_dir):
    """Of the size of the reference split, which follows the same rules."""
    X = sp.load_npz(data_dir / "ml-1m" / "interactions.npz")
    split = strong_generalization_split(X, 600, 600, random_state=0)
    reference = {
        path.stem: sp.load_npz(path)
        for path in (data_dir / "ml-1m" / "split").glob("*.npz")
    }
    assert split.X_train.shape[0] == reference["train"].shape[0] == 4834
    assert abs(len(split.kept_items) - reference["train"].shape[1]) < 30
    parts = [
        (split.X_val, split.y_val),
        (split.X_test, split.y_test),
        (reference["val_fold_in"], reference["val_held_out"]),
        (reference["test_fold_in"], reference["test_held_out"]),
    ]
    for fold_in, held_out in parts:
        assert fold_in.shape[0] == held_out.shape[0] == 600
        n_out = np.diff(held_out.indptr)
        n = np.diff(fold_in.indptr) + n_out
        assert_array_equal(n_out, (0.2 * n).astype(int))
        assert fold_in.multiply(held_out).nnz == 0
        assert abs(held_out.nnz / (held_out.nnz + fold_in.nnz) - 0.2) < 0.01


def test_holdout_of_ml_1m(data_dir):
    X = sp.load_npz(data_dir / "ml-1m" / "interactions.npz")
    fold_in, held_out = holdout_interactions(X)
    assert fold_in.nnz + held_out.nnz == X.nnz
    assert abs(held_out.nnz / X.nnz - 0.2) < 0.001
    rows = np.random.default_rng(0).permutation(X.shape[0])[:1000]
    assert (holdout_interactions(X[rows])[1] != held_out[rows]).nnz == 0
