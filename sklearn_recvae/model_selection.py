"""Splits of interactions: within a user, between users, and by time."""

import copy
from numbers import Integral, Real

import numpy as np
from scipy.sparse import csr_array, issparse
from sklearn.base import clone
from sklearn.utils import Bunch, check_random_state

from sklearn_recvae._ids import find_places
from sklearn_recvae._interactions import as_csr, check_sparse, remove_pairs
from sklearn_recvae._sklearn import Interval, validate_params
from sklearn_recvae._splitting import select, select_columns, split_rows_by_hash
from sklearn_recvae._tables import read_columns, take_events
from sklearn_recvae._times import (
    are_at_or_after,
    check_can_be_cut,
    check_times,
    find_cut,
    parse_cut,
)
from sklearn_recvae.preprocessing import InteractionEncoder

__all__ = [
    "holdout_interactions",
    "strong_generalization_split",
    "temporal_split",
]


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
    temporal_split : Train on what was before a time, test on what came after.

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


@validate_params(
    {
        "X": "no_validation",  # a table or a matrix, each checked below
        "times": ["array-like", "sparse matrix", None],
        "encoder": [InteractionEncoder, None],
        "cut": "no_validation",  # of the kind of the times, checked below
        "fraction": [Interval(Real, 0, 1, closed="neither")],
    },
    prefer_skip_nested_validation=True,
)
def temporal_split(X, times=None, *, encoder=None, cut=None, fraction=0.2):
    """Train on what was before a moment, and test on what came after.

    This is how a recommender is used, so it is the closest to what it will do. All that
    was before the cut is for training. A test user has interactions before, which are
    the fold-in, and after, which are held out. What no model could find is not held
    out, but counted: what new users did, interactions with new items, and those with
    items that the user had before.

    A table is encoded here, so that nothing of later events gets into training: ids,
    minimum counts and the reference of a `half_life` are those of the events before the
    cut. A matrix was encoded by the caller: if its weights were decayed up to a later
    time, all are smaller by a common factor.

    Parameters
    ----------
    X : data frame, mapping, or {array-like, sparse matrix} of shape (n_users, n_items)
        A table of events, as :class:`~sklearn_recvae.preprocessing.InteractionEncoder`
        takes it. With `times`, a matrix of interactions: an entry > 0 is one. It is
        never changed.
    times : {array-like, sparse matrix} of shape (n_users, n_items), default=None
        The time of each interaction of a matrix; other entries are not looked at. In a
        sparse matrix a time of 0 is an explicit entry.
    encoder : InteractionEncoder or None, default=None
        For a table: names its columns and says what becomes an interaction. It needs
        `time`. A clone of it is fitted. None is ``InteractionEncoder(time="time")``.
    cut : number, str, datetime, timedelta or None, default=None
        The moment, of the kind of the times; "2026-03-01" is a date. What happens at
        the cut itself is held out. None chooses it by `fraction`.
    fraction : float, default=0.2
        Share of the latest events that are after the cut, in the open range (0, 1).
        Events of the same time are not separated, so it may be a larger share. Not used
        if `cut` is given.

    Returns
    -------
    :class:`~sklearn.utils.Bunch`
        Dictionary-like object with these attributes.

        X_train : csr_array of shape (n_train_users, n_kept_items)
            What was before the cut.
        X_test, y_test : csr_array of shape (n_test_users, n_kept_items)
            Fold-in and held-out part of the users who have both. They are training
            users, so X_test has some of the rows of X_train.
        kept_items : ndarray of shape (n_kept_items,)
            Columns of X that have interactions before the cut; ids of the columns for
            a table.
        train_users, test_users : ndarray
            Rows of X behind the rows of each matrix, ascending; ids for a table.
        cut : number, datetime64 or timedelta64
            The moment of the cut.
        n_new_users, n_new_items : int
            Number of users and of items with interactions after the cut, but none in
            X_train.
        n_dropped : dict of str to int
            Interactions after the cut that are not in y_test: of "new users", of other
            users with "new items", and "repeats" of what is in X_test.
        encoder : InteractionEncoder
            For a table only: the clone, with the ids of the rows and columns of
            X_train.

    Raises
    ------
    ValueError
        If the cut leaves no event on one side, or nothing that can be held out; if
        times are missing, negative or infinite; or if a table is given without a column
        of times, or a matrix without `times`.

    See Also
    --------
    strong_generalization_split : Split between users at random, as in the papers.

    Examples
    --------
    >>> from sklearn_recvae.model_selection import temporal_split
    >>> events = {
    ...     "user": ["ann", "ann", "ann", "bob", "bob", "cid"],
    ...     "item": ["Alien", "Brazil", "Dune", "Brazil", "Alien", "Alien"],
    ...     "time": [1, 2, 7, 3, 8, 9],
    ... }
    >>> split = temporal_split(events, cut=5)
    >>> split.X_train.toarray()
    array([[1., 1.],
           [0., 1.]], dtype=float32)
    >>> split.test_users, split.y_test.toarray()
    (array(['bob'], dtype=object), array([[1., 0.]], dtype=float32))
    >>> split.n_dropped
    {'new users': 1, 'new items': 1, 'repeats': 0}
    """
    if times is not None:
        if encoder is not None:
            raise ValueError(
                "Got times and an encoder. Pass times with a matrix, or the encoder "
                "with a table of events, which has its own column of times."
            )
        return _split_matrix(as_csr(X, name="X"), times, cut, fraction)
    if issparse(X) or isinstance(X, np.ndarray | list | tuple):
        raise ValueError(
            f"Got X of type {type(X).__name__} without times. Pass a matrix of the "
            "times of its entries, or a table of events: a data frame or a dict."
        )
    if encoder is None:
        encoder = InteractionEncoder(time="time")
    if encoder.time is None:
        raise ValueError(
            "The encoder has time=None, but only events with a time are before or "
            "after a cut. Set time to the name of their column."
        )
    return _split_table(X, encoder, cut, fraction)


def _split_matrix(X, times, cut, fraction):
    cut, is_after = _cut_times(_times_of_entries(X, times), "times", cut, fraction)
    before, after = select(X, ~is_after), select(X, is_after)
    train_users = np.flatnonzero(np.diff(before.indptr))
    kept_items = np.unique(before.indices)
    split = _hold_out(
        select_columns(before[train_users], kept_items),
        after,
        find_places(np.arange(X.shape[0]), train_users, "user"),
        find_places(np.arange(X.shape[1]), kept_items, "item"),
        cut,
    )
    split.kept_items, split.train_users = kept_items, train_users
    split.test_users = train_users[split.pop("test_rows")]
    return split


def _split_table(table, encoder, cut, fraction):
    names = [encoder.user, encoder.item, encoder.weight, encoder.time]
    names = [name for name in names if name is not None]
    columns, _ = read_columns(table, names)
    times = check_times(columns[encoder.time], encoder.time)
    cut, is_after = _cut_times(times, encoder.time, cut, fraction)
    encoder = clone(encoder)
    X_train = _encode(encoder, take_events(table, names, ~is_after), "before", cut)
    # What is held out has ids of its own, to count those that are new.
    later = clone(encoder).set_params(
        half_life=None,
        min_user_interactions=1,
        min_item_interactions=1,
        user_ids="auto",
        item_ids="auto",
    )
    after = _encode(later, take_events(table, names, is_after), "from", cut)
    split = _hold_out(
        X_train,
        after,
        find_places(later.user_ids_, encoder.user_ids_, encoder.user),
        find_places(later.item_ids_, encoder.item_ids_, encoder.item),
        cut,
    )
    split.kept_items, split.train_users = encoder.item_ids_, encoder.user_ids_
    split.test_users = encoder.user_ids_[split.pop("test_rows")]
    split.encoder = encoder
    return split


def _encode(encoder, events, when, cut):
    try:
        return encoder.fit_transform(events)
    except ValueError as error:
        raise ValueError(f"Events {when} the cut at {cut}: {error}") from error


def _times_of_entries(X, times):
    """Return the time of each entry of a canonical CSR, in its order."""
    if issparse(times):
        check_sparse(times)
    else:
        times = np.asarray(times)
    if times.shape != X.shape:
        raise ValueError(
            f"times has shape {times.shape}, but X has {X.shape}. Pass a matrix with "
            "the time of each interaction where X has the interaction."
        )
    users, items = X.nonzero()
    if not issparse(times):
        return check_times(times[users, items], "times")
    times = times.tocoo()
    numbers = times.row.astype(np.int64) * X.shape[1] + times.col
    order = np.argsort(numbers)
    numbers = numbers[order]
    if (numbers[1:] == numbers[:-1]).any():
        raise ValueError(
            "times has two entries for the same user and item, expected one. Keep the "
            "last of them."
        )
    wanted = users.astype(np.int64) * X.shape[1] + items
    places = np.searchsorted(numbers, wanted)
    missing = np.flatnonzero(np.append(numbers, -1)[places] != wanted)
    if len(missing):
        user, item = users[missing[0]], items[missing[0]]
        raise ValueError(
            f"{len(missing)} interactions of X have no time, such as row {user} and "
            f"column {item}. Pass times with an entry for each, an explicit one for 0."
        )
    return check_times(times.data[order][places], "times")


def _cut_times(times, name, cut, fraction):
    """Return the cut, and which of the times are not before it."""
    check_can_be_cut(times, name)
    if not len(times):
        raise ValueError("There are no events, expected some on both sides of a cut.")
    given = f"cut={cut}"
    if cut is None:
        cut = find_cut(times, fraction)
        given = f"fraction={fraction}, a cut at {cut},"
    else:
        cut = parse_cut(cut, times)
    is_after = are_at_or_after(times, cut)
    if is_after.all() or not is_after.any():
        side = "before" if is_after.all() else "after"
        raise ValueError(
            f"Got {given} but none of the {len(times)} events is {side} it: their "
            f"times are from {times.min()} to {times.max()}. Pass a cut later than the "
            "earliest and not later than the latest."
        )
    return cut, is_after


def _hold_out(X_train, after, rows, columns, cut):
    """Divide what came after into what can be found by a model, and what cannot.

    `rows` and `columns` say where the users and items of `after` are in X_train, -1 for
    nowhere.
    """
    # A row or a column without interactions is as new as one that is not there.
    is_known_row = np.append(np.diff(X_train.indptr) > 0, False)
    is_known_column = np.append(
        np.bincount(X_train.indices, minlength=X_train.shape[1]) > 0, False
    )
    users, items = after.nonzero()
    of_known_user = is_known_row[rows[users]]
    of_known_item = is_known_column[columns[items]]
    kept = of_known_user & of_known_item
    places = rows[users[kept]], columns[items[kept]]
    y = as_csr(csr_array((after.data[kept], places), shape=X_train.shape))
    n_kept = y.nnz
    y = remove_pairs(y, X_train)
    n_dropped = {
        "new users": int((~of_known_user).sum()),
        "new items": int((of_known_user & ~of_known_item).sum()),
        "repeats": n_kept - y.nnz,
    }
    test_rows = np.flatnonzero(np.diff(y.indptr))
    if not len(test_rows):
        raise ValueError(
            f"Nothing after the cut at {cut} can be held out, of {after.nnz} "
            f"interactions: {n_dropped}. Cut at another time, or pass more events."
        )
    return Bunch(
        X_train=X_train,
        X_test=X_train[test_rows],
        y_test=y[test_rows],
        test_rows=test_rows,
        cut=cut,
        n_new_users=len(np.unique(users[~of_known_user])),
        n_new_items=len(np.unique(items[~of_known_item])),
        n_dropped=n_dropped,
    )
