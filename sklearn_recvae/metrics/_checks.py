"""Checks of ranked items, and the mean over users."""

from numbers import Integral

import numpy as np
from sklearn.utils import check_array

from sklearn_recvae._sklearn import StrOptions, _check_sample_weight
from sklearn_recvae._validation import NumberIn, scale_weights

ONE_OR_MORE = NumberIn(Integral, 1, None, closed="left")

# Constraints of what all metrics that are means over users have.
OF_MEANS = {
    "y_rank": ["array-like"],
    "k": [ONE_OR_MORE],
    "average": [StrOptions({"mean"}), None],
    "sample_weight": ["array-like", None],
}

# What a user needs to be in the mean, and where such users come from.
HELD_OUT = (
    "with a held-out interaction (> 0) and a positive weight. Pass users with at least "
    "two interactions, one to recommend from and one to hold out."
)
RANKED = (
    "with a ranked item and a positive weight. Pass lists that are not -1 throughout."
)


def check_ranking(y_rank, n_items, reason):
    """Return the rankings as int64.

    Parameters
    ----------
    y_rank : array-like of int of shape (n_users, n_ranks)
        Ranked items, -1 for none.
    n_items : int
        Items are 0 to `n_items` - 1.
    reason : str
        Why there are so many, for an error message.

    Returns
    -------
    y_rank : ndarray of shape (n_users, n_ranks)
        The same, and no item twice in a row.
    """
    y_rank = check_array(
        y_rank, dtype=None, ensure_all_finite=False, input_name="y_rank"
    )
    if y_rank.dtype.kind not in "iu":
        raise TypeError(
            f"y_rank has dtype {y_rank.dtype}, expected integers: the indices of the "
            "ranked items, best first. Pass what `recommend` returns, not scores."
        )
    wrong = (y_rank < -1) | (y_rank >= n_items)
    if wrong.any():
        raise ValueError(
            f"y_rank holds the item index {y_rank[wrong][0]}, expected 0 to "
            f"{n_items - 1} ({reason}), or -1 for no item. Pass rankings of the same "
            "items."
        )
    y_rank = y_rank.astype(np.int64, copy=False)
    in_order = np.sort(y_rank, axis=1)
    twice = (in_order[:, 1:] == in_order[:, :-1]) & (in_order[:, 1:] >= 0)
    if twice.any():
        user, place = np.argwhere(twice)[0]
        raise ValueError(
            f"y_rank ranks item {in_order[user, place]} more than once in row {user}, "
            "expected every item at most once: it would be counted twice. Remove the "
            "duplicates, or fill with -1."
        )
    return y_rank


def weigh_users(can_be_evaluated, sample_weight, needed):
    """Return the weight of each user, 0 for those who cannot be evaluated.

    Parameters
    ----------
    can_be_evaluated : ndarray of bool of shape (n_users,)
        Who can.
    sample_weight : array-like of shape (n_users,) or None
        Non-negative; None weighs all alike.
    needed : str
        What it takes, and the remedy, for the error if nobody is left.

    Returns
    -------
    ndarray of shape (n_users,)
        As float64.
    """
    weight = _check_sample_weight(
        sample_weight, can_be_evaluated, dtype=np.float64, ensure_non_negative=True
    )
    weight = np.where(can_be_evaluated, weight, 0)
    if not weight.any():
        raise ValueError(
            f"None of the {len(weight)} users can be evaluated, expected at least one "
            f"{needed}"
        )
    return weight


def average_users(values, average, sample_weight, needed):
    """Return the mean over users that have a value, as a float; or all values.

    Parameters
    ----------
    values : ndarray of shape (n_users,)
        NaN for users who have none.
    average : {"mean"} or None
        None for all values.
    sample_weight : array-like of shape (n_users,) or None
        See :func:`weigh_users`.
    needed : str
        See :func:`weigh_users`.

    Returns
    -------
    float or ndarray of shape (n_users,)
        The mean or the values.
    """
    if average is None:
        return values
    weight = weigh_users(~np.isnan(values), sample_weight, needed)
    evaluated = weight > 0
    weight = scale_weights(weight[evaluated])
    return float(np.average(values[evaluated], weights=weight))
