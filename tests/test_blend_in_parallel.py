"""Parts of a blend that are fitted at a time, in threads and in processes."""

import _thread
import itertools
import threading

import numpy as np
import pytest
import torch
from joblib import parallel_config
from sklearn.frozen import FrozenEstimator

from sklearn_recvae import BlendedRecommender, EASERecommender, RecVAERecommender
from sklearn_recvae.datasets import make_interactions

X, _, _ = make_interactions(120, 30, random_state=0)
FROZEN = EASERecommender(50).fit(X)


def blend(n_jobs=None, regularization=20.0):
    rng = np.random.RandomState(0)  # each part gets a copy
    recvae = RecVAERecommender(6, hidden_dim=12, max_iter=2, random_state=rng)
    return BlendedRecommender(
        [
            ("recvae", recvae),
            ("frozen", FrozenEstimator(FROZEN)),
            ("other", RecVAERecommender(4, hidden_dim=8, max_iter=1, random_state=1)),
            ("ease", EASERecommender(regularization)),
        ],
        weights="auto",
        n_jobs=n_jobs,
        random_state=0,
    )


@pytest.fixture(scope="module")
def expected():
    return blend().fit(X)


@pytest.mark.parametrize(("backend", "n_jobs"), [(None, 2), (None, -1), ("loky", 2)])
def test_any_number_at_a_time_gives_the_same(expected, backend, n_jobs):
    model = blend(n_jobs)
    if backend is None:
        model.fit(X)
    else:
        with parallel_config(backend):
            model.fit(X)
    np.testing.assert_array_equal(model.predict(X), expected.predict(X))
    np.testing.assert_array_equal(model.weights_, expected.weights_)
    assert model.best_score_ == expected.best_score_
    assert list(model.named_estimators_) == list(expected.named_estimators_)
    assert model.named_estimators_.frozen is FROZEN


def watch_fits(monkeypatch, watch):
    """Call `watch` in each fit of EASE."""
    fit = EASERecommender.fit

    def watched(model, X, y=None):
        watch()
        return fit(model, X)

    monkeypatch.setattr(EASERecommender, "fit", watched)


def two_of_ease(n_jobs):
    parts = [("a", EASERecommender(20)), ("b", EASERecommender(50))]
    return BlendedRecommender(parts, n_jobs=n_jobs)


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_parts_share_the_threads(n_jobs, monkeypatch):
    n_threads, found = torch.get_num_threads(), []
    both = threading.Barrier(1 if n_jobs is None else 2, timeout=60)

    def watch():
        both.wait()
        found.append(torch.get_num_threads())
        both.wait()

    watch_fits(monkeypatch, watch)
    torch.set_num_threads(4)
    try:
        two_of_ease(n_jobs).fit(X)
        assert torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(n_threads)
    assert found == ([4, 4] if n_jobs is None else [2, 2])


def test_none_takes_the_number_of_the_context(monkeypatch):
    both = threading.Barrier(2, timeout=60)
    watch_fits(monkeypatch, both.wait)  # would wait in vain for another
    with parallel_config(n_jobs=2):
        two_of_ease(None).fit(X)


@pytest.mark.parametrize("backend", ["threading", "loky"])
def test_error_of_a_part(backend):
    model = blend(n_jobs=2, regularization=1e-300)
    with (
        parallel_config(backend),
        pytest.raises(ValueError, match="With regularization=1e-300 the matrix"),
    ):
        model.fit(np.ones((6, 30)))
    assert not hasattr(model, "estimators_")


@pytest.mark.parametrize("interrupted", ["thread of a part", "main thread"])
def test_interrupted_fit_leaves_the_blend_as_it_was(interrupted, monkeypatch):
    model = two_of_ease(2).fit(X)
    before, released = model.__dict__.copy(), threading.Event()
    fits = itertools.count()

    def interrupt():
        if interrupted == "main thread":
            if next(fits) == 0:  # a second one could come after the test
                _thread.interrupt_main()
            released.wait(60)
        else:
            raise KeyboardInterrupt

    watch_fits(monkeypatch, interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            model.fit(X[:, :20])
    finally:
        released.set()
    assert model.__dict__ == before


def test_n_jobs_that_is_none():
    with pytest.raises(ValueError, match="n_jobs == 0"):
        blend(n_jobs=0).fit(X)
    with pytest.raises(ValueError, match="'n_jobs' parameter of BlendedRecommender"):
        blend(n_jobs="all").fit(X)
