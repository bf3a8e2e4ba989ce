"""Files of arrays and JSON: written whole or not at all, read without running code.

A file is a zip without compression: ``header.json``, and an ``.npy`` for each array, so
that `numpy.load` opens it too. The header has the format, its version and, for each
array, dtype, shape and SHA-256, and a SHA-256 of its own: what does not agree is
refused.
"""

import hashlib
import json
import math
import os
import reprlib
import secrets
import shutil
from pathlib import Path
from zipfile import ZIP_STORED, ZipFile, ZipInfo

import numpy as np

FORMAT_VERSION = 1

_HEADER = "header.json"
_MAX_HEADER_BYTES = 1 << 24
_MAX_DIMENSIONS = 8
_NPY_HEADER_BYTES = 1 << 10  # more than numpy writes before the numbers
_CHUNK = 1 << 20  # what is worked on at once in arrays of any size
# Little-endian, whatever the machine is.
_DTYPES = {
    name: np.dtype(name).newbyteorder("<")
    for name in ("float32", "float64", "int64", "int32", "uint8")
}


def write_file(path, kind, content, arrays):
    """Write a file; what was at its place before stays there until it is whole.

    A link stays, and the file that it leads to is written. A file that was there keeps
    its permissions.

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

    Raises
    ------
    OSError
        If the file cannot be written, or what is there is no regular file.
    ValueError
        If there is more than `read_file` would read.
    """
    path = Path(os.path.realpath(path))
    _check_regular(path)
    for name, array in arrays.items():
        _count_bytes(name, str(array.dtype), list(array.shape))
    header = {
        "format": f"sklearn_recvae {kind}",
        "format_version": FORMAT_VERSION,
        "content": content,
        "arrays": {name: _describe(array) for name, array in arrays.items()},
    }
    header["sha256"] = _digest(header)
    header = json.dumps(header, allow_nan=False).encode()
    if len(header) > _MAX_HEADER_BYTES:
        raise ValueError(
            f"{path} is not written: the list of its {len(arrays)} arrays, and what is "
            f"not in arrays, take {len(header)} bytes, but at most {_MAX_HEADER_BYTES} "
            "would be read. Save the parts of what is saved in files of their own."
        )
    # Beside its place, so that it can be moved there in one step.
    temporary = path.with_name(f".{path.name[:50]}.{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "xb") as stream:
            if path.exists():
                shutil.copymode(path, temporary)
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


def _check_regular(path):
    """Raise an OSError if there is something else than a file."""
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder, expected a file.")
    if path.exists() and not path.is_file():
        raise OSError(f"{path} is a device, a pipe or a socket, expected a file.")


def _write_array(archive, name, array):
    # The date of a ZipInfo is fixed: the same arrays make the same file.
    with archive.open(ZipInfo(f"{name}.npy"), "w", force_zip64=True) as stream:
        np.lib.format.write_array(stream, _as_stored(array), allow_pickle=False)


def _as_stored(array):
    return np.asarray(array, dtype=_DTYPES[str(array.dtype)], order="C")


def read_file(path, kind):
    """Read a file that `write_file` wrote.

    Time and memory are bounded by the size of the file, whatever it says.

    Parameters
    ----------
    path : path-like
        The file.
    kind : str
        What it has to be.

    Returns
    -------
    content : object
        As it was written, if it was `write_file` that wrote it.
    arrays : dict of ndarray
        As they were written.

    Raises
    ------
    OSError
        If there is no file that may be read.
    ValueError
        If it is of another kind, of a later format version, or damaged.
    """
    path = Path(path)
    _check_regular(path)
    with open(path, "rb") as stream:
        try:
            with ZipFile(stream) as archive:
                header = _read_header(archive, kind)
                _check_parts(archive, header["arrays"])
                arrays = {
                    name: _read_array(archive, name, described)
                    for name, described in header["arrays"].items()
                }
                return header["content"], arrays
        except _Refused as error:
            raise ValueError(f"{path} is no {kind} to be read: {error}.") from None
        except MemoryError:  # there is too little for what the file really has
            raise
        except Exception as error:  # of zipfile, json and what they call
            raise ValueError(
                f"{path} is no {kind} to be read: it is damaged, or was not written by "
                f"sklearn_recvae ({type(error).__name__}: {error})."
            ) from error


class _Refused(ValueError):
    """The file is none that was asked for, for a reason that is known."""


def _read_header(archive, kind):
    info = archive.getinfo(_HEADER)
    if info.file_size > _MAX_HEADER_BYTES or not _is_stored(info):
        raise _Refused(
            f"its header has {info.file_size} bytes, expected at most "
            f"{_MAX_HEADER_BYTES}, which are not compressed"
        )
    header = json.loads(archive.read(info))
    expected = f"sklearn_recvae {kind}"
    if header["format"] != expected:
        raise _Refused(f"it is a {header['format']!r}")
    version = header["format_version"]
    if version > FORMAT_VERSION:
        raise _Refused(
            f"its format version is {version}, and this release reads up to "
            f"{FORMAT_VERSION}: upgrade sklearn_recvae"
        )
    digest = header.pop("sha256")
    if digest != _digest(header):
        raise _Refused("it is damaged: its header was changed")
    return header


def _check_parts(archive, described):
    """Refuse parts that would take more memory than the file has bytes."""
    names = [_HEADER, *(f"{name}.npy" for name in described)]
    if sorted(archive.namelist()) != sorted(names):
        raise _Refused("it is damaged: its parts are not those of its list")
    parts = sorted(archive.infolist(), key=lambda info: info.header_offset)
    begins = [info.header_offset for info in parts[1:]] + [archive.start_dir]
    for info, next_begin in zip(parts, begins, strict=True):
        if info.header_offset + info.file_size > next_begin:
            raise _Refused(f"it is damaged: {info.filename} reaches into the next part")
    for name, array in described.items():
        check_fields(array, {"dtype": (str,), "shape": (list,), "sha256": (str,)})
        info = archive.getinfo(f"{name}.npy")
        n_before = info.file_size - _count_bytes(name, array["dtype"], array["shape"])
        if not _is_stored(info) or not 0 < n_before <= _NPY_HEADER_BYTES:
            raise _Refused(
                f"it is damaged: {name} has not the size that the header says"
            )


def _is_stored(info):
    return info.compress_type == ZIP_STORED and info.file_size == info.compress_size


def _count_bytes(name, dtype, shape):
    if dtype not in _DTYPES:
        raise _Refused(f"its {name} has dtype {reprlib.repr(dtype)}")
    are_lengths = all(type(length) is int and length >= 0 for length in shape)
    if len(shape) > _MAX_DIMENSIONS or not are_lengths:
        raise _Refused(f"its {name} has shape {reprlib.repr(shape)}")
    return _DTYPES[dtype].itemsize * math.prod(shape)


def _read_array(archive, name, described):
    """Read an array of which `_check_parts` has seen that the file has so much."""
    dtype, shape = described["dtype"], described["shape"]
    n_bytes = _count_bytes(name, dtype, shape)
    info = archive.getinfo(f"{name}.npy")
    array = np.empty(n_bytes, dtype=np.uint8)
    with archive.open(info) as stream:
        # What numpy wrote before the numbers says again what the header says.
        stream.read(info.file_size - n_bytes)
        for begin in range(0, n_bytes, _CHUNK):
            part = np.frombuffer(stream.read(_CHUNK), dtype=np.uint8)
            array[begin : begin + _CHUNK] = part
    array = array.view(_DTYPES[dtype]).reshape(shape).astype(dtype, copy=False)
    if _describe(array) != described:
        raise _Refused(f"it is damaged: {name} is not what the header says")
    return array


def _digest(header):
    return hashlib.sha256(json.dumps(header, sort_keys=True).encode()).hexdigest()


def _describe(array):
    return {
        "dtype": str(array.dtype),
        "shape": list(array.shape),
        "sha256": hashlib.sha256(_as_stored(array)).hexdigest(),
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
