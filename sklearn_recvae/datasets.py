"""Data sets: MovieLens as published, and a synthetic one whose tastes are known."""

import re
import zlib
from contextlib import contextmanager
from numbers import Integral, Real
from os import PathLike
from pathlib import Path
from zipfile import BadZipFile, ZipFile
from zipfile import Path as ZipPath

import numpy as np
from scipy.sparse import coo_array, csr_array
from sklearn.datasets import fetch_file, get_data_home
from sklearn.utils import Bunch, check_random_state
from sklearn.utils._param_validation import Interval, StrOptions, validate_params

# Ratings file: its separator, the file of titles, and a line of that: (id), (title).
_LAYOUTS = {
    "ratings.csv": (",", "movies.csv", r'(\d+),("(?:[^"]|"")*"|(?!")[^,]*),.*'),
    "ratings.dat": ("::", "movies.dat", r"(\d+)::(.*)::.*"),
    "u.data": ("\t", "u.item", r"(\d+)\|([^|]*)\|.*"),
}
_EXPECTED_PATH = "a MovieLens zip or the folder with its extracted files"
_MAX_ID = 2**31 - 1  # ids are kept as int32: half the memory of 32 million ratings
# What a damaged zip can raise, for instance OSError for an offset outside the file.
_DAMAGE = (BadZipFile, zlib.error, EOFError, OSError, RuntimeError, UnicodeError)

_N_PUBLISHED = {
    "latest-small": 100_836,
    "100k": 100_000,
    "1m": 1_000_209,
    "10m": 10_000_054,
    "20m": 20_000_263,
    "25m": 25_000_095,
    "32m": 32_000_204,
}

_DESCR = """\
MovieLens interactions. The README that comes with the files has the terms of use:
research is free, commercial use needs the permission of GroupLens, redistribution is
restricted. Publications cite F. M. Harper and J. A. Konstan (2015), The MovieLens
Datasets: History and Context, https://doi.org/10.1145/2827872
"""

_FILTER_CONSTRAINTS = {
    "threshold": [Interval(Real, None, None, closed="neither"), None],
    "min_user_interactions": [Interval(Integral, 1, None, closed="left")],
    "min_item_interactions": [Interval(Integral, 1, None, closed="left")],
}


@validate_params(
    {"path": [str, PathLike], **_FILTER_CONSTRAINTS},
    prefer_skip_nested_validation=True,
)
def load_movielens(
    path, *, threshold=3.5, min_user_interactions=5, min_item_interactions=1
):
    r"""Load MovieLens ratings as a matrix of interactions.

    All published formats are read: `ratings.csv` with `movies.csv` (latest, 20M, 25M,
    32M), `ratings.dat` with `movies.dat` (1M, 10M), `u.data` with `u.item` (100K).

    The filters are those of [1]_ and run once, in this order: ratings not above
    `threshold` are left out; then items with fewer than `min_item_interactions` users;
    then users with fewer than `min_user_interactions` of the remaining items; then
    items that have no user left. So an item may end up below its minimum.

    Parameters
    ----------
    path : str or path-like
        The zip as published by GroupLens, or the folder with its extracted files.
    threshold : float or None, default=3.5
        A rating above it is an interaction. With None every rating is one.
    min_user_interactions : int, default=5
        Fewest interactions of a user that is kept, in the range `[1, inf)`.
    min_item_interactions : int, default=1
        Fewest interactions of an item that is kept, in the range `[1, inf)`.

    Returns
    -------
    :class:`~sklearn.utils.Bunch`
        Dictionary-like object, with the following attributes.

        data : csr_array of shape (n_users, n_items)
            Float32 ones at the interactions, in canonical format. A pair of user and
            item that was rated twice counts once.
        user_ids, item_ids : ndarrays of shape (n_users,) and (n_items,)
            The int64 ids of rows and columns, ascending.
        item_titles : ndarray of shape (n_items,)
            The str title of each column; where the files give none, the id as a str.
        n_ratings : int
            Number of ratings read, before any filter.
        DESCR : str
            The terms of use and what to cite.

    Raises
    ------
    FileNotFoundError
        If `path` does not exist or holds no ratings file.
    ValueError
        If a file is damaged or ambiguous, or no interaction passes the filters.

    References
    ----------
    .. [1] D. Liang, R. G. Krishnan, M. D. Hoffman and T. Jebara (2018). Variational
       Autoencoders for Collaborative Filtering. https://doi.org/10.1145/3178876.3186150

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from sklearn_recvae.datasets import load_movielens
    >>> text = "userId,movieId,rating,timestamp\n1,10,4.0,0\n2,30,5.0,0\n"
    >>> with TemporaryDirectory() as folder:
    ...     _ = Path(folder, "ratings.csv").write_text(text)
    ...     movielens = load_movielens(folder, min_user_interactions=1)
    >>> movielens.item_ids
    array([10, 30])
    """
    path = Path(path)
    with _open_folder(path) as folder:
        file = _find_ratings(path, folder)
        separator, titles_name, title_line = _LAYOUTS[file.name]
        users, items, n_ratings = _read_interactions(file, separator, threshold)
        titles = _read_titles(file.parent / titles_name, title_line)

    X, user_ids, item_ids = _to_matrix(users, items)
    kept_items = X.sum(axis=0) >= min_item_interactions
    kept_users = X @ kept_items >= min_user_interactions
    kept_items &= X.T @ kept_users > 0
    X = X[kept_users][:, kept_items]
    if X.nnz == 0:
        raise ValueError(
            f"{file}: no interaction is left, lower threshold={threshold}, "
            f"min_user_interactions={min_user_interactions} or "
            f"min_item_interactions={min_item_interactions}."
        )
    item_ids = item_ids[kept_items]
    item_titles = [titles.get(item) or str(item) for item in item_ids.tolist()]
    return Bunch(
        data=X,
        user_ids=user_ids[kept_users],
        item_ids=item_ids,
        item_titles=np.array(item_titles, dtype=object),
        n_ratings=n_ratings,
        DESCR=_DESCR,
    )


@validate_params(
    {
        "name": [StrOptions(set(_N_PUBLISHED))],
        "data_home": [str, PathLike, None],
        **_FILTER_CONSTRAINTS,
    },
    prefer_skip_nested_validation=True,
)
def fetch_movielens(
    name="latest-small",
    *,
    data_home=None,
    threshold=3.5,
    min_user_interactions=5,
    min_item_interactions=1,
):
    """Download a MovieLens data set, once, and load it.

    The number of ratings is checked against the published one; there is no checksum.
    The README of each zip has the terms of use: research is free, commercial use needs
    the permission of GroupLens, redistribution is restricted. Publications cite [1]_.

    Parameters
    ----------
    name : str, default="latest-small"
        One of "latest-small", "100k", "1m", "10m", "20m", "25m" and "32m".
    data_home : str, path-like or None, default=None
        The zip is kept in the subfolder `sklearn_recvae` of this folder, by default
        that of :func:`sklearn.datasets.get_data_home`.
    threshold : float or None, default=3.5
        A rating above it is an interaction. With None every rating is one.
    min_user_interactions : int, default=5
        Fewest interactions of a user that is kept, in the range `[1, inf)`.
    min_item_interactions : int, default=1
        Fewest interactions of an item that is kept, in the range `[1, inf)`.

    Returns
    -------
    :class:`~sklearn.utils.Bunch`
        As returned by :func:`load_movielens`, which also describes the filters.

    Raises
    ------
    urllib.error.URLError
        If the download fails; a copy at hand can be read with :func:`load_movielens`.
    ValueError
        If the downloaded file is damaged or has not the published number of ratings.

    References
    ----------
    .. [1] F. M. Harper and J. A. Konstan (2015). The MovieLens Datasets: History and
       Context. ACM TiiS 5(4). https://doi.org/10.1145/2827872

    Examples
    --------
    >>> fetch_movielens("latest-small").data.shape  # doctest: +SKIP
    (603, 6298)
    """
    folder = get_data_home(Path(get_data_home(data_home), "sklearn_recvae"))
    url = f"https://files.grouplens.org/datasets/movielens/ml-{name}.zip"
    path = fetch_file(url, folder=folder)
    movielens = load_movielens(
        path,
        threshold=threshold,
        min_user_interactions=min_user_interactions,
        min_item_interactions=min_item_interactions,
    )
    if movielens.n_ratings != _N_PUBLISHED[name]:
        raise ValueError(
            f"{path} has {movielens.n_ratings} ratings, {name!r} was published with "
            f"{_N_PUBLISHED[name]}. Delete this file to download it again."
        )
    return movielens


@validate_params(
    {
        "n_users": [Interval(Integral, 1, None, closed="left")],
        "n_items": [Interval(Integral, 1, None, closed="left")],
        "n_groups": [Interval(Integral, 1, None, closed="left")],
        "mean_interactions": [Interval(Real, 1, None, closed="left")],
        "noise": [Interval(Real, 0, 1, closed="both")],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def make_interactions(
    n_users=1000,
    n_items=500,
    *,
    n_groups=5,
    mean_interactions=30,
    noise=0.1,
    random_state=None,
):
    """Draw interactions of users whose groups of taste are known.

    Users and items are dealt to groups of equal size at random. A user has a log-normal
    number of interactions, at least 5 where that is possible, most of them with items
    of their own group, in which popularity follows Zipf's law.

    Parameters
    ----------
    n_users : int, default=1000
        Number of rows, in the range `[1, inf)`.
    n_items : int, default=500
        Number of columns, in the range `[1, inf)`.
    n_groups : int, default=5
        Number of groups of taste, in the range `[1, n_items]`.
    mean_interactions : float, default=30
        Mean number of interactions of a user, in the range `[1, inf)`. Met roughly, as
        no user has more of them than a group has items.
    noise : float, default=0.1
        Share of the draws that go to a group picked at random instead of the user's
        own, in the range `[0, 1]`. With 1 there is no taste to learn.
    random_state : int, RandomState instance or None, default=None
        Pass an int for the same result at every call.

    Returns
    -------
    X : csr_array of shape (n_users, n_items)
        Float32 ones at the interactions, in canonical format.
    user_groups : ndarray of shape (n_users,)
        The group of each user.
    item_groups : ndarray of shape (n_items,)
        The group of each item.

    Examples
    --------
    >>> from sklearn_recvae.datasets import make_interactions
    >>> X, user_groups, item_groups = make_interactions(200, 60, random_state=0)
    >>> users, items = X.nonzero()
    >>> bool((user_groups[users] == item_groups[items]).mean() > 0.7)
    True
    """
    if n_groups > n_items:
        raise ValueError(f"n_groups={n_groups} is more than n_items={n_items}.")
    rng = check_random_state(random_state)
    user_groups = rng.permutation(np.arange(n_users) % n_groups)
    # Items are drawn by their place in a list sorted by group and then by popularity.
    place_groups = np.sort(np.arange(n_items) % n_groups)
    place_items = rng.permutation(n_items)
    item_groups = np.empty_like(place_groups)
    item_groups[place_items] = place_groups

    most = n_items // n_groups
    least = min(5, mean_interactions, most)
    spread = np.exp(rng.standard_normal(n_users) - 0.5)  # log-normal of mean 1
    n_wanted = np.rint(least + (mean_interactions - least) * spread)
    n_wanted = np.minimum(n_wanted, most).astype(np.int64)
    n_drawn = np.zeros_like(n_wanted)
    pairs = np.empty(0, dtype=np.int64)  # user * n_items + item, ascending
    # Repeated draws are made up for, but not for ever: the last unseen items are rare.
    for _ in range(5):
        users = np.repeat(np.arange(n_users, dtype=np.int64), n_wanted - n_drawn)
        places = _draw_places(rng, user_groups[users], place_groups, noise)
        pairs = np.append(pairs, users * n_items + place_items[places])
        pairs.sort()
        pairs = pairs[np.diff(pairs, prepend=-1) > 0]  # much faster than np.unique
        n_drawn = np.bincount(pairs // n_items, minlength=n_users)
    indices = (pairs % n_items).astype(np.int32)
    indptr = np.append(0, np.cumsum(n_drawn)).astype(np.int32)
    data = np.ones_like(indices, dtype=np.float32)
    X = csr_array((data, indices, indptr), shape=(n_users, n_items))
    return X, user_groups, item_groups


def _draw_places(rng, groups, place_groups, noise):
    """Draw one place in the list of items for each entry of groups."""
    sizes = np.bincount(place_groups)
    starts = np.cumsum(sizes) - sizes
    astray = rng.random_sample(groups.size) < noise
    groups = np.where(astray, rng.randint(sizes.size, size=groups.size), groups)
    # Zipf's law: a uniform log(rank) gives rank r a probability ~ log(1 + 1/r) ~ 1/r.
    # The minimum is for a power that is rounded up to the end of its range.
    rank = (1 + sizes[groups]) ** rng.random_sample(groups.size)
    return starts[groups] + np.minimum(rank.astype(np.int64), sizes[groups]) - 1


@contextmanager
def _open_folder(path):
    """Give the folder, or the inside of the zip, as a pathlib-like object."""
    if path.is_dir():
        yield path
        return
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist, expected {_EXPECTED_PATH}.")
    try:
        with ZipFile(path) as archive:
            yield ZipPath(archive)
    except (FileNotFoundError, PermissionError):
        raise
    except _DAMAGE as error:
        raise ValueError(
            f"{path} is no readable zip ({error}), expected {_EXPECTED_PATH}. "
            "Delete it and download it again if the download was incomplete."
        ) from error


def _find_ratings(path, folder):
    """Find the one ratings file in the folder or one level below."""
    folders = [folder, *(child for child in folder.iterdir() if child.is_dir())]
    files = [file for each in folders for file in each.iterdir()]
    found = [file for file in files if file.name in _LAYOUTS]
    if not found:
        raise FileNotFoundError(
            f"{path} has none of {', '.join(_LAYOUTS)}, expected {_EXPECTED_PATH}."
        )
    if len(found) > 1:
        names = ", ".join(sorted(str(file) for file in found))
        raise ValueError(f"{path} has more than one ratings file: {names}.")
    return found[0]


def _read_interactions(file, separator, threshold):
    """Read users and items of the ratings above the threshold, and count them all."""
    users, items, n_ratings, n_lines = [], [], 0, 0
    columns = separator.join(["userId", "movieId", "rating", "timestamp"])
    expected = f"numbers {columns!r} with ids from 0 to {_MAX_ID}"
    # A byte that is not UTF-8 is replaced, and then refused as any other non-number.
    with file.open("r", encoding="utf-8-sig", errors="replace") as stream:
        if file.name.endswith(".csv"):
            header, n_lines = stream.readline(), 1
            if header.strip() != columns:
                raise _line_error(file, n_lines, header, f"the header {columns!r}")
        while lines := stream.readlines(1 << 20):  # whole lines, about 1 MB
            table = _parse_ratings(lines, separator)
            if table is None:
                for number, line in enumerate(lines, start=n_lines + 1):
                    if _parse_ratings([line], separator) is None:
                        raise _line_error(file, number, line, expected)
            n_ratings += len(table)
            n_lines += len(lines)
            if threshold is not None:
                table = table[table[:, 2] > threshold]
            users.append(table[:, 0].astype(np.int32))
            items.append(table[:, 1].astype(np.int32))
    if n_ratings == 0:
        raise ValueError(f"{file} has no ratings, expected lines of {expected}.")
    return np.concatenate(users), np.concatenate(items), n_ratings


def _parse_ratings(lines, separator):
    """Turn lines into an array of shape (n_ratings, 4), None if a line is broken."""
    # loadtxt takes no separator of two characters.
    lines = [line.replace(separator, "\t") for line in lines if not line.isspace()]
    if not lines:
        return np.empty((0, 4))
    try:
        table = np.loadtxt(lines, delimiter="\t", comments=None, ndmin=2)
    except ValueError:
        return None
    if table.shape[1] != 4 or not np.isfinite(table).all():
        return None
    ids = table[:, :2]
    if ids.min() < 0 or ids.max() > _MAX_ID or (ids != np.floor(ids)).any():
        return None
    return table


def _read_titles(file, title_line):
    """Read the titles as a dict from item id to title, empty without a file."""
    if not file.is_file():
        return {}
    content = file.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:  # 100K and 1M
        text = content.decode("latin-1")
    titles = {}
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip() or (number == 1 and line.startswith("movieId,")):
            continue
        match = re.fullmatch(title_line, line)
        if match is None:
            raise _line_error(file, number, line, "an id and a title")
        item, title = match.groups()
        if file.name.endswith(".csv") and title.startswith('"'):
            title = title[1:-1].replace('""', '"')
        titles[int(item)] = title
    return titles


def _line_error(file, number, line, expected):
    """Say what is wrong with a line."""
    shown = line.rstrip("\r\n")[:80]
    return ValueError(f"{file}, line {number}: expected {expected}, got {shown!r}")


def _to_matrix(users, items):
    """Count every pair of ids once: the matrix of ones, and the ids of its axes."""
    user_ids, rows = np.unique(users, return_inverse=True)
    item_ids, columns = np.unique(items, return_inverse=True)
    places = rows.astype(np.int32), columns.astype(np.int32)
    ones = np.ones(users.size, dtype=np.float32)
    X = coo_array((ones, places), shape=(user_ids.size, item_ids.size)).tocsr()
    X.data[:] = 1  # tocsr has summed the duplicates
    return X, user_ids.astype(np.int64), item_ids.astype(np.int64)
