"""Functions that the loaders of published files share: files, lines, ids, filters."""

import codecs
import re
import zlib
from contextlib import contextmanager
from numbers import Integral, Real
from pathlib import Path
from zipfile import BadZipFile, ZipFile
from zipfile import Path as ZipPath

import numpy as np
from scipy.sparse import coo_array

from sklearn_recvae._sklearn import Interval

CHUNK_SIZE = 1 << 20  # bytes, or ids, that are processed at a time
# A small zip can hold a line that fills the memory. Published lines are below 1,000.
MAX_LINE_LENGTH = 1 << 16

FILTER_CONSTRAINTS = {
    "threshold": [Interval(Real, None, None, closed="neither"), None],
    "min_user_interactions": [Interval(Integral, 1, None, closed="left")],
    "min_item_interactions": [Interval(Integral, 1, None, closed="left")],
}

_END_SIZE = 22  # bytes of the last record of a zip, but for its comment

# What a damaged zip can raise, for instance OSError for an offset outside the file.
_DAMAGE = (BadZipFile, zlib.error, EOFError, OSError, RuntimeError, UnicodeError)


@contextmanager
def open_folder(path, expected):
    """Open a folder, or a zip, as a pathlib-like object."""
    if path.is_dir():
        yield path
        return
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist, expected {expected}.")
    try:
        with ZipFile(path) as archive:
            _check_directory(archive)
            yield ZipPath(archive)
    except (FileNotFoundError, PermissionError):
        raise
    except _DAMAGE as error:
        raise ValueError(
            f"{path} is no readable zip ({error}), expected {expected}. "
            "Delete it and download it again if the download was incomplete."
        ) from error


def _check_directory(archive):
    """Raise BadZipFile if the directory of a zip does not match its contents.

    Otherwise a file with a damaged name in the directory, or without an entry there,
    would seem to be missing from the zip.
    """
    for info in archive.infolist():
        archive.open(info).close()  # compares the name with the one at its contents
    archive.fp.seek(-_END_SIZE - len(archive.comment), 2)
    end = archive.fp.read(_END_SIZE)
    n_files = int.from_bytes(end[10:12], "little")
    if end.startswith(b"PK\5\6") and n_files not in (len(archive.filelist), 0xFFFF):
        raise BadZipFile(
            f"its directory has {len(archive.filelist)} of {n_files} files"
        )


def list_files(folder):
    """List the files in the folder and one level below."""
    if isinstance(folder, ZipPath):  # its iterdir goes through all names each time
        return [
            ZipPath(folder.root, name)
            for name in folder.root.namelist()
            if name.count("/") <= 1 and not name.endswith("/")
        ]
    folders = [folder, *(child for child in folder.iterdir() if child.is_dir())]
    return [file for each in folders for file in each.iterdir()]


@contextmanager
def progress_bar(files, verbose):
    """Make a function that takes numbers of bytes read, and may draw a bar."""
    if not verbose:
        yield lambda n_bytes: None
        return
    try:
        from rich.progress import Progress
    except ImportError as error:
        raise ImportError(
            f"verbose={verbose} needs rich, which is not installed. Run "
            "'python -m pip install rich', or set verbose=0."
        ) from error
    total = sum(_size(file) for file in files)
    with Progress() as progress:
        task = progress.add_task("Reading", total=total)
        yield lambda n_bytes: progress.advance(task, n_bytes)
        progress.update(task, completed=total)


def _size(file):
    if isinstance(file, Path):
        return file.stat().st_size
    return file.root.getinfo(file.at).file_size


def compile_lines(line):
    """Compile a pattern for any number of such lines, or empty lines."""
    # Possessive: a plain star would remember each line, to be able to go back.
    return re.compile(rb"(?:(?:%b)?\r?\n)*+" % line)


def whole_lines(file, stream, n_lines=0):
    """Yield the rest of a stream of text or bytes in chunks of whole lines."""
    while chunk := stream.read(CHUNK_SIZE):
        n_before = chunk.count(b"\n" if isinstance(chunk, bytes) else "\n")
        chunk += read_line(file, stream, n_lines + n_before + 1)
        n_lines += n_before + 1
        yield chunk


def read_line(file, stream, number):
    """Read a line, or what is left of it."""
    line = stream.readline(MAX_LINE_LENGTH + 1)
    if len(line) > MAX_LINE_LENGTH:
        raise ValueError(
            f"{file}, line {number}: expected at most {MAX_LINE_LENGTH} characters, "
            f"got more, with {line[:80]!r} in it"
        )
    return line


def read_chunks(file, lines, expected, advance):
    """Yield the file as bytes, in chunks of whole lines that match the pattern."""
    n_lines = 0
    with file.open("rb") as stream:
        for chunk in whole_lines(file, stream):
            advance(len(chunk))
            if not chunk.endswith(b"\n"):  # the end of the file
                chunk += b"\n"
            end = lines.match(chunk).end()
            if end < len(chunk):
                number = n_lines + chunk.count(b"\n", 0, end) + 1
                raise line_error(file, number, line_at(chunk, end), expected)
            n_lines += chunk.count(b"\n")
            yield chunk


def line_at(chunk, place):
    """Return the line of the chunk at this place, as a str for a message."""
    start = chunk.rfind(b"\n", 0, place) + 1
    return chunk[start : chunk.index(b"\n", start)].decode(errors="replace")


def line_error(file, number, line, expected):
    """Say what is wrong with a line."""
    shown = line.rstrip("\r\n")[:80]
    return ValueError(f"{file}, line {number}: expected {expected}, got {shown!r}")


def match_titles(file, title_line, header=None):
    """Yield the groups of each line of a file of titles; nothing if there is none."""
    if not file.is_file():
        return
    number = 0
    with file.open("r", encoding=_find_encoding(file), newline="\n") as stream:
        while line := read_line(file, stream, number + 1):
            number += 1
            line = line.removesuffix("\n")
            if not line.strip() or (number == 1 and header and line.startswith(header)):
                continue
            match = re.fullmatch(title_line, line)
            if match is None:
                raise line_error(file, number, line, "an id and a title")
            yield match.groups()


def _find_encoding(file):
    """Return UTF-8, or Latin-1 (MovieLens 100K and 1M, Netflix) if it is not UTF-8."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    with file.open("rb") as stream:
        try:
            while chunk := stream.read(CHUNK_SIZE):
                decoder.decode(chunk)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return "latin-1"
    return "utf-8-sig"


def title_array(titles, item_ids):
    """Return the title of each item from a dict, or its id as a str if it has none."""
    return np.array(
        [titles.get(item) or str(item) for item in item_ids.tolist()], dtype=object
    )


def index_ids(ids):
    """Replace int32 ids by their index among the unique ids; return the latter."""
    unique = np.sort(ids)  # much faster than np.unique
    # A difference may wrap around, but not to 0. A -1 of int64 would double the memory.
    unique = unique[np.diff(unique, prepend=np.int32(-1)) != 0]
    # Bit by bit and in place: the places would come as int64, twice the memory.
    for start in range(0, ids.size, CHUNK_SIZE):
        part = ids[start : start + CHUNK_SIZE]
        part[:] = np.searchsorted(unique, part)
    return unique.astype(np.int64)


def to_matrix(users, items, shape):
    """Make a matrix with a one for each distinct pair of indices."""
    ones = np.ones(users.size, dtype=np.float32)
    X = coo_array((ones, (users, items)), shape=shape).tocsr()
    X.data[:] = 1  # tocsr has summed the duplicates
    return X


def filter_matrix(
    source,
    X,
    user_ids,
    item_ids,
    threshold,
    min_user_interactions,
    min_item_interactions,
):
    """Remove items, then users, then items without users, and their ids."""
    kept_items = X.sum(axis=0) >= min_item_interactions
    kept_users = X @ kept_items >= min_user_interactions
    kept_items &= X.T @ kept_users > 0
    X = X[kept_users][:, kept_items]
    if X.nnz == 0:
        raise ValueError(
            f"{source}: no interaction is left, lower threshold={threshold}, "
            f"min_user_interactions={min_user_interactions} or "
            f"min_item_interactions={min_item_interactions}."
        )
    return X, user_ids[kept_users], item_ids[kept_items]
