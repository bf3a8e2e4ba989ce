"""What is read of an estimator is of one fit, whatever other threads do meanwhile."""

import pickle
import threading

import numpy as np
import pytest
from sklearn.frozen import FrozenEstimator

import sklearn_recvae
from sklearn_recvae import BlendedRecommender, EASERecommender, RecVAERecommender
from sklearn_recvae.datasets import make_interactions

X, _, _ = make_interactions(40, 20, random_state=0)
NARROW = X[:, :12]


def make_recvae():
    model = RecVAERecommender(4, hidden_dim=8, max_iter=1, random_state=0).fit(X)
    return model, model


def make_ease():
    model = EASERecommender(20).fit(X)
    return model, model


def make_blend():
    model = BlendedRecommender([("ease", EASERecommender(20))], weights=None).fit(X)
    return model, model


def make_blend_of_frozen():
    owned = EASERecommender(20).fit(X)
    inner = BlendedRecommender([("ease", FrozenEstimator(owned))], weights=None)
    return BlendedRecommender([("blend", inner)]).fit(X), owned


def save(model, tmp_path):
    model.save(tmp_path / "model")
    return sklearn_recvae.load(tmp_path / "model").predict(X)


READS = {
    "recommend": lambda m, _: m.recommend(X, k=20, return_scores=True),
    "recommend pairs": lambda m, _: m.recommend(X, items=X, exclude_seen=False),
    "predict": lambda m, _: m.predict(X),
    "score": lambda m, _: m.score(X),
    "explain": lambda m, _: m.explain(X, np.full(40, 19), return_scores=True),
    "save": save,
}
OF_ITEMS = {"similar_items": lambda m, _: m.similar_items([19], k=20)}
OF_LATENT = {
    "recommend samples": lambda m, _: m.recommend(X, sample=True, random_state=0),
    "similar_users": lambda m, _: m.similar_users(X, return_scores=True),
    "transform": lambda m, _: m.transform(X),
    "inverse_transform": lambda m, _: m.inverse_transform(np.ones((2, 4))),
}
READS_OF = {
    make_recvae: READS | OF_ITEMS | OF_LATENT,
    make_ease: READS | OF_ITEMS,
    make_blend: READS,
    make_blend_of_frozen: READS,
}


@pytest.mark.parametrize(
    ("make", "name"),
    [(make, name) for make, reads in READS_OF.items() for name in reads],
)
def test_a_fit_amid_a_call_changes_nothing(make, name, tmp_path, monkeypatch):
    read = READS_OF[make][name]
    model, fitted_again = make()
    expected = read(model, tmp_path)
    snapshot, fits = type(model)._snapshot, []

    def fit_after_it(estimator):
        copied = snapshot(estimator)
        if estimator is model and not fits:
            fits.append(fitted_again.fit(NARROW))
        return copied

    monkeypatch.setattr(type(model), "_snapshot", fit_after_it)
    np.testing.assert_equal(read(model, tmp_path), expected)
    assert fits[0].n_features_in_ == 12


def test_names_of_columns_go_with_the_rest():
    """A fit without names takes those of before away, and all else is new, at once."""
    pandas = pytest.importorskip("pandas")
    named = pandas.DataFrame(X.toarray(), columns=[f"item {i}" for i in range(20)])
    model, seen = EASERecommender(20).fit(named), set()

    def look():
        while not done.is_set():
            state = model.__dict__.copy()
            seen.add((state["n_features_in_"], "feature_names_in_" in state))

    done = threading.Event()
    thread = threading.Thread(target=look)
    thread.start()
    for _ in range(20):
        model.fit(NARROW).fit(named)
    done.set()
    thread.join()
    assert seen <= {(20, True), (12, False)}


@pytest.mark.parametrize("make", [make_recvae, make_ease, make_blend])
def test_a_fit_amid_pickling_changes_nothing(make):
    model, _ = make()
    expected = model.predict(X)
    state = model.__getstate__()
    model.fit(NARROW)
    copied = object.__new__(type(model))
    copied.__setstate__(pickle.loads(pickle.dumps(state)))
    np.testing.assert_array_equal(copied.predict(X), expected)


def test_threads_that_read_beside_one_that_fits():
    model, _ = make_recvae()
    errors, done = [], threading.Event()

    def recommend():
        while not done.is_set():
            try:
                assert model.recommend(NARROW, k=12).max() < 12
            except ValueError as error:
                if "features, but RecVAERecommender is expecting 20" not in str(error):
                    errors.append(error)
            except Exception as error:
                errors.append(error)

    threads = [threading.Thread(target=recommend) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(2):
        model.fit(NARROW).fit(X)
    done.set()
    for thread in threads:
        thread.join()
    assert errors == []
