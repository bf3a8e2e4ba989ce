"""Load the Netflix Prize data set, in both layouts that are in use."""

import re
from os import PathLike
from pathlib import Path

import numpy as np
from sklearn.utils import Bunch

from sklearn_recvae._sklearn import validate_params
from sklearn_recvae.datasets._published import (
    FILTER_CONSTRAINTS,
    compile_lines,
    filter_matrix,
    index_ids,
    line_at,
    line_error,
    list_files,
    match_titles,
    open_folder,
    progress_bar,
    read_chunks,
    title_array,
    to_matrix,
)

_EXPECTED_PATH = (
    "a folder or zip with mv_0000001.txt and so on, or combined_data_1.txt and so on "
    "(tar files have to be unpacked: tar -xf nf_prize_dataset.tar.gz, and then "
    "tar -xf training_set.tar in the folder download)"
)
_RATINGS_NAME = r"(mv|combined_data)_\d+\.txt"
_TITLES_NAMES = ("movie_titles.txt", "movie_titles.csv")
_TITLE_LINE = r"(\d+),(?:\d{4}|NULL),(.*?)\r?"

_MAX_DIGITS = 7  # the largest published id is 2,649,429
_MOVIE = rb"[0-9]{1,%d}:" % _MAX_DIGITS
_RATING = rb"[0-9]{1,%d},[1-5],[0-9]{4}-[0-9]{2}-[0-9]{2}" % _MAX_DIGITS
_LINES = compile_lines(rb"%b|%b" % (_MOVIE, _RATING))
_EXPECTED_LINE = (
    "'MOVIE_ID:' or 'USER_ID,RATING,DATE', with ids of at most "
    f"{_MAX_DIGITS} digits, a rating from 1 to 5 and a date such as 2005-09-06"
)

_DESCR = """\
Interactions of the Netflix Prize data set. The README that comes with the files has the
terms of use: research is free, redistribution and commercial use need the permission of
Netflix, which no longer distributes the data. Publications cite J. Bennett and
S. Lanning (2007), The Netflix Prize, Proceedings of KDD Cup and Workshop 2007.
"""


@validate_params(
    {"path": [str, PathLike], "verbose": ["verbose"], **FILTER_CONSTRAINTS},
    prefer_skip_nested_validation=True,
)
def load_netflix(
    path,
    *,
    threshold=3.5,
    min_user_interactions=5,
    min_item_interactions=1,
    verbose=0,
):
    r"""Load the ratings of the Netflix Prize as a matrix of interactions.

    Both layouts are read: a file for each movie (`mv_0000001.txt` to `mv_0017770.txt`,
    as published) and four files of many movies (`combined_data_1.txt` to
    `combined_data_4.txt`). Netflix no longer distributes the data set [1]_. It has
    100,480,507 ratings; parts of it, with fewer files or lines, can be read too.

    The filters are those of [2]_ and run once, in this order: ratings not above
    `threshold` are left out; then items with fewer than `min_item_interactions` users;
    then users with fewer than `min_user_interactions` of the remaining items; then
    items that have no user left. So an item may end up below its minimum.

    Parameters
    ----------
    path : str or path-like
        The folder that has the files, or has a folder with them, or a zip of it. Titles
        are read from `movie_titles.txt` or `movie_titles.csv` in either place.
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
        n_ratings : int
            Number of ratings read, before any filter.
        DESCR : str
            The terms of use and what to cite.

    Raises
    ------
    FileNotFoundError
        If `path` does not exist or holds no ratings files.
    ImportError
        If `verbose` is above 0 and rich is not installed.
    ValueError
        If a file is damaged or ambiguous, or no interaction passes the filters.

    References
    ----------
    .. [1] J. Bennett and S. Lanning (2007). The Netflix Prize. Proceedings of KDD Cup
       and Workshop 2007.
    .. [2] D. Liang, R. G. Krishnan, M. D. Hoffman and T. Jebara (2018). Variational
       Autoencoders for Collaborative Filtering. https://doi.org/10.1145/3178876.3186150

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from sklearn_recvae.datasets import load_netflix
    >>> text = "8:\n7,4,2005-09-06\n10:\n7,5,2005-09-07\n9,3,2005-09-08\n"
    >>> with TemporaryDirectory() as folder:
    ...     _ = Path(folder, "combined_data_1.txt").write_text(text)
    ...     netflix = load_netflix(folder, min_user_interactions=1)
    >>> netflix.user_ids, netflix.item_ids
    (array([7]), array([ 8, 10]))
    """
    path = Path(path)
    with open_folder(path, _EXPECTED_PATH) as folder:
        files = list_files(folder)
        ratings_files = _find_ratings(path, files)
        with progress_bar(ratings_files, verbose) as advance:
            users, items, n_ratings = _read_ratings(ratings_files, threshold, advance)
        titles = {
            int(item): title
            for file in files
            if file.name in _TITLES_NAMES
            for item, title in match_titles(file, _TITLE_LINE)
        }
    if n_ratings == 0:
        raise ValueError(f"{path} has no ratings, expected lines {_EXPECTED_LINE}.")

    user_ids, item_ids = index_ids(users), index_ids(items)
    X, user_ids, item_ids = filter_matrix(
        path,
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
        n_ratings=n_ratings,
        DESCR=_DESCR,
    )


def _find_ratings(path, files):
    """Find the ratings files, which are of one layout and in one folder."""
    found, places = [], set()
    for file in files:
        if match := re.fullmatch(_RATINGS_NAME, file.name):
            found.append(file)
            places.add(str(file.parent / f"{match[1]}_*.txt"))
    if not found:
        raise FileNotFoundError(
            f"{path} has no ratings files, expected {_EXPECTED_PATH}."
        )
    if len(places) > 1:
        names = ", ".join(sorted(places))
        raise ValueError(
            f"{path} has the ratings more than once: {names}. Pass a folder with one "
            "of them."
        )
    return sorted(found, key=lambda file: file.name)


def _read_ratings(files, threshold, advance):
    """Read users and items of ratings above the threshold, and count all ratings."""
    users, items, n_ratings = [], [], 0
    for file in files:
        movie = None
        for chunk in read_chunks(file, _LINES, _EXPECTED_LINE, advance):
            if movie is None:
                if not re.match(_MOVIE, chunk):
                    expected = "'MOVIE_ID:' before the ratings of a movie"
                    raise line_error(file, 1, line_at(chunk, 0), expected)
                movie = 0  # not used: the first line has another
            of_chunk = _parse(chunk, movie, threshold)
            users.append(of_chunk[0])
            items.append(of_chunk[1])
            n_ratings += of_chunk[2]
            movie = of_chunk[3]
        if movie is None:
            raise ValueError(f"{file} is empty, expected lines {_EXPECTED_LINE}.")
    return np.concatenate(users), np.concatenate(items), n_ratings


def _parse(chunk, movie, threshold):
    """Return users and items above the threshold, the number of all, the last movie.

    The ratings before the first line of a movie belong to the movie that is passed.
    """
    buffer = np.frombuffer(chunk, dtype=np.uint8)
    colons = np.flatnonzero(buffer == ord(":"))
    commas = np.flatnonzero(buffer == ord(","))[::2]  # the first of the two in a line
    n_ratings = commas.size
    if threshold is not None:
        commas = commas[buffer[commas + 1] - ord("0") > threshold]
    movies = np.append(np.int32(movie), _numbers_before(buffer, colons))
    n_of_movie = np.diff(np.searchsorted(commas, colons), prepend=0, append=commas.size)
    users, items = _numbers_before(buffer, commas), np.repeat(movies, n_of_movie)
    return users, items, n_ratings, movies[-1]


def _numbers_before(buffer, places):
    """Read the decimal numbers that end directly before the given places."""
    numbers = np.zeros(places.size, dtype=np.int32)
    inside = np.ones(places.size, dtype=bool)
    for exponent in range(_MAX_DIGITS):
        # Before the first byte comes the last one, which is a newline and ends numbers.
        digits = buffer.take(places - exponent - 1, mode="wrap").astype(np.int32)
        digits -= ord("0")
        inside &= (digits >= 0) & (digits <= 9)
        numbers += np.where(inside, digits * 10**exponent, 0)
    return numbers
