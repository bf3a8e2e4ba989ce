"""A blend without arguments: its parts, its time, and what it says of them."""

import re

import numpy as np
import pytest
from sklearn.base import clone

from sklearn_recvae import (
    BlendedRecommender,
    EASERecommender,
    EASERecommenderCV,
    RecVAERecommender,
    SparseEASERecommender,
    load,
)
from sklearn_recvae import _recipe as recipe
from sklearn_recvae._training.trainer import Trainer
from sklearn_recvae.datasets import make_interactions
from sklearn_recvae.model_selection import holdout_interactions

X, _, _ = make_interactions(160, 30, n_groups=3, mean_interactions=8, random_state=0)
X_train, X_val = X[:120], X[120:]


@pytest.fixture
def small(monkeypatch):
    """Let the recipe's network be small."""
    make = recipe.RecVAERecommender
    monkeypatch.setattr(
        recipe,
        "RecVAERecommender",
        lambda **params: make(4, hidden_dim=8, slim_min_count=5, max_iter=3, **params),
    )


@pytest.mark.usefixtures("small")
def test_parts_are_chosen_and_their_parameters_learned():
    fold_in, held_out = holdout_interactions(X_val)
    model = BlendedRecommender(random_state=0).fit(
        X_train, X_val=fold_in, y_val=held_out
    )
    assert list(model.named_estimators_) == ["linear", "recvae"]
    linear, recvae = model.estimators_
    alone = EASERecommenderCV((50, 200, 800), noise_rates=(0.0, 0.5))
    alone.fit(X_train, X_val=fold_in, y_val=held_out)
    np.testing.assert_array_equal(linear.coef_, alone.coef_)
    assert linear.best_score_ == alone.best_score_
    assert type(recvae) is RecVAERecommender
    assert (recvae.ema_decay, recvae.slim_interval) == (0.8, 10)
    # The weights are at least as good as one part alone.
    assert model.best_score_ >= max(linear.best_score_, recvae.best_score_) - 1e-12
    assert model.score(fold_in, held_out) == pytest.approx(model.best_score_)


@pytest.mark.usefixtures("small")
def test_equal_seeds_give_equal_blends_and_others_do_not():
    first, again, other = (
        BlendedRecommender(random_state=seed).fit(X).predict(X) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.usefixtures("small")
def test_without_memory_for_pairs_the_linear_part_is_sparse(monkeypatch, capsys):
    monkeypatch.setattr(recipe, "available_memory", lambda: 1e8)
    model = BlendedRecommender(verbose=1, random_state=0).fit(X)
    assert type(model.named_estimators_.linear) is SparseEASERecommender
    assert model.score(X) > 0
    printed = capsys.readouterr().out
    assert (
        "[Blend] linear part: EASE of few weights for each item, all pairs of 30 items "
        "take 0.3 GB, 0.1 GB are free" in printed
    )


@pytest.mark.usefixtures("small")
def test_what_is_printed(capsys):
    BlendedRecommender(random_state=0).fit(X)
    assert not capsys.readouterr().out
    model = BlendedRecommender(verbose=1, random_state=0).fit(X)
    first, *times, last = capsys.readouterr().out.splitlines()
    assert re.fullmatch(
        r"\[Blend\] linear part: EASE, all pairs of 30 items take 0\.3 GB, "
        r"[\d.]+ GB are free",
        first,
    )
    pattern = r"\[Blend\] (linear|recvae): [\d.]+ s"
    assert [re.fullmatch(pattern, line)[1] for line in times] == ["linear", "recvae"]
    weights = "linear {:.2f}, recvae {:.2f}".format(*model.weights_)
    assert last == f"[Blend] weights: {weights}  NDCG@100 {model.best_score_:.4f}"


@pytest.mark.usefixtures("small")
def test_saved_and_loaded(tmp_path):
    model = BlendedRecommender(random_state=0).fit(X)
    model.save(tmp_path / "model.safetensors")
    loaded = load(tmp_path / "model.safetensors")
    assert loaded.estimators is None
    assert list(loaded.named_estimators_) == ["linear", "recvae"]
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))
    assert clone(loaded).estimators is None
    assert not clone(loaded).named_estimators


def parts(**params):
    recvae = RecVAERecommender(4, hidden_dim=8, max_iter=5, random_state=0, **params)
    return [("recvae", recvae), ("ease", EASERecommender(20))]


@pytest.mark.parametrize(
    ("of_blend", "of_part", "n_iter"),
    [(None, None, 5), (0, None, 1), (0, 1e6, 1), (1e6, 0, 1), (1e6, None, 5)],
)
def test_parts_keep_to_the_time_that_is_left(of_blend, of_part, n_iter):
    model = BlendedRecommender(
        parts(max_seconds=of_part), weights=None, max_seconds=of_blend
    ).fit(X)
    assert model.named_estimators_.recvae.n_iter_ == n_iter
    # Its own limit is what it was.
    assert model.named_estimators_.recvae.max_seconds == of_part


def test_iterations_begin_until_time_is_up(monkeypatch):
    clock, run = [0.0], Trainer.run_iteration
    monkeypatch.setattr("sklearn_recvae._training.fit.perf_counter", lambda: clock[0])

    def run_ten_seconds(trainer, number):
        clock[0] += 10
        return run(trainer, number)

    monkeypatch.setattr(Trainer, "run_iteration", run_ten_seconds)
    for seconds, n_iter in [(0, 1), (10, 1), (10.5, 2), (35, 4), (1000, 5), (None, 5)]:
        model = RecVAERecommender(4, hidden_dim=8, max_iter=5, max_seconds=seconds)
        assert model.fit(X).n_iter_ == n_iter
    assert model.set_params(max_seconds=0).partial_fit(X).n_iter_ == 6


@pytest.mark.parametrize("seconds", [-1, np.nan, "long"])
@pytest.mark.parametrize("cls", [BlendedRecommender, RecVAERecommender])
def test_bad_seconds(cls, seconds):
    with pytest.raises(ValueError, match=f"'max_seconds' parameter of {cls.__name__}"):
        cls(max_seconds=seconds).fit(X)
