"""Pickles, and what stores estimators in a like way: joblib, skops, copies."""

import copy
import pickle

import joblib
import numpy as np
import pytest
from sklearn.base import BaseEstimator
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Binarizer

from sklearn_recvae import BlendedRecommender, EASERecommender, RecVAERecommender
from sklearn_recvae.datasets import make_interactions
from sklearn_recvae.preprocessing import InteractionEncoder

X, _, _ = make_interactions(60, 24, random_state=0)
EVENTS = {"user": ["ann", "ann", "bob", "cid"], "item": [7, 3, 7, 5]}


def recvae():
    return RecVAERecommender(4, hidden_dim=8, max_iter=2, random_state=0)


def fitted_estimators():
    ease = EASERecommender().fit(X)
    parts = [("recvae", recvae()), ("frozen", FrozenEstimator(ease))]
    return {
        "RecVAE": recvae().fit(X, X_val=X),
        "EASE": ease,
        "blend": BlendedRecommender(parts, weights=None).fit(X),
        "pipeline": make_pipeline(Binarizer(), recvae()).fit(X),
        "encoder": InteractionEncoder(min_item_interactions=2).fit(EVENTS),
    }


ESTIMATORS = fitted_estimators()


def through_pickle(estimator, folder):
    return pickle.loads(pickle.dumps(estimator))


def through_joblib(estimator, folder, mmap_mode=None):
    joblib.dump(estimator, folder / "model.joblib")
    return joblib.load(folder / "model.joblib", mmap_mode=mmap_mode)


def mapped(estimator, folder):
    return through_joblib(estimator, folder, "r")


def through_skops(estimator, folder):
    skops_io = pytest.importorskip("skops.io")
    path = folder / "model.skops"
    skops_io.dump(estimator, path)
    names = skops_io.get_untrusted_types(file=path)
    # Nothing has to be trusted but the estimators themselves.
    assert names
    assert {name.rpartition(".")[2] for name in names} <= {
        "RecVAERecommender",
        "EASERecommender",
        "BlendedRecommender",
        "InteractionEncoder",
    }
    return skops_io.load(path, trusted=names)


WAYS = {
    "pickle": through_pickle,
    "deepcopy": lambda estimator, folder: copy.deepcopy(estimator),
    "joblib": through_joblib,
    "joblib, mapped": mapped,
    "skops": through_skops,
}


@pytest.mark.filterwarnings("ignore")  # of MLflow, about itself
@pytest.mark.parametrize("name", ESTIMATORS)
def test_default_format_of_mlflow(name, tmp_path):
    """MLflow is in no extra, for its size; its format is that of skops, tried above."""
    mlflow_sklearn = pytest.importorskip("mlflow.sklearn")
    skops_io = pytest.importorskip("skops.io")
    names = skops_io.get_untrusted_types(data=skops_io.dumps(ESTIMATORS[name]))
    mlflow_sklearn.save_model(
        ESTIMATORS[name],
        tmp_path / "model",
        skops_trusted_types=names,
        pip_requirements=[],
    )
    assert (tmp_path / "model" / "model.skops").is_file()
    stored = mlflow_sklearn.load_model(str(tmp_path / "model"))
    for got, expected in zip(results(stored), results(ESTIMATORS[name]), strict=True):
        np.testing.assert_array_equal(got, expected)


def results(estimator):
    """Give what an estimator answers."""
    if isinstance(estimator, InteractionEncoder):
        matrix = estimator.transform({"user": ["bob", "ann"], "item": [7, 3]})
        return [matrix.toarray(), estimator.decode([[0], [-1]])["user"]]
    model, rows = estimator, X
    if hasattr(estimator, "steps"):
        model, rows = estimator[-1], estimator[:-1].transform(X)
    return [
        *model.recommend(rows, 5, return_scores=True),
        model.predict(rows),
        model.explain(rows, model.recommend(rows, 1)),
    ]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ESTIMATORS)
def test_round_trip(name, way, tmp_path):
    estimator = ESTIMATORS[name]
    stored = WAYS[way](estimator, tmp_path)
    assert type(stored) is type(estimator)
    assert repr(stored) == repr(estimator)
    for got, expected in zip(results(stored), results(estimator), strict=True):
        np.testing.assert_array_equal(got, expected)


def check_plain(value):
    """Fail unless it is made of arrays, plain values and estimators with such."""
    if isinstance(value, BaseEstimator):
        value = value.__getstate__()
    if isinstance(value, dict):
        assert type(value) is dict
        assert {type(key) for key in value} <= {str}
        value = list(value.values())
    if isinstance(value, list | tuple):
        for each in value:
            check_plain(each)
    else:
        assert type(value) in (np.ndarray, str, int, float, bool, type(None))


@pytest.mark.parametrize("name", ESTIMATORS)
def test_state_is_arrays_and_plain_values(name):
    check_plain(ESTIMATORS[name])


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
def test_encoder_remembers_the_library_of_its_tables(library):
    module = pytest.importorskip(library)
    make = module.table if library == "pyarrow" else module.DataFrame
    encoder = InteractionEncoder().fit(make(EVENTS))
    check_plain(encoder)
    decoded = pickle.loads(pickle.dumps(encoder)).decode([[0], [1], [-1]])
    assert type(decoded) is type(make(EVENTS))


@pytest.mark.parametrize("name", ESTIMATORS)
def test_arrays_are_not_copied(name):
    before, after = [], []
    content = pickle.dumps(ESTIMATORS[name], 5, buffer_callback=before.append)
    given = [bytearray(buffer) for buffer in before]
    loaded = pickle.loads(content, buffers=given)
    pickle.dumps(loaded, 5, buffer_callback=after.append)
    assert list(map(address, given)) == list(map(address, after))


def address(buffer):
    return np.frombuffer(buffer, np.uint8).ctypes.data if len(bytes(buffer)) else None


def test_random_state_is_left_alone():
    """That of NumPy and torch is watched with all else; this is a parameter."""
    model = recvae().set_params(random_state=np.random.RandomState(0)).fit(X)
    before = model.random_state.get_state()
    loaded = pickle.loads(pickle.dumps(model))
    for state in (model.random_state.get_state(), loaded.random_state.get_state()):
        assert all(map(np.array_equal, state, before))


@pytest.mark.parametrize(
    "change",
    [
        lambda model: model.partial_fit(X),
        lambda model: model.set_params(warm_start=True).fit(X),
        lambda model: model.add_items(2),
        lambda model: model.add_items(2).partial_fit(np.eye(26)),
    ],
)
def test_mapped_weights_are_copied_before_they_change(change, tmp_path):
    model = mapped(ESTIMATORS["RecVAE"], tmp_path)
    before = (tmp_path / "model.joblib").read_bytes()
    expected = change(copy.deepcopy(ESTIMATORS["RecVAE"]))
    rows = np.eye(expected.n_features_in_)
    np.testing.assert_array_equal(
        change(model).recommend(rows), expected.recommend(rows)
    )
    assert (tmp_path / "model.joblib").read_bytes() == before


def test_wrong_state():
    state = ESTIMATORS["RecVAE"].__getstate__()
    sizes, weights = state["module_"]["sizes"], state["module_"]["weights"]
    for wrong in (
        {"module_": {"sizes": [23, *sizes[1:]], "weights": weights}},
        {"module_": {"sizes": sizes, "weights": {}}},
        {"module_": {"sizes": sizes[1:], "weights": weights}},
    ):
        with pytest.raises(ValueError, match=r"expected|no array"):
            RecVAERecommender().__setstate__({**state, **wrong})


def test_attributes_of_a_class_of_ones_own():
    class Own(RecVAERecommender):
        pass

    model = Own(4, hidden_dim=8, max_iter=1).fit(X)
    model.extra_ = "mine"
    assert copy.deepcopy(model).extra_ == "mine"
