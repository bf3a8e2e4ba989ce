"""EASE, the closed-form linear model that every other recommender has to beat."""

import numpy as np
import torch
from sklearn.base import BaseEstimator

from sklearn_recvae._base import unchanged_on_error
from sklearn_recvae._hardware import available_memory
from sklearn_recvae._interactions import check_interactions
from sklearn_recvae._item_item import ItemItemMixin
from sklearn_recvae._sklearn import (
    CallbackSupportMixin,
    _fit_context,
    with_callbacks,
)
from sklearn_recvae._training.callbacks import FitHooks
from sklearn_recvae._validation import POSITIVE

# Memory for what is computed of a few rows at a time, in bytes.
BLOCK_BYTES = 64 * 2**20
# Rows in one step of the inversion: the fewer, the less is computed twice; the more,
# the fewer passes over the matrix.
N_PIVOTS = 256
# Two to this power and its inverse are float64 numbers.
MAX_EXPONENT = 1000


class EASERecommender(ItemItemMixin, CallbackSupportMixin, BaseEstimator):
    """Recommend items from implicit feedback with a linear model in closed form.

    EASE [1]_ predicts each item from all others: it finds the matrix B with zero
    diagonal that minimises ``||X - X B||^2 + regularization ||B||^2``, which takes one
    inverse of an (n_items, n_items) matrix and nothing iterative. On data with strong
    relations between single items it is hard to beat; compare any other model with it.

    Time grows with the cube of the number of items and memory with its square: `fit`
    needs 12 bytes for each pair of items, 4.9 GB for 20,108 items.

    Read more in the :ref:`User Guide <baselines>`.

    Parameters
    ----------
    regularization : float, default=500.0
        Weight of the squared norm of B, in the range `(0, inf)`; lambda in [1]_. Good
        values are between 100 and 1000 for most data, larger where users are many.

    Attributes
    ----------
    n_features_in_ : int
        Number of items seen during :meth:`fit`.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the items, if X has feature names that are all strings.
    coef_ : ndarray of shape (n_items, n_items)
        B, float32; the diagonal is zero. Row i is what an interaction with item i adds
        to the scores of all items, which are X times `coef_`.

    See Also
    --------
    RecVAERecommender : A nonlinear model whose memory grows linearly with the items.

    References
    ----------
    .. [1] H. Steck (2019). Embarrassingly Shallow Autoencoders for Sparse Data. WWW
       2019, equation 8. https://doi.org/10.1145/3308558.3313710

    Examples
    --------
    >>> from sklearn_recvae import EASERecommender
    >>> from sklearn_recvae.datasets import make_interactions
    >>> X, _, _ = make_interactions(200, 50, random_state=0)
    >>> model = EASERecommender(regularization=100).fit(X[:150])
    >>> model.recommend(X[150:], k=3).shape
    (50, 3)
    """

    _parameter_constraints: dict = {  # noqa: RUF012 - as in scikit-learn
        "regularization": [POSITIVE],
    }

    def __init__(self, regularization=500.0):
        self.regularization = regularization

    @unchanged_on_error  # outermost: callbacks are torn down before it acts
    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        """Compute the item-to-item weights.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_users, n_items)
            Non-negative interactions; ratings must be thresholded first.
        y : Ignored
            Not used, present here for API consistency by convention.

        Returns
        -------
        self : EASERecommender
            The fitted estimator.

        Raises
        ------
        MemoryError
            If the matrices over pairs of items do not fit into the memory that is
            free; nothing has been computed then.
        ValueError
            If X is not a matrix of non-negative finite numbers with at least one
            interaction, or `regularization` is too small for the numbers in X, or
            these differ so much in scale that B is too large for float32.
        """
        X = check_interactions(self, X, reset=True)
        self._check_before_fit(X)
        hooks = FitHooks(self, X, y)
        self.coef_ = _item_weights(X, self.regularization)
        hooks.end_fit()
        return self

    def _check_before_fit(self, X):
        super()._check_before_fit(X)
        _check_memory(X.shape[1])


def _check_memory(n_items):
    """Raise a MemoryError, with the figures, unless the matrices will fit."""
    needed = 12 * n_items**2 + 4 * BLOCK_BYTES
    free = available_memory()
    if free is not None and needed > free:
        raise MemoryError(
            f"EASE needs {needed / 1e9:.1f} GB for the pairs of {n_items} items, but "
            f"{free / 1e9:.1f} GB are free. Leave out rare items, or use "
            "RecVAERecommender, whose memory grows linearly with the items."
        )


def _item_weights(X, regularization):
    """Solve for B, a few rows at a time beside two matrices over pairs of items."""
    inverse = _inverse_gram(X, regularization)  # its lower half is filled
    n_items = len(inverse)
    diagonal = inverse.diagonal().copy()
    # Powers of two bring each column into the range of float32, and round nothing.
    _, exponents = np.frexp(diagonal)
    scales = np.ldexp(1.0, -exponents.clip(-MAX_EXPONENT, MAX_EXPONENT))
    diagonal *= scales
    weights = np.empty((n_items, n_items), dtype=np.float32)
    for begin, end in _row_blocks(n_items):
        # A few rows of the symmetric matrix, from the lower half alone.
        rows = weights[begin:end]
        square = np.tril(inverse[begin:end, begin:end])
        square += np.tril(square, -1).T
        with np.errstate(over="ignore", invalid="ignore"):
            np.multiply(inverse[begin:end, :begin], scales[:begin], out=rows[:, :begin])
            np.multiply(square, scales[begin:end], out=rows[:, begin:end])
            np.multiply(inverse[end:, begin:end].T, scales[end:], out=rows[:, end:])
            rows /= -diagonal
        np.fill_diagonal(rows[:, begin:end], 0)
        if not np.isfinite(rows).all():
            raise ValueError(
                "Some weights are too large for float32: the numbers in the columns of "
                "X differ too much in scale. Scale the columns, or raise "
                "regularization."
            )
    return weights


def _inverse_gram(X, regularization):
    """Invert X'X + regularization I, in place; only the lower half is meaningful."""
    n_items = X.shape[1]
    gram = np.empty((n_items, n_items), order="F")
    X = X.astype(np.float64)
    X_transposed = X.T.tocsr()
    for begin, end in _row_blocks(n_items):
        # Rows of a symmetric matrix are its columns.
        gram[:, begin:end] = (X_transposed[begin:end] @ X).toarray().T
    gram.flat[:: n_items + 1] += regularization
    if not _invert(torch.from_numpy(gram)):
        raise ValueError(
            f"With regularization={regularization!r} the matrix to be inverted is "
            "singular to working precision. Raise regularization."
        )
    return gram


def _invert(matrix):
    """Invert a positive definite matrix in place; return whether that is possible.

    Only the lower half is read and meaningful afterwards. These are Gauss-Jordan steps
    with blocks for pivots, which products of matrices do most of the work for. LAPACK's
    own way, dpotrf and dpotri, ends the process by a segmentation fault for 24,000 rows
    in the OpenBLAS of SciPy 1.17 with more than one thread.
    """
    blocks = list(_blocks(len(matrix), N_PIVOTS))
    for begin, end in blocks:
        # What is above the diagonal is to the left of it too.
        column = torch.cat([matrix[begin:end, :begin].T, matrix[begin:, begin:end]])
        square = column[begin:end].tril()  # (n_pivots, n_pivots)
        factor, failed = torch.linalg.cholesky_ex(square)
        if failed:
            return False
        inverse = torch.cholesky_inverse(factor)
        scaled = column @ inverse  # (n_rows, n_pivots)
        for first, last in blocks:
            part = matrix[first:, first:last]
            part.addmm_(column[first:], scaled[first:last].T, alpha=-1)
        matrix[begin:end, :begin] = scaled[:begin].T
        matrix[end:, begin:end] = scaled[end:]
        matrix[begin:end, begin:end] = -inverse
    matrix.neg_()
    return True


def _row_blocks(n_items):
    """Yield begin and end of blocks of rows whose float64 numbers fit into memory."""
    return _blocks(n_items, max(1, BLOCK_BYTES // (8 * n_items)))


def _blocks(n_items, size):
    for begin in range(0, n_items, size):
        yield begin, min(begin + size, n_items)
