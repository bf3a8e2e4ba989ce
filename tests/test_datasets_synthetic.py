"""Interactions that are made up, and whose tastes are known."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from sklearn_recvae.datasets import make_interactions


def test_make_interactions():
    X, user_groups, item_groups = make_interactions(random_state=0)
    assert isinstance(X, sp.csr_array)
    assert X.shape == (1000, 500)
    assert X.dtype == np.float32
    assert X.indices.dtype == np.int32
    assert (X.data == 1).all()
    assert sp.csr_array((X.data, X.indices, X.indptr)).has_canonical_format
    np.testing.assert_array_equal(np.bincount(user_groups), [200] * 5)
    np.testing.assert_array_equal(np.bincount(item_groups), [100] * 5)

    per_user = X.sum(axis=1)
    assert per_user.min() >= 5
    assert 25 < per_user.mean() < 35
    assert np.median(per_user) < 0.9 * per_user.mean()
    users, items = X.nonzero()
    assert 0.8 < (user_groups[users] == item_groups[items]).mean() < 0.95


def test_popularity_is_skewed_and_unrelated_to_the_index():
    X, _, item_groups = make_interactions(5000, 500, random_state=0)
    popularity = X.sum(axis=0)
    assert np.sort(popularity)[-50:].mean() > 4 * np.median(popularity)
    assert abs(np.corrcoef(np.arange(500), popularity)[0, 1]) < 0.15
    assert abs(np.corrcoef(np.arange(500), item_groups)[0, 1]) < 0.15


@pytest.mark.parametrize(("noise", "least_gain"), [(0.1, 2.0), (1.0, None)])
def test_groups_tell_more_than_popularity(noise, least_gain):
    """Popularity within the group finds the interactions of other users far better."""
    X, user_groups, _ = make_interactions(2000, noise=noise, random_state=0)
    train, test = X[:1000], X[1000:]
    overall = np.argsort(-train.sum(axis=0))[:20]
    n_overall = n_group = 0
    for group in range(5):
        best = np.argsort(-train[user_groups[:1000] == group].sum(axis=0))[:20]
        of_group = test[user_groups[1000:] == group]
        n_overall += of_group[:, overall].sum()
        n_group += of_group[:, best].sum()
    if least_gain is None:
        assert n_group < 1.02 * n_overall
    else:
        assert n_group > least_gain * n_overall


def test_make_interactions_is_seeded():
    def draw(random_state):
        return make_interactions(50, 40, random_state=random_state)

    first, again, other = draw(3), draw(np.random.RandomState(3)), draw(4)
    for one, two in zip(first[1:], again[1:], strict=True):
        np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(first[0].toarray(), again[0].toarray())
    assert (first[0].toarray() != other[0].toarray()).any()


@given(
    n_users=st.integers(1, 30),
    n_items=st.integers(1, 30),
    n_groups=st.integers(1, 30),
    mean_interactions=st.floats(1, 1000),
    noise=st.floats(0, 1),
    random_state=st.integers(0, 1000),
)
@settings(max_examples=100, deadline=None)
def test_make_interactions_of_any_size(
    n_users, n_items, n_groups, mean_interactions, noise, random_state
):
    n_groups = min(n_groups, n_items)
    X, user_groups, item_groups = make_interactions(
        n_users,
        n_items,
        n_groups=n_groups,
        mean_interactions=mean_interactions,
        noise=noise,
        random_state=random_state,
    )
    X.check_format(full_check=True)
    assert X.shape == (n_users, n_items)
    assert user_groups.shape == (n_users,)
    assert set(item_groups.tolist()) == set(range(n_groups))
    per_user = X.sum(axis=1)
    assert per_user.min() >= 1
    assert per_user.max() <= n_items // n_groups
    if noise == 0:
        users, items = X.nonzero()
        assert (user_groups[users] == item_groups[items]).all()


def test_make_interactions_is_sparse_throughout():
    """A matrix that would take 80 GB as a dense array."""
    X, _, _ = make_interactions(
        100_000, 200_000, n_groups=50, mean_interactions=5, random_state=0
    )
    assert X.shape == (100_000, 200_000)
    assert X.nnz == pytest.approx(500_000, rel=0.01)


def test_parameters_of_make_interactions():
    with pytest.raises(ValueError, match="n_groups=5 is more than n_items=4"):
        make_interactions(10, 4)
    for parameter, value in [
        ("n_users", 0),
        ("n_items", 2.5),
        ("n_groups", 0),
        ("mean_interactions", 0.5),
        ("mean_interactions", np.inf),
        ("noise", 1.1),
        ("random_state", "seed"),
    ]:
        with pytest.raises(ValueError, match=f"The '{parameter}' parameter of make_"):
            make_interactions(**{parameter: value})
