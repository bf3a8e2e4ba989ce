"""Files of the Netflix Prize: what is read and refused."""

import shutil

import numpy as np
import pytest
import scipy.sparse as sp

from sklearn_recvae.datasets import _published, load_netflix

KEEP_ALL = {"threshold": None, "min_user_interactions": 1}

# The files of movies 1, 2, 3 and 30, as published.
MOVIES = {
    "mv_0000001.txt": "1:\n1488844,3,2005-09-06\n822109,5,2005-05-13\n",
    "mv_0000002.txt": "2:\n822109,4,2005-12-30\n",
    "mv_0000003.txt": "3:\n7,5,2004-01-02\n1488844,4,2003-09-03\n822109,2,2005-10-19\n",
    "mv_0000030.txt": "30:\n2649429,1,1999-12-09\n7,4,2005-08-31\n",
}
COMBINED = {
    "combined_data_1.txt": MOVIES["mv_0000001.txt"] + MOVIES["mv_0000002.txt"],
    "combined_data_2.txt": MOVIES["mv_0000003.txt"] + MOVIES["mv_0000030.txt"],
}
LAYOUTS = {
    "published": {f"training_set/{name}": text for name, text in MOVIES.items()},
    "flat": MOVIES,
    "combined": COMBINED,
    "combined in a folder": {f"data/{name}": text for name, text in COMBINED.items()},
}
TITLES = "1,2003,Dinosaur Planet\n2,NULL,Roula, or: Café, Café\n3,1997,Character\n"
RATINGS = [  # rows: users 7, 822109, 1488844, 2649429; columns: movies 1, 2, 3, 30
    [0, 0, 5, 4],
    [5, 4, 2, 0],
    [3, 0, 4, 0],
    [0, 0, 0, 1],
]


def write_files(folder, files, newline="\n", encoding="latin-1"):
    for name, text in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text.replace("\n", newline).encode(encoding))


def assert_same(netflix, expected):
    np.testing.assert_array_equal(netflix.data.toarray(), expected.data.toarray())
    for name in ("user_ids", "item_ids", "item_titles", "n_ratings"):
        np.testing.assert_array_equal(netflix[name], expected[name])


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("titles", ["movie_titles.txt", "movie_titles.csv"])
def test_layouts(tmp_path, layout, newline, zipped, titles):
    files = {**LAYOUTS[layout], titles: TITLES, "probe.txt": "1:\n7\n", "README": ""}
    write_files(tmp_path, files, newline)
    path = tmp_path
    if zipped:
        path = shutil.make_archive(tmp_path.parent / "zipped", "zip", tmp_path)

    netflix = load_netflix(path, min_user_interactions=1)

    assert netflix.n_ratings == 8
    np.testing.assert_array_equal(netflix.user_ids, [7, 822109, 1488844])
    np.testing.assert_array_equal(netflix.item_ids, [1, 2, 3, 30])
    assert netflix.user_ids.dtype == netflix.item_ids.dtype == np.int64
    assert netflix.item_titles.tolist() == [
        "Dinosaur Planet",
        "Roula, or: Café, Café",
        "Character",
        "30",  # not in the file of titles
    ]
    assert isinstance(netflix.data, sp.csr_array)
    assert netflix.data.dtype == np.float32
    assert netflix.data.indices.dtype == np.int32
    np.testing.assert_array_equal(
        netflix.data.toarray(), np.array(RATINGS[:3], dtype=float) > 3.5
    )
    assert "Bennett" in netflix.DESCR

    netflix = load_netflix(path, **KEEP_ALL)
    np.testing.assert_array_equal(netflix.user_ids, [7, 822109, 1488844, 2649429])
    np.testing.assert_array_equal(netflix.data.toarray(), np.array(RATINGS) > 0)


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("threshold", [None, 3.5])
def test_chunks_of_any_size(tmp_path, monkeypatch, newline, threshold):
    """So that each of the lines, those of movies too, is at a boundary in some run."""
    write_files(tmp_path, COMBINED, newline)
    filters = {"threshold": threshold, "min_user_interactions": 1}
    expected = load_netflix(tmp_path, **filters)
    size = max(file.stat().st_size for file in tmp_path.iterdir())
    for chunk_size in range(1, size + 2):
        monkeypatch.setattr(_published, "CHUNK_SIZE", chunk_size)
        assert_same(load_netflix(tmp_path, **filters), expected)


def test_more_than_one_chunk_as_it_is(tmp_path):
    lines = [f"{user},4,2005-01-01\n" for user in range(40_000)]
    text = "".join(["5:\n", *lines, "6:\n", *lines[:20_000]])
    write_files(tmp_path, {"combined_data_1.txt": text})
    assert len(text) > _published.CHUNK_SIZE
    netflix = load_netflix(tmp_path, min_user_interactions=2)
    assert netflix.n_ratings == 60_000
    assert netflix.data.nnz == 40_000
    np.testing.assert_array_equal(netflix.user_ids, np.arange(20_000))


def test_the_folder_of_the_movies_and_the_one_above_are_equal(tmp_path):
    write_files(tmp_path, LAYOUTS["published"])
    assert_same(
        load_netflix(tmp_path / "training_set", **KEEP_ALL),
        load_netflix(tmp_path, **KEEP_ALL),
    )


def test_a_part_of_the_files(tmp_path):
    write_files(tmp_path, {"mv_0000030.txt": MOVIES["mv_0000030.txt"]})
    netflix = load_netflix(tmp_path, **KEEP_ALL)
    assert netflix.n_ratings == 2
    np.testing.assert_array_equal(netflix.item_ids, [30])


@pytest.mark.parametrize("identity", [0, 9, 10, 9_999_999])
def test_ids_of_any_length(tmp_path, identity):
    text = f"{identity}:\n{identity},5,2005-01-01\n{identity}:\n1,5,2005-01-01"
    write_files(tmp_path, {"combined_data_1.txt": text})
    netflix = load_netflix(tmp_path, **KEEP_ALL)
    np.testing.assert_array_equal(netflix.user_ids, sorted([1, identity]))
    np.testing.assert_array_equal(netflix.item_ids, [identity])


def test_a_movie_without_ratings(tmp_path):
    text = "1:\n2:\n7,5,2005-01-01\n3:\n4:\n8,5,2005-01-01\n9:\n"
    write_files(tmp_path, {"combined_data_1.txt": text})
    netflix = load_netflix(tmp_path, **KEEP_ALL)
    np.testing.assert_array_equal(netflix.item_ids, [2, 4])
    np.testing.assert_array_equal(netflix.data.toarray(), np.eye(2))


def test_a_repeated_pair_counts_once_for_the_filters(tmp_path):
    text = "1:\n7,5,2005-01-01\n7,4,2005-01-02\n8,5,2005-01-01\n2:\n8,5,2005-01-01\n"
    write_files(tmp_path, {"combined_data_1.txt": text})
    netflix = load_netflix(tmp_path, min_user_interactions=2)
    np.testing.assert_array_equal(netflix.user_ids, [8])
    assert netflix.n_ratings == 4


def test_a_rating_equal_to_the_threshold_is_no_interaction(tmp_path):
    write_files(tmp_path, COMBINED)
    netflix = load_netflix(tmp_path, threshold=4, min_user_interactions=1)
    np.testing.assert_array_equal(netflix.user_ids, [7, 822109])
    np.testing.assert_array_equal(netflix.item_ids, [1, 3])


@pytest.mark.parametrize("ending", ["", "\n", "\n\n\n", "\r\n\r\n"])
def test_endings_of_the_file(tmp_path, ending):
    text = f"1:\n7,5,2005-01-01\n8,5,2005-01-01{ending}"
    write_files(tmp_path, {"mv_0000001.txt": text})
    assert load_netflix(tmp_path, **KEEP_ALL).n_ratings == 2


@pytest.mark.parametrize("encoding", ["latin-1", "utf-8"])
def test_titles_of_either_encoding(tmp_path, encoding):
    files = {"mv_0000002.txt": MOVIES["mv_0000002.txt"], "movie_titles.txt": TITLES}
    write_files(tmp_path, files, encoding=encoding)
    (title,) = load_netflix(tmp_path, **KEEP_ALL).item_titles
    assert title == "Roula, or: Café, Café"


# ------------------------------------------------------------------ broken files


@pytest.mark.parametrize(
    "line",
    [
        "7",
        "7,",
        "7,5",
        "7,5,",
        "7,,2005-01-01",
        ",5,2005-01-01",
        "7,5,2005-01-01,",
        "7,5,2005-01-01 ",
        " 7,5,2005-01-01",
        "7,5,2005-01-0",
        "7,5,2005-01-001",
        "7,5,05-01-2005",
        "7,0,2005-01-01",
        "7,6,2005-01-01",
        "7,3.5,2005-01-01",
        "7,good,2005-01-01",
        "seven,5,2005-01-01",
        "-7,5,2005-01-01",
        "12345678,5,2005-01-01",
        "7;5;2005-01-01",
        "7,5,2005-01-01\r\r",
        "7,5,2005-01-01\x00",
        "\xa07,5,2005-01-01",
        ":",
        "x:",
        "-1:",
        "12345678:",
        "1:7",
        "1: ",
        "1",
        " ",
    ],
)
@pytest.mark.parametrize("chunk_size", [1, 30, 1 << 20])
def test_lines_that_are_refused(tmp_path, monkeypatch, line, chunk_size):
    monkeypatch.setattr(_published, "CHUNK_SIZE", chunk_size)
    text = f"1:\n7,3,2005-01-01\n{line}\n7,3,2005-01-01\n"
    write_files(tmp_path, {"combined_data_3.txt": text}, encoding="utf-8")
    with pytest.raises(
        ValueError,
        match=r"combined_data_3\.txt, line 3: expected 'MOVIE_ID:' or "
        "'USER_ID,RATING,DATE', with ids of at most 7 digits, a rating",
    ) as error:
        load_netflix(tmp_path, **KEEP_ALL)
    shown = line.rstrip("\r")
    assert str(error.value).endswith(f"got {shown!r}")


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_the_number_of_a_line_far_down(tmp_path, newline):
    text = "1:\n" + "7,3,2005-01-01\n" * 100_000 + "7,3\n" + "8,3,2005-01-01\n" * 10
    write_files(tmp_path, {"mv_0000001.txt": text}, newline)
    with pytest.raises(ValueError, match=r"01\.txt, line 100002: .* got '7,3'$"):
        load_netflix(tmp_path)


@pytest.mark.parametrize("chunk_size", [1, 1 << 20])
@pytest.mark.parametrize("text", ["7,5,2005-01-01\n", "\n1:\n", "\n\n"])
def test_a_rating_before_the_first_movie(tmp_path, monkeypatch, chunk_size, text):
    """In the second file, which must not go on with the last movie of the first."""
    monkeypatch.setattr(_published, "CHUNK_SIZE", chunk_size)
    write_files(tmp_path, {**COMBINED, "combined_data_2.txt": f"{text}3:\n"})
    with pytest.raises(
        ValueError,
        match=r"combined_data_2\.txt, line 1: expected 'MOVIE_ID:' before the ratings "
        "of a movie, got",
    ) as error:
        load_netflix(tmp_path)
    assert str(error.value).endswith(repr(text.split("\n")[0]))


def test_a_broken_line_is_shown_in_part(tmp_path):
    write_files(tmp_path, {"combined_data_1.txt": "9" * 1000})
    with pytest.raises(ValueError, match=r"line 1: .* got '9{80}'$"):
        load_netflix(tmp_path)


@pytest.mark.parametrize("n_cut", range(1, 21))
def test_a_file_whose_end_is_cut_off_is_refused(tmp_path, n_cut):
    text = "1:\n1488844,3,2005-09-06\n1822109,5,2005-05-13"
    cut = text[: len(text) - n_cut]
    write_files(tmp_path, {"mv_0000001.txt": cut})
    if cut.endswith("\n"):  # between two lines it cannot be seen
        assert load_netflix(tmp_path, **KEEP_ALL).n_ratings == 1
        return
    with pytest.raises(ValueError, match=r"mv_0000001\.txt, line 3: expected"):
        load_netflix(tmp_path, **KEEP_ALL)


def test_an_empty_file_among_others(tmp_path):
    write_files(tmp_path, {**MOVIES, "mv_0000004.txt": ""})
    with pytest.raises(
        ValueError, match=r"mv_0000004\.txt is empty, expected lines 'MOVIE_ID:' or"
    ):
        load_netflix(tmp_path)


def test_movies_without_any_rating(tmp_path):
    write_files(tmp_path, {"mv_0000004.txt": "4:\n"})
    with pytest.raises(ValueError, match="has no ratings, expected lines 'MOVIE_ID:'"):
        load_netflix(tmp_path)


@pytest.mark.parametrize("line", ["2,2003", "2,two,Title", "two,2003,Title", "2003"])
def test_a_broken_line_of_titles_is_named(tmp_path, line):
    files = {**COMBINED, "movie_titles.csv": f"1,2003,Dinosaur Planet\n{line}\n"}
    write_files(tmp_path, files)
    with pytest.raises(
        ValueError, match=r"movie_titles\.csv, line 2: expected an id and a title, got"
    ) as error:
        load_netflix(tmp_path)
    assert str(error.value).endswith(repr(line))


def test_a_tar_and_a_folder_with_one(tmp_path):
    write_files(tmp_path, LAYOUTS["published"])
    folder = tmp_path / "download"
    folder.mkdir()
    path = shutil.make_archive(
        folder / "training_set", "tar", tmp_path, base_dir="training_set"
    )
    with pytest.raises(
        FileNotFoundError, match=r"download has no ratings files, .*tar -xf training_s"
    ):
        load_netflix(folder)
    with pytest.raises(
        ValueError, match=r"training_set\.tar is no readable zip .*tar -xf training_set"
    ):
        load_netflix(path)


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize(
    ("files", "match"),
    [
        ({**MOVIES, **COMBINED}, r"combined_data_\*\.txt, .*mv_\*\.txt\. Pass a"),
        (
            {**MOVIES, **LAYOUTS["published"]},
            r"mv_\*\.txt, .*training_set/mv_\*\.txt\. Pass a folder",
        ),
    ],
)
def test_ratings_that_are_there_twice(tmp_path, zipped, files, match):
    path = tmp_path / "files"
    write_files(path, files)
    if zipped:
        path = shutil.make_archive(path, "zip", path)
    with pytest.raises(ValueError, match=f"has the ratings more than once: .*{match}"):
        load_netflix(path)


def test_nothing_left(tmp_path):
    write_files(tmp_path, COMBINED)
    with pytest.raises(
        ValueError,
        match=r": no interaction is left, lower threshold=3\.5, "
        "min_user_interactions=5 or min_item_interactions=1",
    ):
        load_netflix(tmp_path)
