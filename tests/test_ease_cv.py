"""Parameters of EASE chosen by validation, beside a loop over single models."""

import itertools

import numpy as np
import pytest

from sklearn_recvae import BlendedRecommender, EASERecommender, EASERecommenderCV, load
from sklearn_recvae import _gram as gram
from sklearn_recvae.datasets import make_interactions
from sklearn_recvae.model_selection import holdout_interactions

X, _, _ = make_interactions(160, 30, n_groups=3, mean_interactions=8, random_state=0)
X_train, X_val = X[:120], X[120:]
FOLD_IN, HELD_OUT = holdout_interactions(X_val)
GRID = {"regularizations": [300, 2, 20], "noise_rates": [0.0, 0.7]}


def test_it_is_the_best_of_all_pairs():
    model = EASERecommenderCV(**GRID).fit(X_train, X_val=FOLD_IN, y_val=HELD_OUT)
    scores = {}
    for pair in itertools.product(*GRID.values()):
        single = EASERecommender(pair[0], noise_rate=pair[1]).fit(X_train)
        scores[pair] = single.score(FOLD_IN, HELD_OUT)
    np.testing.assert_array_equal(model.scores_.ravel(), list(scores.values()))
    best = max(scores, key=scores.get)
    assert (model.regularization_, model.noise_rate_) == best
    assert model.best_score_ == scores[best] > min(scores.values())
    single = EASERecommender(best[0], noise_rate=best[1]).fit(X_train)
    np.testing.assert_array_equal(model.coef_, single.coef_)


def test_the_first_of_equal_pairs_is_kept():
    # What one item says of the other is the same ranking with any parameters.
    X = np.array([[1, 1, 0], [1, 1, 0], [0, 1, 1]])
    model = EASERecommenderCV([3, 1], noise_rates=[0.5, 0]).fit(X, X_val=X)
    assert len(set(model.scores_.ravel())) == 1
    assert (model.regularization_, model.noise_rate_) == (3, 0.5)


def test_without_validation_users_it_holds_some_out_and_then_fits_all():
    model = EASERecommenderCV(**GRID, validation_fraction=0.25, random_state=0).fit(X)
    order = np.random.RandomState(0).permutation(160)
    expected = EASERecommenderCV(**GRID).fit(
        X[np.sort(order[40:])], X_val=X[np.sort(order[:40])]
    )
    np.testing.assert_array_equal(model.scores_, expected.scores_)
    single = EASERecommender(model.regularization_, noise_rate=model.noise_rate_)
    np.testing.assert_array_equal(model.coef_, single.fit(X).coef_)


def test_one_gram_matrix_for_all_pairs(monkeypatch):
    made = []
    init = gram.GramMatrix.__init__
    monkeypatch.setattr(
        gram.GramMatrix, "__init__", lambda self, X: made.append(1) or init(self, X)
    )
    EASERecommenderCV(**GRID).fit(X_train, X_val=X_val)
    assert len(made) == 1
    EASERecommenderCV(**GRID, random_state=0).fit(X)
    assert len(made) == 3  # of some users, and then of all


def test_a_blend_chooses_with_its_own_validation_users():
    blend = BlendedRecommender(
        [("chosen", EASERecommenderCV(**GRID)), ("ease", EASERecommender(20))],
        weights="auto",
    ).fit(X_train, X_val=FOLD_IN, y_val=HELD_OUT)
    alone = EASERecommenderCV(**GRID).fit(X_train, X_val=FOLD_IN, y_val=HELD_OUT)
    np.testing.assert_array_equal(blend.named_estimators_.chosen.scores_, alone.scores_)


def test_saved_and_loaded(tmp_path):
    model = EASERecommenderCV(**GRID).fit(X_train, X_val=X_val)
    model.save(tmp_path / "model.safetensors")
    loaded = load(tmp_path / "model.safetensors")
    for name in ("regularization_", "noise_rate_", "best_score_"):
        assert getattr(loaded, name) == getattr(model, name)
        assert type(getattr(loaded, name)) is float
    np.testing.assert_array_equal(loaded.scores_, model.scores_)
    model.regularizations = [1, 2]  # which were not tried
    with pytest.raises(
        ValueError, match=r"scores_ has shape \(3, 2\), expected \(2, 2"
    ):
        model.save(tmp_path / "other.safetensors")


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (
            {"regularizations": [5, 0]},
            "regularizations contains 0.0, expected numbers g",
        ),
        ({"regularizations": []}, "minimum of 1 is required"),
        ({"regularizations": [[5]]}, "regularizations has 2 dimensions, expected 1"),
        ({"regularizations": [np.inf]}, "regularizations contains inf"),
        (
            {"noise_rates": [0.5, 1]},
            "noise_rates contains 1.0, expected numbers from 0",
        ),
        ({"noise_rates": [-0.1]}, "noise_rates contains -0.1"),
        ({"validation_fraction": 1.0}, "'validation_fraction' parameter of EASER"),
        ({"validation_fraction": 0.999}, "which leaves none to train on"),
    ],
)
def test_bad_parameters(params, message):
    with pytest.raises(ValueError, match=message):
        EASERecommenderCV(**params).fit(X)


def test_y_val_needs_x_val():
    with pytest.raises(ValueError, match="Got y_val without X_val"):
        EASERecommenderCV().fit(X_train, y_val=HELD_OUT)


def test_memory_is_that_of_four_numbers_a_pair(monkeypatch):
    monkeypatch.setattr(gram, "available_memory", lambda: 16 * 30**2 + 2**28 - 1)
    with pytest.raises(MemoryError, match="for the pairs of 30 items"):
        EASERecommenderCV().fit(X)
