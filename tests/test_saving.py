import io
import json
import os
import pickle
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sklearn_recvae import EASERecommender, RecVAERecommender
from sklearn_recvae._files import read_file, write_file
from sklearn_recvae.datasets import make_interactions

X, _, _ = make_interactions(60, 20, random_state=0)
FIRST_FORMAT = Path(__file__).parent / "files"


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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h, p: h.update(format_version=2), "format version is 2, .* upgrade"),
        (lambda h, p: h.update(format="sklearn_recvae checkpoint"), "checkpoint"),
        (lambda h, p: p.update(extra=b""), "parts are not those of its list"),
        (lambda h, p: p.clear(), "parts are not those of its list"),
        (
            lambda h, p: p.update({"weights_.npy": as_npy(np.ones((6, 6), "f4"))}),
            "not what",
        ),
        (lambda h, p: h["arrays"]["weights_"].update(shape=[10**9, 10**9]), "the size"),
        (lambda h, p: h["arrays"]["weights_"].update(shape=[-1]), "has shape"),
        (lambda h, p: h["arrays"]["weights_"].update(dtype="object"), "dtype 'object'"),
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
        np.testing.assert_array_equal(loaded.weights_, expected.weights_)
        assert loaded.get_params() == expected.get_params()


def test_sizes_that_are_wrong_take_no_memory(tmp_path):
    fitted(RecVAERecommender).save(tmp_path / "model.npz")
    data = (tmp_path / "model.npz").read_bytes()

    def enlarge(header, parts):
        header["content"]["attributes"]["sizes"][1] = 10**7

    (tmp_path / "model.npz").write_bytes(rewrite(data, enlarge))
    with pytest.raises(ValueError, match="does not make"):
        RecVAERecommender.load(tmp_path / "model.npz")


def test_files_of_the_first_format():
    """Were written by the first release that had a format; must load for ever."""
    expected = np.load(FIRST_FORMAT / "expected.npz")
    for cls in (RecVAERecommender, EASERecommender):
        loaded = cls.load(FIRST_FORMAT / f"{cls.__name__}.npz")
        np.testing.assert_allclose(
            loaded.predict(expected["X"]), expected[cls.__name__], rtol=1e-5
        )


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


def test_pickle_of_a_gpu_is_loaded_without_one(monkeypatch):
    """Simulated: storages are marked as CUDA's unless they went through `cpu()`."""
    if torch.cuda.is_available():
        pytest.skip("is about machines without a GPU")
    moved = set()

    def cpu(module):
        moved.update(tensor.data_ptr() for tensor in module.state_dict().values())
        return module

    def location_tag(storage):
        return "cpu" if storage.data_ptr() in moved else "cuda:0"

    model = fitted(RecVAERecommender)
    with monkeypatch.context() as patch:
        patch.setattr(torch.nn.Module, "cpu", cpu)
        patch.setattr(torch.serialization, "location_tag", location_tag)
        marked = pickle.dumps(model.module_)
        content = pickle.dumps(model)
    with pytest.raises(RuntimeError, match="on a CUDA device"):
        pickle.loads(marked)
    loaded = pickle.loads(content)
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))
