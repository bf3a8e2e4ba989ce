"""Files of arrays and JSON: written whole or not at all, read without running code.

A file is a safetensors file, which many tools open: the length of a header, the header,
and the arrays, one after the other. The header is JSON: name, dtype, shape and place of
each array, and a string. That string is JSON again: what the file is, its format
version, its content, and digests (SHA-256) of each array and of the header itself.

The package safetensors is what the tests compare this module with, and not what it
calls. `read_file` and `write_file` need what that has not: a header that is right in
each byte, arrays that are mapped into memory, and one open file from the header to the
last array, so that a file that is replaced meanwhile is never half of the one and half
of the other.
"""

import hashlib
import json
import math
import os
import reprlib
import secrets
import shutil
from pathlib import Path

import numpy as np

FORMAT_VERSION = 1

_KEY = "sklearn_recvae"  # of the string in the header
_MAX_HEADER_BYTES = 1 << 24
_MAX_DIMENSIONS = 8
_LENGTH_BYTES = 8  # of the number before the header
_ALIGNMENT = 64  # of the place where arrays begin
_CHUNK = 1 << 20  # what is worked on at once in arrays of any size
# Little-endian, whatever the machine is.
_DTYPES = {
    "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"),
    "I32": np.dtype("<i4"),
    "I64": np.dtype("<i8"),
    "U8": np.dtype("u1"),
}
_NAMES_OF_DTYPES = {dtype: name for name, dtype in _DTYPES.items()}


class LaterFormatError(ValueError):
    """The file was written by a later release. It may be whole."""


class _Refused(ValueError):
    """The file is none that was asked for, for a reason that is known."""


def write_file(path, kind, content, arrays):
    """Write a file; what was at its place before stays there until it is whole.

    A link stays, and the file that it leads to is written. A file that was there keeps
    its permissions. The arrays are written one after the other, without a copy.

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
    described = {name: _describe(name, arrays[name]) for name in _in_order(arrays)}
    said = {
        "format": f"sklearn_recvae {kind}",
        "format_version": FORMAT_VERSION,
        "content": content,
        "arrays": {name: _digest_array(arrays[name]) for name in described},
    }
    header = _make_header(described, said)
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
            stream.write(header)
            for name in described:
                _write_array(stream, arrays[name])
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


def _in_order(arrays):
    """Give the names in an order in which each array begins where it should in memory.

    First come sizes that are multiples of high powers of two. So what is before an
    array is a multiple of its power, which is at least the size of a number.
    """

    def power(name):
        n_bytes = arrays[name].nbytes
        return n_bytes & -n_bytes or math.inf

    return sorted(arrays, key=power, reverse=True)


def _describe(name, array):
    """Give dtype and shape as the header has them."""
    dtype = _NAMES_OF_DTYPES.get(array.dtype.newbyteorder("<"))
    described = dtype or str(array.dtype), list(array.shape)
    _count_bytes(name, described)
    return described


def _count_bytes(name, described):
    dtype, shape = described
    if dtype not in _DTYPES:
        raise _Refused(f"its {name} has dtype {reprlib.repr(dtype)}")
    are_lengths = all(type(length) is int and length >= 0 for length in shape)
    if len(shape) > _MAX_DIMENSIONS or not are_lengths:
        raise _Refused(f"its {name} has shape {reprlib.repr(shape)}")
    return _DTYPES[dtype].itemsize * math.prod(shape)


def _make_header(described, said):
    """Give the bytes before the arrays; a digest is put into the last field."""
    unsigned = _lay_out(described, {**said, "sha256": ""})
    digest = hashlib.sha256(unsigned).hexdigest()
    return _lay_out(described, {**said, "sha256": digest})


def _lay_out(described, said):
    header = {"__metadata__": {_KEY: json.dumps(said, allow_nan=False)}}
    begin = 0
    for name, (dtype, shape) in described.items():
        end = begin + _count_bytes(name, (dtype, shape))
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}
        begin = end
    header = json.dumps(header).encode()
    header += b" " * (-(_LENGTH_BYTES + len(header)) % _ALIGNMENT)
    return len(header).to_bytes(_LENGTH_BYTES, "little") + header


def _as_stored(array):
    return np.asarray(array, dtype=array.dtype.newbyteorder("<"), order="C")


def _as_bytes(array):
    """Give the memory of a contiguous array."""
    return array.reshape(-1).view(np.uint8)


def _write_array(stream, array):
    stream.write(_as_bytes(_as_stored(array)))


def _digest_array(array):
    return hashlib.sha256(_as_bytes(_as_stored(array))).hexdigest()


def read_file(path, kind, *, mmap=False):
    """Read a file that `write_file` wrote.

    Time and memory are bounded by the size of the file, whatever it says.

    Parameters
    ----------
    path : path-like
        The file.
    kind : str
        What it has to be.
    mmap : bool, default=False
        Whether large arrays of floats are mapped into memory, for reading only. Their
        digests are not checked then.

    Returns
    -------
    content : object
        As it was written, if it was `write_file` that wrote it.
    arrays : dict of ndarray
        As they were written; a `numpy.memmap` is one that is mapped.

    Raises
    ------
    OSError
        If there is no file that may be read.
    LaterFormatError
        If it was written by a later release.
    ValueError
        If it is of another kind, or damaged.
    """
    path = Path(path)
    _check_regular(path)
    with open(path, "rb") as stream:
        try:
            described, said = _read_header(stream, kind)
            arrays = {}
            for name, each in described.items():
                arrays[name] = _read_array(stream, name, each, said["arrays"], mmap)
            return said["content"], arrays
        except LaterFormatError as error:
            raise LaterFormatError(f"{path} is not read: {error}.") from None
        except _Refused as error:
            raise ValueError(f"{path} is no {kind} to be read: {error}.") from None
        except (MemoryError, OSError):  # are no fault of the file
            raise
        except Exception as error:  # of json, and of what is not what it should be
            raise ValueError(
                f"{path} is no {kind} to be read: it is damaged, or was not written by "
                f"sklearn_recvae ({type(error).__name__}: {error})."
            ) from error


def _read_header(stream, kind):
    """Read the header, and see that it is right and goes with the size of the file."""
    n_bytes = os.fstat(stream.fileno()).st_size
    length = stream.read(_LENGTH_BYTES)
    n_header = int.from_bytes(length, "little")
    if n_header > min(n_bytes, _MAX_HEADER_BYTES):
        raise _Refused(
            "it is damaged, or was not written by sklearn_recvae: its header would "
            f"have {n_header} bytes, expected at most {_MAX_HEADER_BYTES}"
        )
    header = length + stream.read(n_header)
    fields = json.loads(header[_LENGTH_BYTES:])
    said = json.loads(fields.pop("__metadata__")[_KEY])
    if said["format"] != f"sklearn_recvae {kind}":
        raise _Refused(f"it is a {said['format']!r}")
    version = said["format_version"]
    if version > FORMAT_VERSION:
        raise LaterFormatError(
            f"its format version is {version}, and this release reads up to "
            f"{FORMAT_VERSION}; upgrade sklearn_recvae"
        )
    described = {name: (each["dtype"], each["shape"]) for name, each in fields.items()}
    del said["sha256"]
    # Places of arrays, digest, spaces: there is one way to write it all.
    if header != _make_header(described, said):
        raise _Refused("it is damaged: its header was changed")
    n_expected = len(header) + sum(
        _count_bytes(name, each) for name, each in described.items()
    )
    if n_bytes != n_expected:
        raise _Refused(
            f"it is damaged: it has {n_bytes} bytes, and its header says {n_expected}"
        )
    return described, said


def _read_array(stream, name, described, digests, mmap):
    """Read or map the array at which the stream stands, and go behind it."""
    dtype, shape = _DTYPES[described[0]], tuple(described[1])
    begin, n_bytes = stream.tell(), _count_bytes(name, described)
    if mmap and dtype.kind == "f" and n_bytes > _CHUNK:
        array = np.memmap(stream, dtype, "r", begin, shape)
        stream.seek(begin + n_bytes)
        return array
    array = np.empty(shape, dtype)
    memory, digest = _as_bytes(array), hashlib.sha256()
    for start in range(0, n_bytes, _CHUNK):
        part = memory[start : start + _CHUNK]
        stream.readinto(part)
        digest.update(part)
    if digest.hexdigest() != digests[name]:
        raise _Refused(f"it is damaged: {name} is not what the header says")
    return array.astype(dtype.newbyteorder("="), copy=False)


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
