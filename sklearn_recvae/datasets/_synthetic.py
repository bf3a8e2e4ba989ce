"""Make a synthetic data set with known tastes."""

from numbers import Integral, Real

import numpy as np
from scipy.sparse import csr_array
from sklearn.utils import check_random_state

from sklearn_recvae._sklearn import Interval, validate_params


@validate_params(
    {
        "n_users": [Interval(Integral, 1, None, closed="left")],
        "n_items": [Interval(Integral, 1, None, closed="left")],
        "n_groups": [Interval(Integral, 1, None, closed="left")],
        "mean_interactions": [Interval(Real, 1, None, closed="left")],
        "noise": [Interval(Real, 0, 1, closed="both")],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def make_interactions(
    n_users=1000,
    n_items=500,
    *,
    n_groups=5,
    mean_interactions=30,
    noise=0.1,
    random_state=None,
):
    """Draw interactions of users that belong to known groups of taste.

    Users and items are assigned at random to groups of equal size. A user has a
    log-normal number of interactions, at least 5 if that is possible. Most of them are
    with items of the user's own group, where popularity follows Zipf's law.

    Parameters
    ----------
    n_users : int, default=1000
        Number of rows, in the range `[1, inf)`.
    n_items : int, default=500
        Number of columns, in the range `[1, inf)`.
    n_groups : int, default=5
        Number of groups of taste, in the range `[1, n_items]`.
    mean_interactions : float, default=30
        Mean number of interactions of a user, in the range `[1, inf)`. Met roughly, as
        no user has more of them than a group has items.
    noise : float, default=0.1
        Share of the draws that go to a group picked at random instead of the user's
        own, in the range `[0, 1]`. With 1 there is no taste to learn.
    random_state : int, RandomState instance or None, default=None
        Pass an int for the same result at every call.

    Returns
    -------
    X : csr_array of shape (n_users, n_items)
        Float32 ones at the interactions, in canonical format.
    user_groups : ndarray of shape (n_users,)
        The group of each user.
    item_groups : ndarray of shape (n_items,)
        The group of each item.

    Examples
    --------
    >>> from sklearn_recvae.datasets import make_interactions
    >>> X, user_groups, item_groups = make_interactions(200, 60, random_state=0)
    >>> users, items = X.nonzero()
    >>> bool((user_groups[users] == item_groups[items]).mean() > 0.7)
    True
    """
    if n_groups > n_items:
        raise ValueError(f"n_groups={n_groups} is more than n_items={n_items}.")
    rng = check_random_state(random_state)
    user_groups = rng.permutation(np.arange(n_users) % n_groups)
    # Items are drawn by their place in a list sorted by group and then by popularity.
    place_groups = np.sort(np.arange(n_items) % n_groups)
    place_items = rng.permutation(n_items)
    item_groups = np.empty_like(place_groups)
    item_groups[place_items] = place_groups

    most = n_items // n_groups
    least = min(5, mean_interactions, most)
    spread = np.exp(rng.standard_normal(n_users) - 0.5)  # log-normal of mean 1
    n_wanted = np.rint(least + (mean_interactions - least) * spread)
    n_wanted = np.minimum(n_wanted, most).astype(np.int64)
    n_drawn = np.zeros_like(n_wanted)
    pairs = np.empty(0, dtype=np.int64)  # user * n_items + item, ascending
    # Repeated draws are replaced, but not for ever: the last unseen items are rare.
    for _ in range(5):
        users = np.repeat(np.arange(n_users, dtype=np.int64), n_wanted - n_drawn)
        places = _draw_places(rng, user_groups[users], place_groups, noise)
        pairs = np.append(pairs, users * n_items + place_items[places])
        pairs.sort()
        pairs = pairs[np.diff(pairs, prepend=-1) > 0]  # much faster than np.unique
        n_drawn = np.bincount(pairs // n_items, minlength=n_users)
    indices = (pairs % n_items).astype(np.int32)
    indptr = np.append(0, np.cumsum(n_drawn)).astype(np.int32)
    data = np.ones_like(indices, dtype=np.float32)
    X = csr_array((data, indices, indptr), shape=(n_users, n_items))
    return X, user_groups, item_groups


def _draw_places(rng, groups, place_groups, noise):
    """Draw one place in the list of items for each entry of groups."""
    sizes = np.bincount(place_groups)
    starts = np.cumsum(sizes) - sizes
    astray = rng.random_sample(groups.size) < noise
    groups = np.where(astray, rng.randint(sizes.size, size=groups.size), groups)
    # Zipf's law: a uniform log(rank) gives rank r a probability ~ log(1 + 1/r) ~ 1/r.
    # The minimum is for a power that is rounded up to the end of its range.
    rank = (1 + sizes[groups]) ** rng.random_sample(groups.size)
    return starts[groups] + np.minimum(rank.astype(np.int64), sizes[groups]) - 1
