"""MovieLens files: what is read, fetched and refused."""

import shutil
import tracemalloc
import zipfile
from urllib.error import URLError

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sklearn_recvae.datasets import _movielens, fetch_movielens, load_movielens

KEEP_ALL = {"threshold": None, "min_user_interactions": 1}
FORMATS = {
    "ratings.csv": "{},{},{},{}",
    "ratings.dat": "{}::{}::{}::{}",
    "u.data": "{}\t{}\t{}\t{}",
}
HEADER = "userId,movieId,rating,timestamp\n"
TITLES = {
    "movies.csv": (
        "movieId,title,genres\n"
        "1,Toy Story (1995),Animation|Children\n"
        '2,"American President, The (1995)",Comedy\n'
        '3,"""Great Performances"" Cats (1998)",Musical\n'
        "4,Misérables (1995),Drama\n",
        "utf-8",
    ),
    "movies.dat": (
        "1::Toy Story (1995)::Animation|Children\n"
        "2::American President, The (1995)::Comedy\n"
        '3::"Great Performances" Cats (1998)::Musical\n'
        "4::Misérables (1995)::Drama\n",
        "latin-1",
    ),
    "u.item": (
        "1|Toy Story (1995)|01-Jan-1995||http://x|0|1\n"
        "2|American President, The (1995)|01-Jan-1995||http://x|0|0\n"
        '3|"Great Performances" Cats (1998)|01-Jan-1998||http://x|0|0\n'
        "4|Misérables (1995)|01-Jan-1995||http://x|0|0\n",
        "latin-1",
    ),
}
TITLES_OF = dict(zip(FORMATS, TITLES, strict=True))


def ratings_text(name, rows, *, newline="\n"):
    """Write rows of (user, item, rating) as the text of a ratings file."""
    lines = [FORMATS[name].format(*row, 978300760) + newline for row in rows]
    header = HEADER.replace("\n", newline) if name == "ratings.csv" else ""
    return header + "".join(lines)


def write_ratings(folder, name, rows, *, newline="\n"):
    text = ratings_text(name, rows, newline=newline)
    (folder / name).write_bytes(text.encode())


def write_zip(path, files):
    """Write a zip of a folder `ml` with the files, given as texts or bytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(f"ml/{name}", content)
    return path


# ---------------------------------------------------------------- load_movielens


def test_the_published_zip_gives_the_known_interactions(data_dir):
    folder = data_dir / "ml-latest-small"
    movielens = load_movielens(folder / "ml-latest-small.zip")
    ids = np.load(folder / "ids.npz")
    expected = sp.load_npz(folder / "interactions.npz")

    assert movielens.n_ratings == 100_836
    assert movielens.data.shape == (603, 6_298)
    assert movielens.data.nnz == 48_562
    np.testing.assert_array_equal(movielens.data.indptr, expected.indptr)
    np.testing.assert_array_equal(movielens.data.indices, expected.indices)
    np.testing.assert_array_equal(movielens.user_ids, ids["user_ids"])
    np.testing.assert_array_equal(movielens.item_ids, ids["item_ids"])
    assert movielens.item_titles[0] == "Toy Story (1995)"
    assert movielens.item_genres[0] == "Adventure|Animation|Children|Comedy|Fantasy"
    position = np.flatnonzero(movielens.item_ids == 11)[0]
    assert movielens.item_titles[position] == "American President, The (1995)"


def test_the_published_zip_without_filters(data_dir):
    path = data_dir / "ml-latest-small" / "ml-latest-small.zip"
    movielens = load_movielens(path, **KEEP_ALL)
    assert movielens.data.shape == (610, 9_724)
    assert movielens.data.nnz == movielens.n_ratings == 100_836


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("zipped", [False, True])
def test_formats(tmp_path, name, newline, nested, zipped):
    folder = tmp_path / "ml" if nested else tmp_path
    folder.mkdir(exist_ok=True)
    rows = [(7, 2, 4), (7, 1, 5), (3, 4, 3.5), (3, 3, 4.5), (3, 1, 0.5), (9, 10, 4)]
    write_ratings(folder, name, rows, newline=newline)
    text, encoding = TITLES[TITLES_OF[name]]
    titles_file = folder / TITLES_OF[name]
    titles_file.write_bytes(text.replace("\n", newline).encode(encoding))
    path = tmp_path
    if zipped:
        path = shutil.make_archive(tmp_path.parent / "zipped", "zip", tmp_path)

    movielens = load_movielens(path, min_user_interactions=1)

    assert movielens.n_ratings == 6
    np.testing.assert_array_equal(movielens.user_ids, [3, 7, 9])
    np.testing.assert_array_equal(movielens.item_ids, [1, 2, 3, 10])
    assert movielens.user_ids.dtype == movielens.item_ids.dtype == np.int64
    assert movielens.item_titles.tolist() == [
        "Toy Story (1995)",
        "American President, The (1995)",
        '"Great Performances" Cats (1998)',
        "10",  # not in the file of titles
    ]
    assert isinstance(movielens.data, sp.csr_array)
    assert movielens.data.dtype == np.float32
    assert movielens.data.indices.dtype == np.int32
    np.testing.assert_array_equal(
        movielens.data.toarray(), [[0, 0, 1, 0], [1, 1, 0, 0], [0, 0, 0, 1]]
    )
    assert "Harper" in movielens.DESCR


@pytest.mark.parametrize("name", FORMATS)
def test_genres(tmp_path, name):
    write_ratings(tmp_path, name, [(1, 1, 5), (1, 2, 5), (1, 3, 5), (1, 10, 5)])
    text = {
        "ratings.csv": '1,"A, b",Comedy|Sci-Fi\n2,C,(no genres listed)\n3,D,Drama\n',
        "ratings.dat": "1::A, b::Comedy|Sci-Fi\n2::C::\n3::D::Drama\n",
        "u.data": "1|A|||u|0|1|0|1\n2|C|||u|0|0|0|0\n3|D|||u|0|0|1|0\n",
    }[name]
    (tmp_path / TITLES_OF[name]).write_text(text)
    (tmp_path / "u.genre").write_text("unknown|0\nComedy|1\nDrama|2\nSci-Fi|3\n\n")
    genres = load_movielens(tmp_path, **KEEP_ALL).item_genres
    assert genres.tolist() == ["Comedy|Sci-Fi", "", "Drama", ""]


def test_no_genres_without_their_files(tmp_path):
    write_ratings(tmp_path, "u.data", [(1, 1, 5), (1, 2, 5)])
    (tmp_path / "u.item").write_text("1|A|||u|0|1|0|1\n")
    assert load_movielens(tmp_path, **KEEP_ALL).item_genres.tolist() == ["", ""]


@pytest.mark.parametrize("name", TITLES)
@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_titles_of_either_encoding(tmp_path, name, encoding):
    ratings = next(key for key in TITLES_OF if TITLES_OF[key] == name)
    write_ratings(tmp_path, ratings, [(1, 4, 5)])
    (tmp_path / name).write_text(TITLES[name][0], encoding=encoding)
    assert load_movielens(tmp_path, **KEEP_ALL).item_titles == ["Misérables (1995)"]


@pytest.mark.parametrize(
    ("name", "line", "title"),
    [
        ("movies.dat", "1::Mission::Impossible::Action", "Mission::Impossible"),
        ("movies.csv", "1,,Action", "1"),
        ("movies.csv", '1,"a, ""b"", c",Action', 'a, "b", c'),
        ("u.item", "1|unknown||||1|0", "unknown"),
        ("u.item", "1|next\x85line||||1|0", "next\x85line"),
    ],
)
def test_unusual_titles(tmp_path, name, line, title):
    ratings = next(key for key in TITLES_OF if TITLES_OF[key] == name)
    write_ratings(tmp_path, ratings, [(1, 1, 5)])
    (tmp_path / name).write_text(f"{line}\n", encoding="utf-8", newline="")
    (loaded,) = load_movielens(tmp_path, **KEEP_ALL).item_titles
    assert loaded == title


def test_ids_stand_in_for_titles_without_a_file(tmp_path):
    write_ratings(tmp_path, "ratings.csv", [(1, 20, 5), (1, 3, 5)])
    assert load_movielens(tmp_path, **KEEP_ALL).item_titles.tolist() == ["3", "20"]


@given(
    name=st.sampled_from(sorted(FORMATS)),
    ids=arrays(
        np.int64,
        st.tuples(st.integers(1, 30), st.just(2)),
        elements=st.integers(0, 12),
    ),
    largest=st.sampled_from([12, 200_000, 2**31 - 1]),
    data=st.data(),
)
@settings(max_examples=60, deadline=None)
def test_round_trip(tmp_path_factory, name, ids, largest, data):
    """What is read agrees with plain Python sets, for all formats and filters."""
    ids = np.where(ids == 12, largest, ids)
    halves = data.draw(arrays(np.int64, len(ids), elements=st.integers(1, 10)))
    ratings = (halves / 2).tolist()
    threshold = data.draw(st.sampled_from([None, 0.5, 2.75, 3.5]))
    min_user = data.draw(st.integers(1, 3))
    min_item = data.draw(st.integers(1, 3))
    newline = data.draw(st.sampled_from(["\n", "\r\n"]))
    folder = tmp_path_factory.mktemp("ratings")
    rows = [(*pair, rating) for pair, rating in zip(ids.tolist(), ratings, strict=True)]
    write_ratings(folder, name, rows, newline=newline)

    pairs = {(u, i) for u, i, r in rows if threshold is None or r > threshold}
    users_of, items_of = {}, {}
    for user, item in pairs:
        users_of.setdefault(item, set()).add(user)
    pairs = {(u, i) for u, i in pairs if len(users_of[i]) >= min_item}
    for user, item in pairs:
        items_of.setdefault(user, set()).add(item)
    pairs = {(u, i) for u, i in pairs if len(items_of[u]) >= min_user}
    filters = {
        "threshold": threshold,
        "min_user_interactions": min_user,
        "min_item_interactions": min_item,
    }

    if not pairs:
        with pytest.raises(ValueError, match="no interaction is left"):
            load_movielens(folder, **filters)
        return
    movielens = load_movielens(folder, **filters)
    rows_, columns = movielens.data.nonzero()
    users, items = movielens.user_ids[rows_], movielens.item_ids[columns]
    assert set(zip(users.tolist(), items.tolist(), strict=True)) == pairs
    assert movielens.data.nnz == len(pairs)
    assert movielens.n_ratings == len(rows)
    assert movielens.user_ids.tolist() == sorted({user for user, _ in pairs})
    assert movielens.item_ids.tolist() == sorted({item for _, item in pairs})
    assert sp.csr_array(movielens.data).has_canonical_format
    assert (movielens.data.data == 1).all()


def test_the_filters_run_once_and_items_first(tmp_path):
    # Item 3 has one user, so user 2 keeps one item, so item 2 keeps one user.
    rows = [(1, 1, 5), (1, 2, 5), (2, 2, 5), (2, 3, 5), (4, 1, 5)]
    write_ratings(tmp_path, "u.data", rows)
    movielens = load_movielens(
        tmp_path, min_user_interactions=2, min_item_interactions=2
    )
    np.testing.assert_array_equal(movielens.user_ids, [1])
    np.testing.assert_array_equal(movielens.item_ids, [1, 2])


def test_a_rating_equal_to_the_threshold_is_no_interaction(tmp_path):
    write_ratings(tmp_path, "u.data", [(1, 1, 3.7), (1, 2, 3.8)])
    movielens = load_movielens(tmp_path, threshold=3.7, min_user_interactions=1)
    np.testing.assert_array_equal(movielens.item_ids, [2])


def test_a_repeated_pair_counts_once_for_the_filters(tmp_path):
    write_ratings(tmp_path, "u.data", [(1, 1, 5), (1, 1, 4), (2, 1, 5), (2, 2, 4)])
    movielens = load_movielens(tmp_path, min_user_interactions=2)
    np.testing.assert_array_equal(movielens.user_ids, [2])
    assert movielens.n_ratings == 4


@pytest.mark.parametrize("ending", ["", "\n\n", "\r\n \r\n"])
def test_endings_of_the_file(tmp_path, ending):
    (tmp_path / "u.data").write_bytes(b"1\t1\t5\t0\n1\t2\t5\t0" + ending.encode())
    assert load_movielens(tmp_path, **KEEP_ALL).n_ratings == 2


def test_a_byte_order_mark_is_ignored(tmp_path):
    text = ratings_text("ratings.csv", [(1, 1, 5)])
    (tmp_path / "ratings.csv").write_text(text, encoding="utf-8-sig")
    assert load_movielens(tmp_path, **KEEP_ALL).n_ratings == 1


def test_many_chunks(tmp_path):
    rows = [(user, item, 5) for user in range(300) for item in range(200)]
    write_ratings(tmp_path, "ratings.dat", rows)
    assert (tmp_path / "ratings.dat").stat().st_size > 1 << 20
    movielens = load_movielens(tmp_path)
    assert movielens.n_ratings == movielens.data.nnz == 60_000
    assert movielens.data.shape == (300, 200)


# ------------------------------------------------------------------ broken files


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("n_before", [0, 16, 70_000])
def test_the_broken_line_is_named(tmp_path, name, n_before):
    text = ratings_text(name, [(1, 2, 3.5)] * n_before)
    broken = FORMATS[name].format(12, "abc", "", "").rstrip(",:\t")
    (tmp_path / name).write_text(f"{text}{broken}\n" + "5" * 200, newline="")
    number = n_before + 1 + (name == "ratings.csv")
    with pytest.raises(ValueError, match=f"{name}, line {number}: expected") as error:
        load_movielens(tmp_path)
    assert repr(FORMATS[name].format("userId", "movieId", "rating", "timestamp")) in (
        str(error.value)
    )
    assert str(error.value).endswith(f"got {broken!r}")


@pytest.mark.parametrize(
    "line",
    [
        "1,2,3.5",
        "1,2,3.5,4,5",
        "1,2,,4",
        "1,2,3.5,",
        "1,2,nan,4",
        "1,2,inf,4",
        "1,2,good,4",
        "-1,2,3.5,4",
        "1,-2,3.5,4",
        "1.5,2,3.5,4",
        "1,2147483648,3.5,4",
        "1,99999999999999999999,3.5,4",
        "1;2;3.5;4",
        '"1","2","3.5","4"',
        "1,2,3.5,4\x00",
        "# 1,2,3.5,4",
        "1,é,3.5,4",
    ],
)
def test_lines_that_are_refused(tmp_path, line):
    text = ratings_text("ratings.csv", [(1, 2, 3.5)])
    content = f"{text}{line}\n1,2,3.5,4\n"
    (tmp_path / "ratings.csv").write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=r"ratings\.csv, line 3: .* 0 to 2147483647"):
        load_movielens(tmp_path, **KEEP_ALL)


def test_a_broken_line_is_shown_in_part(tmp_path):
    (tmp_path / "u.data").write_text("9" * 1000)
    with pytest.raises(ValueError, match=r"got '9{80}'$"):
        load_movielens(tmp_path)


@pytest.mark.parametrize("n_cut", range(11, 20))
def test_a_file_whose_end_is_cut_off_is_refused(tmp_path, n_cut):
    text = ratings_text("ratings.dat", [(1, 2, 3.5), (21, 22, 4.5)])
    (tmp_path / "ratings.dat").write_text(text[:-n_cut])
    with pytest.raises(ValueError, match=r"ratings\.dat, line 2: expected"):
        load_movielens(tmp_path, **KEEP_ALL)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("content", ["", "\n", " \n\n"])
def test_an_empty_file_is_refused(tmp_path, name, content):
    header = HEADER if name == "ratings.csv" else ""
    (tmp_path / name).write_text(header + content)
    with pytest.raises(ValueError, match=f"{name} has no ratings, expected lines of"):
        load_movielens(tmp_path)


@pytest.mark.parametrize("header", ["", "1,2,3.5,4\n", "user,item,rating,time\n"])
def test_another_header_is_refused(tmp_path, header):
    (tmp_path / "ratings.csv").write_text(f"{header}1,2,4.5,4\n" if header else "")
    with pytest.raises(
        ValueError,
        match=r"ratings\.csv, line 1: expected the header 'userId,movieId,rating,",
    ):
        load_movielens(tmp_path)


@pytest.mark.parametrize(
    ("ratings", "name", "line"),
    [
        ("ratings.csv", "movies.csv", "2,Jumanji (1995)"),
        ("ratings.csv", "movies.csv", '2,"Jumanji (1995),Children'),
        ("ratings.csv", "movies.csv", "two,Jumanji (1995),Children"),
        ("ratings.dat", "movies.dat", "2::Jumanji (1995)"),
        ("u.data", "u.item", "2|Jumanji (1995)"),
    ],
)
def test_a_broken_line_of_titles_is_named(tmp_path, ratings, name, line):
    write_ratings(tmp_path, ratings, [(1, 1, 5)])
    header = "movieId,title,genres\n" if name == "movies.csv" else "\n"
    (tmp_path / name).write_text(f"{header}{line}\n")
    with pytest.raises(
        ValueError, match=f"{name}, line 2: expected an id and a title, got"
    ) as error:
        load_movielens(tmp_path, **KEEP_ALL)
    assert str(error.value).endswith(repr(line))


def test_nothing_left(tmp_path):
    write_ratings(tmp_path, "u.data", [(1, 1, 2)])
    with pytest.raises(
        ValueError,
        match=r"u\.data: no interaction is left, lower threshold=3\.5, "
        "min_user_interactions=5 or min_item_interactions=1",
    ):
        load_movielens(tmp_path)


def test_a_missing_path(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"ml-20m\.zip does not exist, expected"
    ):
        load_movielens(tmp_path / "ml-20m.zip")


def test_a_folder_or_zip_without_ratings(tmp_path):
    match = r"has none of ratings\.csv, ratings\.dat, u\.data, expected a MovieLens"
    with pytest.raises(FileNotFoundError, match=match):
        load_movielens(tmp_path)
    path = write_zip(tmp_path / "a.zip", {"movies.csv": "movieId,title,genres\n"})
    with pytest.raises(FileNotFoundError, match=match):
        load_movielens(path)


@pytest.mark.parametrize("zipped", [False, True])
def test_more_than_one_ratings_file(tmp_path, zipped):
    files = {
        "ratings.csv": ratings_text("ratings.csv", [(1, 1, 5)]),
        "u.data": ratings_text("u.data", [(1, 1, 5)]),
    }
    path = write_zip(tmp_path / "both.zip", files)
    if not zipped:
        shutil.unpack_archive(path, tmp_path)
        path = tmp_path
    with pytest.raises(
        ValueError, match=r"more than one ratings file: .*ratings\.csv, .*u\.data\."
    ):
        load_movielens(path)


def test_a_file_that_is_no_zip(tmp_path):
    write_ratings(tmp_path, "ratings.csv", [(1, 1, 5)])
    with pytest.raises(
        ValueError, match=r"ratings\.csv is no readable zip .* expected"
    ):
        load_movielens(tmp_path / "ratings.csv")


def load_or_message(path):
    """Give the dense matrix, or the message of the error."""
    try:
        return load_movielens(path).data.toarray()
    except (ValueError, FileNotFoundError) as error:
        return str(error)


def test_no_damage_to_a_zip_passes_unseen(tmp_path):
    """A cut or a changed byte gives the same data, or an error that names the file."""
    rng = np.random.default_rng(0)
    rows = [(user, item, 5) for user in range(20) for item in range(20)]
    files = {"ratings.csv": ratings_text("ratings.csv", rows)}
    good = write_zip(tmp_path / "good.zip", files)
    expected = load_or_message(good)
    n_refused = 0
    for _ in range(300):
        damaged = bytearray(good.read_bytes())
        place = rng.integers(len(damaged))
        if rng.random() < 0.3:
            del damaged[place:]
        elif rng.random() < 0.5:
            del damaged[place]
        else:
            damaged[place] ^= rng.integers(1, 256)
        (tmp_path / "bad.zip").write_bytes(damaged)
        result = load_or_message(tmp_path / "bad.zip")
        if isinstance(result, str):
            assert "bad.zip" in result
            n_refused += 1
        else:
            np.testing.assert_array_equal(result, expected)
    assert n_refused > 200


def test_no_bit_of_the_directory_of_a_zip_hides_a_file(tmp_path):
    """Titles are those of the file, or the zip is refused; never are they the ids."""
    files = {
        "ratings.csv": ratings_text("ratings.csv", [(1, 1, 5), (2, 2, 5)]),
        "movies.csv": TITLES["movies.csv"][0],
    }
    good = write_zip(tmp_path / "good.zip", files)
    titles = load_movielens(good, **KEEP_ALL).item_titles.tolist()
    content = good.read_bytes()
    n_refused = 0
    for place in range(content.index(b"PK\1\2"), len(content)):
        for bit in range(place % 2, 8, 2):
            damaged = bytearray(content)
            damaged[place] ^= 1 << bit
            (tmp_path / "bad.zip").write_bytes(damaged)
            try:
                loaded = load_movielens(tmp_path / "bad.zip", **KEEP_ALL)
            except (ValueError, FileNotFoundError):
                n_refused += 1
            else:
                assert loaded.item_titles.tolist() == titles, (place, bit)
    assert n_refused > 200


def test_a_line_of_titles_that_would_fill_the_memory(tmp_path):
    files = {
        "ratings.csv": ratings_text("ratings.csv", [(1, 1, 5)]),
        "movies.csv": TITLES["movies.csv"][0] + "5," + "a" * 20_000_000,
    }
    path = write_zip(tmp_path / "a.zip", files)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"movies\.csv, line 6: expected at most"):
            load_movielens(path, **KEEP_ALL)
        assert tracemalloc.get_traced_memory()[1] < 12_000_000
    finally:
        tracemalloc.stop()


def test_an_encrypted_zip(tmp_path):
    files = {"u.data": ratings_text("u.data", [(1, 1, 5)])}
    content = bytearray(write_zip(tmp_path / "ml.zip", files).read_bytes())
    content[6] |= 1  # the flag in the header of the file and in the directory
    content[content.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "ml.zip").write_bytes(content)
    with pytest.raises(ValueError, match=r"ml\.zip is no readable zip .*encrypted"):
        load_movielens(tmp_path / "ml.zip")


# --------------------------------------------------------------- fetch_movielens


def fake_fetch(source, calls):
    """Stand in for the download: copy a file, as `fetch_file` would save it."""

    def fetch_file(url, folder):
        calls.append(url)
        return shutil.copy(source, f"{folder}/{url.rpartition('/')[2]}")

    return fetch_file


def test_fetch_movielens(monkeypatch, tmp_path, data_dir):
    source = data_dir / "ml-latest-small" / "ml-latest-small.zip"
    calls = []
    monkeypatch.setattr(_movielens, "fetch_file", fake_fetch(source, calls))
    movielens = fetch_movielens(data_home=tmp_path / "new" / "home")
    assert calls == [
        "https://files.grouplens.org/datasets/movielens/ml-latest-small.zip"
    ]
    assert movielens.data.shape == (603, 6_298)
    cached = tmp_path / "new" / "home" / "sklearn_recvae" / "ml-latest-small.zip"
    assert cached.is_file()

    stricter = fetch_movielens(
        data_home=tmp_path,
        threshold=4,
        min_user_interactions=20,
        min_item_interactions=10,
    )
    expected = load_movielens(
        source, threshold=4, min_user_interactions=20, min_item_interactions=10
    )
    np.testing.assert_array_equal(stricter.user_ids, expected.user_ids)
    np.testing.assert_array_equal(stricter.item_ids, expected.item_ids)


def test_fetch_movielens_checks_the_number_of_ratings(monkeypatch, tmp_path):
    rows = [(1, item, 5) for item in range(6)]
    files = {"ratings.csv": ratings_text("ratings.csv", rows)}
    source = write_zip(tmp_path / "short.zip", files)
    monkeypatch.setattr(_movielens, "fetch_file", fake_fetch(source, []))
    with pytest.raises(
        ValueError,
        match=r"ml-20m\.zip has 6 ratings, '20m' was published with 20000263\. Delete",
    ):
        fetch_movielens("20m", data_home=tmp_path)


def test_fetch_movielens_without_network(monkeypatch, tmp_path):
    def no_network(*args, **kwargs):
        raise URLError("no network")

    monkeypatch.setattr("sklearn.datasets._base.urlretrieve", no_network)
    monkeypatch.setattr("sklearn.datasets._base.time.sleep", lambda seconds: None)
    with (
        pytest.warns(UserWarning, match="Retry downloading"),
        pytest.raises(URLError, match="no network"),
    ):
        fetch_movielens("1m", data_home=tmp_path)
    assert not list((tmp_path / "sklearn_recvae").iterdir())


def test_fetch_movielens_downloads_once(monkeypatch, tmp_path, data_dir):
    source = data_dir / "ml-latest-small" / "ml-latest-small.zip"
    calls = []

    def urlretrieve(url, filename):
        calls.append(url)
        shutil.copy(source, filename)

    monkeypatch.setattr("sklearn.datasets._base.urlretrieve", urlretrieve)
    for _ in range(2):
        fetch_movielens(data_home=tmp_path)
    assert len(calls) == 1


def test_parameters_of_fetch_movielens(tmp_path):
    with pytest.raises(ValueError, match="The 'name' parameter of fetch_movielens"):
        fetch_movielens("2m", data_home=tmp_path)
    with pytest.raises(
        ValueError, match="The 'threshold' parameter of fetch_movielens"
    ):
        fetch_movielens(threshold="high", data_home=tmp_path)
    assert not list(tmp_path.iterdir())
