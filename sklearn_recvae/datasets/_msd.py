"""Load the play counts of the Million Song Dataset (its taste profile subset)."""

import itertools
from collections import defaultdict
from contextlib import contextmanager
from os import PathLike
from pathlib import Path

import numpy as np
from sklearn.utils import Bunch

from sklearn_recvae._sklearn import validate_params
from sklearn_recvae.datasets._published import (
    FILTER_CONSTRAINTS,
    compile_lines,
    filter_matrix,
    list_files,
    match_titles,
    open_folder,
    progress_bar,
    read_chunks,
    title_array,
    to_matrix,
)

_TRIPLETS_NAME = "train_triplets.txt"
_EXPECTED_PATH = f"{_TRIPLETS_NAME}, {_TRIPLETS_NAME}.zip or a folder with one of them"
_TITLE_LINE = r".*?<SEP>([0-9A-Z]{18})<SEP>(.*?)<SEP>(.*?)\r?"

_LINES = compile_lines(rb"[0-9a-f]{40}\t[0-9A-Z]{18}\t[1-9][0-9]{0,8}")
_EXPECTED_LINE = (
    "'USER\\tSONG\\tPLAYS', with 40 hex digits, 18 digits or capital letters, and a "
    "number from 1 to 999999999"
)

_DESCR = """\
Interactions of the Echo Nest taste profile subset of the Million Song Dataset. The page
of the data set, http://millionsongdataset.com/tasteprofile/, has the terms of use: the
data are for research. Publications cite T. Bertin-Mahieux, D. P. W. Ellis, B. Whitman
and P. Lamere (2011), The Million Song Dataset, Proceedings of ISMIR 2011.
"""


@validate_params(
    {"path": [str, PathLike], "verbose": ["verbose"], **FILTER_CONSTRAINTS},
    prefer_skip_nested_validation=True,
)
def load_msd(
    path,
    *,
    threshold=None,
    min_user_interactions=20,
    min_item_interactions=200,
    verbose=0,
):
    r"""Load play counts of the Million Song Dataset as a matrix of interactions.

    The file is `train_triplets.txt` of its taste profile subset [1]_. Each line has a
    user, a song and the number of plays. The file has 48,373,586 lines; a part of it
    can be read too.

    The filters are those of [2]_ and run once, in this order: play counts not above
    `threshold` are left out; then items with fewer than `min_item_interactions` users;
    then users with fewer than `min_user_interactions` of the remaining items; then
    items that have no user left. So an item may end up below its minimum.

    Parameters
    ----------
    path : str or path-like
        The file `train_triplets.txt`, or `train_triplets.txt.zip`, or a folder with
        one of them; where it has both, the zip is not read. Titles are read from
        `unique_tracks.txt` in the same folder.
    threshold : float or None, default=None
        A play count above it is an interaction. With None every one is.
    min_user_interactions : int, default=20
        Fewest interactions of a user that is kept, in the range `[1, inf)`.
    min_item_interactions : int, default=200
        Fewest interactions of an item that is kept, in the range `[1, inf)`.
    verbose : int, default=0
        Above 0 a progress bar is drawn, for which rich has to be installed.

    Returns
    -------
    :class:`~sklearn.utils.Bunch`
        Dictionary-like object, with the following attributes.

        data : csr_array of shape (n_users, n_items)
            Float32 ones at the interactions, in canonical format. A pair of user and
            item that is listed twice counts once.
        user_ids, item_ids : ndarrays of shape (n_users,) and (n_items,)
            The str ids of rows and columns, ascending.
        item_titles : ndarray of shape (n_items,)
            The str "artist - title" of each column; where there is none, the id.
        n_ratings : int
            Number of play counts read, before any filter.
        DESCR : str
            The terms of use and what to cite.

    Raises
    ------
    FileNotFoundError
        If `path` does not exist or does not hold the file.
    ImportError
        If `verbose` is above 0 and rich is not installed.
    ValueError
        If a file is damaged, or no interaction passes the filters.

    References
    ----------
    .. [1] T. Bertin-Mahieux, D. P. W. Ellis, B. Whitman and P. Lamere (2011). The
       Million Song Dataset. Proceedings of ISMIR 2011.
       http://millionsongdataset.com/tasteprofile/
    .. [2] D. Liang, R. G. Krishnan, M. D. Hoffman and T. Jebara (2018). Variational
       Autoencoders for Collaborative Filtering. https://doi.org/10.1145/3178876.3186150

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from sklearn_recvae.datasets import load_msd
    >>> user = "b80344d063b5ccb3212f76538f3d9e43d87dca9e"
    >>> text = f"{user}\tSOAKIMP12A8C130995\t1\n{user}\tSOAPDEY12A81C210A9\t2\n"
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder, "train_triplets.txt")
    ...     _ = path.write_text(text)
    ...     msd = load_msd(path, min_user_interactions=1, min_item_interactions=1)
    >>> msd.item_ids
    array(['SOAKIMP12A8C130995', 'SOAPDEY12A81C210A9'], dtype='<U18')
    """
    path = _find_triplets(Path(path))
    with _open_triplets(path) as file, progress_bar([file], verbose) as advance:
        users, items, user_ids, item_ids, n_ratings = _read_triplets(
            file, threshold, advance
        )
    titles = {
        song: f"{artist} - {title}"
        for song, artist, title in match_titles(
            path.parent / "unique_tracks.txt", _TITLE_LINE
        )
    }

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


def _find_triplets(path):
    """Find the file that the path names, plain or as a zip."""
    if not path.is_dir():
        return path
    for name in (_TRIPLETS_NAME, f"{_TRIPLETS_NAME}.zip"):
        if (path / name).is_file():
            return path / name
    raise FileNotFoundError(f"{path} has no play counts, expected {_EXPECTED_PATH}.")


@contextmanager
def _open_triplets(path):
    """Open the file, or the one inside the zip."""
    if path.is_file() and path.suffix != ".zip":
        yield path
        return
    with open_folder(path, _EXPECTED_PATH) as folder:
        found = [file for file in list_files(folder) if file.name == _TRIPLETS_NAME]
        if not found:
            raise FileNotFoundError(
                f"{path} has no {_TRIPLETS_NAME}, expected {_EXPECTED_PATH}."
            )
        yield found[0]


def _read_triplets(file, threshold, advance):
    """Read indices and ids of users and items above the threshold; count all lines."""
    users, items, n_ratings = [], [], 0
    # These give the next number to each id that they have not seen.
    user_numbers = defaultdict(itertools.count().__next__)
    item_numbers = defaultdict(itertools.count().__next__)
    for chunk in read_chunks(file, _LINES, _EXPECTED_LINE, advance):
        words = chunk.split()
        kept = slice(None)
        if threshold is not None:
            kept = np.array(words[2::3]).astype(np.int64) > threshold
        users.append(_look_up(user_numbers, words[::3])[kept])
        items.append(_look_up(item_numbers, words[1::3])[kept])
        n_ratings += len(words) // 3
    if n_ratings == 0:
        raise ValueError(f"{file} has no play counts, expected lines {_EXPECTED_LINE}.")
    user_ids, users = _sort(user_numbers, np.concatenate(users))
    item_ids, items = _sort(item_numbers, np.concatenate(items))
    return users, items, user_ids, item_ids, n_ratings


def _look_up(numbers, ids):
    return np.fromiter(map(numbers.__getitem__, ids), np.int32, len(ids))


def _sort(numbers, indices):
    """Sort the ids as strings; return them and the indices in the new order."""
    ids, places = np.unique(list(numbers), return_inverse=True)
    return ids.astype(str), places.astype(np.int32)[indices]
