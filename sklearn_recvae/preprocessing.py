"""Ids to indices and back: from a table of events to an interaction matrix."""

from numbers import Integral, Real

import numpy as np
from scipy.sparse import coo_array, csr_array
from sklearn.base import BaseEstimator, TransformerMixin, _fit_context
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from sklearn_recvae._ids import check_ids, factorize, find_places
from sklearn_recvae._tables import (
    check_times,
    check_weights,
    make_table,
    read_columns,
)
from sklearn_recvae.interactions import as_csr
from sklearn_recvae.ranking import NO_ITEM

_COUNT = Interval(Integral, 1, None, closed="left")


class InteractionEncoder(TransformerMixin, BaseEstimator):
    """Encode a table of events as an interaction matrix, and decode recommendations.

    A row of the table is an event: a user and an item, and maybe a weight and a time.
    A row of the matrix is a user, a column an item, each in the order of the sorted
    ids. A pair that occurs several times is one interaction.

    Tables are data frames of pandas, polars, pyarrow and other libraries, by way of
    narwhals, or mappings from column names to arrays.

    Parameters
    ----------
    user : str, default="user"
        Name of the column of user ids: numbers or strings, without gaps.
    item : str, default="item"
        Name of the column of item ids.
    weight : str or None, default=None
        Name of the column of weights, finite numbers. None gives every pair weight 1.
        Otherwise the weights of the events of a pair are summed.
    time : str or None, default=None
        Name of the column of times. If given, the last event of each pair counts and
        the others do not: the last rating of a film, for instance. Of events at the
        same time that is the one further down in the table.
    threshold : float or None, default=None
        If given, only events with a weight above it are interactions, and their
        weight is 1.
    min_user_interactions : int, default=1
        Users with fewer items are left out, after items with fewer users have been.
    min_item_interactions : int, default=1
        Items with fewer users are left out.
    user_ids : array-like of shape (n_users,) or "auto", default="auto"
        The rows, in this order. "auto" takes them from the table in :meth:`fit`.
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
        Users of the table in :meth:`fit` that had too few interactions.
    dropped_item_ids_ : ndarray of shape (n_dropped_items,)
        Items of the table in :meth:`fit` that had too few interactions.

    See Also
    --------
    sklearn_recvae.datasets.load_movielens : Matrices of published data sets.

    Examples
    --------
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
    """

    _parameter_constraints: dict = {  # noqa: RUF012 - as in scikit-learn
        "user": [str],
        "item": [str],
        "weight": [str, None],
        "time": [str, None],
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
        self.threshold = threshold
        self.min_user_interactions = min_user_interactions
        self.min_item_interactions = min_item_interactions
        self.user_ids = user_ids
        self.item_ids = item_ids
        self.handle_unknown = handle_unknown

    def fit(self, table, y=None):
        """Learn which ids there are.

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
            were passed have duplicates, or if no event is left.
        """
        self.fit_transform(table)
        return self

    @_fit_context(prefer_skip_nested_validation=True)
    def fit_transform(self, table, y=None):
        """Learn which ids there are, and encode the table.

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
        if self.threshold is not None and self.weight is None:
            raise ValueError(
                f"Got threshold={self.threshold!r} and weight=None, but only weights "
                "have a threshold. Set weight to the name of their column."
            )
        columns, backend = read_columns(table, self._column_names())
        user_ids, users = self._learn(columns[self.user], self.user, self.user_ids)
        item_ids, items = self._learn(columns[self.item], self.item, self.item_ids)
        X = self._to_matrix(columns, users, items, (len(user_ids), len(item_ids)))
        kept_users, kept_items = self._find_kept(X)
        kept = X[kept_users][:, kept_items]
        if not kept.nnz:
            raise ValueError(
                f"None of {len(users)} events is left with threshold={self.threshold}, "
                f"min_user_interactions={self.min_user_interactions} and "
                f"min_item_interactions={self.min_item_interactions}. Pass more "
                "events, or lower these."
            )
        self.user_ids_ = user_ids[kept_users]
        self.item_ids_ = item_ids[kept_items]
        self.dropped_user_ids_ = user_ids[~kept_users]
        self.dropped_item_ids_ = item_ids[~kept_items]
        self._backend = backend
        return kept

    def transform(self, table):
        """Encode a table with the ids of :meth:`fit`.

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
            ``handle_unknown="error"``.
        """
        check_is_fitted(self)
        columns, _ = read_columns(table, self._column_names())
        users = self._find(
            columns[self.user], self.user, self.user_ids_, self.dropped_user_ids_
        )
        items = self._find(
            columns[self.item], self.item, self.item_ids_, self.dropped_item_ids_
        )
        shape = len(self.user_ids_), len(self.item_ids_)
        return self._to_matrix(columns, users, items, shape)

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
            If shapes do not fit each other or an item index is out of range.
        """
        check_is_fitted(self)
        recommended = np.asarray(recommended)
        if recommended.ndim != 2 or recommended.dtype.kind not in "iu":
            raise ValueError(
                f"recommended is an array of {recommended.dtype} with "
                f"{recommended.ndim} dimensions, expected a 2-D array of integers such "
                "as recommend returns."
            )
        user_ids = self.user_ids_ if user_ids is None else np.asarray(user_ids)
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

    def _learn(self, values, name, given):
        """Give the ids, and the place of each value among them."""
        if isinstance(given, str):  # "auto"
            return factorize(values, name)
        ids = check_ids(given, name)
        return ids, self._find(values, name, ids, ids[:0])

    def _find(self, values, name, ids, dropped_ids):
        """Give the place of each value among the ids; -1 where it is left out."""
        places = find_places(values, ids)
        if self.handle_unknown == "error":
            others = values[places < 0]
            unknown = others[find_places(others, dropped_ids) < 0]
            if len(unknown):
                raise ValueError(
                    f"{len(unknown)} of {len(values)} events have an unknown {name}, "
                    f"such as {unknown.tolist()[0]!r}. Fit the encoder on a table that "
                    'has it, or set handle_unknown="ignore" to leave such events out.'
                )
        return places

    def _to_matrix(self, columns, users, items, shape):
        """Put the events into a matrix, but for those of users or items at -1."""
        if self.weight is None:
            weights = np.ones(len(users), dtype=np.float32)
        else:
            weights = check_weights(columns[self.weight], self.weight, self.threshold)
        kept = np.flatnonzero((users >= 0) & (items >= 0))
        if self.time is not None:
            times = check_times(columns[self.time], self.time)
            kept = kept[_last_of_pairs(users[kept], items[kept], times[kept])]
        if self.threshold is not None:
            kept = kept[weights[kept] > self.threshold]
            weights = np.ones_like(weights)
        X = coo_array(
            (weights[kept], (users[kept], items[kept])), shape=shape
        ).tocsr()  # sums duplicates
        if self.weight is None or self.threshold is not None:
            X.data[:] = 1
        X.eliminate_zeros()
        return X

    def _find_kept(self, X):
        """Say which users and items have enough interactions; what was given stays."""
        auto_users, auto_items = (
            isinstance(ids, str) for ids in (self.user_ids, self.item_ids)
        )
        ones = csr_array((np.ones_like(X.data), X.indices, X.indptr), shape=X.shape)
        kept_users, kept_items = np.ones(X.shape[0], bool), np.ones(X.shape[1], bool)
        if auto_items:
            kept_items = ones.sum(axis=0) >= self.min_item_interactions
        if auto_users:
            kept_users = ones @ kept_items >= self.min_user_interactions
        if auto_items:
            kept_items &= ones.T @ kept_users > 0
        return kept_users, kept_items

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.no_validation = True
        return tags


def _last_of_pairs(users, items, times):
    """Give the place of the last event of each pair, in no certain order."""
    pairs = users.astype(np.int64) * (items.max(initial=0) + 1) + items
    order = np.lexsort((times, pairs))  # stable
    pairs = pairs[order]
    return order[np.append(pairs[1:] != pairs[:-1], [True] * (len(pairs) > 0))]
