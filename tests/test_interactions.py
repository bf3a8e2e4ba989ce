"""From matrices to canonical CSR, and on to batches."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_allclose, assert_array_equal

from sklearn_recvae import RecVAERecommender
from sklearn_recvae._batches import InteractionTensors, as_tensor
from sklearn_recvae._interactions import as_csr, check_interactions

CPU = torch.device("cpu")
# Exact in float32: nothing, ones, counts, and fractions.
WEIGHTS = st.sampled_from([0.0, 0.0, 0.0, 1.0, 2.0, 5.0, 0.25, 2.0**-10, 300.0])
MATRICES = hnp.arrays(
    np.float64, hnp.array_shapes(min_dims=2, max_dims=2, max_side=6), elements=WEIGHTS
)


def tensors(dense):
    return InteractionTensors(as_csr(dense), CPU)


def densify(batch, values, n_items):
    dense = np.zeros((batch.n_rows, n_items))
    # Added, not set: an entry that occurred twice would show.
    np.add.at(dense, (batch.rows.numpy(), batch.items.numpy()), values.numpy())
    return dense


def normalized(dense):
    norms = np.linalg.norm(dense, axis=1, keepdims=True)
    return np.divide(dense, norms, out=np.zeros_like(dense), where=norms > 0)


@settings(deadline=None)
@given(dense=MATRICES, data=st.data())
def test_batch_holds_the_rows_asked_for(dense, data):
    n_users, n_items = dense.shape
    users = data.draw(st.lists(st.integers(0, n_users - 1), min_size=1, max_size=8))
    batch = tensors(dense).batch(torch.tensor(users))
    rows = dense[users]

    assert batch.n_rows == len(users)
    assert_array_equal(densify(batch, batch.values, n_items), np.float32(rows))
    assert_allclose(
        densify(batch, batch.inputs, n_items), normalized(rows), rtol=1e-6, atol=0
    )
    assert_allclose(batch.totals, rows.sum(axis=1), rtol=1e-6)
    counts = (rows > 0).sum(axis=1)
    assert_array_equal(batch.offsets, np.append(0, counts.cumsum()))
    assert_array_equal(batch.rows, np.repeat(np.arange(len(users)), counts))
    assert batch.offsets.dtype == batch.rows.dtype == batch.items.dtype == torch.int64
    assert batch.values.dtype == batch.inputs.dtype == torch.float32
    assert batch.totals.dtype == torch.float32


@settings(deadline=None)
@given(dense=MATRICES, batch_size=st.integers(1, 8), seed=st.integers(0, 9))
def test_batches_pass_over_every_user_once_in_order(dense, batch_size, seed):
    n_users, n_items = dense.shape
    order = np.random.default_rng(seed).permutation(n_users)
    for given_order, expected in [(None, np.arange(n_users)), (order, order)]:
        if given_order is not None:
            given_order = torch.tensor(given_order)
        seen = []
        for users, batch in tensors(dense).batches(batch_size, given_order):
            assert len(users) == batch.n_rows <= batch_size
            assert_array_equal(
                densify(batch, batch.values, n_items), np.float32(dense[users.numpy()])
            )
            seen.extend(users.tolist())
        assert_array_equal(seen, expected)


def test_input_of_a_binary_row_is_one_over_the_root_of_its_length():
    batch = tensors([[1, 1, 0, 1, 1], [0, 0, 0, 0, 0], [0, 0, 3, 4, 0]]).batch(
        torch.arange(3)
    )
    assert_allclose(batch.inputs, [0.5, 0.5, 0.5, 0.5, 0.6, 0.8])
    assert_array_equal(batch.totals, [4, 0, 7])
    assert_array_equal(batch.offsets, [0, 4, 4, 6])


@pytest.mark.parametrize("scale", [1e-25, 1e-12, 1e12, 1e25])
def test_inputs_do_not_depend_on_the_scale_of_a_row(scale):
    # Squares of such values are outside the range of float32.
    row = np.array([[3.0, 0.0, 4.0]]) * scale
    batch = tensors(row).batch(torch.arange(1))
    assert_allclose(batch.inputs, [0.6, 0.8], rtol=1e-6)


@settings(deadline=None)
@given(dense=MATRICES, rate=st.sampled_from([0.1, 0.5, 0.9]), seed=st.integers(0, 99))
def test_dropout_normalises_first_and_touches_the_inputs_alone(dense, rate, seed):
    n_users, n_items = dense.shape
    batch = tensors(dense).batch(torch.arange(n_users))
    before = [field.clone() for field in batch]
    noised = batch.dropout(rate, torch.Generator().manual_seed(seed))
    for field, value in zip(batch, before, strict=True):
        assert_array_equal(field, value)
    for name in ("offsets", "rows", "items", "values", "totals"):
        assert getattr(noised, name) is getattr(batch, name)
    # What stays is the clean entry, normalised by the *whole* row, over 1 - rate.
    kept = densify(noised, noised.inputs, n_items)
    expected = normalized(dense) / (1 - rate)
    assert_allclose(kept, np.where(kept != 0, expected, 0), rtol=1e-6)


def test_dropout_keeps_the_mean_and_drops_at_its_rate():
    n, rate = 40_000, 0.3
    batch = tensors(np.ones((1, n))).batch(torch.zeros(1, dtype=torch.int64))
    noised = batch.dropout(rate, torch.Generator().manual_seed(0))
    ratio = (noised.inputs / batch.inputs).numpy()
    values, counts = np.unique(ratio.round(5), return_counts=True)
    assert_allclose(values, [0, 1 / (1 - rate)], atol=1e-5)
    # Five standard errors of a share and of the mean of so many.
    share_error = np.sqrt(rate * (1 - rate) / n)
    assert_allclose(counts / n, [rate, 1 - rate], atol=5 * share_error)
    assert_allclose(ratio.mean(), 1, atol=5 * share_error / (1 - rate))


def test_dropout_is_a_function_of_its_generator():
    batch = tensors(np.ones((4, 50))).batch(torch.arange(4))
    global_state = torch.random.get_rng_state()
    generator = torch.Generator().manual_seed(3)
    first, second = batch.dropout(0.5, generator), batch.dropout(0.5, generator)
    again = batch.dropout(0.5, torch.Generator().manual_seed(3))
    assert_array_equal(first.inputs, again.inputs)
    assert (first.inputs != second.inputs).any()
    assert_array_equal(torch.random.get_rng_state(), global_state)


def test_dropout_of_rate_zero_changes_nothing():
    batch = tensors(np.ones((2, 3))).batch(torch.arange(2))
    assert batch.dropout(0, torch.Generator()) is batch


@settings(deadline=None)
@given(dense=MATRICES)
def test_by_item_is_the_transposed_batch(dense):
    n_users, n_items = dense.shape
    batch = tensors(dense).batch(torch.arange(n_users))
    entries = batch.by_item(batch.values, n_items)
    assert entries.offsets.dtype == entries.rows.dtype  # as embedding_bag wants them
    transposed = sp.csr_array(
        (entries.weights, entries.rows, entries.offsets), shape=(n_items, n_users)
    )
    assert_array_equal(transposed.toarray(), np.float32(dense).T)


@settings(deadline=None)
@given(dense=MATRICES)
def test_by_item_away_from_the_cpu_has_no_shape_that_depends_on_the_data(dense):
    # On the meta device there are no values: whatever asks for one raises.
    n_users, n_items = dense.shape
    batch = tensors(dense).batch(torch.arange(n_users))
    elsewhere = type(batch)(*(field.to("meta") for field in batch))
    entries = elsewhere.by_item(elsewhere.values, n_items)
    for got, expected in zip(
        entries, batch.by_item(batch.values, n_items), strict=True
    ):
        assert got.shape == expected.shape


@settings(deadline=None)
@given(dense=MATRICES, seed=st.integers(0, 99))
def test_without_empty_inputs_is_the_same_input_in_fewer_entries(dense, seed):
    n_users, n_items = dense.shape
    batch = tensors(dense).batch(torch.arange(n_users))
    noised = batch.dropout(0.5, torch.Generator().manual_seed(seed))
    shorter = noised.without_empty_inputs()
    assert (shorter.inputs != 0).all()
    assert_array_equal(
        densify(shorter, shorter.inputs, n_items),
        densify(noised, noised.inputs, n_items),
    )
    counts = np.bincount(shorter.rows.numpy(), minlength=n_users)
    assert_array_equal(shorter.offsets, np.append(0, counts.cumsum()))
    assert shorter.totals is noised.totals
    present = densify(shorter, shorter.inputs, n_items) > 0
    assert_array_equal(
        densify(shorter, shorter.values, n_items), np.where(present, dense, 0)
    )


@settings(deadline=None)
@given(dense=MATRICES, data=st.data())
def test_as_csr_is_canonical_whatever_it_is_given(dense, data):
    rows, columns = dense.nonzero()
    values = dense[rows, columns]
    # Every entry in two halves, in any order, and some explicit zeros between.
    order = data.draw(st.permutations(range(2 * len(rows))))
    rows, columns = np.tile(rows, 2)[order], np.tile(columns, 2)[order]
    values = np.tile(values / 2, 2)[order]
    shuffled = sp.coo_array(
        (
            np.append(values, [0, 0]),
            (np.append(rows, [0, 0]), np.append(columns, [0, 0])),
        ),
        shape=dense.shape,
    )
    for given_matrix in (dense, shuffled, _as_unsorted_csr(shuffled)):
        X = as_csr(given_matrix)
        assert isinstance(X, sp.csr_array)
        assert X.dtype == np.float32
        X.check_format()
        # Found out from the arrays, not remembered.
        fresh = sp.csr_array((X.data, X.indices, X.indptr), shape=X.shape)
        assert fresh.has_canonical_format
        assert X.data.all()
        assert_array_equal(X.toarray(), np.float32(dense))


def _as_unsorted_csr(X):
    """A CSR with the entries of each row as they stand in the COO: not canonical."""
    order = np.argsort(X.row, kind="stable")
    indptr = np.append(0, np.bincount(X.row, minlength=X.shape[0]).cumsum())
    return sp.csr_array((X.data[order], X.col[order], indptr), shape=X.shape)


def test_as_csr_does_not_copy_what_is_canonical_already():
    X = sp.csr_array(np.eye(3, dtype=np.float32))
    assert np.shares_memory(as_csr(X).data, X.data)
    assert np.shares_memory(as_csr(X).indices, X.indices)


def test_as_csr_names_the_matrix_in_errors():
    with pytest.raises(ValueError, match="y_true"):
        as_csr([[np.nan]], name="y_true")


def test_check_interactions_sets_or_checks_the_catalogue():
    estimator = RecVAERecommender()
    check_interactions(estimator, np.ones((2, 4)), reset=True)
    assert estimator.n_features_in_ == 4
    with pytest.raises(
        ValueError,
        match="X has 3 features, but RecVAERecommender is expecting 4 features",
    ):
        check_interactions(estimator, np.ones((2, 3)), reset=False)
    assert estimator.n_features_in_ == 4


def test_small_integers_do_not_overflow_when_duplicates_are_summed():
    for dtype in (np.int8, np.uint8, bool):
        count = 300
        X = sp.csr_array(
            (np.ones(count, dtype=dtype), np.zeros(count, dtype=int), [0, count]),
            shape=(1, 2),
        )
        assert_array_equal(as_csr(X).toarray(), [[300, 0]])
        assert_array_equal(as_csr(X.tocoo()).toarray(), [[300, 0]])
        assert X.nnz == count


@pytest.fixture
def every_warning():
    """Let torch warn each time of what it otherwise warns of once."""
    before = torch.is_warn_always_enabled()
    torch.set_warn_always(True)
    yield
    torch.set_warn_always(before)


@pytest.mark.parametrize("shape", [(3, 4), (0, 2), (5,)])
def test_tensor_shares_memory_that_is_read_only(shape, every_warning):
    array = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    address = array.__array_interface__["data"][0]
    array.flags.writeable = False
    tensor = as_tensor(array)
    assert tensor.shape == shape
    if array.size:
        assert tensor.data_ptr() == address
    del array  # the tensor keeps the memory
    assert tensor.flatten().tolist() == list(range(np.prod(shape)))
