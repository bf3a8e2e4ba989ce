"""Blends of recommenders, by a plain computation on what the parts predict."""

from functools import partial
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array, load_npz
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.utils import estimator_html_repr

import sklearn_recvae
from common import recommender
from sklearn_recvae import (
    BlendedRecommender,
    EASERecommender,
    RecVAERecommender,
    _blending,
)
from sklearn_recvae.datasets import make_interactions
from sklearn_recvae.metrics import ndcg_at_k, rank_scores
from sklearn_recvae.model_selection import holdout_interactions

X, _, _ = make_interactions(160, 30, n_groups=3, mean_interactions=8, random_state=0)
X_train, X_val = X[:120], X[120:]


recvae = partial(recommender, latent_dim=6, hidden_dim=12, max_iter=2)


def parts():
    return [("recvae", recvae()), ("ease", EASERecommender(20))]


@pytest.fixture(scope="module")
def model():
    return BlendedRecommender(parts(), weights=[3, 1]).fit(X_train)


def plain_scores(part, X):
    """Give a part's scores of each user with mean 0 and variance 1 over the unseen."""
    scores = part.predict(X).astype(np.float64)
    if isinstance(part, RecVAERecommender):
        scores = np.log(scores)
    for row, seen in zip(scores, X.toarray() > 0, strict=True):
        unseen = row[~seen] if not seen.all() else row
        row -= unseen.mean()
        row /= unseen.std() or 1
    return scores


def plain_blend(model, X):
    of_parts = [plain_scores(part, X) for part in model.estimators_]
    return np.tensordot(model.weights_, of_parts, 1)


def test_scores_by_a_plain_computation(model):
    np.testing.assert_allclose(model.weights_, [0.75, 0.25])
    scores = model.predict(X_val)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, plain_blend(model, X_val), atol=1e-5)


def test_users_with_everything_or_nothing(model):
    for row in (np.ones((1, 30)), np.zeros((1, 30))):
        scores = model.predict(row)
        rows = type(X)(row.astype(np.float32))
        np.testing.assert_allclose(scores, plain_blend(model, rows), atol=1e-5)
    # EASE scores all items alike then, and leaves the ranking to RecVAE.
    alone = model.named_estimators_.recvae.recommend(np.zeros((1, 30)))
    np.testing.assert_array_equal(model.recommend(np.zeros((1, 30))), alone)


def test_parts_are_fitted_as_if_alone(model):
    for (name, part), fitted in zip(parts(), model.estimators_, strict=True):
        expected = part.fit(X_train).predict(X_val)
        np.testing.assert_array_equal(fitted.predict(X_val), expected)
        assert model.named_estimators_[name] is fitted
        assert not hasattr(model.named_estimators[name], "n_features_in_")


def frozen_parts(**params):
    ease = EASERecommender(20).fit(X_train)
    return [("recvae", recvae(**params)), ("ease", FrozenEstimator(ease))]


def test_frozen_parts_are_taken_as_they_are(model, tmp_path, monkeypatch):
    estimators = frozen_parts()
    frozen = estimators[1][1].estimator
    monkeypatch.setattr(EASERecommender, "fit", None)
    fitted = BlendedRecommender(estimators, weights=[3, 1]).fit(X_train)
    assert fitted.named_estimators_.ease is frozen
    np.testing.assert_array_equal(fitted.predict(X_val), model.predict(X_val))
    fitted.save(tmp_path / "blend.safetensors")
    loaded = sklearn_recvae.load(tmp_path / "blend.safetensors")
    np.testing.assert_array_equal(loaded.predict(X_val), model.predict(X_val))
    # Still frozen, with what it has learned.
    again = clone(loaded).fit(X_train)
    np.testing.assert_array_equal(again.predict(X_val), model.predict(X_val))
    search = GridSearchCV(fitted, {"weights": [[1, 0], [0, 1]]}, error_score="raise")
    assert search.fit(X).best_estimator_.named_estimators_.ease is frozen


def test_frozen_parts_of_something_else():
    pd = pytest.importorskip("pandas")
    model = BlendedRecommender([("ease", FrozenEstimator(EASERecommender()))])
    with pytest.raises(NotFittedError):
        model.fit(X_train)
    model = BlendedRecommender(frozen_parts())
    with pytest.raises(ValueError, match="'ease' is fitted already, with 30 items"):
        model.fit(X_train[:, :20])
    frame = pd.DataFrame(X_train.toarray()).add_prefix("item")
    model.fit(frame)  # no names were known when EASE was fitted
    ease = EASERecommender().fit(frame[frame.columns[::-1]])
    model.set_params(ease=FrozenEstimator(ease))
    with pytest.raises(ValueError, match="'ease' is fitted already, with other feat"):
        model.fit(frame)


@pytest.mark.parametrize("method", ["recommend", "predict", "score"])
def test_frozen_part_is_changed_by_its_owner(method):
    part = recvae().fit(X_train)
    model = BlendedRecommender([("a", FrozenEstimator(part))]).fit(X_train)
    part.add_items(2)
    with pytest.raises(ValueError, match="'a' is fitted already, with 32 items"):
        getattr(model, method)(X_val)


def test_frozen_part_is_fitted_again_with_other_names():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(X_train.toarray()).add_prefix("item")
    part = EASERecommender().fit(frame)
    model = BlendedRecommender([("a", FrozenEstimator(part))]).fit(frame)
    part.fit(frame[frame.columns[::-1]])
    with pytest.raises(
        ValueError, match="'a' is fitted already, with other feature names"
    ):
        model.recommend(frame)


def test_weights_are_the_best_of_all_that_are_tried():
    fold_in, held_out = holdout_interactions(X_val, 0.2, random_state=0)
    model = BlendedRecommender(parts(), weights="auto")
    model.fit(X_train, X_val=fold_in, y_val=held_out)
    scores = {}
    for tenths in range(11):
        weights = (tenths / 10, 1 - tenths / 10)
        model.weights_, learned = np.array(weights), model.weights_
        ranked = model.recommend(fold_in, k=100)
        scores[weights] = ndcg_at_k(held_out, ranked, 100)
        model.weights_ = learned
    assert model.best_score_ == pytest.approx(max(scores.values()))
    assert scores[tuple(np.round(learned, 1))] == pytest.approx(model.best_score_)
    assert model.score(fold_in, held_out) == pytest.approx(model.best_score_)
    # RecVAE had the validation users too, and kept its best iteration by them.
    expected = recvae().fit(X_train, X_val=fold_in, y_val=held_out)
    assert model.named_estimators_.recvae.best_score_ == expected.best_score_


def test_parts_do_not_see_the_users_held_out():
    model = BlendedRecommender(
        parts(), weights="auto", validation_fraction=0.25, random_state=0
    ).fit(X)
    assert model.weights_.sum() == pytest.approx(1)
    order = np.random.RandomState(0).permutation(160)
    ease = EASERecommender(20).fit(X[np.sort(order[40:])])
    np.testing.assert_array_equal(model.named_estimators_.ease.coef_, ease.coef_)


@pytest.mark.parametrize("fitted", [False, True])
def test_interrupted_fit_leaves_the_blend_as_it_was(fitted, monkeypatch):
    from sklearn_recvae._training.trainer import Trainer

    model = BlendedRecommender(parts())
    if fitted:
        model.fit(X_train)
    before, run_iteration, calls = model.__dict__.copy(), Trainer.run_iteration, []

    def interrupt(trainer, number):
        calls.append(1)
        if len(calls) == 2:  # the part has an iteration, and could be used
            raise KeyboardInterrupt
        return run_iteration(trainer, number)

    monkeypatch.setattr(Trainer, "run_iteration", interrupt)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X_train[:, :20])
    assert model.__dict__ == before


def search(n_parts, score):
    asked = []

    def evaluate(rows):
        np.testing.assert_allclose(rows.sum(axis=1), 1, atol=1e-5)
        assert (rows >= 0).all()
        asked.extend(map(tuple, rows.round(6).tolist()))
        return np.array([score(row) for row in rows])

    weights, best = _blending.search_weights(n_parts, evaluate)
    assert weights.sum() == pytest.approx(1)
    assert len(set(asked)) == len(asked)  # none twice
    return weights, best, len(asked)


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=11, max_size=11))
def test_weights_of_two_parts_are_the_best_of_all_tenths(scores):
    weights, best, n_asked = search(2, lambda row: scores[round(10 * row[0])])
    assert n_asked == 11
    assert best == max(scores) == scores[round(10 * weights[0])]


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 10), st.integers(0, 1000))
def test_weights_of_ten_parts_are_near_the_best(n_parts, seed):
    best = np.random.default_rng(seed).dirichlet(np.full(n_parts, 0.5))
    weights, score, n_asked = search(n_parts, lambda row: -((row - best) ** 2).sum())
    assert score == pytest.approx(-((weights - best) ** 2).sum(), abs=1e-5)
    assert np.abs(weights - best).max() <= 0.1
    assert n_asked < 5000


def test_one_part_has_all_the_weight():
    weights, best, n_asked = search(1, lambda row: 0.25)
    assert (weights.tolist(), best, n_asked) == ([1], 0.25, 1)


def standardize_slowly(scores, entries):
    """Mean 0 and variance 1 over what is no entry, in exact arithmetic or nearly so."""
    expected = np.array(scores, dtype=np.longdouble)
    for row, seen in zip(expected, entries, strict=True):
        others = row[~seen] if not seen.all() else row.copy()
        row -= others.mean()
        row /= np.sqrt(np.square(others - others.mean()).mean()) or 1
    return expected


@settings(deadline=None)
@given(
    seed=st.integers(0, 999),
    n_items=st.integers(1, 40),
    n_left=st.integers(0, 6),
    exponent=st.integers(-30, 30),
    spread=st.sampled_from([0, 1e-6, 1e-3, 1]),
    chunk=st.sampled_from([1, 100, 1 << 16]),
)
def test_standardized_scores_of_any_number_of_items_left(
    seed, n_items, n_left, exponent, spread, chunk
):
    rng = np.random.default_rng(seed)
    scores = 10.0**exponent * (spread * rng.normal(size=(5, n_items)) + rng.normal())
    scores = scores.astype(np.float32)
    # So many items are left in one row, all in the next, and any number in others.
    n_others = np.array([n_left, n_items, *rng.integers(0, n_items + 1, 3)])
    entries = rng.random(scores.shape).argsort(axis=1) >= n_others[:, None]
    got = torch.from_numpy(scores.copy())
    rows, items = torch.from_numpy(entries).nonzero().T
    with mock.patch.object(_blending, "CHUNK_SCORES", chunk):
        _blending.standardize(got, rows, items)
    expected = standardize_slowly(scores, entries)
    # Where nothing but one item is left, the others may be far from it.
    np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-6)


def test_user_with_one_item_left():
    row = np.ones((1, 30))
    for left in ([3], [3, 7]):
        row[0, left] = 0
        model = BlendedRecommender(parts()).fit(X_train)
        scores = model.predict(row)
        rows = type(X)(row.astype(np.float32))
        np.testing.assert_allclose(scores, plain_blend(model, rows), atol=1e-5)


@pytest.mark.parametrize("scale", [1e20, 1e-25])
def test_scores_of_any_scale_are_comparable(scale):
    """EASE gives scores as large as the interactions, which cancels out."""
    model = BlendedRecommender(parts(), weights=[1, 2]).fit(X_train)
    expected = model.predict(X_val)
    scaled = (X_val.toarray() * scale).astype(np.float32)
    np.testing.assert_allclose(model.predict(scaled), expected, atol=1e-4)


@pytest.mark.parametrize("scale", [1e308, 1e-300, 5e-324])
def test_weights_of_any_scale_have_sum_1(scale):
    model = BlendedRecommender(parts(), weights=[scale, scale]).fit(X_train)
    np.testing.assert_array_equal(model.weights_, [0.5, 0.5])


def test_search_over_weights_and_a_parameter_of_a_part():
    grid = {"weights": [[1, 0], [0.5, 0.5], [0, 1]], "ease__regularization": [5, 50]}
    model = BlendedRecommender(parts())
    search = GridSearchCV(model, grid, cv=2, error_score="raise").fit(X)
    results = {
        (tuple(params["weights"]), params["ease__regularization"]): score
        for params, score in zip(
            search.cv_results_["params"],
            search.cv_results_["mean_test_score"],
            strict=True,
        )
    }
    assert results[(1, 0), 5] == results[(1, 0), 50]
    assert results[(0, 1), 5] != results[(0, 1), 50]
    assert model.estimators[1][1].regularization == 20


def test_search_on_real_data(data_dir):
    X = csr_array(load_npz(data_dir / "ml-latest-small" / "interactions.npz"))
    X = X[:, X.sum(axis=0) >= 20]
    grid = {"weights": [[1, 0], [0.3, 0.7]], "ease__regularization": [30, 300]}
    cv = KFold(3, shuffle=True, random_state=0)
    model = BlendedRecommender(parts())
    search = GridSearchCV(model, grid, cv=cv, error_score="raise").fit(X)
    results = search.cv_results_
    # One of them again, from the scores of parts that are fitted alone.
    place = results["params"].index(
        {"ease__regularization": 300, "weights": [0.3, 0.7]}
    )
    for fold, (train, test) in enumerate(cv.split(X)):
        of_parts = [recvae().fit(X[train]), EASERecommender(300).fit(X[train])]
        fold_in, held_out = holdout_interactions(X[test])
        scores = np.tensordot(
            [0.3, 0.7], [plain_scores(part, fold_in) for part in of_parts], 1
        )
        expected = ndcg_at_k(held_out, rank_scores(scores, fold_in, 100), 100)
        score = results[f"split{fold}_test_score"][place]
        assert score == pytest.approx(expected, abs=1e-4)


def test_parameters_of_parts():
    model = BlendedRecommender(parts())
    model.set_params(ease__regularization=7, recvae=recvae(max_iter=1))
    assert model.get_params()["ease"].regularization == 7
    assert model.get_params()["recvae__max_iter"] == 1
    assert clone(model).get_params()["ease__regularization"] == 7


def test_blend_of_blends(tmp_path):
    inner = BlendedRecommender(parts())
    model = BlendedRecommender([("blend", inner), ("ease", EASERecommender())])
    model.fit(X_train).save(tmp_path / "blend.safetensors")
    loaded = sklearn_recvae.load(tmp_path / "blend.safetensors")
    np.testing.assert_array_equal(loaded.predict(X_val), model.predict(X_val))


@pytest.mark.parametrize(
    ("part", "error", "message"),
    [
        (recvae(gamma=-1), ValueError, "'gamma' parameter of RecVAERecommender"),
        (recvae(beta=1), ValueError, "Got beta=1 together with gamma='auto'"),
        (recvae(device="tpu"), ValueError, "device='tpu' was asked for"),
        (recvae(slim_interval=1, slim_min_count=999), ValueError, "No item of X has"),
        (EASERecommender(-1), ValueError, "'regularization' parameter of EASE"),
        (EASERecommender(), MemoryError, r"EASE needs 0\.3 GB for the pairs of 30"),
        (FrozenEstimator(EASERecommender()), NotFittedError, "not fitted yet"),
        (BlendedRecommender([("part", Ridge())]), ValueError, "is of type Ridge"),
        (BlendedRecommender(parts(), weights=[1]), ValueError, "expected 2 non-neg"),
        (
            BlendedRecommender([("part", EASERecommender(-1))]),
            ValueError,
            "'regularization' parameter of EASE",
        ),
    ],
)
def test_all_parts_are_checked_before_the_first_is_fitted(
    part, error, message, monkeypatch
):
    monkeypatch.setattr("sklearn_recvae._gram.available_memory", lambda: 1e6)
    fits = []
    monkeypatch.setattr(RecVAERecommender, "fit", lambda *args, **kw: fits.append(args))
    model = BlendedRecommender([("recvae", recvae()), ("other", part)])
    with pytest.raises(error, match=message):
        model.fit(X_train)
    assert not fits
    assert not hasattr(model, "n_features_in_")


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"estimators": []}, "at least one"),
        ({"estimators": [EASERecommender()]}, "list of tuples"),
        ({"estimators": [("a", EASERecommender())] * 2}, "not unique"),
        ({"estimators": [("a__b", EASERecommender())]}, "must not contain __"),
        ({"estimators": [("a", Ridge())]}, "'a' is of type Ridge, expected a recomm"),
        ({"weights": [1]}, "expected 2 non-negative"),
        ({"weights": [1, -1]}, "expected 2 non-negative"),
        ({"weights": [0, 0]}, "not all 0"),
        ({"weights": [1, np.nan]}, "NaN"),
        ({"weights": "best"}, "weights"),
    ],
)
def test_bad_parameters(params, message):
    model = BlendedRecommender(**{"estimators": parts(), **params})
    with pytest.raises(ValueError, match=message):
        model.fit(X_train)
    assert not hasattr(model, "n_features_in_")


@pytest.mark.parametrize("fitted", [False, True])
def test_a_diagram_shows_the_parts(model, fitted):
    blend = model if fitted else BlendedRecommender(parts(), weights=[3, 1])
    html = estimator_html_repr(blend)
    for shown in ("recvae", "RecVAERecommender", "ease", "EASERecommender"):
        assert f">{shown}<" in html


def test_a_diagram_of_a_blend_without_parts_is_one_box():
    assert "BlendedRecommender" in estimator_html_repr(BlendedRecommender([]))
