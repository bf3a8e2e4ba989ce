"""Encode ids as indices, tables of events as interaction matrices, and decode them."""

from numbers import Integral, Real
from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_array, csr_array
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from sklearn_recvae._ids import append_new, check_ids, find_places
from sklearn_recvae._interactions import NO_ITEM, as_csr
from sklearn_recvae._sklearn import Interval, StrOptions, _fit_context
from sklearn_recvae._tables import (
    as_column,
    check_weights,
    make_table,
    read_columns,
)
from sklearn_recvae._times import (
    check_can_be_cut,
    check_half_life,
    check_same_kind,
    check_times,
    decay,
    find_reference,
)

_COUNT = Interval(Integral, 1, None, closed="left")
_NO_IDS = np.empty(0)


class _Learnt(NamedTuple):
    """The ids of users or of items of a table, and the index of each event's id."""

    ids: np.ndarray
    places: np.ndarray  # the index of each event's id, -1 if it is none of these
    n_fixed: int  # this many ids at the start stay, even if they are rare


class InteractionEncoder(TransformerMixin, BaseEstimator):
    """Encode a table of events as an interaction matrix, and decode recommendations.

    A row of the table is an event: a user and an item, and maybe a weight and a time.
    A row of the matrix is a user, a column an item, each in the order of the sorted
    ids. A pair that occurs several times is one interaction. :meth:`partial_fit`
    appends the new users and items of a later table to the known ones.

    Tables are data frames of pandas, polars, pyarrow and other libraries that narwhals
    reads, or mappings from column names to arrays.

    Parameters
    ----------
    user : str, default="user"
        Name of the column of user ids: numbers or strings, without gaps. What differs
        stays different: no id is rounded.
    item : str, default="item"
        Name of the column of item ids.
    weight : str or None, default=None
        Name of the column of weights, finite numbers. None gives every pair weight 1.
        Otherwise the weights of the events of a pair are summed.
    time : str or None, default=None
        Name of the column of times: numbers, datetime64 or timedelta64. If given, the
        last event of each pair counts and the others do not: the last rating of a
        film, for instance. Of events at the same time that is the one further down in
        the table.
    half_life : float, timedelta or None, default=None
        If given, the weight of an event is multiplied by ``2 ** (-age / half_life)``,
        where its age is counted from `reference_time_`. A number has the unit of the
        column `time` if that has numbers, and is a number of days otherwise; a
        timedelta is one of `datetime`, NumPy or pandas. An event keeps at least a
        millionth of its weight, so an old interaction remains one.
    repeats : {"last", "sum"}, default="last"
        Which events of a pair count. "last": the last one, if there is a `time`.
        "sum": all; their weights after `threshold` and `half_life` are summed, also
        where each of them is 1.
    threshold : float or None, default=None
        If given, only events with a weight above it are interactions, and their
        weight is 1. It is compared in the precision of the weights, before they decay.
    min_user_interactions : int, default=1
        Users with fewer items are left out, after items with fewer users have been.
    min_item_interactions : int, default=1
        Items with fewer users are left out.
    user_ids : array-like of shape (n_users,) or "auto", default="auto"
        The rows, in this order. "auto" takes them from the table in :meth:`fit`.
        Users who are passed have rows whatever the table says, if need be empty ones.
    item_ids : array-like of shape (n_items,) or "auto", default="auto"
        The columns, in this order. "auto" takes them from the table in :meth:`fit`.
        Pass the `item_ids_` of another encoder to encode new users for a model that
        was fitted with it.
    handle_unknown : {"error", "ignore"}, default="error"
        What happens to an event whose user or item is not among the ids. An id that
        :meth:`fit` left out, because it had too few interactions, is not unknown: its
        events are left out again.

    Attributes
    ----------
    user_ids_ : ndarray of shape (n_users,)
        Id of each row.
    item_ids_ : ndarray of shape (n_items,)
        Id of each column.
    dropped_user_ids_ : ndarray of shape (n_dropped_users,)
        Users of the tables so far that had too few interactions.
    dropped_item_ids_ : ndarray of shape (n_dropped_items,)
        Items of the tables so far that had too few interactions.
    reference_time_ : number, datetime64, timedelta64 or None
        Latest time of the tables so far, of which all events count. None without
        `time`.

    See Also
    --------
    sklearn_recvae.datasets.load_movielens : Matrices of published data sets.
    sklearn_recvae.model_selection.temporal_split : Train on events before a time.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_recvae.preprocessing import InteractionEncoder
    >>> events = {"user": ["ann", "bob", "ann"], "item": [7, 7, 3]}
    >>> encoder = InteractionEncoder()
    >>> encoder.fit_transform(events).toarray()
    array([[1., 1.],
           [0., 1.]], dtype=float32)
    >>> encoder.item_ids_
    array([3, 7])
    >>> encoder.decode([[1, 0], [0, -1]])
    {'user': array(['ann', 'ann', 'bob'], dtype=object), 'item': array([7, 3, 3]), \
'rank': array([1, 2, 1])}

    With a half-life of 30 days, what is 60 days old counts a quarter:

    >>> events["day"] = np.array(["2026-01-01", "2026-03-02", "2026-03-02"], "M8[D]")
    >>> InteractionEncoder(time="day", half_life=30).fit_transform(events).toarray()
    array([[1.  , 0.25],
           [0.  , 1.  ]], dtype=float32)
    """

    _parameter_constraints: dict = {  # noqa: RUF012 - as in scikit-learn
        "user": [str],
        "item": [str],
        "weight": [str, None],
        "time": [str, None],
        "half_life": "no_validation",  # by check_half_life
        "repeats": [StrOptions({"last", "sum"})],
        "threshold": [Interval(Real, None, None, closed="neither"), None],
        "min_user_interactions": [_COUNT],
        "min_item_interactions": [_COUNT],
        "user_ids": ["array-like", StrOptions({"auto"})],
        "item_ids": ["array-like", StrOptions({"auto"})],
        "handle_unknown": [StrOptions({"error", "ignore"})],
    }

    def __init__(
        self,
        user="user",
        item="item",
        weight=None,
        *,
        time=None,
        half_life=None,
        repeats="last",
        threshold=None,
        min_user_interactions=1,
        min_item_interactions=1,
        user_ids="auto",
        item_ids="auto",
        handle_unknown="error",
    ):
        self.user = user
        self.item = item
        self.weight = weight
        self.time = time
        self.half_life = half_life
        self.repeats = repeats
        self.threshold = threshold
        self.min_user_interactions = min_user_interactions
        self.min_item_interactions = min_item_interactions
        self.user_ids = user_ids
        self.item_ids = item_ids
        self.handle_unknown = handle_unknown

    def fit(self, table, y=None):
        """Learn the ids of a table.

        Parameters
        ----------
        table : data frame or mapping of str to array-like of shape (n_events,)
            The events.
        y : Ignored
            Not used, present here for API consistency by convention.

        Returns
        -------
        self : InteractionEncoder
            The fitted encoder.

        Raises
        ------
        ValueError
            If a column is missing, has gaps or is no column of such values, if ids that
            were passed have duplicates, or if no user or no item is left. With a
            `half_life`: if it is not above 0, or times are negative.
        """
        self.fit_transform(table)
        return self

    @_fit_context(prefer_skip_nested_validation=True)
    def fit_transform(self, table, y=None):
        """Learn the ids of a table, and encode it.

        Parameters
        ----------
        table : data frame or mapping of str to array-like of shape (n_events,)
            The events.
        y : Ignored
            Not used, present here for API consistency by convention.

        Returns
        -------
        X : csr_array of shape (n_users, n_items)
            float32 interaction matrix, as :meth:`transform` returns it.

        Raises
        ------
        ValueError
            As in :meth:`fit`.
        """
        return self._learn(table, None)

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, table, y=None):
        """Learn the new ids of a table, and append them to the known ones.

        Known ids keep their row or column. New ids follow them in sorted order. Only
        the interactions in this table count for new ids: an id that was left out before
        is added if it has enough interactions here. No ids are added to those that were
        passed as `user_ids` or `item_ids`.

        If the table has later events, `reference_time_` moves to the latest. With a
        `half_life` all weights of the next :meth:`transform` are then smaller by one
        common factor than those of matrices made before (at most down to a millionth
        of the undecayed ones). Encode all events anew, instead of mixing matrices.

        Parameters
        ----------
        table : data frame or mapping of str to array-like of shape (n_events,)
            Events: all that there are by now, or those since the last time.
        y : Ignored
            Not used, present here for API consistency by convention.

        Returns
        -------
        self : InteractionEncoder
            The encoder, with more rows and columns if the table has new ids.

        Raises
        ------
        ValueError
            As in :meth:`fit`, and if new ids are strings where the known ones are
            numbers, or the other way round. A table without new ids is no error.
        """
        self._learn(table, self)
        return self

    def transform(self, table):
        """Encode a table with the ids of :meth:`fit`.

        With a `half_life` ages are counted from `reference_time_`, for any table; what
        is later has age 0.

        Parameters
        ----------
        table : data frame or mapping of str to array-like of shape (n_events,)
            Events of users and items that were in :meth:`fit`.

        Returns
        -------
        X : csr_array of shape (n_users, n_items)
            float32 interaction matrix, canonical. Users without events have empty rows.

        Raises
        ------
        ValueError
            If a column is missing or has gaps, or if a user or item is unknown and
            ``handle_unknown="error"``. With a `half_life`: as in :meth:`fit`.
        """
        check_is_fitted(self)
        self._check_together()
        columns, _ = read_columns(table, self._column_names())
        users = self._find(
            columns[self.user], self.user, self.user_ids_, self.dropped_user_ids_
        )
        items = self._find(
            columns[self.item], self.item, self.item_ids_, self.dropped_item_ids_
        )
        shape = len(self.user_ids_), len(self.item_ids_)
        return self._to_matrix(columns, users, items, shape, self.reference_time_)

    def inverse_transform(self, X):
        """Turn a matrix back into a table, an event for each interaction.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_users, n_items)
            Interactions, with rows and columns as :meth:`transform` returns them.

        Returns
        -------
        table : data frame or dict of ndarray
            As what :meth:`fit` was given: columns of users and items, and of weights
            if `weight` is not None; users in order, items in order for each.

        Raises
        ------
        ValueError
            If X has another shape.
        """
        check_is_fitted(self)
        X = as_csr(X)
        shape = len(self.user_ids_), len(self.item_ids_)
        if X.shape != shape:
            raise ValueError(
                f"X has shape {X.shape}, but the encoder has {shape[0]} users and "
                f"{shape[1]} items. Pass a matrix such as transform returns."
            )
        users, items = X.nonzero()
        table = {self.user: self.user_ids_[users], self.item: self.item_ids_[items]}
        if self.weight is not None:
            table[self.weight] = X.data
        return make_table(table, self._backend)

    def decode(self, recommended, scores=None, *, user_ids=None):
        """Turn recommended item indices into a table of ids.

        Parameters
        ----------
        recommended : array-like of int of shape (n_users, k)
            Item indices, best first, as `recommend` returns them; -1 is no item.
        scores : array-like of shape (n_users, k), default=None
            Their scores, which become a column too.
        user_ids : array-like of shape (n_users,), default=None
            Ids of the users of the rows. None means all users of :meth:`fit`.

        Returns
        -------
        table : data frame or dict of ndarray
            As what :meth:`fit` was given: columns of users and items, "rank" from 1,
            and "score" if there are `scores`. A row for each recommendation: where
            there is no item, there is no row.

        Raises
        ------
        ValueError
            If shapes do not fit each other, an item index is out of range, or the
            column of users or items is itself called "rank" or "score".
        """
        check_is_fitted(self)
        added = ["rank"] if scores is None else ["rank", "score"]
        taken = [name for name in (self.user, self.item) if name in added]
        if taken:
            raise ValueError(
                f"The encoder has ids in a column {taken[0]!r}, which is also the name "
                "of one that decode adds. Rename it in the table and the encoder."
            )
        recommended = np.asarray(recommended)
        if recommended.ndim != 2 or recommended.dtype.kind not in "iu":
            raise ValueError(
                f"recommended is an array of {recommended.dtype} with "
                f"{recommended.ndim} dimensions, expected a 2-D array of integers such "
                "as recommend returns."
            )
        user_ids = (
            self.user_ids_ if user_ids is None else as_column(user_ids, self.user)
        )
        if len(user_ids) != len(recommended):
            raise ValueError(
                f"recommended has {len(recommended)} rows, but there are "
                f"{len(user_ids)} users. Pass the ids of the rows as user_ids."
            )
        n_items = len(self.item_ids_)
        wrong = (recommended < NO_ITEM) | (recommended >= n_items)
        if wrong.any():
            raise ValueError(
                f"recommended contains {recommended[wrong][0]}, expected item indices "
                f"from 0 to {n_items - 1}, or {NO_ITEM} for no item."
            )
        rows, places = np.nonzero(recommended != NO_ITEM)
        table = {
            self.user: user_ids[rows],
            self.item: self.item_ids_[recommended[rows, places]],
            "rank": places + 1,
        }
        if scores is not None:
            scores = np.asarray(scores)
            if scores.shape != recommended.shape:
                raise ValueError(
                    f"scores has shape {scores.shape}, but recommended has "
                    f"{recommended.shape}. Pass the scores that recommend returned "
                    "with these items."
                )
            table["score"] = scores[rows, places]
        return make_table(table, self._backend)

    def get_feature_names_out(self, input_features=None):
        """Give the names of the columns: the item ids as strings.

        Parameters
        ----------
        input_features : Ignored
            Not used, present here for API consistency by convention.

        Returns
        -------
        names : ndarray of shape (n_items,)
            Objects of type str.
        """
        check_is_fitted(self)
        return np.array([str(item) for item in self.item_ids_], dtype=object)

    def _column_names(self):
        names = [self.user, self.item, self.weight, self.time]
        return [name for name in names if name is not None]

    def _check_together(self):
        """Check the parameters that depend on others."""
        check_half_life(self.half_life, self.time)
        if self.threshold is not None and self.weight is None:
            raise ValueError(
                f"Got threshold={self.threshold!r} and weight=None, but only weights "
                "have a threshold. Set weight to the name of their column."
            )

    def _learn(self, table, before):
        """Learn the ids of a table after those of an encoder, and return its matrix."""
        self._check_together()
        known_users, known_items, dropped_users, dropped_items = (
            getattr(before, name, _NO_IDS)
            for name in (
                "user_ids_",
                "item_ids_",
                "dropped_user_ids_",
                "dropped_item_ids_",
            )
        )
        columns, backend = read_columns(table, self._column_names())
        users = self._learn_ids(columns, self.user, self.user_ids, known_users)
        items = self._learn_ids(columns, self.item, self.item_ids, known_items)
        shape = len(users.ids), len(items.ids)
        reference = getattr(before, "reference_time_", None)
        if self.time is not None:
            times = check_times(columns[self.time], self.time)
            reference = find_reference(times, self.time, reference)
        X = self._to_matrix(columns, users.places, items.places, shape, reference)
        kept_users, kept_items = self._find_kept(X, users.n_fixed, items.n_fixed)
        kept = X[kept_users][:, kept_items]
        if not all(kept.shape):
            raise ValueError(self._describe_nothing_left(columns, users, items))
        # Everything that can fail comes before the first change.
        user_ids = _divide(users.ids, kept_users, dropped_users, self.user)
        item_ids = _divide(items.ids, kept_items, dropped_items, self.item)
        self.user_ids_, self.dropped_user_ids_ = user_ids
        self.item_ids_, self.dropped_item_ids_ = item_ids
        self.reference_time_ = reference
        self._backend = backend
        return kept

    def _learn_ids(self, columns, name, given, known):
        if isinstance(given, str):  # "auto"
            ids, places = append_new(known, columns[name], name)
            return _Learnt(ids, places, len(known))
        ids = known if len(known) else check_ids(given, name)
        places = self._find(columns[name], name, ids, ids[:0])
        return _Learnt(ids, places, len(ids))

    def _describe_nothing_left(self, columns, users, items):
        n_events = len(users.places)
        if not n_events:
            return (
                "The table has no events, expected at least one, or the users and the "
                "items as user_ids and item_ids."
            )
        reasons = []
        for name, learnt in ((self.user, users), (self.item, items)):
            unknown = columns[name][learnt.places < 0].tolist()
            if unknown:
                reasons.append(
                    f"{len(unknown)} have an unknown {name}, such as {unknown[0]!r}"
                )
        limits = {
            "threshold": None,
            "min_user_interactions": 1,
            "min_item_interactions": 1,
        }
        for name, default in limits.items():
            if getattr(self, name) != default:
                reasons.append(f"there is {name}={getattr(self, name)}")
        reasons = "; ".join(reasons) or "their weights are 0"
        return (
            f"None of {n_events} events is left: {reasons}. Pass more events, lower "
            "limits, or pass user_ids and item_ids for rows and columns without any."
        )

    def _find(self, values, name, ids, dropped_ids):
        """Return the index of each value among the ids; -1 if it is left out."""
        places = find_places(values, ids, name)
        if self.handle_unknown == "error":
            others = values[places < 0]
            unknown = others[find_places(others, dropped_ids, name) < 0]
            if len(unknown):
                raise ValueError(
                    f"{len(unknown)} of {len(values)} events have an unknown {name}, "
                    f"such as {unknown.tolist()[0]!r}. Fit the encoder on a table that "
                    'has it, or set handle_unknown="ignore" to leave such events out.'
                )
        return places

    def _to_matrix(self, columns, users, items, shape, reference):
        """Put the events into a matrix, without those of users or items at -1."""
        if self.weight is None:
            weights = np.ones(len(users), dtype=np.float32)
        else:
            weights = check_weights(columns[self.weight], self.weight, self.threshold)
        kept = np.flatnonzero((users >= 0) & (items >= 0))
        if self.time is not None:
            times = check_times(columns[self.time], self.time)
            if self.half_life is not None:
                weights = self._decay(weights, times, reference)
            if self.repeats == "last":
                kept = kept[_last_of_pairs(users[kept], items[kept], times[kept])]
        X = coo_array(
            (weights[kept], (users[kept], items[kept])), shape=shape
        ).tocsr()  # sums duplicates
        with np.errstate(over="ignore"):
            X = X.astype(np.float32, copy=False)
        if not np.isfinite(X.data).all():
            raise ValueError(
                f"The weights of a pair in column {self.weight!r} sum to more than "
                "float32 can hold. Scale them down."
            )
        X.eliminate_zeros()
        are_ones = self.weight is None or self.threshold is not None
        if are_ones and self.time is None and self.repeats == "last":
            X.data[:] = 1
        return X

    def _decay(self, weights, times, reference):
        check_can_be_cut(times, self.time)
        if not len(times):
            return weights
        if reference is None:
            raise ValueError(
                f"Got half_life={self.half_life!r}, but the encoder has not seen the "
                "time of any event, so nothing has an age. Fit it on a table with "
                f"events, with time={self.time!r}."
            )
        check_same_kind(times, self.time, reference)
        return decay(weights, times, reference, self.half_life, self.time)

    def _find_kept(self, X, n_fixed_users, n_fixed_items):
        """Find users and items that have enough interactions, or stay in any case."""
        ones = csr_array((np.ones_like(X.data), X.indices, X.indptr), shape=X.shape)
        kept_items = ones.sum(axis=0) >= self.min_item_interactions
        kept_items[:n_fixed_items] = True
        kept_users = ones @ kept_items >= self.min_user_interactions
        kept_users[:n_fixed_users] = True
        kept_items &= ones.T @ kept_users > 0
        kept_items[:n_fixed_items] = True
        return kept_users, kept_items

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.no_validation = True
        return tags


def _divide(ids, kept, dropped_before, name):
    """Return the ids that are kept, and the ids that were dropped, now or before."""
    kept_ids, dropped = ids[kept], ids[~kept]
    if not len(dropped_before):
        return kept_ids, dropped
    dropped, _ = append_new(dropped_before, dropped, name)
    return kept_ids, dropped[find_places(dropped, kept_ids, name) < 0]


def _last_of_pairs(users, items, times):
    """Return the index of the last event of each pair, in any order."""
    pairs = users.astype(np.int64) * (items.max(initial=0) + 1) + items
    order = np.lexsort((times, pairs))  # stable
    pairs = pairs[order]
    is_last = np.ones(len(pairs), dtype=bool)
    is_last[:-1] = pairs[1:] != pairs[:-1]
    return order[is_last]
