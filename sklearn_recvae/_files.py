"""Files of arrays and JSON: written whole or not at all, read without running code.

A file is a zip without compression: ``header.json``, and an ``.npy`` for each array, so
that `numpy.load` opens it too. The header has the format, its version and, for each
array, dtype, shape and SHA-256, and a SHA-256 of its own: what does not agree is
refused.
"""

import hashlib
import json
import os
import reprlib
import secrets
import zlib
from pathlib import Path
from zipfile import BadZipFile, ZipFile, ZipInfo

import numpy as np

FORMAT_VERSION = 1

_HEADER = "header.json"
_MAX_HEADER_BYTES = 1 << 20
_NPY_HEADER_BYTES = 1 << 10  # more than numpy writes before the numbers
_CHUNK = 1 << 20  # what is worked on at once in arrays of any size
_DTYPES = {"float32", "float64", "int64", "int32", "uint8"}

# What a damaged file can raise, in the zip, in the header or in an array.
_DAMAGE = (
    BadZipFile,
    zlib.error,
    EOFError,
    OSError,
    KeyError,
    TypeError,
    ValueError,
    AttributeError,
    RuntimeError,
    RecursionError,
    OverflowError,
)


def write_file(path, kind, content, arrays):
    """Write a file; what was at its place before stays there until it is whole.

    Parameters
    ----------
    path : path-like
        Its folder has to exist.
    kind : str
        What the file is.
    content : dict
        Anything that JSON can hold.
    arrays : dict of ndarray
        By name; of the dtypes that a file may have.
    """
    path = Path(path)
    header = {
        "format": f"sklearn_recvae {kind}",
        "format_version": FORMAT_VERSION,
        "content": content,
        "arrays": {name: _describe(array) for name, array in arrays.items()},
    }
    header["sha256"] = _digest(header)
    header = json.dumps(header, allow_nan=False).encode()
    # Beside its place, so that it can be moved there in one step.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "xb") as stream:
            with ZipFile(stream, "w") as archive:
                archive.writestr(ZipInfo(_HEADER), header)
                for name, array in arrays.items():
                    _write_array(archive, name, array)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _write_array(archive, name, array):
    # The date of a ZipInfo is fixed: the same arrays make the same file.
    with archive.open(ZipInfo(f"{name}.npy"), "w", force_zip64=True) as stream:
        np.lib.format.write_array(stream, np.asarray(array), allow_pickle=False)


def read_file(path, kind):
    """Read a file that `write_file` wrote.

    Parameters
    ----------
    path : path-like
        The file.
    kind : str
        What it has to be.

    Returns
    -------
    content : dict
        As it was written.
    arrays : dict of ndarray
        As they were written.

    Raises
    ------
    FileNotFoundError, PermissionError, IsADirectoryError
        If there is no file that may be read.
    ValueError
        If it is of another kind, of a later format version, or damaged.
    """
    path = Path(path)
    with open(path, "rb") as stream:
        try:
            with ZipFile(stream) as archive:
                header = _read_header(archive)
                expected = f"sklearn_recvae {kind}"
                if header["format"] != expected:
                    raise _Refused(f"it is a {header['format']!r}")
                version = header["format_version"]
                if version > FORMAT_VERSION:
                    raise _Refused(
                        f"its format version is {version}, and this release reads up "
                        f"to {FORMAT_VERSION}: upgrade sklearn_recvae"
                    )
                digest = header.pop("sha256")
                if digest != _digest(header):
                    raise _Refused("it is damaged: its header was changed")
                names = {_HEADER, *(f"{name}.npy" for name in header["arrays"])}
                if sorted(archive.namelist()) != sorted(names):
                    raise _Refused("it is damaged: its parts are not those of its list")
                arrays = {
                    name: _read_array(archive, name, described)
                    for name, described in header["arrays"].items()
                }
                return header["content"], arrays
        except _Refused as error:
            raise ValueError(f"{path} is no {kind} to be read: {error}.") from None
        except _DAMAGE as error:
            raise ValueError(
                f"{path} is no {kind} to be read: it is damaged, or was not written by "
                f"sklearn_recvae ({type(error).__name__}: {error})."
            ) from error


class _Refused(Exception):
    """The file is none that was asked for, for a reason that is known."""


def _read_header(archive):
    info = archive.getinfo(_HEADER)
    if info.file_size > _MAX_HEADER_BYTES:
        raise _Refused(f"its header has {info.file_size} bytes")
    return json.loads(archive.read(info))


def _read_array(archive, name, described):
    """Read an array; memory is taken for no more than the file has."""
    info = archive.getinfo(f"{name}.npy")
    dtype, shape = described["dtype"], described["shape"]
    if dtype not in _DTYPES:
        raise _Refused(f"its {name} has dtype {dtype!r}")
    n_bytes = np.dtype(dtype).itemsize
    for length in shape:
        n_bytes *= length
    # Stored as it is, so that a small file cannot ask for much memory.
    stored = info.compress_type == 0 and info.file_size == info.compress_size
    if not stored or not 0 < info.file_size - n_bytes <= _NPY_HEADER_BYTES:
        raise _Refused(f"it is damaged: {name} has not the size that the header says")
    with archive.open(info) as stream:
        array = np.lib.format.read_array(stream, allow_pickle=False)
    if _describe(array) != described:
        raise _Refused(f"it is damaged: {name} is not what the header says")
    return array


def _digest(header):
    return hashlib.sha256(json.dumps(header, sort_keys=True).encode()).hexdigest()


def _describe(array):
    array = np.ascontiguousarray(array)
    return {
        "dtype": str(array.dtype),
        "shape": list(array.shape),
        "sha256": hashlib.sha256(array).hexdigest(),
    }


def check_fields(fields, types):
    """Raise a ValueError unless these are the fields, of these types.

    Parameters
    ----------
    fields : object
        From the JSON of a file.
    types : dict of tuple of type
        Of each field.
    """
    if type(fields) is not dict or fields.keys() != types.keys():
        raise ValueError(
            f"there are fields {reprlib.repr(fields)}, expected {', '.join(types)}"
        )
    for name, value in fields.items():
        if type(value) not in types[name]:  # True is an int for isinstance
            expected = " or ".join(each.__name__ for each in types[name])
            raise ValueError(f"{name} is {reprlib.repr(value)}, expected {expected}")


def check_arrays(arrays, expected):
    """Raise a ValueError unless these are the arrays.

    Parameters
    ----------
    arrays : dict of ndarray
        From a file.
    expected : dict of (dtype, tuple)
        Dtype and shape of each.
    """
    for name in {**expected, **arrays}:
        if name not in arrays:
            raise ValueError(f"there is no array {name}")
        if name not in expected:
            raise ValueError(f"there is an array {name}, which nothing needs")
        got = (arrays[name].dtype, arrays[name].shape)
        if got != expected[name]:
            raise ValueError(
                f"{name} has dtype and shape {got}, expected {expected[name]}"
            )


def check_finite(arrays):
    """Raise a ValueError unless all numbers of the arrays are finite.

    Parameters
    ----------
    arrays : dict of ndarray
        From a file.
    """
    for name, array in arrays.items():
        flat = array.reshape(-1)
        for begin in range(0, len(flat), _CHUNK):  # not a bool for each at once
            if not np.isfinite(flat[begin : begin + _CHUNK]).all():
                raise ValueError(f"{name} has numbers that are not finite")
