"""Splits of an interaction matrix: within a user, and between users."""

import copy
import warnings
from numbers import Integral, Real

import numpy as np
from scipy.sparse import csr_array, issparse
from sklearn.utils import Bunch, check_random_state
from sklearn.utils._param_validation import Interval, validate_params

from sklearn_recvae.interactions import as_csr

__all__ = ["holdout_interactions", "strong_generalization_split"]


@validate_params(
    {
        "X": ["array-like", "sparse matrix"],
        "fraction": [Interval(Real, 0, 1, closed="neither")],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def holdout_interactions(X, fraction=0.2, random_state=0):
    """Split the interactions of every user into a fold-in and a held-out part.

    Of a user with n interactions, ``clip(round(fraction * n), 1, n - 1)`` are held
    out, so that both parts keep at least one. A user with fewer than two interactions
    cannot be split: all of the row is fold-in and its held-out row is empty.

    The choice depends on the seed and on the row's own set of items, and on nothing
    else: not on the order of the rows, on the other users, or on the values. A
    cross-validated score therefore compares all candidates on the same held-out items,
    whatever the fold. The cost: users with identical item sets get identical held-out
    items.

    Parameters
    ----------
    X : {array-like, sparse matrix} of shape (n_users, n_items)
        Interactions. An entry > 0 is an interaction, an explicit zero is none, and
        duplicate entries are summed. It is never changed.
    fraction : float, default=0.2
        Share of each user's interactions to hold out, in the open range (0, 1).
    random_state : int, RandomState instance or None, default=0
        Seed of the choice. An int gives the same split in every call.

    Returns
    -------
    X_fold_in : csr_array of shape (n_users, n_items)
        What the recommender is told about each user, float32.
    X_held_out : csr_array of shape (n_users, n_items)
        What it should recommend, float32. The two parts share no entry, and their sum
        is X.

    Raises
    ------
    ValueError
        If X is not a matrix of finite, non-negative numbers, or a parameter is out of
        its range.

    See Also
    --------
    strong_generalization_split : Split between users, then within the held-out ones.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_recvae.model_selection import holdout_interactions
    >>> X = np.array([[1, 1, 1, 1, 1], [1, 0, 1, 0, 0], [0, 0, 0, 0, 1]])
    >>> X_fold_in, X_held_out = holdout_interactions(X, fraction=0.4)
    >>> np.diff(X_held_out.indptr).tolist()
    [2, 1, 0]
    >>> bool(np.all((X_fold_in + X_held_out).toarray() == X))
    True
    """
    return _split_rows_by_hash(as_csr(X, name="X"), fraction, random_state)


@validate_params(
    {
        "X": ["array-like", "sparse matrix"],
        "n_val": [Interval(Integral, 0, None, closed="left")],
        "n_test": [Interval(Integral, 0, None, closed="left")],
        "fraction": [Interval(Real, 0, 1, closed="neither")],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def strong_generalization_split(X, n_val, n_test, *, fraction=0.2, random_state=None):
    """Split users into training, validation and test: the protocol of the papers.

    Users are permuted: the last `n_test` are for testing, the `n_val` before them for
    validation. The items are restricted to those that a training user has interacted
    with. Of the n remaining interactions of a validation or test user,
    ``int(fraction * n)`` are held out uniformly at random. Users with an empty half are
    dropped: with ``fraction=0.2`` those with fewer than five interactions.

    The random numbers are drawn in the order of the code of [1]_, where the permutation
    and the choices of either group begin with the same seed. With its seed,
    ``random_state=98765``, the split is the published one where rows and columns are in
    the order of its data: users by ascending id, and the interactions of each as they
    are in the file. MovieLens-20M is sorted by user and movie, so the matrix of
    :func:`~sklearn_recvae.datasets.load_movielens` has that order. Where a file is not
    sorted by item, the users are the same, but other items of theirs are held out.

    In two ways this differs from :func:`holdout_interactions`. The count is cut by
    ``int()`` as in the published code, where `holdout_interactions` rounds and always
    leaves one item on either side. The choice is drawn from one stream of random
    numbers over all users, where `holdout_interactions` derives it from the row alone.

    Parameters
    ----------
    X : {array-like, sparse matrix} of shape (n_users, n_items)
        Interactions. An entry > 0 is an interaction, an explicit zero is none, and
        duplicate entries are summed. It is never changed.
    n_val : int
        Number of validation users, in the range [0, n_users).
    n_test : int
        Number of test users, in the range [0, n_users - n_val).
    fraction : float, default=0.2
        Share of the interactions of a validation or test user to hold out, in the open
        range (0, 1).
    random_state : int, RandomState instance or None, default=None
        Seed of the permutation of users and of the choice of held-out items. Pass an
        int for a split that can be reproduced.

    Returns
    -------
    :class:`~sklearn.utils.Bunch`
        Dictionary-like object with these attributes; rows are in the order of X.

        X_train : csr_array of shape (n_train_users, n_kept_items)
            Full rows of the training users.
        X_val, y_val : csr_array of shape (n_val_users, n_kept_items)
            Fold-in and held-out part of the validation users.
        X_test, y_test : csr_array of shape (n_test_users, n_kept_items)
            Fold-in and held-out part of the test users.
        kept_items : ndarray of shape (n_kept_items,)
            Columns of X behind the columns of each matrix, ascending.
        train_users, val_users, test_users : ndarray
            Rows of X behind the rows of each matrix, ascending, dropped users left out.

    Raises
    ------
    ValueError
        If no user is left for training, if the training users have no interaction, or
        if none of the validation (or test) users can be split.

    See Also
    --------
    holdout_interactions : Split within users only, independent of the other users.

    References
    ----------
    .. [1] D. Liang, R. G. Krishnan, M. D. Hoffman, and T. Jebara. "Variational
       Autoencoders for Collaborative Filtering". In Proceedings of the 2018 World Wide
       Web Conference (WWW '18), pp. 689-698, 2018.
       https://doi.org/10.1145/3178876.3186150
    .. [2] I. Shenbin, A. Alekseev, E. Tutubalina, V. Malykh, and S. I. Nikolenko.
       "RecVAE: a New Variational Autoencoder for Top-N Recommendations with Implicit
       Feedback". In Proceedings of the 13th International Conference on Web Search and
       Data Mining (WSDM '20), pp. 528-536, 2020.
       https://doi.org/10.1145/3336191.3371831

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_recvae.model_selection import strong_generalization_split
    >>> X = np.ones((10, 5))
    >>> split = strong_generalization_split(X, n_val=2, n_test=3, random_state=0)
    >>> split.X_train.shape, split.X_val.shape, split.X_test.shape
    ((5, 5), (2, 5), (3, 5))
    >>> split.X_test.nnz, split.y_test.nnz
    (12, 3)
    """
    X = as_csr(X, name="X")
    n_users = X.shape[0]
    if n_val + n_test >= n_users:
        raise ValueError(
            f"n_val + n_test = {n_val} + {n_test} = {n_val + n_test} leaves no "
            f"training user: X has {n_users} rows, expected n_val + n_test < "
            f"{n_users}. Lower n_val or n_test, or pass more users."
        )
    rng = check_random_state(random_state)
    val_rng, test_rng = copy.deepcopy(rng), copy.deepcopy(rng)
    n_train = n_users - n_val - n_test
    train_users, val_users, test_users = (
        np.sort(users)
        for users in np.split(rng.permutation(n_users), [n_train, n_train + n_val])
    )
    X_train = X[train_users]
    kept_items = np.unique(X_train.indices)
    if kept_items.size == 0:
        raise ValueError(
            f"The {len(train_users)} training users drawn have no interactions, "
            "expected at least one entry > 0. Lower n_val or n_test, or drop the empty "
            "rows of X."
        )
    val_users, X_val, y_val = _split_users(
        X, val_users, kept_items, fraction, val_rng, kind="validation"
    )
    test_users, X_test, y_test = _split_users(
        X, test_users, kept_items, fraction, test_rng, kind="test"
    )
    return Bunch(
        X_train=_select_columns(X_train, kept_items),
        X_val=X_val,
        y_val=y_val,
        X_test=X_test,
        y_test=y_test,
        kept_items=kept_items,
        train_users=train_users,
        val_users=val_users,
        test_users=test_users,
    )


def split_or_check_held_out(X, y, *, fraction=0.2, random_state=0):
    """Give the fold-in and the held-out matrix behind ``score(X, y)``.

    Parameters
    ----------
    X : csr_array of shape (n_users, n_items)
        Interactions as `as_csr` returns them.
    y : None or {array-like, sparse matrix} of shape (n_users, n_items) or (n_users,)
        A matrix holds the held-out interactions, X is then the fold-in part. Otherwise
        each row of X is split; a 1-D `y` is ignored with a warning.
    fraction : float, default=0.2
        See :func:`holdout_interactions`; not used where `y` is a matrix.
    random_state : int, RandomState instance or None, default=0
        See :func:`holdout_interactions`; not used where `y` is a matrix.

    Returns
    -------
    X_fold_in : csr_array of shape (n_users, n_items)
        Interactions to recommend from.
    X_held_out : csr_array of shape (n_users, n_items)
        Interactions to be found; no entry is also in `X_fold_in`.

    Raises
    ------
    ValueError
        If `y` is a matrix of another shape than X, has negative or non-finite entries,
        or overlaps X.

    Examples
    --------
    >>> from scipy.sparse import csr_array
    >>> from sklearn_recvae.model_selection import split_or_check_held_out
    >>> X_fold_in, X_held_out = split_or_check_held_out(csr_array([[1, 1, 1]]), None)
    >>> X_fold_in.nnz, X_held_out.nnz
    (2, 1)
    """
    if y is None:
        return _split_rows_by_hash(X, fraction, random_state)
    if (y.ndim if issparse(y) else np.ndim(y)) == 1:
        warnings.warn(
            "A 1-D y is ignored: each row of X is split into fold-in and held-out "
            "interactions instead. Pass y=None, or the held-out matrix of shape "
            f"{X.shape} as y.",
            UserWarning,
            stacklevel=3,
        )
        return _split_rows_by_hash(X, fraction, random_state)
    y = as_csr(y, name="y")
    if y.shape != X.shape:
        raise ValueError(
            f"y has shape {y.shape}, expected {X.shape} as X: y holds the held-out "
            "interactions of the same users and items. Pass y=None to have each row of "
            "X split."
        )
    # Of the presence, not of the values, whose product could underflow to zero.
    n_overlapping = (X > 0).multiply(y > 0).nnz
    if n_overlapping:
        raise ValueError(
            f"{n_overlapping} of the {y.nnz} held-out entries of y are also in X: "
            "those items can never be recommended because they are seen. Expected X "
            "(fold-in) and y (held-out) to share no entry. Remove them from X, or pass "
            "y=None to have each row of X split."
        )
    return X, y


def _split_users(X, users, items, fraction, rng, *, kind):
    """Users with two non-empty halves, their fold-in and their held-out rows."""
    X_users = _select_columns(X[users], items)
    n_interactions = np.diff(X_users.indptr)
    # Cut, not rounded, as in the published code.
    n_out = (fraction * n_interactions).astype(np.int64)
    held = np.zeros(X_users.nnz, dtype=bool)
    rows = zip(X_users.indptr, n_interactions, n_out, strict=False)
    for begin, n, n_chosen in rows:
        if n_chosen > 0:
            held[begin + rng.choice(n, size=n_chosen, replace=False)] = True
    fold_in, held_out = _select(X_users, ~held), _select(X_users, held)
    # fraction < 1 leaves an item in the fold-in half wherever one is held out.
    kept = n_out > 0
    if len(users) and not kept.any():
        raise ValueError(
            f"None of the {len(users)} {kind} users can be split: they have at most "
            f"{n_interactions.max()} interactions with the items of the training "
            f"users, expected at least {int(np.ceil(1 / fraction))} to hold out "
            f"fraction={fraction} of them. Raise fraction, or drop the users of X with "
            "few interactions."
        )
    return users[kept], fold_in[kept], held_out[kept]


def _split_rows_by_hash(X, fraction, random_state):
    """Split each row of a canonical CSR by a hash of the seed and its own items."""
    n_interactions = np.diff(X.indptr)
    n_out = np.rint(fraction * n_interactions).astype(np.int64)
    n_out = np.where(n_interactions < 2, 0, np.clip(n_out, 1, n_interactions - 1))

    # An array of one, not a scalar: only scalars warn when uint64 wraps around, and
    # here it is meant to.
    seed = check_random_state(random_state).randint(2**63 - 1, size=1, dtype=np.int64)
    item_hash = _mix_bits(X.indices.astype(np.uint64) + _mix_bits(seed.view(np.uint64)))
    # A sum does not depend on the order of the items; the difference of two running
    # sums is exact, because both wrap around alike.
    running_sum = np.concatenate([[np.uint64(0)], np.cumsum(item_hash)])
    row_hash = running_sum[X.indptr[1:]] - running_sum[X.indptr[:-1]]
    # Each step is a bijection of the item's index, so no two keys of a row are equal.
    keys = _mix_bits(item_hash ^ np.repeat(row_hash, n_interactions))
    return _hold_out_smallest(X, keys, n_out)


def _mix_bits(x):
    """SplitMix64 finaliser: every bit of the result depends on every bit of x."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _hold_out_smallest(X, keys, n_out):
    """Move the n_out[u] entries with the smallest keys of each row u to held-out."""
    n_interactions = np.diff(X.indptr)
    rows = np.repeat(np.arange(X.shape[0]), n_interactions)
    order = np.lexsort((keys, rows))
    # Sorting leaves every row where it was: entry p is number p - indptr[u] of row u.
    place = np.arange(X.nnz) - np.repeat(X.indptr[:-1], n_interactions)
    held = np.empty(X.nnz, dtype=bool)
    held[order] = place < np.repeat(n_out, n_interactions)
    return _select(X, ~held), _select(X, held)


def _select_columns(X, columns):
    """Copy some columns, in ascending order, in the memory of the entries alone."""
    places = np.searchsorted(columns, X.indices).astype(X.indices.dtype, copy=False)
    mask = columns[places.clip(max=len(columns) - 1)] == X.indices
    selected = _select(X, mask)
    arrays = selected.data, places[mask], selected.indptr
    return csr_array(arrays, shape=(X.shape[0], len(columns)))


def _select(X, mask):
    """Copy the entries of X where mask is true."""
    indptr = np.concatenate([[0], np.cumsum(mask)])[X.indptr]
    # A wider indptr would make scipy widen the indices too.
    indptr = indptr.astype(X.indptr.dtype)
    return csr_array((X.data[mask], X.indices[mask], indptr), shape=X.shape)
