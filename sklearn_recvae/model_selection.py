"""Splits of an interaction matrix: within a user, and between users."""

import copy
from numbers import Integral, Real

import numpy as np
from sklearn.utils import Bunch, check_random_state

from sklearn_recvae._interactions import as_csr
from sklearn_recvae._sklearn import Interval, validate_params
from sklearn_recvae._splitting import select, select_columns, split_rows_by_hash

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

    If a user has n interactions, ``clip(round(fraction * n), 1, n - 1)`` of them are
    held out, so that both parts keep at least one. A user with fewer than two
    interactions cannot be split: the whole row is fold-in, the held-out row is empty.

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
    return split_rows_by_hash(as_csr(X, name="X"), fraction, random_state)


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
        X_train=select_columns(X_train, kept_items),
        X_val=X_val,
        y_val=y_val,
        X_test=X_test,
        y_test=y_test,
        kept_items=kept_items,
        train_users=train_users,
        val_users=val_users,
        test_users=test_users,
    )


def _split_users(X, users, items, fraction, rng, *, kind):
    """Return the users with two non-empty parts, and the rows of both parts."""
    X_users = select_columns(X[users], items)
    n_interactions = np.diff(X_users.indptr)
    # Truncated, not rounded, as in the published code.
    n_out = (fraction * n_interactions).astype(np.int64)
    held = np.zeros(X_users.nnz, dtype=bool)
    rows = zip(X_users.indptr, n_interactions, n_out, strict=False)
    for begin, n, n_chosen in rows:
        if n_chosen > 0:
            held[begin + rng.choice(n, size=n_chosen, replace=False)] = True
    fold_in, held_out = select(X_users, ~held), select(X_users, held)
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
