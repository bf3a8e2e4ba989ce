"""Files of the Million Song Dataset: what is read and refused."""

import shutil

import numpy as np
import pytest
import scipy.sparse as sp

from sklearn_recvae.datasets import _published, load_msd

KEEP_ALL = {"min_user_interactions": 1, "min_item_interactions": 1}
ANNE = "b80344d063b5ccb3212f76538f3d9e43d87dca9e"
BERT = "85c1f87fea955d09b4bec2e36aee110927aedf9a"
CARL = "bd4c6e843f00bd476847fb75c47b4fb430a06856"
# In the order of the published file: users together, neither they nor songs ascending.
TRIPLETS = f"""\
{ANNE}\tSOBBMDR12A8C13253B\t2
{ANNE}\tSOAKIMP12A8C130995\t1
{ANNE}\tSOBXHDL12A81C204C0\t13
{BERT}\tSOAKIMP12A8C130995\t5
{CARL}\tSOBXHDL12A81C204C0\t1
{CARL}\tSODACBL12A8C13C273\t200
"""
PLAYS = [  # rows: BERT, ANNE, CARL
    [5, 0, 0, 0],
    [1, 2, 13, 0],
    [0, 0, 1, 200],
]
SONGS = [
    "SOAKIMP12A8C130995",
    "SOBBMDR12A8C13253B",
    "SOBXHDL12A81C204C0",
    "SODACBL12A8C13C273",
]
TRACKS = """\
TRMMMYQ128F932D901<SEP>SOAKIMP12A8C130995<SEP>Jack Johnson<SEP>The Cove
TRMMMKD128F425225D<SEP>SOBBMDR12A8C13253B<SEP>Karkkiautomaatti<SEP>Tanssi, Näin - vain
TRMMMRX128F93187D9<SEP>SOZZZZZ12A8C133A50<SEP>Hudson Mohawke<SEP>No One Could Ever
TRMMMCH128F425532C<SEP>SOBXHDL12A81C204C0<SEP>Harmonia<SEP>
"""
NAME = "train_triplets.txt"


def write(folder, text=TRIPLETS, newline="\n"):
    file = folder / NAME
    file.write_bytes(text.replace("\n", newline).encode())
    return file


def write_zip(folder, text=TRIPLETS):
    source = folder / "source"
    source.mkdir()
    write(source, text)
    shutil.make_archive(folder / NAME, "zip", source)
    shutil.rmtree(source)
    return folder / f"{NAME}.zip"


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("with_titles", [False, True])
@pytest.mark.parametrize("form", ["file", "folder", "zip", "folder of zip"])
def test_forms(tmp_path, form, newline, with_titles):
    if "zip" in form:
        path = write_zip(tmp_path, TRIPLETS.replace("\n", newline))
    else:
        path = write(tmp_path, TRIPLETS, newline)
    if with_titles:
        tracks = TRACKS.replace("\n", newline).encode()
        (tmp_path / "unique_tracks.txt").write_bytes(tracks)

    msd = load_msd(tmp_path if "folder" in form else path, **KEEP_ALL)

    assert msd.n_ratings == 6
    assert msd.user_ids.tolist() == [BERT, ANNE, CARL]
    assert msd.item_ids.tolist() == SONGS
    assert msd.user_ids.dtype == np.dtype("<U40")
    assert msd.item_ids.dtype == np.dtype("<U18")
    titles = [
        "Jack Johnson - The Cove",
        "Karkkiautomaatti - Tanssi, Näin - vain",
        "Harmonia - ",
        "SODACBL12A8C13C273",  # not in the file of tracks
    ]
    assert msd.item_titles.tolist() == (titles if with_titles else SONGS)
    assert isinstance(msd.data, sp.csr_array)
    assert msd.data.dtype == np.float32
    assert msd.data.indices.dtype == np.int32
    np.testing.assert_array_equal(msd.data.toarray(), np.array(PLAYS) > 0)
    assert "Bertin-Mahieux" in msd.DESCR


def test_the_plain_file_comes_before_the_zip(tmp_path):
    write_zip(tmp_path, "broken")
    write(tmp_path)
    assert load_msd(tmp_path, **KEEP_ALL).n_ratings == 6


def test_a_zip_of_a_folder(tmp_path):
    write(tmp_path)
    path = shutil.make_archive(
        tmp_path / "other", "zip", tmp_path.parent, base_dir=tmp_path.name
    )
    assert load_msd(path, **KEEP_ALL).n_ratings == 6


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("threshold", [None, 1, 1.5, 13])
def test_chunks_of_any_size(tmp_path, monkeypatch, newline, threshold):
    path = write(tmp_path, newline=newline)
    expected = np.array(PLAYS) > (threshold or 0)
    users, songs = expected.any(axis=1), expected.any(axis=0)
    for chunk_size in [*range(1, 400), 1 << 20]:
        monkeypatch.setattr(_published, "CHUNK_SIZE", chunk_size)
        msd = load_msd(path, threshold=threshold, **KEEP_ALL)
        assert msd.n_ratings == 6
        np.testing.assert_array_equal(msd.data.toarray(), expected[users][:, songs])
        assert msd.user_ids.tolist() == np.array([BERT, ANNE, CARL])[users].tolist()
        assert msd.item_ids.tolist() == np.array(SONGS)[songs].tolist()


def test_the_order_of_the_lines_does_not_matter(tmp_path):
    lines = TRIPLETS.splitlines(keepends=True)
    write(tmp_path, "".join([*lines[::2], *lines[1::2][::-1]]))
    msd = load_msd(tmp_path, **KEEP_ALL)
    assert msd.user_ids.tolist() == [BERT, ANNE, CARL]
    np.testing.assert_array_equal(msd.data.toarray(), np.array(PLAYS) > 0)


def test_more_than_one_chunk_as_it_is(tmp_path):
    lines = [
        f"{user:040x}\tSO{song:016X}\t1\n" for user in range(250) for song in range(200)
    ]
    write(tmp_path, "".join(lines))
    assert (tmp_path / NAME).stat().st_size > 2 * _published.CHUNK_SIZE
    msd = load_msd(tmp_path)
    assert msd.n_ratings == msd.data.nnz == 50_000
    assert msd.data.shape == (250, 200)


def test_the_default_filters(tmp_path):
    """A song needs 200 users, and a user 20 of the songs that remain."""
    pairs = [(user, song) for user in range(200) for song in range(20)]
    pairs += [(user, 20) for user in range(198)]  # one short, with the next
    pairs += [(200, song) for song in range(1, 21)]  # one short without song 20
    write(tmp_path, "".join(f"{u:040x}\tSO{s:016X}\t1\n" for u, s in pairs))
    msd = load_msd(tmp_path)
    assert msd.data.shape == (200, 20)
    assert msd.data.nnz == 4000


def test_a_repeated_pair_counts_once_for_the_filters(tmp_path):
    write(tmp_path, TRIPLETS + f"{BERT}\tSOAKIMP12A8C130995\t7\n")
    msd = load_msd(tmp_path, min_user_interactions=2, min_item_interactions=1)
    assert msd.user_ids.tolist() == [ANNE, CARL]
    assert msd.n_ratings == 7


@pytest.mark.parametrize("ending", ["", "\n", "\n\n\n", "\r\n\r\n"])
def test_endings_of_the_file(tmp_path, ending):
    write(tmp_path, TRIPLETS.rstrip("\n") + ending)
    assert load_msd(tmp_path, **KEEP_ALL).n_ratings == 6


# ------------------------------------------------------------------ broken files


@pytest.mark.parametrize(
    "line",
    [
        ANNE,
        f"{ANNE}\t",
        f"{ANNE}\tSOAKIMP12A8C130995",
        f"{ANNE}\tSOAKIMP12A8C130995\t",
        f"{ANNE}\tSOAKIMP12A8C130995\t1\t",
        f"{ANNE}\tSOAKIMP12A8C130995\t1 ",
        f"{ANNE} SOAKIMP12A8C130995 1",
        f"{ANNE}\tSOAKIMP12A8C130995\tmany",
        f"{ANNE}\tSOAKIMP12A8C130995\t0",
        f"{ANNE}\tSOAKIMP12A8C130995\t-1",
        f"{ANNE}\tSOAKIMP12A8C130995\t1.5",
        f"{ANNE}\tSOAKIMP12A8C130995\t1234567890",
        f"{ANNE}\tSOAKIMP12A8C13099\t1",
        f"{ANNE}\tSOAKIMP12A8C1309955\t1",
        f"{ANNE}\tSOAKIMP12A8C13099é\t1",
        f"{ANNE}\tsoakimp12a8c130995\t1",
        f"{ANNE}\t\t1",
        f"{ANNE[1:]}\tSOAKIMP12A8C130995\t1",
        f"0{ANNE}\tSOAKIMP12A8C130995\t1",
        f"x{ANNE[1:]}\tSOAKIMP12A8C130995\t1",
        f"\tSOAKIMP12A8C130995\t{ANNE}\t1",
        " ",
        "user\tsong\tplays",
    ],
)
@pytest.mark.parametrize("chunk_size", [1, 100, 1 << 20])
def test_lines_that_are_refused(tmp_path, monkeypatch, line, chunk_size):
    monkeypatch.setattr(_published, "CHUNK_SIZE", chunk_size)
    lines = TRIPLETS.splitlines()
    write(tmp_path, "\n".join([*lines[:3], line, *lines[3:]]))
    with pytest.raises(
        ValueError,
        match=r"train_triplets\.txt, line 4: expected 'USER\\tSONG\\tPLAYS', with 40 "
        "hex digits, 18 digits or capital letters, and a number",
    ) as error:
        load_msd(tmp_path)
    assert str(error.value).endswith(f"got {line[:80]!r}")


def test_the_number_of_a_line_far_down(tmp_path):
    write(tmp_path, TRIPLETS * 10_000 + f"{ANNE}\n{TRIPLETS}")
    with pytest.raises(ValueError, match=rf"txt, line 60001: .* got '{ANNE}'$"):
        load_msd(tmp_path)


@pytest.mark.parametrize("n_cut", range(1, 62))
def test_a_file_whose_end_is_cut_off_is_refused(tmp_path, n_cut):
    text = TRIPLETS.removesuffix("00\n")  # 200 plays, and then 2, is not seen
    cut = text[: len(text) - n_cut]
    write(tmp_path, cut)
    if cut.endswith("\n"):  # between two lines it cannot be seen
        assert load_msd(tmp_path, **KEEP_ALL).n_ratings == 5
        return
    with pytest.raises(ValueError, match=r"train_triplets\.txt, line 6: expected"):
        load_msd(tmp_path, **KEEP_ALL)


@pytest.mark.parametrize("text", ["", "\n", "\n\r\n\n"])
@pytest.mark.parametrize("chunk_size", [1, 1 << 20])
def test_an_empty_file_is_refused(tmp_path, monkeypatch, text, chunk_size):
    monkeypatch.setattr(_published, "CHUNK_SIZE", chunk_size)
    write(tmp_path, text)
    with pytest.raises(
        ValueError, match=r"train_triplets\.txt has no play counts, expected lines 'USE"
    ):
        load_msd(tmp_path)


@pytest.mark.parametrize("line", ["TR1<SEP>SOAKIMP12A8C130995<SEP>a", "TR1", "a,b,c,d"])
def test_a_broken_line_of_tracks_is_named(tmp_path, line):
    write(tmp_path)
    (tmp_path / "unique_tracks.txt").write_text(f"{TRACKS}{line}\n", encoding="utf-8")
    with pytest.raises(
        ValueError, match=r"unique_tracks\.txt, line 5: expected an id and a title, got"
    ) as error:
        load_msd(tmp_path, **KEEP_ALL)
    assert str(error.value).endswith(repr(line))


def test_a_folder_or_zip_without_play_counts(tmp_path):
    match = r"expected train_triplets\.txt, train_triplets\.txt\.zip or a folder"
    with pytest.raises(FileNotFoundError, match=f"has no play counts, {match}"):
        load_msd(tmp_path)
    (tmp_path / "unique_tracks.txt").write_text(TRACKS, encoding="utf-8")
    path = shutil.make_archive(tmp_path.parent / "tracks", "zip", tmp_path)
    with pytest.raises(
        FileNotFoundError, match=rf"has no train_triplets\.txt, {match}"
    ):
        load_msd(path)


def test_nothing_left(tmp_path):
    write(tmp_path)
    with pytest.raises(
        ValueError,
        match=r"txt: no interaction is left, lower threshold=None, "
        "min_user_interactions=20 or min_item_interactions=200",
    ):
        load_msd(tmp_path)
