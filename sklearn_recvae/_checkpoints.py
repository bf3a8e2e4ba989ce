"""Checkpoints: the complete state of training in files, from which it goes on.

A folder belongs to one fit. What the result depends on, its fingerprint, is in each
file, and a folder of another fit is refused. The last two iterations are kept: should
the newest file be damaged, the one before is used.
"""

import hashlib
import re
import secrets
import warnings
from numbers import Integral
from pathlib import Path

import numpy as np
import torch

import sklearn_recvae
from sklearn_recvae._files import read_file, write_file
from sklearn_recvae._saving import as_json

KIND = "checkpoint"
N_KEPT = 2

# Parameters that may change when a fit goes on.
_FREE_PARAMETERS = {"max_iter", "verbose"}


class CheckpointFolder:
    """The files of one fit, and the right to write them.

    A context manager: inside of it no other process or thread can use the folder.

    Parameters
    ----------
    path : path-like
        Made if there is none.
    """

    def __init__(self, path):
        self.path = Path(path)

    def __enter__(self):
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock = open(self.path / "lock", "a")
        try:
            _lock(self._lock)
        except OSError:
            self._lock.close()
            raise ValueError(
                f"Another fit has its checkpoints in {self.path} and is running. Give "
                "each fit a folder of its own; a search cannot have one for its fits."
            ) from None
        for half_written in self.path.glob(".*.checkpoint.*.tmp"):
            half_written.unlink()  # by a process that was killed
        return self

    def __exit__(self, *error):
        self._lock.close()  # gives up the lock, as does the end of the process

    def read(self):
        """Read the newest file that is whole.

        Returns
        -------
        content, arrays : dict
            As they were written; None and no arrays if there is no such file.
        """
        for file in reversed(self._files()):
            try:
                return read_file(file, KIND)
            except ValueError as error:
                warnings.warn(
                    f"{error} The last good checkpoint before it is used.", stacklevel=2
                )
        return None, {}

    def write(self, iteration, content, arrays):
        """Write the file of an iteration, and delete those before the last two."""
        try:
            file = self.path / f"{iteration:06}.checkpoint"
            write_file(file, KIND, content | {"iteration": iteration}, arrays)
        except OSError as error:
            warnings.warn(
                f"The checkpoint of iteration {iteration} could not be written "
                f"({error}). Those before it stay, and training goes on.",
                stacklevel=2,
            )
            return
        for old in self._files()[:-N_KEPT]:
            old.unlink()

    def _files(self):
        numbers = {
            int(file.stem): file
            for file in self.path.iterdir()
            if re.fullmatch(r"\d+\.checkpoint", file.name)
        }
        return [numbers[number] for number in sorted(numbers)]


def choose_seed(random_state, content):
    """Give the seed of a fit: the parameter, or that of the checkpoint's content."""
    if random_state is None:
        return secrets.randbits(32) if content is None else content["seed"]
    if isinstance(random_state, Integral):
        return int(random_state)
    raise ValueError(
        f"Got checkpoint with random_state={random_state!r}, whose state would be "
        "another one when the fit goes on. Set random_state to an int or None."
    )


def make_fingerprint(estimator, seed, matrices, module, matmul_dtype):
    """List what the result of a fit depends on.

    Parameters
    ----------
    estimator : RecVAERecommender
        Its parameters count, but for those that may change.
    seed : int
        Of the fit.
    matrices : dict of csr_array or None
        The data.
    module : RecVAE
        Before its first iteration.
    matmul_dtype : torch.dtype
        Of the large products.

    Returns
    -------
    dict of str
        What differs can be named.
    """
    parameters = {
        name: repr(as_json(name, value))
        for name, value in estimator.get_params().items()
        if name not in _FREE_PARAMETERS
    }
    data = {name: _digest_matrix(X) for name, X in matrices.items()}
    return {
        **parameters,
        "random_state": str(seed),
        **data,
        "initial weights": _digest(
            weight.cpu().numpy() for weight in module.state_dict().values()
        ),
        "device": str(module.device),
        "precision": str(matmul_dtype),
        "threads": str(torch.get_num_threads()),
        "version of torch": str(torch.__version__),
        "version of sklearn_recvae": sklearn_recvae.__version__,
    }


def check_same_fit(folder, written, content, max_iter):
    """Raise a ValueError unless a checkpoint is of this fit, and not beyond it.

    Parameters
    ----------
    folder : CheckpointFolder
        Named in errors.
    written, content : dict
        Of the checkpoint, and of this fit.
    max_iter : int
        Of this fit.
    """
    before, now = written["fingerprint"], content["fingerprint"]
    changes = [
        f"{name} was {before.get(name)} and is {now.get(name)}"
        for name in {**before, **now}
        if before.get(name) != now.get(name)
    ]
    if changes:
        raise ValueError(
            f"The checkpoints in {folder.path} are of another fit: "
            f"{'; '.join(changes)}. Pass another folder, or delete this one to begin "
            "anew."
        )
    if written["iteration"] > max_iter:
        raise ValueError(
            f"The checkpoints in {folder.path} have {written['iteration']} iterations, "
            f"but max_iter={max_iter}. Raise max_iter, or pass another folder."
        )


def _digest_matrix(X):
    if X is None:
        return "none"
    return f"{X.shape}, SHA-256 {_digest([X.indptr, X.indices, X.data])}"


def _digest(arrays):
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()[:16]


def _lock(stream):
    """Raise an OSError if another one has the lock."""
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        msvcrt.locking(stream.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
