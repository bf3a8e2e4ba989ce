"""The Gram matrix of the items, and the item-item weights that follow from it."""

import numpy as np
import torch

from sklearn_recvae._hardware import available_memory

# Memory for what is computed of a few rows at a time, in bytes.
BLOCK_BYTES = 64 * 2**20
# Rows in one step of the inversion: the fewer, the less is computed twice; the more,
# the fewer passes over the matrix.
N_PIVOTS = 256
# Two to this power and its inverse are float64 numbers.
MAX_EXPONENT = 1000


def memory_of_pairs(n_items, pair_bytes):
    """Give the bytes that a fit takes.

    Parameters
    ----------
    n_items : int
        Number of items.
    pair_bytes : int
        Bytes that are needed for each pair of items.

    Returns
    -------
    int
        With what is computed of a few rows at a time.
    """
    return pair_bytes * n_items**2 + 4 * BLOCK_BYTES


def check_memory(n_items, pair_bytes):
    """Raise a MemoryError, with the figures, unless the matrices will fit.

    Parameters
    ----------
    n_items : int
        Number of items.
    pair_bytes : int
        Bytes that are needed for each pair of items.

    Raises
    ------
    MemoryError
        If less memory is free.
    """
    needed = memory_of_pairs(n_items, pair_bytes)
    free = available_memory()
    if free is not None and needed > free:
        raise MemoryError(
            f"EASE needs {needed / 1e9:.1f} GB for the pairs of {n_items} items, but "
            f"{free / 1e9:.1f} GB are free. Leave out rare items, or use "
            "SparseEASERecommender, whose memory grows linearly with the items."
        )


class GramMatrix:
    """X'X in float64, from which the weights of EASE follow, with any ridge.

    One array holds X'X above the diagonal and, after a solution, an inverse below it.

    Parameters
    ----------
    X : csr_array of shape (n_users, n_items)
        Canonical.
    """

    def __init__(self, X):
        n_items = X.shape[1]
        self._array = np.empty((n_items, n_items), order="F")
        X = X.astype(np.float64)
        X_transposed = X.T.tocsr()
        for begin, end in _row_blocks(n_items):
            # Rows of a symmetric matrix are its columns.
            products = X_transposed[begin:end] @ X
            self._array[:, begin:end] = products.toarray().T
        # An inversion overwrites the squares on the diagonal, on both of its sides.
        self._squares = [
            self._array[begin:end, begin:end].copy()
            for begin, end in _blocks(n_items, N_PIVOTS)
        ]
        self._diagonal = self._array.diagonal().copy()

    def item_weights(self, regularization, noise_rate, out=None):
        """Solve for the matrix B of EASE.

        Parameters
        ----------
        regularization : float
            Added to each entry of the diagonal.
        noise_rate : float
            For a rate p, p / (1 - p) times its own value is added to each entry of the
            diagonal, too.
        out : ndarray of shape (n_items, n_items), default=None
            float32, overwritten.

        Returns
        -------
        weights : ndarray of shape (n_items, n_items)
            float32, with a diagonal of zeros.

        Raises
        ------
        ValueError
            If the matrix is singular, or weights are too large for float32.
        """
        self._restore()
        ridge = regularization + noise_rate / (1 - noise_rate) * self._diagonal
        self._array.flat[:: len(self._array) + 1] += ridge
        if not _invert(torch.from_numpy(self._array)):
            raise ValueError(
                f"With regularization={regularization!r} the matrix to be inverted is "
                "singular to working precision. Raise regularization."
            )
        return _weights_of(self._array, out)

    def _restore(self):
        """Write X'X over what the last inversion has left."""
        blocks = _blocks(len(self._array), N_PIVOTS)
        for (begin, end), square in zip(blocks, self._squares, strict=True):
            self._array[begin:end, begin:end] = square
            self._array[end:, begin:end] = self._array[begin:end, end:].T


def _weights_of(inverse, out):
    """Divide the columns by the diagonal; only the lower half is read."""
    n_items = len(inverse)
    diagonal = inverse.diagonal().copy()
    # Powers of two bring each column into the range of float32, and round nothing.
    _, exponents = np.frexp(diagonal)
    scales = np.ldexp(1.0, -exponents.clip(-MAX_EXPONENT, MAX_EXPONENT))
    diagonal *= scales
    weights = np.empty((n_items, n_items), dtype=np.float32) if out is None else out
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


def _invert(matrix):
    """Invert a positive definite matrix in place; return whether that is possible.

    Only the lower half is read and meaningful afterwards; of the upper half all but the
    squares of the pivots stay as they are. These are Gauss-Jordan steps
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
    for begin, end in blocks:
        matrix[begin:, begin:end].neg_()
    return True


def _row_blocks(n_items):
    """Yield begin and end of blocks of rows whose float64 numbers fit into memory."""
    return _blocks(n_items, max(1, BLOCK_BYTES // (8 * n_items)))


def _blocks(n_items, size):
    for begin in range(0, n_items, size):
        yield begin, min(begin + size, n_items)
