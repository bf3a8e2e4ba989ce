"""Files of models: round trips, damage, foreign ones."""

import copy
import hashlib
import io
import json
import os
import pickle
import re
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.frozen import FrozenEstimator

import sklearn_recvae
from sklearn_recvae import BlendedRecommender, EASERecommender, RecVAERecommender, load
from sklearn_recvae import _files as files
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
    path = tmp_path_factory.mktemp("saved") / "model"
    EASERecommender().fit(X[:, :6]).save(path)
    return path.read_bytes()


def same(one, other):
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    is_float = isinstance(one, np.ndarray) and one.dtype.kind == "f"
    return np.array_equal(one, other, equal_nan=is_float)


def test_round_trip(model, tmp_path):
    path = tmp_path / "model"
    assert model.save(path) is None
    loaded = load(str(path))
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
    assert os.listdir(tmp_path) == ["model"]


def test_training_goes_on_after_loading(tmp_path):
    model = fitted(RecVAERecommender)
    model.save(tmp_path / "model")
    loaded = load(tmp_path / "model").partial_fit(X)
    through_pickle = pickle.loads(pickle.dumps(model)).partial_fit(X)
    np.testing.assert_array_equal(loaded.predict(X), through_pickle.predict(X))
    assert loaded.n_iter_ == 3


def test_feature_names(tmp_path):
    pandas = pytest.importorskip("pandas")
    names = ["plain", "with \0 zero", "größer"]
    frame = pandas.DataFrame(np.eye(4)[:, :3], columns=names)
    EASERecommender().fit(frame).save(tmp_path / "model")
    loaded = load(tmp_path / "model")
    assert loaded.feature_names_in_.tolist() == names
    assert loaded.recommend(frame, k=1).shape == (4, 1)


@pytest.mark.parametrize(
    "ids", [[f"\0 {n}" for n in range(20)], range(2**60, 2**60 + 20)]
)
def test_item_ids(ids, tmp_path):
    model = RecVAERecommender(2, hidden_dim=4, max_iter=1).fit(X, item_ids=ids)
    model.save(tmp_path / "model")
    loaded = load(tmp_path / "model")
    assert loaded.item_ids_.tolist() == list(ids)
    assert loaded.item_ids_.dtype == model.item_ids_.dtype


def test_same_model_is_the_same_file(model, tmp_path):
    model.save(tmp_path / "one")
    load(tmp_path / "one").save(tmp_path / "other")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()


def test_failed_save_leaves_what_was_there(model, tmp_path, monkeypatch):
    path = tmp_path / "model"
    path.write_text("what was there")

    def write_array(stream, array):
        stream.write(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(files, "_write_array", write_array)
    with pytest.raises(OSError, match="no space left"):
        model.save(path)
    assert path.read_text() == "what was there"
    assert os.listdir(tmp_path) == ["model"]


def test_what_cannot_be_saved(tmp_path):
    model = fitted(RecVAERecommender)
    model.set_params(random_state=np.random.RandomState(0))
    with pytest.raises(ValueError, match=r"random_state=RandomState.* cannot be saved"):
        model.save(tmp_path / "model")
    with pytest.raises(FileNotFoundError):
        fitted(EASERecommender).save(tmp_path / "nowhere" / "model")
    assert os.listdir(tmp_path) == []


class OwnEASE(EASERecommender):
    pass


def change(model, **attributes):
    for name, value in attributes.items():
        setattr(model, name, value)
    return model


def blend(*names, part=None):
    part = part or FrozenEstimator(fitted(EASERecommender))
    return BlendedRecommender([(name, part) for name in names], weights=None).fit(X)


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
    path = tmp_path / "model"
    path.write_text("what was there")
    with pytest.raises(ValueError, match=message):
        NO_LOAD[message]().save(path)
    assert path.read_text() == "what was there"
    assert os.listdir(tmp_path) == ["model"]


def test_class_of_ones_own(tmp_path):
    with pytest.raises(ValueError, match="load would not find OwnEASE: it knows Bl"):
        OwnEASE().fit(X).save(tmp_path / "own")
    assert os.listdir(tmp_path) == []


def test_blend_of_many_parts(tmp_path):
    # What describes parts is long where they have many arrays, or long names.
    model = blend(*(f"part {number} ".ljust(5000, "-") for number in range(250)))
    model.save(tmp_path / "blend")
    assert int.from_bytes((tmp_path / "blend").read_bytes()[:8], "little") > 1 << 20
    loaded = load(tmp_path / "blend")
    np.testing.assert_array_equal(loaded.recommend(X[:2]), model.recommend(X[:2]))


def test_header_has_one_limit(monkeypatch, tmp_path):
    arrays = {"a": np.zeros(3)}
    write_file(tmp_path / "whole", "kind", {}, arrays)
    monkeypatch.setattr(files, "_MAX_HEADER_BYTES", 200)
    with pytest.raises(ValueError, match=r"of its 1 arrays, .* at most 200 would"):
        write_file(tmp_path / "new", "kind", {}, arrays)
    with pytest.raises(ValueError, match=r"its header would have .* at most 200"):
        read_file(tmp_path / "whole", "kind")
    assert os.listdir(tmp_path) == ["whole"]


def test_sizes_of_numpy(tmp_path):
    model = RecVAERecommender(np.int64(2), hidden_dim=np.int32(4), max_iter=1)
    model.fit(X).add_items(np.int64(1)).save(tmp_path / "model")
    assert load(tmp_path / "model").n_features_in_ == 21


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


def test_other_files(tmp_path):
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "nothing")
    write_file(tmp_path / "checkpoint", "checkpoint", {}, {})
    with pytest.raises(ValueError, match=r"is no model .* it is a 'sklearn_rec"):
        load(tmp_path / "checkpoint")
    with pytest.raises(ValueError, match="The 'mmap' parameter of load must be"):
        load(tmp_path / "checkpoint", mmap="r")


class Trap:
    """Runs code when it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ("trap",)


def foreign_files():
    objects = io.BytesIO()
    np.savez(objects, header=np.array([Trap()], dtype=object))
    other = json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}})
    return {
        "empty": b"",
        "text": b"a,b\n1,2\n",
        "pickle": pickle.dumps(Trap()),
        "objects": objects.getvalue(),
        "a huge header": b"\xff" * 100,
        "a header that is not there": (2000).to_bytes(8, "little") + b"{}",
        "no JSON": with_length(b"\xff" * 100),
        "nested JSON": with_length(b"[" * 100_000),
        "JSON of something else": with_length(b"[1]"),
        "safetensors of something else": with_length(other.encode()) + bytes(4),
    }


def with_length(header):
    return len(header).to_bytes(8, "little") + header


@pytest.mark.parametrize("mmap", [False, True])
@pytest.mark.parametrize("name", foreign_files())
def test_foreign_files(name, mmap, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("model").write_bytes(foreign_files()[name])
    with pytest.raises(ValueError, match="model is no model to be read: it is dama"):
        load("model", mmap=mmap)
    assert os.listdir() == ["model"]  # the trap was not sprung


def take_apart(data):
    """Give the fields of the header, the string in it, and the bytes of arrays."""
    begin = 8 + int.from_bytes(data[:8], "little")
    fields = json.loads(data[8:begin])
    said = json.loads(fields.pop("__metadata__")["sklearn_recvae"])
    parts = {}
    for name, field in fields.items():
        place = slice(*(begin + offset for offset in field["data_offsets"]))
        parts[name] = data[place]
    return fields, said, parts


def rewrite(data, change):
    """Change header and arrays, and put a digest that fits on the header."""
    fields, said, parts = take_apart(data)
    change(fields, said, parts)

    def lay_out(digest):
        text = json.dumps({**said, "sha256": digest})
        metadata = {"__metadata__": {"sklearn_recvae": text}}
        header = json.dumps({**metadata, **fields}).encode()
        return with_length(header + b" " * (-(8 + len(header)) % 64))

    digest = hashlib.sha256(lay_out("")).hexdigest()
    return lay_out(digest) + b"".join(parts.values())


def add_array(fields, said, parts, name, value):
    parts[name] = json.dumps(value).encode()
    begin = sum(map(len, parts.values()))
    n_bytes = len(parts[name])
    fields[name] = {
        "dtype": "U8",
        "shape": [n_bytes],
        "data_offsets": [begin - n_bytes, begin],
    }
    said["arrays"][name] = hashlib.sha256(parts[name]).hexdigest()


def field_of_coef(**changed):
    return lambda fields, said, parts: fields["coef_"].update(changed)


def content(**changed):
    return lambda fields, said, parts: said["content"].update(changed)


def parameters(**changed):
    return lambda fields, said, parts: said["content"]["parameters"].update(changed)


def more(name, value):
    return lambda fields, said, parts: add_array(fields, said, parts, name, value)


@pytest.mark.parametrize("mmap", [False, True])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f, s, p: s.update(format_version=2), "format version is 2, .* upgrade"),
        (lambda f, s, p: s.update(format_version="2"), "damaged"),
        (lambda f, s, p: s.update(format="sklearn_recvae checkpoint"), "checkpoint"),
        (lambda f, s, p: p.update(extra=b"1"), "it has .* bytes, and its header says"),
        (lambda f, s, p: p.clear(), "it has .* bytes, and its header says"),
        (lambda f, s, p: f.clear(), "it has .* bytes, and its header says"),
        (lambda f, s, p: s.update(arrays={}), "damaged"),
        (lambda f, s, p: p.update(coef_=bytes(144)), "coef_ is not what the header"),
        (more("feature_names_in_", ["a"] * 5), "expected 6 str"),
        (more("feature_names_in_", [1] * 6), "expected 6 str"),
        (more("feature_names_in_", "abcdef"), "expected 6 str"),
        (more("item_ids_", ["a"] * 6), "only 1 are different"),
        (more("item_ids_", list(range(5))), "5 item_ids"),
        (more("other", 7), "an array other, which nothing needs"),
        (field_of_coef(shape=[10**9, 10**9]), "header was changed"),
        (field_of_coef(shape=[36]), r"coef_ has dtype and shape .*\(36,\)"),
        (field_of_coef(shape=[-1]), "has shape"),
        (field_of_coef(shape=[1] * 10**5), "has shape"),
        (field_of_coef(shape=[6.0, 6]), "has shape"),
        (field_of_coef(shape="6"), "has shape '6'"),
        (field_of_coef(shape=None), "damaged"),
        (field_of_coef(dtype="BF16"), "dtype 'BF16'"),
        (field_of_coef(dtype=["F32"]), "damaged"),
        (field_of_coef(dtype="I32"), "coef_ has dtype and shape"),
        (field_of_coef(data_offsets=[0, 143]), "header was changed"),
        (field_of_coef(data_offsets=[1, 145]), "header was changed"),
        (field_of_coef(data_offsets=None), "header was changed"),
        (field_of_coef(more=1), "header was changed"),
        (lambda f, s, p: f.update(coef_=7), "damaged"),
        (lambda f, s, p: f["coef_"].pop("dtype"), "damaged"),
        (lambda f, s, p: s.update(arrays=[]), "damaged"),
        (lambda f, s, p: s.update(content=[]), "there are fields"),
        (lambda f, s, p: s.update(content={}), "there are fields"),
        (lambda f, s, p: s.update(content=None), "there are fields None"),
        (content(estimator="Other"), "there is no 'Other'"),
        (content(estimator="load"), "there is no 'load'"),
        (content(parameters=[]), "parameters is .*dict"),
        (content(attributes={"a": 1}), "there are fields"),
        (content(n_features_in_=6.0), "n_features_in_ is 6.0"),
        (content(n_features_in_=7), "does not make"),
        (parameters(other=7), "does not make"),
        (parameters(regularization=-1), "must be"),
    ],
)
def test_changed_files(saved, change, message, mmap, tmp_path, monkeypatch):
    path = tmp_path / "model"
    path.write_bytes(rewrite(saved, change))
    with pytest.raises(ValueError, match=message) as caught:
        load(path, mmap=mmap)
    assert str(path) in str(caught.value)


def test_parameter_that_came_later_has_its_default(saved, tmp_path):
    def forget(fields, said, parts):
        said["content"]["parameters"].clear()

    (tmp_path / "model").write_bytes(rewrite(saved, forget))
    assert load(tmp_path / "model").regularization == 500


def test_numbers_that_are_not_finite(saved, tmp_path):
    def put_nan(fields, said, parts):
        parts["coef_"] = np.full((6, 6), np.nan, np.float32).tobytes()
        said["arrays"]["coef_"] = hashlib.sha256(parts["coef_"]).hexdigest()

    (tmp_path / "model").write_bytes(rewrite(saved, put_nan))
    with pytest.raises(ValueError, match="coef_ has numbers that are not finite"):
        load(tmp_path / "model")


def test_header_that_was_edited(saved, tmp_path):
    path = tmp_path / "model"
    old, new = (rb"\"regularization\": %d.0" % number for number in (500, 900))
    assert saved.count(old) == 1
    path.write_bytes(saved.replace(old, new))
    with pytest.raises(ValueError, match="damaged"):
        load(path)


@settings(max_examples=200)
@given(data=st.data())
def test_any_damage_is_found(saved, tmp_path_factory, data):
    path = tmp_path_factory.mktemp("damaged") / "model"
    place = data.draw(st.integers(0, len(saved) - 1))
    before, rest = saved[:place], saved[place:]
    what = data.draw(st.sampled_from(["change", "cut", "insert", "leave out"]))
    damaged = {
        "change": before + bytes([rest[0] ^ data.draw(st.integers(1, 255))]) + rest[1:],
        "cut": before,
        "insert": before + data.draw(st.binary(min_size=1, max_size=70)) + rest,
        "leave out": before + rest[data.draw(st.integers(1, 70)) :],
    }
    path.write_bytes(damaged[what])
    with pytest.raises(ValueError, match="is no model to be read"):
        load(path)


@pytest.mark.parametrize("flip", [1, ord(" ") ^ ord("\t"), ord("a") ^ ord("A")])
def test_each_byte_of_the_header_counts(saved, flip, tmp_path):
    path = tmp_path / "model"
    for place in range(0, 8 + int.from_bytes(saved[:8], "little")):
        changed = bytearray(saved)
        changed[place] ^= flip
        path.write_bytes(changed)
        with pytest.raises(ValueError, match="is no model"):
            read_file(path, "model", mmap=True)


def change_attributes(model, path, **changed):
    model.save(path)
    data = rewrite(
        path.read_bytes(), lambda f, s, p: s["content"]["attributes"].update(changed)
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
        ({"best_score_": float("nan")}, "is damaged"),
        ({"more": 1}, "there are fields"),
    ],
)
def test_attributes_of_recvae(changed, message, tmp_path):
    path = tmp_path / "model"
    change_attributes(fitted(RecVAERecommender), path, **changed)
    with pytest.raises(ValueError, match=message):
        load(path)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"weights_": [float("nan"), 1.0]}, "is damaged"),
        ({"weights_": [-1.0, 2.0]}, "expected non-negative"),
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
    path = tmp_path / "blend"
    change_attributes(blend("a", "b"), path, **changed)
    with pytest.raises(ValueError, match=message):
        load(path)


def test_parts_of_another_catalogue(tmp_path):
    model = blend("a", "b")
    small = EASERecommender().fit(X[:, :5])
    model.estimators_[1] = small
    with pytest.raises(ValueError, match="'b' is fitted already, with 5 items"):
        model.save(tmp_path / "blend")


def test_too_little_memory_is_no_damage(saved, tmp_path, monkeypatch):
    path = tmp_path / "model"
    path.write_bytes(saved)

    def empty(*arguments, **options):
        raise MemoryError

    monkeypatch.setattr(np, "empty", empty)
    with pytest.raises(MemoryError):
        load(path)


@pytest.mark.skipif(not BENCHMARKS.is_dir(), reason="needs the checkout")
def test_damaged_and_crafted_files(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    damage = pytest.importorskip("damage")
    outcomes = damage.try_damaged(range(60)) + damage.try_crafted(range(90))
    outcomes += damage.try_damaged_headers(range(30))
    assert outcomes.total() == 180
    # What must not occur is in capitals.
    wrong = [outcome for outcome in outcomes if re.search("[A-Z]{2}", outcome)]
    assert wrong == []


ARRAYS = [
    np.zeros((0, 3)),
    np.arange(4),
    np.ones((2, 2), "f4"),
    np.array(3.0),
    np.arange(6, dtype="i4").reshape(2, 3).T,
    np.arange(7, dtype="u1"),
    np.arange(3, dtype=">f8"),
]


@given(
    st.dictionaries(st.text("abc._", min_size=1, max_size=5), st.sampled_from(ARRAYS))
)
def test_arrays_by_themselves(tmp_path_factory, arrays):
    path = tmp_path_factory.mktemp("file") / "file"
    write_file(path, "kind", {"number": 0.1, "none": None}, arrays)
    content, read = read_file(path, "kind")
    assert content == {"number": 0.1, "none": None}
    assert read.keys() == arrays.keys()
    fields, _, _ = take_apart(path.read_bytes())
    for name, array in arrays.items():
        np.testing.assert_array_equal(read[name], array)
        assert read[name].dtype == array.dtype.newbyteorder("=")
        assert read[name].shape == array.shape
        assert fields[name]["data_offsets"][0] % array.itemsize == 0


# The format is a published one


@given(
    st.dictionaries(st.text("abc._", min_size=1, max_size=5), st.sampled_from(ARRAYS))
)
def test_safetensors_opens_the_file(tmp_path_factory, arrays):
    safetensors = pytest.importorskip("safetensors")
    path = tmp_path_factory.mktemp("file") / "file"
    write_file(path, "kind", {"ä": "ö"}, arrays)
    with safetensors.safe_open(path, "numpy") as file:
        assert set(file.keys()) == arrays.keys()
        for name, array in arrays.items():
            np.testing.assert_array_equal(file.get_tensor(name), array)
        assert json.loads(file.metadata()["sklearn_recvae"])["content"] == {"ä": "ö"}


def test_names_of_arrays(tmp_path):
    numpy = pytest.importorskip("safetensors.numpy")
    recvae = fitted(RecVAERecommender)
    recvae.save(tmp_path / "recvae")
    arrays = numpy.load_file(tmp_path / "recvae")
    weights = recvae.module_.state_dict()
    assert arrays.keys() == weights.keys()
    for name, weight in weights.items():
        np.testing.assert_array_equal(arrays[name], weight.numpy())
    blend("a", part=FrozenEstimator(recvae)).save(tmp_path / "blend")
    assert numpy.load_file(tmp_path / "blend").keys() == {f"0.{n}" for n in weights}


def test_memory_of_save_and_load(tmp_path):
    model = fitted(EASERecommender)
    model.coef_ = np.ones((1500, 1500), np.float32)
    model.n_features_in_ = 1500
    size, path = model.coef_.nbytes, tmp_path / "model"
    tracemalloc.start()
    try:
        for step, most in (
            (lambda: model.save(path), 0.3),
            (lambda: load(path), 1.3),
            (lambda: load(path, mmap=True), 0.1),
        ):
            tracemalloc.reset_peak()
            before, _ = tracemalloc.get_traced_memory()
            step()
            assert tracemalloc.get_traced_memory()[1] - before < most * size
    finally:
        tracemalloc.stop()


# mapped into memory


@pytest.fixture
def all_are_large(monkeypatch):
    monkeypatch.setattr(files, "_CHUNK", 100)  # so that small models have some


def test_mapped(model, tmp_path, all_are_large):
    path = tmp_path / "model"
    model.save(path)
    _, arrays = read_file(path, "model", mmap=True)
    for array in arrays.values():
        assert isinstance(array, np.memmap) == (array.nbytes > 100)
        assert not array.flags.writeable or array.nbytes <= 100
    mapped = load(path, mmap=True)
    for method in ("predict", "recommend", "score"):
        np.testing.assert_array_equal(
            getattr(mapped, method)(X), getattr(model, method)(X)
        )
    mapped.save(path)  # to where it comes from
    np.testing.assert_array_equal(mapped.predict(X), load(path).predict(X))


def test_training_of_a_mapped_model(tmp_path, all_are_large):
    path = tmp_path / "model"
    fitted(RecVAERecommender).save(path)
    before = path.read_bytes()
    for change in (
        lambda model: model.partial_fit(X),
        lambda model: model.set_params(warm_start=True).fit(X),
        lambda model: copy.deepcopy(model).add_items(1),
    ):
        mapped, expected = (change(load(path, mmap=mmap)) for mmap in (True, False))
        rows = np.eye(expected.n_features_in_)
        np.testing.assert_array_equal(mapped.predict(rows), expected.predict(rows))
        assert path.read_bytes() == before


def test_what_is_trusted_when_it_is_mapped(tmp_path, all_are_large):
    path = tmp_path / "model"
    fitted(RecVAERecommender).save(path)
    whole = path.read_bytes()
    header, _, parts = take_apart(whole)
    begin = len(whole) - sum(map(len, parts.values()))
    for name, field in header.items():
        changed = bytearray(whole)
        changed[begin + field["data_offsets"][0]] ^= 1
        path.write_bytes(changed)
        with pytest.raises(ValueError, match=f"{name} is not what the header says"):
            load(path)
        if len(parts[name]) > 100:
            assert load(path, mmap=True).recommend(X).shape == (60, 10)
        else:
            with pytest.raises(ValueError, match=f"{name} is not what the header says"):
                load(path, mmap=True)
    for other in (whole[:-1], whole + b"1"):
        path.write_bytes(other)
        with pytest.raises(ValueError, match="bytes, and its header says"):
            load(path, mmap=True)
