"""Load MovieLens, in all formats in which it was published."""

from os import PathLike
from pathlib import Path

import numpy as np
from sklearn.datasets import fetch_file, get_data_home
from sklearn.utils import Bunch

from sklearn_recvae._sklearn import StrOptions, validate_params
from sklearn_recvae.datasets._published import (
    FILTER_CONSTRAINTS,
    filter_matrix,
    index_ids,
    line_error,
    list_files,
    match_titles,
    open_folder,
    progress_bar,
    read_line,
    title_array,
    to_matrix,
    whole_lines,
)

# For each ratings file: its separator, the file of titles, and the pattern of a line of
# the latter: (id), (title), (the rest, which has the genres).
_LAYOUTS = {
    "ratings.csv": (",", "movies.csv", r'(\d+),("(?:[^"]|"")*"|(?!")[^,]*),(.*)'),
    "ratings.dat": ("::", "movies.dat", r"(\d+)::(.*)::(.*)"),
    "u.data": ("\t", "u.item", r"(\d+)\|([^|]*)\|(.*)"),
}
_EXPECTED_PATH = "a MovieLens zip or the folder with its extracted files"
_MAX_ID = 2**31 - 1  # ids are kept as int32: half the memory of 32 million ratings

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


@validate_params(
    {"path": [str, PathLike], "verbose": ["verbose"], **FILTER_CONSTRAINTS},
    prefer_skip_nested_validation=True,
)
def load_movielens(
    path,
    *,
    threshold=3.5,
    min_user_interactions=5,
    min_item_interactions=1,
    verbose=0,
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
    verbose : int, default=0
        Above 0 a progress bar is drawn, for which rich has to be installed.

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
        item_genres : ndarray of shape (n_items,)
            The genres of each column, as the str `"Comedy|Drama"`; empty where the
            files give none. Those of 100K have their names in `u.genre`.
        n_ratings : int
            Number of ratings read, before any filter.
        DESCR : str
            The terms of use and what to cite.

    Raises
    ------
    FileNotFoundError
        If `path` does not exist or holds no ratings file.
    ImportError
        If `verbose` is above 0 and rich is not installed.
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
    with open_folder(path, _EXPECTED_PATH) as folder:
        file = _find_ratings(path, folder)
        separator, titles_name, title_line = _LAYOUTS[file.name]
        with progress_bar([file], verbose) as advance:
            users, items, n_ratings = _read_interactions(
                file, separator, threshold, advance
            )
        titles, genres = _read_titles(file.parent / titles_name, title_line)

    user_ids, item_ids = index_ids(users), index_ids(items)
    X, user_ids, item_ids = filter_matrix(
        file,
        to_matrix(users, items, (user_ids.size, item_ids.size)),
        user_ids,
        item_ids,
        threshold,
        min_user_interactions,
        min_item_interactions,
    )
    return Bunch(
        data=X,
        user_ids=user_ids,
        item_ids=item_ids,
        item_titles=title_array(titles, item_ids),
        item_genres=np.array(
            [genres.get(item, "") for item in item_ids.tolist()], dtype=object
        ),
        n_ratings=n_ratings,
        DESCR=_DESCR,
    )


@validate_params(
    {
        "name": [StrOptions(set(_N_PUBLISHED))],
        "data_home": [str, PathLike, None],
        **FILTER_CONSTRAINTS,
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


def _find_ratings(path, folder):
    """Find the one ratings file in the folder or one level below."""
    found = [file for file in list_files(folder) if file.name in _LAYOUTS]
    if not found:
        raise FileNotFoundError(
            f"{path} has none of {', '.join(_LAYOUTS)}, expected {_EXPECTED_PATH}."
        )
    if len(found) > 1:
        names = ", ".join(sorted(str(file) for file in found))
        raise ValueError(f"{path} has more than one ratings file: {names}.")
    return found[0]


def _read_interactions(file, separator, threshold, advance):
    """Read users and items of ratings above the threshold, and count all ratings."""
    users, items, n_ratings, n_lines = [], [], 0, 0
    columns = separator.join(["userId", "movieId", "rating", "timestamp"])
    expected = f"numbers {columns!r} with ids from 0 to {_MAX_ID}"
    # A byte that is not UTF-8 is replaced, and then refused because it is no digit.
    with file.open("r", encoding="utf-8-sig", errors="replace") as stream:
        if file.name.endswith(".csv"):
            header, n_lines = read_line(file, stream, 1), 1
            if header.strip() != columns:
                raise line_error(file, n_lines, header, f"the header {columns!r}")
        for chunk in whole_lines(file, stream, n_lines):
            lines = chunk.removesuffix("\n").split("\n")
            table = _parse_ratings(lines, separator)
            if table is None:
                for number, line in enumerate(lines, start=n_lines + 1):
                    if _parse_ratings([line], separator) is None:
                        raise line_error(file, number, line, expected)
            advance(len(chunk))  # characters, roughly bytes
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
    """Turn lines into an array of shape (n_ratings, 4); None if a line is malformed."""
    # loadtxt takes no separator of two characters.
    lines = [line.replace(separator, "\t") for line in lines if line.strip()]
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
    """Read dicts from item id to title and to genres; empty if there is no file."""
    titles, genres = {}, {}
    names = _read_genre_names(file.parent / "u.genre")
    for item, title, rest in match_titles(file, title_line, header="movieId,"):
        if file.name.endswith(".csv") and title.startswith('"'):
            title = title[1:-1].replace('""', '"')
        if file.name == "u.item":  # the line ends in a flag for each genre
            flags = rest.split("|")[-len(names) :]
            flagged = zip(names, flags, strict=False)
            rest = "|".join(name for name, flag in flagged if flag.strip() == "1")
        titles[int(item)] = title
        genres[int(item)] = rest.strip().replace("(no genres listed)", "")
    return titles, genres


def _read_genre_names(file):
    """Read the genres of MovieLens 100K in the order of their flags."""
    if not file.is_file():
        return []
    return [name for name, _ in match_titles(file, r"([^|\r]*)(.*)")]
