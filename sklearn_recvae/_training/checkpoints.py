"""Checkpoints: the complete state of training in files, from which it goes on.

A folder belongs to one fit. What the result depends on, its fingerprint, is in each
file, and a folder of another fit is refused. The last two iterations are kept: should
the newest file be damaged, it is set aside, and the one before is used.
"""

import hashlib
import os
import re
import secrets
import warnings
import weakref
from contextlib import ExitStack
from numbers import Integral
from pathlib import Path

import numpy as np
import torch

from sklearn_recvae._files import LaterFormatError, check_fields, read_file, write_file
from sklearn_recvae._saving import as_json
from sklearn_recvae._training.state import restore_training, state_to_arrays
from sklearn_recvae._version import __version__

KIND = "checkpoint"
N_KEPT = 2

_CONTENT = {"seed": (int,), "fingerprint": (dict,), "iteration": (int,)}
_FILE = re.compile(r"\d+\.checkpoint")
_HALF_WRITTEN = re.compile(r"\..*\.checkpoint\..*\.tmp")

# Parameters that may change when a fit goes on.
_FREE_PARAMETERS = {"max_iter", "max_seconds", "verbose"}


class CheckpointFolder:
    """The files of one fit, and the right to write them.

    A context manager: inside of it no other process or thread can use the folder.

    Parameters
    ----------
    path : path-like
        Made if there is none.
    """

    def __init__(self, path):
        if not os.fspath(path):
            raise ValueError(
                f"Got checkpoint={path!r}, expected the path of a folder. None is for "
                "no checkpoints, and '.' for the present folder."
            )
        self.path = Path(path)

    def __enter__(self):
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise ValueError(
                f"Got checkpoint={str(self.path)!r}, which is not a folder, or lies in "
                "what is none. Pass another path."
            ) from None
        with ExitStack() as stack:
            self._lock = stack.enter_context(open(self.path / "lock", "a"))
            self._take_lock()
            self._check_no_folders()
            for half_written in self._named(_HALF_WRITTEN):
                half_written.unlink()  # by a process that was killed
            self._file = self._content = self._arrays = None
            self._read_newest()
            stack.pop_all()  # the lock stays, as nothing has failed
        return self

    def __exit__(self, *error):
        self._lock.close()  # gives up the lock, as does the end of the process

    def choose_seed(self, random_state):
        """Give the seed of the fit: the parameter, or for None that of the files."""
        if isinstance(random_state, Integral):
            return int(random_state)
        if random_state is not None:
            raise ValueError(
                f"Got checkpoint with random_state={random_state!r}, whose state is "
                "another one when the fit goes on. Set random_state to an int or None."
            )
        if self._content is not None:
            return self._content["seed"]
        return secrets.randbits(32)

    def resume(self, estimator, seed, matrices, options, state, progress):
        """Put state and progress to where the newest file has them, if there is one.

        Parameters
        ----------
        estimator : estimator instance
            With its parameters.
        seed : int
            From `choose_seed`.
        matrices : dict of csr_array or None
            The data.
        options : TrainingOptions
            The schedule.
        state : TrainingState
            New, changed in place.
        progress : Progress
            New, changed in place.

        Raises
        ------
        ValueError
            If the files are of another fit, or have more iterations.
        """
        matmul_dtype = options.matmul_dtype(state.module.device)
        fingerprint = make_fingerprint(
            estimator, seed, matrices, state.module, matmul_dtype
        )
        while self._content is not None:
            self._check_same_fit(fingerprint, estimator.max_iter)
            iteration = self._content["iteration"]
            try:
                restore_training(state, progress, iteration, self._arrays)
                break
            except ValueError as error:
                self._set_aside(f"{self._file} is whole, but of no fit: {error}.")
                self._read_newest()
        self._content = {"seed": seed, "fingerprint": fingerprint}
        self._arrays = None  # the memory

    def save(self, state, progress):
        """Write the file of an iteration, and delete those before the last two."""
        iteration = len(progress.history)
        content = {**self._content, "iteration": iteration}
        arrays = state_to_arrays(state) | progress.to_arrays()
        try:
            file = self.path / f"{iteration:06}.checkpoint"
            write_file(file, KIND, content, arrays)
        except OSError as error:
            warnings.warn(
                f"The checkpoint of iteration {iteration} could not be written "
                f"({error}). Those before it stay, and training goes on.",
                stacklevel=2,
            )
            return
        for old in self._files()[:-N_KEPT]:
            old.unlink()

    def _take_lock(self):
        try:
            _lock(self._lock)
        except OSError:
            raise ValueError(
                f"Another fit has its checkpoints in {self.path} and is running. Give "
                "each fit a folder of its own; a search cannot have one for its fits."
            ) from None

    def _check_no_folders(self):
        for path in self._named(_FILE) + self._named(_HALF_WRITTEN):
            if path.is_dir():
                raise ValueError(
                    f"{path} is a folder, but its name is that of a checkpoint, which "
                    "is a file. Move it, or pass another folder as checkpoint."
                )

    def _read_newest(self):
        """Read the newest file that is whole, if there is one."""
        self._content = self._arrays = None
        for file in reversed(self._files()):
            self._file = file
            try:
                self._content, self._arrays = _read(file)
                return
            except LaterFormatError:  # it is not damaged, and stays
                raise
            except ValueError as error:
                self._set_aside(error)

    def _set_aside(self, reason):
        """Take the file out of the count, so that those of before and to come stay."""
        aside = self._file.with_suffix(".damaged")
        os.replace(self._file, aside)
        warnings.warn(
            f"{reason} It is {aside.name} now. The last good checkpoint before it is "
            "used, if there is one.",
            stacklevel=2,
        )

    def _files(self):
        return sorted(self._named(_FILE), key=lambda file: int(file.stem))

    def _named(self, pattern):
        return [file for file in self.path.iterdir() if pattern.fullmatch(file.name)]

    def _check_same_fit(self, fingerprint, max_iter):
        before, iteration = self._content["fingerprint"], self._content["iteration"]
        changes = [
            f"{name} was {before.get(name)} and is {fingerprint.get(name)}"
            for name in {**before, **fingerprint}
            if before.get(name) != fingerprint.get(name)
        ]
        if changes:
            raise ValueError(
                f"The checkpoints in {self.path} are of another fit: "
                f"{'; '.join(changes)}. Pass another folder, or delete this one to "
                "begin anew."
            )
        if iteration > max_iter:
            raise ValueError(
                f"The checkpoints in {self.path} have {iteration} iterations, but "
                f"max_iter={max_iter}. Raise max_iter, or pass another folder."
            )


class NoCheckpoints:
    """Stands in where a fit has no folder."""

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def choose_seed(self, random_state):
        """Give the parameter as it is."""
        return random_state

    def resume(self, *arguments):
        """Change nothing."""

    def save(self, *arguments):
        """Write nothing."""


def make_fingerprint(estimator, seed, matrices, module, matmul_dtype):
    """List what the result of a fit depends on.

    Parameters
    ----------
    estimator : estimator instance
        Its parameters count, but for those that may change.
    seed : int
        Of the fit.
    matrices : dict of csr_array or None
        The data.
    module : VariationalNetwork
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
        "version of sklearn_recvae": __version__,
    }


def _read(file):
    content, arrays = read_file(file, KIND)
    try:
        check_fields(content, _CONTENT)
        if content["iteration"] != int(file.stem):
            raise ValueError(f"its iteration is {content['iteration']}")
        if not 0 <= content["seed"] < 2**32:
            raise ValueError(f"its seed is {content['seed']}")
    except ValueError as error:
        raise ValueError(f"{file} is whole, but no checkpoint: {error}.") from None
    return content, arrays


def _digest_matrix(X):
    if X is None:
        return "none"
    # The same data may come with indices of 32 or of 64 bits.
    structure = [index.astype(np.int64) for index in (X.indptr, X.indices)]
    return f"{X.shape}, SHA-256 {_digest([*structure, X.data])}"


def _digest(arrays):
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()[:16]


_open_locks = weakref.WeakSet()


def _close_locks():
    for stream in list(_open_locks):
        stream.close()


# A forked process that lives on after this one must not keep the lock.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_locks)


def _lock(stream):
    """Raise an OSError if another one has the lock."""
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        msvcrt.locking(stream.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _open_locks.add(stream)
