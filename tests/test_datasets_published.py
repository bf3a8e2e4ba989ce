"""What the readers of published files share, seen through each of them."""

import shutil
import sys
import threading
import tracemalloc
import zipfile

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from sklearn_recvae.datasets import (
    _published,
    load_movielens,
    load_msd,
    load_netflix,
)

KEEP_ALL = {"threshold": None, "min_user_interactions": 1, "min_item_interactions": 1}


def write_movielens(folder, triples, newline="\n"):
    lines = [f"{user}\t{item}\t{value}\t0{newline}" for user, item, value in triples]
    (folder / "u.data").write_bytes("".join(lines).encode())


def write_netflix(folder, triples, newline="\n"):
    lines = []
    for movie in sorted({item for _, item, _ in triples}):
        lines.append(f"{movie}:{newline}")
        for user, item, value in triples:
            if item == movie:
                lines.append(f"{user},{value},2005-09-06{newline}")
    (folder / "combined_data_1.txt").write_bytes("".join(lines).encode())


def write_msd(folder, triples, newline="\n"):
    lines = [
        f"{user:040x}\tSO{item:016X}\t{value}{newline}" for user, item, value in triples
    ]
    (folder / "train_triplets.txt").write_bytes("".join(lines).encode())


def as_numbers(ids):
    """Turn ids as the writers make them back into the numbers behind them."""
    if ids.dtype.kind == "i":
        return ids.tolist()
    return [int(identity.removeprefix("SO"), 16) for identity in ids.tolist()]


LOADERS = {
    "movielens": (write_movielens, load_movielens),
    "netflix": (write_netflix, load_netflix),
    "msd": (write_msd, load_msd),
}
each_loader = pytest.mark.parametrize(("write", "load"), LOADERS.values(), ids=LOADERS)


@given(
    loader=st.sampled_from(sorted(LOADERS)),
    triples=st.lists(
        st.tuples(st.integers(0, 11), st.integers(0, 11), st.integers(1, 5)),
        min_size=1,
        max_size=40,
    ),
    threshold=st.sampled_from([None, 1, 2.5, 3.5, 5]),
    min_user=st.integers(1, 3),
    min_item=st.integers(1, 3),
    newline=st.sampled_from(["\n", "\r\n"]),
    chunk_size=st.integers(1, 300),
    zipped=st.booleans(),
)
@settings(max_examples=200, deadline=None)
def test_round_trip(
    tmp_path_factory,
    loader,
    triples,
    threshold,
    min_user,
    min_item,
    newline,
    chunk_size,
    zipped,
):
    """What is read agrees with plain Python sets, for all filters and chunks."""
    pairs = {(u, i) for u, i, r in triples if threshold is None or r > threshold}
    users_of, items_of = {}, {}
    for user, item in pairs:
        users_of.setdefault(item, set()).add(user)
    pairs = {(u, i) for u, i in pairs if len(users_of[i]) >= min_item}
    for user, item in pairs:
        items_of.setdefault(user, set()).add(item)
    pairs = {(u, i) for u, i in pairs if len(items_of[u]) >= min_user}

    write, load = LOADERS[loader]
    path = tmp_path_factory.mktemp("data")
    write(path, triples, newline)
    if zipped:
        path = shutil.make_archive(path, "zip", path)
    filters = {
        "threshold": threshold,
        "min_user_interactions": min_user,
        "min_item_interactions": min_item,
    }
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(_published, "CHUNK_SIZE", chunk_size)
        if not pairs:
            with pytest.raises(ValueError, match="no interaction is left, lower thres"):
                load(path, **filters)
            return
        bunch = load(path, **filters)

    X = bunch.data
    assert isinstance(X, sp.csr_array)
    assert X.dtype == np.float32
    assert X.indices.dtype == np.int32
    assert (X.data == 1).all()
    assert sp.csr_array((X.data, X.indices, X.indptr)).has_canonical_format
    assert X.shape == (bunch.user_ids.size, bunch.item_ids.size)
    assert as_numbers(bunch.user_ids) == sorted({user for user, _ in pairs})
    assert as_numbers(bunch.item_ids) == sorted({item for _, item in pairs})
    rows, columns = X.nonzero()
    users = as_numbers(bunch.user_ids[rows])
    items = as_numbers(bunch.item_ids[columns])
    assert sorted(zip(users, items, strict=True)) == sorted(pairs)
    assert bunch.n_ratings == len(triples)
    assert bunch.item_titles.tolist() == [str(item) for item in bunch.item_ids]


@each_loader
def test_no_damage_to_a_zip_passes_unseen(tmp_path, write, load):
    """A cut or a changed byte gives the same data, or an error that names the file."""

    def load_or_message(path):
        try:
            return load(path, **KEEP_ALL).data.toarray()
        except (ValueError, FileNotFoundError) as error:
            return str(error)

    rng = np.random.default_rng(0)
    folder = tmp_path / "files"
    folder.mkdir()
    write(folder, [(user, item, 5) for user in range(9) for item in range(9)])
    path = tmp_path / "bad.zip"
    shutil.make_archive(path.with_suffix(""), "zip", folder)
    good, expected = path.read_bytes(), load_or_message(path)
    assert expected.shape == (9, 9)
    n_refused = 0
    for _ in range(100):
        damaged = bytearray(good)
        place = rng.integers(len(damaged))
        if rng.random() < 0.5:
            del damaged[place:]
        else:
            damaged[place] ^= rng.integers(1, 256)
        path.write_bytes(damaged)
        result = load_or_message(path)
        if isinstance(result, str):
            assert "bad.zip" in result
            n_refused += 1
        else:
            np.testing.assert_array_equal(result, expected)
    assert n_refused > 60


@each_loader
@pytest.mark.parametrize("n_before", [0, 1])
@pytest.mark.parametrize("zipped", [False, True])
def test_a_line_that_would_fill_the_memory(tmp_path, write, load, n_before, zipped):
    folder = tmp_path / "files"
    folder.mkdir()
    write(folder, [(1, 2, 3)] * n_before)
    (file,) = folder.iterdir()
    file.write_bytes(file.read_bytes() + b"1" * 20_000_000)
    path = shutil.make_archive(tmp_path / "a", "zip", folder) if zipped else folder
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r", line \d: expected at most 65536 char"):
            load(path, **KEEP_ALL)
        assert tracemalloc.get_traced_memory()[1] < 12_000_000
    finally:
        tracemalloc.stop()


@each_loader
def test_a_zip_of_many_folders(tmp_path, write, load):
    """To look for the children of each among all names would take a minute."""
    write(tmp_path, [(1, 2, 3)])
    (file,) = tmp_path.iterdir()
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(file, f"data/{file.name}")
        for number in range(4000):
            archive.writestr(f"{number}/", "")
    assert load(path, **KEEP_ALL).n_ratings == 1


@each_loader
def test_a_cut_zip(tmp_path, write, load):
    write(tmp_path, [(1, 2, 3)])
    path = tmp_path / "cut.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in tmp_path.glob("*[!p]"):  # not the zip itself
            archive.write(file, file.name)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ValueError, match=r"cut\.zip is no readable zip .*, expected"):
        load(path, **KEEP_ALL)


@each_loader
def test_a_missing_path(tmp_path, write, load):
    for name in ["data.zip", "data"]:
        with pytest.raises(FileNotFoundError, match=f"{name} does not exist, expected"):
            load(tmp_path / name)


@each_loader
@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("path", 3),
        ("threshold", "high"),
        ("threshold", np.nan),
        ("min_user_interactions", 0),
        ("min_item_interactions", 1.5),
        ("verbose", -1),
    ],
)
def test_parameters(tmp_path, write, load, parameter, value):
    with pytest.raises(
        ValueError, match=f"The '{parameter}' parameter of {load.__name__} must be"
    ):
        load(**{"path": tmp_path, parameter: value})


@each_loader
@pytest.mark.parametrize("zipped", [False, True])
def test_the_bar_counts_every_byte(tmp_path, monkeypatch, capsys, write, load, zipped):
    progress = pytest.importorskip("rich.progress")
    folder = tmp_path / "files"
    folder.mkdir()
    write(folder, [(user, 2, 3) for user in range(1000)])
    (size,) = (file.stat().st_size for file in folder.iterdir())
    path = shutil.make_archive(tmp_path / "a", "zip", folder) if zipped else folder
    monkeypatch.setattr(_published, "CHUNK_SIZE", 500)
    told, totals = [], []
    advance, add_task = progress.Progress.advance, progress.Progress.add_task

    def spy_on_advance(self, task, n_bytes):
        told.append(n_bytes)
        advance(self, task, n_bytes)

    def spy_on_add_task(self, description, total):
        totals.append(total)
        return add_task(self, description, total=total)

    monkeypatch.setattr(progress.Progress, "advance", spy_on_advance)
    monkeypatch.setattr(progress.Progress, "add_task", spy_on_add_task)
    assert load(path, **KEEP_ALL).n_ratings == 1000
    assert capsys.readouterr().out == ""
    assert load(path, **KEEP_ALL, verbose=1).n_ratings == 1000
    assert sum(told) == size
    assert totals == [size]
    assert "100%" in capsys.readouterr().out


@each_loader
def test_the_bar_ends_when_reading_fails(tmp_path, write, load):
    pytest.importorskip("rich")
    threads = set(threading.enumerate())
    write(tmp_path, [(1, 2, "broken")])
    with pytest.raises(ValueError, match=r", line \d: expected .*broken"):
        load(tmp_path, verbose=1)
    for thread in set(threading.enumerate()) - threads:
        thread.join(timeout=5)  # the one that draws has been told to end
        assert not thread.is_alive()


@each_loader
def test_a_bar_without_rich(tmp_path, monkeypatch, write, load):
    write(tmp_path, [(1, 2, 3)])
    monkeypatch.setitem(sys.modules, "rich.progress", None)
    with pytest.raises(ImportError, match="verbose=1 needs rich, which is not install"):
        load(tmp_path, **KEEP_ALL, verbose=1)
    assert load(tmp_path, **KEEP_ALL).n_ratings == 1


@pytest.mark.parametrize("chunk_size", [1, 7, 1000])
@pytest.mark.parametrize("n_ids", [0, 1, 100])
@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 50), (2**31 - 1, 2**31)])
def test_index_ids(monkeypatch, chunk_size, n_ids, low, high):
    monkeypatch.setattr(_published, "CHUNK_SIZE", chunk_size)
    ids = np.random.default_rng(0).integers(low, high, n_ids).astype(np.int32)
    unique, places = np.unique(ids, return_inverse=True)
    found = _published.index_ids(ids)
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, unique)
    assert ids.dtype == np.int32
    np.testing.assert_array_equal(ids, places)
