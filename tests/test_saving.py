import hashlib
import io
import json
import os
import pickle
import re
import zlib
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.frozen import FrozenEstimator

import sklearn_recvae
from sklearn_recvae import BlendedRecommender, EASERecommender, RecVAERecommender
from sklearn_recvae._files import read_file, write_file
from sklearn_recvae.datasets import make_interactions

X, _, _ = make_interactions(60, 20, random_state=0)
BENCHMARKS = Path(sklearn_recvae.__file__).parents[1] / "examples" / "benchmarks"


def fitted(cls):
    if cls is EASERecommender:
        return cls(regularization=3).fit(X)
    model = cls(4, hidden_dim=8, max_iter=2, prior_weights=np.array([0.2, 0.8, 0]))
    return model.set_params(random_state=np.int64(3)).fit(X[:50], X_val=X[50:])


@pytest.fixture(params=[RecVAERecommender, EASERecommender], scope="module")
def model(request):
    return fitted(request.param)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Bytes of a file, small enough to be damaged anywhere."""
    path = tmp_path_factory.mktemp("saved") / "model.npz"
    EASERecommender().fit(X[:, :6]).save(path)
    return path.read_bytes()


def same(one, other):
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    is_float = isinstance(one, np.ndarray) and one.dtype.kind == "f"
    return np.array_equal(one, other, equal_nan=is_float)


def test_round_trip(model, tmp_path):
    path = tmp_path / "model.npz"
    assert model.save(path) is None
    loaded = type(model).load(str(path))
    assert type(loaded) is type(model)
    for method in ("predict", "recommend", "score"):
        np.testing.assert_array_equal(
            getattr(loaded, method)(X), getattr(model, method)(X)
        )
    assert same(loaded.get_params(), model.get_params())
    public = {name for name in vars(model) if name.endswith("_")} - {"module_"}
    assert {name for name in vars(loaded) if name.endswith("_")} - {"module_"} == public
    for name in public:
        assert same(getattr(loaded, name), getattr(model, name)), name
    assert os.listdir(tmp_path) == ["model.npz"]
    assert set(np.load(path).files) > {"header.json"}  # of numpy, too


def test_training_goes_on_after_loading(tmp_path):
    model = fitted(RecVAERecommender)
    model.save(tmp_path / "model.npz")
    loaded = RecVAERecommender.load(tmp_path / "model.npz").partial_fit(X)
    through_pickle = pickle.loads(pickle.dumps(model)).partial_fit(X)
    np.testing.assert_array_equal(loaded.predict(X), through_pickle.predict(X))
    assert loaded.n_iter_ == 3


def test_feature_names(tmp_path):
    pandas = pytest.importorskip("pandas")
    names = ["plain", "with \0 zero", "größer"]
    frame = pandas.DataFrame(np.eye(4)[:, :3], columns=names)
    EASERecommender().fit(frame).save(tmp_path / "model.npz")
    loaded = EASERecommender.load(tmp_path / "model.npz")
    assert loaded.feature_names_in_.tolist() == names
    assert loaded.recommend(frame, k=1).shape == (4, 1)


@pytest.mark.parametrize(
    "ids", [[f"\0 {n}" for n in range(20)], range(2**60, 2**60 + 20)]
)
def test_item_ids(ids, tmp_path):
    model = RecVAERecommender(2, hidden_dim=4, max_iter=1).fit(X, item_ids=ids)
    model.save(tmp_path / "model.npz")
    loaded = RecVAERecommender.load(tmp_path / "model.npz")
    assert loaded.item_ids_.tolist() == list(ids)
    assert loaded.item_ids_.dtype == model.item_ids_.dtype


def test_same_model_is_the_same_file(model, tmp_path):
    model.save(tmp_path / "one")
    type(model).load(tmp_path / "one").save(tmp_path / "other")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()


def test_failed_save_leaves_what_was_there(model, tmp_path, monkeypatch):
    path = tmp_path / "model.npz"
    path.write_text("what was there")

    def write_array(stream, array, **options):
        stream.write(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(np.lib.format, "write_array", write_array)
    with pytest.raises(OSError, match="no space left"):
        model.save(path)
    assert path.read_text() == "what was there"
    assert os.listdir(tmp_path) == ["model.npz"]


def test_what_cannot_be_saved(tmp_path):
    model = fitted(RecVAERecommender)
    model.set_params(random_state=np.random.RandomState(0))
    with pytest.raises(ValueError, match=r"random_state=RandomState.* cannot be saved"):
        model.save(tmp_path / "model.npz")
    with pytest.raises(FileNotFoundError):
        fitted(EASERecommender).save(tmp_path / "nowhere" / "model.npz")
    assert os.listdir(tmp_path) == []


class OwnEASE(EASERecommender):
    pass


def change(model, **attributes):
    for name, value in attributes.items():
        setattr(model, name, value)
    return model


def blend(*names, part=None):
    part = part or FrozenEstimator(fitted(EASERecommender))
    return BlendedRecommender([(name, part) for name in names]).fit(X)


NO_LOAD = {
    "'regularization' parameter": lambda: fitted(EASERecommender).set_params(
        regularization=-1
    ),
    "'gamma' parameter": lambda: fitted(RecVAERecommender).set_params(gamma=-1),
    "'ease'.*fitted are .*'other'": lambda: change(
        blend("ease", "other"),
        estimators=[("ease", EASERecommender())],
    ),
    "parts in estimators are .*RecVAE": lambda: change(
        blend("ease"), estimators=[("ease", RecVAERecommender())]
    ),
    "has a OwnEASE, which load would not find": lambda: blend("a", part=OwnEASE()),
    "coef_ has numbers that are not finite": lambda: change(
        fitted(EASERecommender), coef_=np.full((20, 20), np.nan, np.float32)
    ),
    "coef_ has dtype": lambda: change(
        fitted(EASERecommender), coef_=np.eye(20, dtype=np.float16)
    ),
    "expected 20 str": lambda: change(
        fitted(EASERecommender), feature_names_in_=np.array(["a", "b"], dtype=object)
    ),
    "the best of 2 iterations is 3": lambda: change(
        fitted(RecVAERecommender), best_iteration_=3
    ),
    "weights_ is .*expected non-negative": lambda: change(
        blend("a", "b"), weights_=np.array([2.0, -1.0])
    ),
}


@pytest.mark.parametrize("message", NO_LOAD)
def test_what_could_not_be_loaded_is_not_saved(message, tmp_path):
    path = tmp_path / "model.npz"
    path.write_text("what was there")
    with pytest.raises(ValueError, match=message):
        NO_LOAD[message]().save(path)
    assert path.read_text() == "what was there"
    assert os.listdir(tmp_path) == ["model.npz"]


def test_class_of_ones_own(tmp_path):
    OwnEASE().fit(X).save(tmp_path / "own")
    assert type(OwnEASE.load(tmp_path / "own")) is OwnEASE


def test_blend_of_many_parts(tmp_path):
    # What describes parts is long where they have many arrays, or long names.
    model = blend(*(f"part {number} ".ljust(5000, "-") for number in range(250)))
    model.save(tmp_path / "blend")
    with ZipFile(tmp_path / "blend") as archive:
        assert archive.getinfo("header.json").file_size > 1 << 20
    loaded = BlendedRecommender.load(tmp_path / "blend")
    np.testing.assert_array_equal(loaded.recommend(X[:2]), model.recommend(X[:2]))


def test_header_has_one_limit(monkeypatch, tmp_path):
    arrays = {"a": np.zeros(3)}
    write_file(tmp_path / "whole", "kind", {}, arrays)
    monkeypatch.setattr(sklearn_recvae._files, "_MAX_HEADER_BYTES", 200)
    with pytest.raises(ValueError, match=r"of its 1 arrays, .* at most 200 would"):
        write_file(tmp_path / "new", "kind", {}, arrays)
    with pytest.raises(ValueError, match=r"its header has .* at most 200"):
        read_file(tmp_path / "whole", "kind")
    assert os.listdir(tmp_path) == ["whole"]


def test_sizes_of_numpy(tmp_path):
    model = RecVAERecommender(np.int64(2), hidden_dim=np.int32(4), max_iter=1)
    model.fit(X).add_items(np.int64(1)).save(tmp_path / "model")
    assert RecVAERecommender.load(tmp_path / "model").n_features_in_ == 21


# What is at the place of a file


def save_to(path, text="what is new"):
    write_file(path, "kind", text, {})


def test_link_is_kept(tmp_path):
    (tmp_path / "folder").mkdir()
    target, link = tmp_path / "folder" / "target", tmp_path / "link"
    try:
        link.symlink_to(target)
    except OSError:
        pytest.skip("no links")
    for text in ("one", "two"):  # where it leads to nothing, and to a file
        save_to(link, text)
        assert link.is_symlink()
        assert not target.is_symlink()
        assert read_file(link, "kind") == (text, {})
    assert os.listdir(tmp_path / "folder") == ["target"]


@pytest.mark.skipif(os.name == "nt", reason="other permissions")
def test_permissions(tmp_path):
    path = tmp_path / "file"
    umask = os.umask(0o027)
    try:
        save_to(path)
        assert path.stat().st_mode & 0o777 == 0o640
        path.chmod(0o604)
        save_to(path)
        assert path.stat().st_mode & 0o777 == 0o604
    finally:
        os.umask(umask)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes")
def test_what_is_no_file(tmp_path):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name, error in (("folder", IsADirectoryError), ("pipe", OSError)):
        for access in (save_to, lambda path: read_file(path, "kind")):
            with pytest.raises(error, match="expected a file"):
                access(tmp_path / name)
    assert sorted(os.listdir(tmp_path)) == ["folder", "pipe"]
    with pytest.raises(OSError, match="expected a file"):
        save_to(os.devnull)


@pytest.mark.parametrize("letter", ["a", "ä"])
def test_long_names(letter, tmp_path):
    path = tmp_path / (letter * (255 // len(letter.encode())))
    save_to(path)
    assert os.listdir(tmp_path) == [path.name]


def test_other_estimator(tmp_path):
    fitted(EASERecommender).save(tmp_path / "ease")
    with pytest.raises(ValueError, match="has a EASERecommender, expected a RecVAE"):
        RecVAERecommender.load(tmp_path / "ease")
    with pytest.raises(FileNotFoundError):
        EASERecommender.load(tmp_path / "nothing")


class Trap:
    """Runs code when it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ("trap",)


def foreign_files():
    deflated, objects, empty_zip = io.BytesIO(), io.BytesIO(), io.BytesIO()
    np.savez(objects, header=np.array([Trap()], dtype=object))
    with ZipFile(deflated, "w", ZIP_DEFLATED) as archive:
        archive.writestr("header.json", " " * 2_000_000)
    ZipFile(empty_zip, "w").close()
    nested = io.BytesIO()
    with ZipFile(nested, "w") as archive:
        archive.writestr("header.json", "[" * 100_000)
    return {
        "empty": b"",
        "text": b"a,b\n1,2\n",
        "pickle": pickle.dumps(Trap()),
        "objects": objects.getvalue(),
        "empty zip": empty_zip.getvalue(),
        "large header": deflated.getvalue(),
        "nested header": nested.getvalue(),
    }


@pytest.mark.parametrize("name", foreign_files())
def test_foreign_files(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("model.npz").write_bytes(foreign_files()[name])
    with pytest.raises(ValueError, match="is no model to be read"):
        EASERecommender.load("model.npz")
    assert os.listdir() == ["model.npz"]  # the trap was not sprung


def rewrite(data, change, **options):
    """Change header and parts, and put a digest that fits on the header."""
    from sklearn_recvae._files import _digest

    with ZipFile(io.BytesIO(data)) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    header = json.loads(parts.pop("header.json"))
    change(header, parts)
    header.pop("sha256")
    header["sha256"] = _digest(header)
    stream = io.BytesIO()
    with ZipFile(stream, "w", **options) as archive:
        archive.writestr("header.json", json.dumps(header))
        for name, part in parts.items():
            archive.writestr(name, part)
    return stream.getvalue()


def as_npy(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def add_array(header, parts, name, value):
    array = np.frombuffer(json.dumps(value).encode(), np.uint8)
    parts[f"{name}.npy"] = as_npy(array)
    header["arrays"][name] = {
        "dtype": "uint8",
        "shape": list(array.shape),
        "sha256": hashlib.sha256(array).hexdigest(),
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h, p: h.update(format_version=2), "format version is 2, .* upgrade"),
        (lambda h, p: h.update(format="sklearn_recvae checkpoint"), "checkpoint"),
        (lambda h, p: p.update(extra=b""), "parts are not those of its list"),
        (
            lambda h, p: add_array(h, p, "feature_names_in_", ["a"] * 5),
            "expected 6 str",
        ),
        (lambda h, p: add_array(h, p, "feature_names_in_", [1] * 6), "expected 6 str"),
        (lambda h, p: add_array(h, p, "feature_names_in_", "abcdef"), "expected 6 str"),
        (lambda h, p: add_array(h, p, "item_ids_", ["a"] * 6), "only 1 are different"),
        (lambda h, p: add_array(h, p, "item_ids_", list(range(5))), "5 item_ids"),
        (lambda h, p: p.clear(), "parts are not those of its list"),
        (
            lambda h, p: p.update({"coef_.npy": as_npy(np.ones((6, 6), "f4"))}),
            "not what",
        ),
        (lambda h, p: h["arrays"]["coef_"].update(shape=[10**9, 10**9]), "the size"),
        (lambda h, p: h["arrays"]["coef_"].update(shape=[-1]), "has shape"),
        (lambda h, p: h["arrays"]["coef_"].update(dtype="object"), "dtype 'object'"),
        (lambda h, p: h["arrays"]["coef_"].update(shape=[10**11]), "the size"),
        (lambda h, p: h["arrays"]["coef_"].update(shape=[1] * 10**6), "has shape"),
        (lambda h, p: h["arrays"]["coef_"].update(shape="6"), "shape is '6'"),
        (lambda h, p: h["arrays"]["coef_"].pop("dtype"), "there are fields"),
        (lambda h, p: h.update(arrays=[]), "damaged"),
        (lambda h, p: h.update(content=[]), "there are fields"),
        (lambda h, p: h.update(content={}), "there are fields"),
        (lambda h, p: h.update(content=None), "there are fields None"),
        (lambda h, p: h["content"].update(parameters=[]), "parameters is .*dict"),
        (lambda h, p: h["content"].update(attributes={"a": 1}), "there are fields"),
        (lambda h, p: h["content"].update(n_features_in_=6.0), "n_features_in_ is 6.0"),
        (lambda h, p: h["content"].update(n_features_in_=7), "does not make"),
        (lambda h, p: h["content"]["parameters"].update(other=7), "does not make"),
        (lambda h, p: h["content"]["parameters"].clear(), None),
        (lambda h, p: h["content"]["parameters"].update(regularization=-1), "must be"),
    ],
)
def test_changed_files(saved, change, message, tmp_path):
    path = tmp_path / "model.npz"
    path.write_bytes(rewrite(saved, change))
    if message is None:  # a parameter that came later has its default
        assert EASERecommender.load(path).regularization == 500
    else:
        with pytest.raises(ValueError, match=message):
            EASERecommender.load(path)


def test_header_that_was_edited(saved, tmp_path):
    path = tmp_path / "model.npz"
    path.write_bytes(
        saved.replace(b'"regularization": 500.0', b'"regularization": 900.0')
    )
    with pytest.raises(ValueError, match="damaged"):
        EASERecommender.load(path)


def test_compressed_parts_are_refused(saved, tmp_path):
    path = tmp_path / "model.npz"
    path.write_bytes(rewrite(saved, lambda h, p: None, compression=ZIP_DEFLATED))
    with pytest.raises(ValueError, match="are not compressed"):
        EASERecommender.load(path)


@settings(max_examples=200)
@given(data=st.data())
def test_damage_is_never_silent(saved, tmp_path_factory, data):
    path = tmp_path_factory.mktemp("damaged") / "model.npz"
    place = data.draw(st.integers(0, len(saved) - 1))
    if data.draw(st.booleans()):
        damaged = saved[:place]
    else:
        flip = data.draw(st.integers(1, 255))
        damaged = saved[:place] + bytes([saved[place] ^ flip]) + saved[place + 1 :]
    path.write_bytes(damaged)
    try:
        loaded = EASERecommender.load(path)
    except ValueError:
        pass
    else:
        # A byte that nothing depends on, such as a date in the zip.
        expected = EASERecommender().fit(X[:, :6])
        np.testing.assert_array_equal(loaded.coef_, expected.coef_)
        assert loaded.get_params() == expected.get_params()


def change_attributes(model, path, **changed):
    model.save(path)
    data = rewrite(
        path.read_bytes(), lambda h, p: h["content"]["attributes"].update(changed)
    )
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        # What would take memory, or time, if it were made.
        ({"sizes": [4, 10**7, 5, True]}, "encoder.input.weight has"),
        ({"sizes": [10**18, 8, 5, True]}, "encoder.posterior.weight has"),
        ({"sizes": [4, 8, 10**9, True]}, "there is no array encoder"),
        ({"sizes": [4, 8, 5.0, True]}, "the sizes are"),
        ({"sizes": [4, 8, 5, 1]}, "the sizes are"),
        ({"sizes": [4, 8, 5]}, "the sizes are"),
        ({"sizes": None}, "sizes is None, expected list"),
        ({"n_iter_": "2"}, "n_iter_ is '2', expected int"),
        ({"n_iter_": True}, "n_iter_ is True"),
        ({"n_iter_": 3}, "the history of likelihood is"),
        ({"best_iteration_": 0}, "the best of 2 iterations is 0"),
        ({"best_iteration_": None}, "the best of 2 iterations is None"),
        ({"best_score_": "0.5"}, "best_score_ is '0.5', expected float or NoneType"),
        ({"best_score_": float("nan")}, "with score nan"),
        ({"more": 1}, "there are fields"),
    ],
)
def test_attributes_of_recvae(changed, message, tmp_path):
    path = tmp_path / "model.npz"
    change_attributes(fitted(RecVAERecommender), path, **changed)
    with pytest.raises(ValueError, match=message):
        RecVAERecommender.load(path)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"weights_": [float("nan"), 1.0]}, "expected non-negative"),
        ({"weights_": [1.0]}, "expected 2"),
        ({"weights_": ["a", "b"]}, "expected 2"),
        ({"weights_": [0.0, 0.0]}, "with sum 1"),
        ({"best_score_": []}, "best_score_ is"),
        ({"frozen": [True]}, "expected a bool for each"),
        ({"frozen": [1, 0]}, "expected a bool for each"),
        ({"parts": []}, "does not make"),
        ({"parts": [None, None]}, "there are fields None"),
    ],
)
def test_attributes_of_a_blend(changed, message, tmp_path):
    path = tmp_path / "blend.npz"
    change_attributes(blend("a", "b"), path, **changed)
    with pytest.raises(ValueError, match=message):
        BlendedRecommender.load(path)


def test_parts_of_another_catalogue(tmp_path):
    model = blend("a", "b")
    small = EASERecommender().fit(X[:, :5])
    model.named_estimators_.b = model.estimators_[1] = small
    with pytest.raises(ValueError, match="'b' is fitted already, with 5 items"):
        model.save(tmp_path / "blend")


def test_parts_that_overlap(tmp_path):
    """A small file would take much memory if many parts had the same bytes."""
    path = tmp_path / "file"
    inner = ZipInfo("b.npy")
    numbers = np.arange(10, dtype=np.uint8)
    inner_bytes = as_npy(numbers)
    inner.file_size = inner.compress_size = len(inner_bytes)
    inner.CRC = zlib.crc32(inner_bytes)
    outer_bytes = inner.FileHeader() + inner_bytes
    outer = np.frombuffer(outer_bytes[10:], np.uint8)
    write_file(path, "kind", {}, {"a": outer, "b": numbers})
    data = rewrite(path.read_bytes(), lambda header, parts: None)
    with ZipFile(io.BytesIO(data)) as archive:
        header = archive.read("header.json")
    with ZipFile(path, "w") as archive:
        archive.writestr("header.json", header)
        archive.writestr("a.npy", outer_bytes)
        inner.header_offset = archive.getinfo("a.npy").header_offset + 30 + len("a.npy")
        archive.filelist.append(inner)
        archive.NameToInfo["b.npy"] = inner
    with ZipFile(path) as archive:
        assert archive.testzip() is None  # for zipfile all is well
    with pytest.raises(ValueError, match=r"a\.npy reaches into the next part"):
        read_file(path, "kind")


def test_names_that_are_twice(saved, tmp_path):
    path = tmp_path / "model.npz"
    path.write_bytes(saved)
    with (
        ZipFile(path, "a") as archive,
        pytest.warns(UserWarning, match="Duplicate name"),
    ):
        archive.writestr("coef_.npy", archive.read("coef_.npy"))
    with pytest.raises(ValueError, match="not those of its list"):
        EASERecommender.load(path)


def test_header_of_an_array_is_not_trusted(saved, tmp_path):
    path = tmp_path / "model.npz"

    def claim(header, parts):
        part = parts["coef_.npy"]
        shape = b"(6, 6), }".ljust(20)
        assert part.count(shape) == 1
        parts["coef_.npy"] = part.replace(shape, b"(100000000000,), }  ")

    path.write_bytes(rewrite(saved, claim))
    assert EASERecommender.load(path).coef_.shape == (6, 6)


def test_too_little_memory_is_no_damage(saved, tmp_path, monkeypatch):
    path = tmp_path / "model.npz"
    path.write_bytes(saved)

    def empty(*arguments, **options):
        raise MemoryError

    monkeypatch.setattr(np, "empty", empty)
    with pytest.raises(MemoryError):
        EASERecommender.load(path)


@pytest.mark.skipif(not BENCHMARKS.is_dir(), reason="needs the checkout")
def test_damaged_and_crafted_files(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    damage = pytest.importorskip("damage")
    outcomes = damage.try_damaged(range(60)) + damage.try_crafted(range(90))
    assert outcomes.total() == 150
    # What must not occur is in capitals.
    wrong = [outcome for outcome in outcomes if re.search("[A-Z]{2}", outcome)]
    assert wrong == []


@given(
    st.dictionaries(
        st.text("abc._", min_size=1, max_size=5),
        st.sampled_from([np.zeros((0, 3)), np.arange(4), np.ones((2, 2), "f4")]),
    )
)
def test_arrays_by_themselves(tmp_path_factory, arrays):
    path = tmp_path_factory.mktemp("file") / "file"
    write_file(path, "kind", {"number": 0.1, "none": None}, arrays)
    content, read = read_file(path, "kind")
    assert content == {"number": 0.1, "none": None}
    assert read.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(read[name], array)
        assert read[name].dtype == array.dtype
