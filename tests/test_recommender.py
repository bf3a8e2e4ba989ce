import copy
import hashlib
import io
import pickle
import subprocess
import sys
import textwrap
import warnings

import joblib
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from sklearn_recvae import RecVAERecommender
from sklearn_recvae import _ranking as ranking
from sklearn_recvae.datasets import make_interactions
from sklearn_recvae.model_selection import holdout_interactions

N_USERS, N_ITEMS = 120, 40


def recommender(**params):
    return RecVAERecommender(
        **{
            "latent_dim": 8,
            "hidden_dim": 16,
            "max_iter": 3,
            "learning_rate": 5e-3,
            "random_state": 0,
            **params,
        }
    )


@pytest.fixture(scope="module")
def X():
    return make_interactions(
        N_USERS, N_ITEMS, n_groups=4, mean_interactions=8, random_state=0
    )[0]


@pytest.fixture(scope="module")
def X_val():
    return make_interactions(30, N_ITEMS, mean_interactions=8, random_state=1)[0]


@pytest.fixture(scope="module")
def model(X):
    return recommender().fit(X)


def plain_ndcg(ranked, held_out, k=100):
    """NDCG@k of each user with held-out items, in plain Python."""
    values = []
    for items, row in zip(ranked, held_out.toarray(), strict=True):
        relevant = set(np.flatnonzero(row))
        if not relevant:
            continue
        gain = sum(
            1 / np.log2(place + 2)
            for place, item in enumerate(items[:k])
            if item in relevant
        )
        ideal = sum(1 / np.log2(place + 2) for place in range(min(k, len(relevant))))
        values.append(gain / ideal)
    return np.array(values)


def plain_logits(model, X):
    """Logits of the posterior mean, the linear decoder written out in float64."""
    weights = {
        name: weight.double().numpy()
        for name, weight in model.module_.state_dict().items()
    }
    Z = model.transform(X).astype(np.float64)
    return Z @ weights["decoder.weight"].T + weights["decoder.bias"]


def plain_recommend(scores, seen, k, candidates):
    lists = []
    for user in range(len(scores)):
        left = [item for item in candidates if not seen[user, item]]
        best = sorted(left, key=lambda item: (-scores[user, item], item))[:k]
        lists.append(best + [-1] * (k - len(best)))
    return np.array(lists, dtype=np.int64).reshape(len(scores), k)


def assert_same_fit(first, second, X):
    assert_array_equal(first.predict(X), second.predict(X))
    for key in ("likelihood", "kl", "validation_score"):
        assert_array_equal(first.history_[key], second.history_[key])
    assert first.n_iter_ == second.n_iter_
    assert first.best_iteration_ == second.best_iteration_
    assert first.best_score_ == second.best_score_


# fit, its attributes and its randomness


def test_fit_returns_self_and_sets_the_attributes(X):
    estimator = recommender(max_iter=4)
    assert estimator.fit(X) is estimator
    assert estimator.n_features_in_ == N_ITEMS
    assert estimator.n_iter_ == 4
    assert estimator.best_iteration_ is None
    assert estimator.best_score_ is None
    assert isinstance(estimator.module_, torch.nn.Module)
    assert set(estimator.history_) == {
        "likelihood",
        "kl",
        "validation_score",
        "seconds",
    }
    for column in estimator.history_.values():
        assert column.shape == (4,)
    assert np.isfinite(estimator.history_["likelihood"]).all()
    assert np.isfinite(estimator.history_["kl"]).all()
    assert np.isnan(estimator.history_["validation_score"]).all()
    assert (estimator.history_["seconds"] >= 0).all()
    assert not hasattr(estimator, "feature_names_in_")


def test_training_improves_the_likelihood(X):
    likelihood = recommender(max_iter=8).fit(X).history_["likelihood"]
    assert likelihood[-1] > likelihood[0]


def test_y_is_ignored_by_fit(X, model):
    assert_same_fit(recommender().fit(X, np.arange(N_USERS)), model, X)
    assert_same_fit(recommender().fit(X, y=X), model, X)


def test_equal_seeds_equal_results(X, model):
    assert_same_fit(recommender().fit(X), model, X)
    from_instance = recommender(random_state=np.random.RandomState(0)).fit(X)
    assert_same_fit(from_instance, model, X)


def test_different_seeds_differ(X, model):
    assert (recommender(random_state=1).fit(X).predict(X) != model.predict(X)).any()
    first, second = (recommender(random_state=None).fit(X) for _ in range(2))
    assert (first.predict(X) != second.predict(X)).any()
    instance = np.random.RandomState(0)
    first, second = (recommender(random_state=instance).fit(X) for _ in range(2))
    assert (first.predict(X) != second.predict(X)).any()


def fingerprints():
    X = make_interactions(N_USERS, N_ITEMS, mean_interactions=8, random_state=0)[0]
    model = recommender(early_stopping=True, random_state=7).fit(X)
    recommended, scores = model.recommend(X, 5, return_scores=True)
    arrays = model.predict(X), model.transform(X), recommended, scores
    return [hashlib.sha256(array.tobytes()).hexdigest() for array in arrays]


def test_two_processes_give_bit_identical_predictions():
    script = f"""
        import runpy

        print(*runpy.run_path({__file__!r})["fingerprints"]())
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    # Both with torch's own number of threads, which this process may not have.
    output, again = (
        subprocess.run(command, capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    )
    assert output == again
    assert len(set(output.split())) == 4


def test_second_fit_forgets_the_first(X, model):
    estimator = recommender().fit(X[:50, :20])
    assert estimator.predict(X[:3, :20]).shape == (3, 20)
    assert_same_fit(estimator.fit(X), model, X)
    assert estimator.n_features_in_ == N_ITEMS


def test_second_fit_forgets_the_first_validation(X, X_val, model):
    estimator = recommender().fit(X, X_val=X_val)
    assert estimator.best_iteration_ is not None
    assert_same_fit(estimator.fit(X), model, X)


def test_column_names(X):
    names = [f"item {i}" for i in range(N_ITEMS)]
    frame = pd.DataFrame(X.toarray(), columns=names)
    estimator = recommender(max_iter=1).fit(frame)
    assert_array_equal(estimator.feature_names_in_, names)
    assert_array_equal(
        estimator.recommend(frame), recommender(max_iter=1).fit(X).recommend(X)
    )
    for call in (estimator.predict, estimator.recommend, estimator.transform):
        with pytest.raises(ValueError, match="same order"):
            call(frame[names[::-1]])
    with pytest.raises(ValueError, match="same order"):
        estimator.score(frame[names[::-1]])
    estimator.fit(X)
    assert not hasattr(estimator, "feature_names_in_")


def test_verbose_prints_a_line_an_iteration(X, X_val, capsys):
    recommender(verbose=1, max_iter=12).fit(X, X_val=X_val)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 12
    for number, line in enumerate(lines, start=1):
        assert f"iteration {number:>2}/12" in line
        assert "NDCG@100 0." in line
    estimator = recommender(verbose=1).fit(X)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert "NDCG" not in lines[0]
    assert f"{estimator.history_['likelihood'][0]:.4f}" in lines[0]
    estimator.partial_fit(X)
    assert len(capsys.readouterr().out.splitlines()) == 1
    recommender().fit(X)
    assert capsys.readouterr() == ("", "")


def test_unfitted(X):
    estimator = recommender()
    calls = {
        "predict": (X,),
        "recommend": (X,),
        "score": (X,),
        "transform": (X,),
        "inverse_transform": (np.zeros((1, 8)),),
        "similar_items": ([0],),
        "get_feature_names_out": (),
    }
    for name, arguments in calls.items():
        with pytest.raises(NotFittedError, match="RecVAERecommender"):
            getattr(estimator, name)(*arguments)


# validation data and early stopping


def test_x_val_with_y_val_keeps_the_best_iteration(X, X_val):
    fold_in, held_out = holdout_interactions(X_val, 0.5)
    # A step size at which the score goes up and down.
    params = {"learning_rate": 0.1, "random_state": 1}
    estimator = recommender(max_iter=12, **params)
    estimator.fit(X, X_val=fold_in, y_val=held_out)
    scores = estimator.history_["validation_score"]

    assert estimator.n_iter_ == 12
    assert estimator.best_iteration_ == scores.argmax() + 1 < 12
    assert estimator.best_score_ == scores.max()
    assert type(estimator.best_score_) is float
    assert estimator.score(fold_in, held_out) == estimator.best_score_
    assert scores[-1] != estimator.best_score_
    # The weights of that iteration: those of a fit that ends there.
    shorter = recommender(max_iter=estimator.best_iteration_, **params).fit(X)
    assert_array_equal(shorter.predict(X), estimator.predict(X))


def test_first_of_equally_good_iterations_is_kept(X, X_val):
    # Steps too small to change a float32.
    estimator = recommender(max_iter=3, learning_rate=1e-30).fit(X, X_val=X_val)
    assert np.ptp(estimator.history_["validation_score"]) == 0
    assert estimator.best_iteration_ == 1


def test_x_val_alone_is_split_as_in_score(X, X_val):
    estimator = recommender(max_iter=5).fit(X, X_val=X_val)
    assert estimator.score(X_val) == estimator.best_score_
    fold_in, held_out = holdout_interactions(X_val)
    explicit = recommender(max_iter=5).fit(X, X_val=fold_in, y_val=held_out)
    assert_same_fit(estimator, explicit, X)


def test_validation_does_not_change_what_is_learned(X, X_val, model):
    estimator = recommender(learning_rate=5e-3).fit(X, X_val=X_val)
    for key in ("likelihood", "kl"):
        assert_array_equal(estimator.history_[key], model.history_[key])


def test_early_stopping_with_x_val(X, X_val):
    estimator = recommender(
        max_iter=50, learning_rate=1e-30, early_stopping=True, n_iter_no_change=4
    ).fit(X, X_val=X_val)
    # The first iteration is the best, then come four that are no better.
    assert estimator.best_iteration_ == 1
    assert estimator.n_iter_ == 5
    assert len(estimator.history_["kl"]) == 5

    estimator = recommender(
        max_iter=60, learning_rate=0.05, early_stopping=True, n_iter_no_change=3
    ).fit(X, X_val=X_val)
    assert estimator.n_iter_ == estimator.best_iteration_ + 3 < 60
    assert estimator.score(X_val) == estimator.best_score_
    scores = estimator.history_["validation_score"]
    best_so_far = np.maximum.accumulate(scores)
    # No earlier run of three without a better score.
    for end in range(3, estimator.n_iter_ - 1):
        assert best_so_far[end] > best_so_far[end - 3]


def test_early_stopping_holds_out_users_of_its_own(X):
    estimator = recommender(
        max_iter=6, early_stopping=True, validation_fraction=0.2
    ).fit(X)
    rng = np.random.RandomState(0)
    order = rng.permutation(N_USERS)
    val_users, train_users = np.sort(order[:24]), np.sort(order[24:])
    assert estimator.score(X[val_users]) == estimator.best_score_
    # The same fit with the split made by hand; the stream of random numbers goes on.
    by_hand = recommender(max_iter=6, early_stopping=True, random_state=rng)
    by_hand.fit(X[train_users], X_val=X[val_users])
    assert_same_fit(estimator, by_hand, X)


def test_without_early_stopping_nobody_is_held_out(X, model):
    other = recommender(validation_fraction=0.5, n_iter_no_change=1).fit(X)
    assert_same_fit(other, model, X)


@pytest.mark.parametrize("early_stopping", [False, True])
def test_y_val_alone_is_refused(X, X_val, early_stopping):
    with pytest.raises(ValueError, match="y_val without X_val"):
        recommender(early_stopping=early_stopping).fit(X, y_val=X_val)


def test_validation_data_that_do_not_fit(X, X_val):
    estimator = recommender(max_iter=1)
    with pytest.raises(ValueError, match=rf"{X_val.nnz} of the {X_val.nnz} held-out"):
        estimator.fit(X, X_val=X_val, y_val=X_val)
    with pytest.raises(ValueError, match=r"X has 7 features.* expecting 40 features"):
        estimator.fit(X, X_val=X_val[:, :7])
    with pytest.raises(ValueError, match=r"shape \(10, 40\), expected \(30, 40\)"):
        estimator.fit(X, X_val=X_val, y_val=X_val[:10])
    with pytest.raises(ValueError, match="None of the 40 validation users"):
        estimator.fit(X, X_val=sp.eye_array(N_ITEMS))
    with pytest.raises(ValueError, match="None of the 30 validation users"):
        estimator.fit(X, X_val=X_val, y_val=sp.csr_array(X_val.shape))
    with pytest.raises(ValueError, match=r"holds out 1 of 1 users.*none to train on"):
        recommender(early_stopping=True).fit(X[:1])


def test_fit_transform_passes_validation_data_on(X, X_val):
    estimator = recommender()
    Z = estimator.fit_transform(X, X_val=X_val)
    assert estimator.best_score_ is not None
    assert_array_equal(Z, estimator.transform(X))


# partial_fit and warm_start


def test_fit_is_so_many_partial_fits(X, model):
    estimator = recommender()
    for n_iter in (1, 2, 3):
        assert estimator.partial_fit(X) is estimator
        assert estimator.n_iter_ == n_iter
    assert_same_fit(estimator, model, X)


def test_fit_and_partial_fit_is_one_more_iteration(X):
    estimator = recommender(max_iter=2).fit(X).partial_fit(X, np.arange(N_USERS))
    assert_same_fit(estimator, recommender(max_iter=3).fit(X), X)
    joint = {"alternating": False}
    estimator = recommender(max_iter=2, **joint).fit(X).partial_fit(X)
    assert_same_fit(estimator, recommender(max_iter=3, **joint).fit(X), X)


def test_partial_fit_on_new_users(X, model):
    estimator = recommender().fit(X[:80])
    before = estimator.predict(X)
    estimator.partial_fit(X[80:])
    assert estimator.n_iter_ == 4
    assert len(estimator.history_["kl"]) == 4
    assert (estimator.predict(X) != before).any()
    with pytest.raises(ValueError, match="X has 3 features, but RecVAERecommender"):
        estimator.partial_fit(X[:, :3])


def test_partial_fit_has_no_validation(X, X_val):
    estimator = recommender().fit(X, X_val=X_val).partial_fit(X)
    assert estimator.best_score_ is None
    assert estimator.best_iteration_ is None
    scores = estimator.history_["validation_score"]
    assert_array_equal(np.isnan(scores), [False, False, False, True])


def test_partial_fit_follows_a_changed_learning_rate(X, model):
    estimator = recommender().fit(X)
    estimator.set_params(learning_rate=1e-30).partial_fit(X)
    assert_array_equal(estimator.predict(X), model.predict(X))


def test_warm_start_begins_with_the_weights_of_the_last_fit(X, model):
    estimator = recommender(warm_start=True).fit(X)
    assert_same_fit(estimator, model, X)
    estimator.set_params(learning_rate=1e-30, max_iter=2).fit(X)
    assert_array_equal(estimator.predict(X), model.predict(X))
    assert estimator.n_iter_ == 2
    assert len(estimator.history_["kl"]) == 2
    estimator.set_params(warm_start=False).fit(X)
    assert (estimator.predict(X) != model.predict(X)).any()


def test_warm_start_learns_on(X):
    estimator = recommender(warm_start=True).fit(X)
    first = estimator.history_["likelihood"]
    second = estimator.fit(X).history_["likelihood"]
    assert second[0] > first[0]
    assert second[-1] > first[-1]


def test_warm_start_keeps_the_number_of_columns(X):
    estimator = recommender(warm_start=True).fit(X)
    with pytest.raises(
        ValueError,
        match="X has 20 features, but RecVAERecommender is expecting 40 features",
    ):
        estimator.fit(X[:, :20])
    # A first fit takes what comes.
    assert recommender(warm_start=True).fit(X[:, :20]).n_features_in_ == 20


# predict, transform, inverse_transform


def test_predict_gives_probabilities(X, model):
    probabilities = model.predict(X)
    assert probabilities.dtype == np.float32
    assert probabilities.shape == X.shape
    assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)
    logits = plain_logits(model, X)
    expected = np.exp(logits - logits.max(axis=1, keepdims=True))
    expected /= expected.sum(axis=1, keepdims=True)
    # Seen items have their probability as all others do: nothing is masked.
    assert_allclose(probabilities, expected, rtol=1e-5)


def test_a_user_has_the_same_result_in_any_company(X, model):
    together = model.predict(X)
    lists = model.recommend(X, 10)
    order = np.random.default_rng(0).permutation(N_USERS)
    assert_array_equal(model.transform(X[order]), model.transform(X)[order])
    assert_allclose(model.predict(X[order]), together[order], rtol=1e-6)
    assert_array_equal(model.recommend(X[order], 10), lists[order])
    for user in range(10):
        alone = X[[user]]
        assert_array_equal(model.transform(alone)[0], model.transform(X)[user])
        assert_allclose(model.predict(alone)[0], together[user], rtol=1e-6)
        assert_array_equal(model.recommend(alone, 10)[0], lists[user])


def test_inference_is_neither_noised_nor_sampled(X, model):
    assert_array_equal(model.predict(X), model.predict(X))
    assert_array_equal(model.transform(X), model.transform(X))


def test_input_is_normalised(X, model):
    assert_allclose(model.transform(X * 7), model.transform(X), rtol=1e-4, atol=1e-6)


def test_transform_and_back(X, model):
    Z = model.transform(X)
    assert Z.dtype == np.float32
    assert Z.shape == (N_USERS, 8)
    assert_array_equal(model.inverse_transform(Z), model.predict(X))
    assert_array_equal(model.inverse_transform(Z.tolist()), model.predict(X))
    assert model.inverse_transform(Z.astype(np.float64)).dtype == np.float32


def test_inverse_transform_of_any_memory_layout(X, model):
    Z = model.transform(X)
    expected = model.predict(X)
    assert_array_equal(model.inverse_transform(np.asfortranarray(Z)), expected)
    assert_allclose(model.inverse_transform(Z[::2]), expected[::2], rtol=1e-6)
    assert_allclose(model.inverse_transform(Z[::-1]), expected[::-1], rtol=1e-6)


def test_inverse_transform_refuses_what_is_no_latent_vector(model):
    with pytest.raises(ValueError, match="Z has 3 columns, but the latent space has 8"):
        model.inverse_transform(np.zeros((2, 3)))
    with pytest.raises(ValueError, match="Z contains NaN"):
        model.inverse_transform(np.full((1, 8), np.nan))
    with pytest.raises(ValueError, match="Expected 2D array, got 1D"):
        model.inverse_transform(np.zeros(8))


def test_output_names_and_data_frames(X):
    estimator = recommender(max_iter=1).fit(X)
    names = [f"recvaerecommender{i}" for i in range(8)]
    assert_array_equal(estimator.get_feature_names_out(), names)
    frame = estimator.set_output(transform="pandas").transform(X)
    assert_array_equal(frame.columns, names)
    assert (frame.dtypes == np.float32).all()
    assert_array_equal(estimator.inverse_transform(frame), estimator.predict(X))


# recommend


@pytest.mark.parametrize("k", [1, 10, 39, 40, 41, 100])
@pytest.mark.parametrize("exclude_seen", [True, False])
@pytest.mark.parametrize(
    ("items", "exclude_items"),
    [
        (None, None),
        ([7, 3, 11, 3, 39, 0, 20, 21, 22], None),
        (None, [0, 5, 6, 39, 5]),
        (np.arange(30), [2, 29, 35]),
    ],
)
def test_recommend_is_a_full_ranking_cut_off(
    X, model, k, exclude_seen, items, exclude_items
):
    recommended, scores = model.recommend(
        X,
        k,
        exclude_seen=exclude_seen,
        items=items,
        exclude_items=exclude_items,
        return_scores=True,
    )
    candidates = set(range(N_ITEMS) if items is None else items)
    candidates -= set() if exclude_items is None else set(exclude_items)
    logits = plain_logits(model, X)
    seen = X.toarray() > 0 if exclude_seen else np.zeros(X.shape, dtype=bool)
    expected = plain_recommend(logits, seen, k, candidates)

    assert_array_equal(recommended, expected)
    assert recommended.dtype == np.int64
    assert scores.dtype == np.float32
    assert scores.shape == recommended.shape == (N_USERS, k)
    assert_array_equal(scores == -np.inf, recommended == -1)
    # Log-probabilities up to a constant of the user.
    log_pi = np.log(np.take_along_axis(model.predict(X), expected.clip(0), axis=1))
    listed = expected >= 0
    constant = np.where(listed, scores - log_pi, np.nan)
    constant = constant[listed.any(axis=1)]
    assert_allclose(np.nanmax(constant, axis=1), np.nanmin(constant, axis=1), atol=2e-6)
    # Without the scores the same lists.
    assert_array_equal(
        model.recommend(
            X, k, exclude_seen=exclude_seen, items=items, exclude_items=exclude_items
        ),
        recommended,
    )


def test_recommend_gives_ten_by_default_and_nothing_seen(X, model):
    recommended = model.recommend(X)
    assert recommended.shape == (N_USERS, 10)
    for items, row in zip(recommended, X.toarray(), strict=True):
        assert not row[items].any()
        assert len(set(items)) == 10


def test_recommend_fills_up_where_candidates_run_out(model):
    X = np.ones((3, N_ITEMS))
    X[1, 4] = 0
    X[2, [9, 4]] = 0
    recommended, scores = model.recommend(X, 4, return_scores=True)
    assert_array_equal(recommended[0], [-1] * 4)
    assert_array_equal(scores[0], [-np.inf] * 4)
    assert_array_equal(recommended[1], [4, -1, -1, -1])
    assert set(recommended[2, :2]) == {4, 9}
    assert_array_equal(recommended[2, 2:], [-1, -1])
    assert np.isfinite(scores[2, :2]).all()


@pytest.mark.parametrize(
    "selection",
    [
        {"items": []},
        {"items": np.array([], dtype=np.int64)},
        {"exclude_items": range(N_ITEMS)},
        {"items": [1, 2], "exclude_items": [2, 1]},
    ],
)
def test_recommend_with_no_candidates_at_all(X, model, selection):
    recommended, scores = model.recommend(X, 3, return_scores=True, **selection)
    assert_array_equal(recommended, np.full((N_USERS, 3), -1))
    assert_array_equal(scores, np.full((N_USERS, 3), -np.inf))
    assert recommended.dtype == np.int64
    assert scores.dtype == np.float32


def test_excluding_nothing_is_no_exclusion(X, model):
    assert_array_equal(model.recommend(X, exclude_items=[]), model.recommend(X))


def test_ties_take_the_lower_index_first(X, model):
    flat = copy.deepcopy(model)
    with torch.no_grad():
        flat.module_.decoder.weight.zero_()
        flat.module_.decoder.bias.zero_()
        flat.module_.decoder.bias[30:] = 1
    seen = X.toarray() > 0
    order = [*range(30, N_ITEMS), *range(30)]
    for user, items in enumerate(flat.recommend(X, 20)):
        assert_array_equal(items, [i for i in order if not seen[user, i]][:20])
    items = flat.recommend(X[:1], 3, items=[5, 2, 33, 9], exclude_seen=False)
    assert_array_equal(items, [[33, 2, 5]])


def test_blocks_do_not_show_in_the_result(X, model, monkeypatch):
    whole = model.recommend(X, 7), model.predict(X), model.score(X)
    sizes = []

    def recording_top_k(scores, k):
        sizes.append(scores.shape)
        return original(scores, k)

    original = ranking.top_k
    monkeypatch.setattr(ranking, "SCORES_BYTES", 4 * N_ITEMS * 11)
    monkeypatch.setattr(ranking, "top_k", recording_top_k)
    assert_array_equal(model.recommend(X, 7), whole[0])
    assert sizes == [(11, N_ITEMS)] * 10 + [(10, N_ITEMS)]
    assert_allclose(model.predict(X), whole[1], rtol=1e-6)
    assert model.score(X) == whole[2]
    # A row that is larger than the memory of a block is still a block.
    monkeypatch.setattr(ranking, "SCORES_BYTES", 1)
    assert_array_equal(model.recommend(X, 7), whole[0])


@pytest.mark.parametrize("k", [0, -1, 2.5, "ten", None])
def test_k_that_is_no_positive_integer(X, model, k):
    with pytest.raises(ValueError, match=r"'k' parameter of .*recommend must be an"):
        model.recommend(X, k)
    with pytest.raises(ValueError, match=r"'k' parameter of .*similar_items must be"):
        model.similar_items([0], k)


@pytest.mark.parametrize("name", ["items", "exclude_items"])
def test_item_indices_that_are_none(X, model, name):
    with pytest.raises(ValueError, match=f"{name} contains 40.* from 0 to 39"):
        model.recommend(X, **{name: [3, 40]})
    with pytest.raises(ValueError, match=f"{name} contains -1.* from 0 to 39"):
        model.recommend(X, **{name: [-1]})
    with pytest.raises(ValueError, match=f"{name} is an array of float64"):
        model.recommend(X, **{name: [0.5]})
    with pytest.raises(ValueError, match=f"{name} is an array of bool"):
        model.recommend(X, **{name: np.ones(N_ITEMS, dtype=bool)})
    with pytest.raises(ValueError, match=rf"{name} is a matrix of shape \(1, 2\)"):
        model.recommend(X, **{name: [[0, 1]]})
    with pytest.raises(ValueError, match=f"{name}' parameter of .*recommend"):
        model.recommend(X, **{name: 3})


# score


def test_score_is_the_mean_ndcg_of_recommendations(X, X_val, model):
    score = model.score(X_val)
    assert type(score) is float
    fold_in, held_out = holdout_interactions(X_val, 0.2, random_state=0)
    values = plain_ndcg(model.recommend(fold_in, 100), held_out)
    assert_allclose(score, values.mean(), rtol=1e-12)
    assert type(model.score(fold_in, held_out)) is float
    assert model.score(fold_in, held_out) == score


def test_score_does_not_depend_on_the_order_of_users(X_val, model):
    order = np.random.default_rng(0).permutation(X_val.shape[0])
    assert_allclose(model.score(X_val[order]), model.score(X_val), rtol=1e-12)


def test_score_of_a_part_is_the_same_split(X_val, model):
    n = X_val.shape[0]
    first, second = X_val[: n // 2], X_val[n // 2 :]
    parts = [model.score(first), model.score(second)]
    assert_allclose(model.score(X_val), np.mean(parts), rtol=1e-12)


def test_users_that_cannot_be_split_do_not_count(X_val, model):
    padded = sp.vstack([sp.csr_array((5, N_ITEMS)), X_val, sp.eye_array(4, N_ITEMS)])
    assert_allclose(model.score(padded), model.score(X_val), rtol=1e-12)
    with pytest.raises(ValueError, match="None of the 4 users can be evaluated"):
        model.score(sp.eye_array(4, N_ITEMS))


def test_score_with_weights(X_val, model):
    weight = np.random.default_rng(0).integers(0, 4, X_val.shape[0])
    repeated = X_val[np.repeat(np.arange(X_val.shape[0]), weight)]
    assert_allclose(
        model.score(X_val, sample_weight=weight), model.score(repeated), rtol=1e-12
    )
    ones = np.ones(X_val.shape[0])
    assert_allclose(model.score(X_val, sample_weight=ones), model.score(X_val))
    with pytest.raises(ValueError, match=r"sample_weight\.shape"):
        model.score(X_val, sample_weight=[1, 2])
    with pytest.raises(ValueError, match="Negative values"):
        model.score(X_val, sample_weight=-ones)


def test_overlapping_y_is_refused_with_the_count(X_val, model):
    fold_in, held_out = holdout_interactions(X_val)
    with pytest.raises(ValueError, match=f"{X_val.nnz} of the {X_val.nnz} held-out"):
        model.score(X_val, X_val)
    overlapping = held_out.copy().tolil()
    overlapping[0, fold_in[[0]].indices[0]] = 1
    with pytest.raises(ValueError, match=f"^1 of the {held_out.nnz + 1} held-out"):
        model.score(fold_in, overlapping)


def test_one_dimensional_y_is_ignored_with_a_warning(X_val, model):
    y = np.zeros(X_val.shape[0])
    with pytest.warns(UserWarning, match="1-D y is ignored") as record:
        assert model.score(X_val, y) == model.score(X_val)
    # The warning points at the line of the caller.
    assert record[0].filename == __file__


def test_y_of_another_shape(X_val, model):
    with pytest.raises(ValueError, match=r"y has shape \(3, 40\), expected \(30, 40\)"):
        model.score(X_val, X_val[:3])
    # X is looked at before y.
    with pytest.raises(ValueError, match="X has 5 features"):
        model.score(X_val[:, :5], X_val)


# similar_items


@pytest.mark.parametrize("k", [1, 5, 39, 40, 60])
def test_similar_items_by_cosine(model, k):
    W = model.module_.decoder.weight.detach().double().numpy()
    directions = W / np.linalg.norm(W, axis=1, keepdims=True)
    queries = [3, 0, 39, 3]
    cosines = directions[queries] @ directions.T
    itself = np.zeros(cosines.shape, dtype=bool)
    itself[range(4), queries] = True
    expected = plain_recommend(cosines, itself, k, range(N_ITEMS))

    neighbors, scores = model.similar_items(queries, k, return_scores=True)
    assert_array_equal(neighbors, expected)
    assert neighbors.dtype == np.int64
    assert scores.dtype == np.float32
    found = np.take_along_axis(cosines, expected.clip(0), axis=1)
    assert_allclose(scores, np.where(expected >= 0, found, -np.inf), rtol=1e-4)
    assert_array_equal(model.similar_items(queries, k), neighbors)


def test_similar_items_to_none_or_to_wrong_ones(model):
    assert model.similar_items([], 3).shape == (0, 3)
    assert model.similar_items(np.array([2], dtype=np.uint8)).shape == (1, 10)
    with pytest.raises(ValueError, match="items contains 40"):
        model.similar_items([40])
    with pytest.raises(ValueError, match="0 dimensions"):
        model.similar_items(3)


# copies of an estimator


def test_clone_has_parameters_and_nothing_else(X):
    estimator = recommender(prior_weights=(1, 0, 0), gamma=0.1).fit(X)
    copied = clone(estimator)
    assert copied.get_params() == estimator.get_params()
    with pytest.raises(NotFittedError):
        check_is_fitted(copied)
    assert_same_fit(copied.fit(X), estimator, X)


@pytest.mark.parametrize("how", ["pickle", "joblib", "memory-mapped", "deepcopy"])
def test_stored_model_is_the_same_model(X, X_val, how, tmp_path):
    estimator = recommender(early_stopping=True).fit(X)
    if how == "pickle":
        loaded = pickle.loads(pickle.dumps(estimator))
    elif how == "deepcopy":
        loaded = copy.deepcopy(estimator)
    else:
        joblib.dump(estimator, tmp_path / "model.joblib")
        mmap_mode = "r" if how == "memory-mapped" else None
        loaded = joblib.load(tmp_path / "model.joblib", mmap_mode=mmap_mode)
    assert_same_fit(loaded, estimator, X)
    assert_array_equal(loaded.recommend(X), estimator.recommend(X))
    assert loaded.score(X_val) == estimator.score(X_val)
    before = estimator.predict(X)
    loaded.partial_fit(X)
    assert loaded.n_iter_ == estimator.n_iter_ + 1
    assert (loaded.predict(X) != before).any()
    assert_array_equal(estimator.predict(X), before)
    assert_same_fit(
        loaded.set_params(early_stopping=False).fit(X), recommender().fit(X), X
    )


def test_pickle_holds_the_weights_once():
    X, _, _ = make_interactions(30, 3000, random_state=0)
    estimator = recommender(max_iter=1).fit(X)
    n_bytes = sum(4 * weight.numel() for weight in estimator.module_.parameters())
    stream = io.BytesIO()
    pickle.dump(estimator, stream)
    # Adam's moments would make it three times that.
    assert n_bytes <= stream.tell() < 1.1 * n_bytes


# what a fit that fails leaves behind

DIVERGING = {"learning_rate": 1e6}
FAILURES = {
    "diverges": (DIVERGING, {}, "Training diverged.*learning_rate.*too large"),
    "gamma and beta": ({"beta": 1.0}, {}, "beta=1.0 together with gamma=0.005"),
    "no weight": ({"gamma": None}, {}, "gamma and beta are both None"),
    "prior": ({"prior_weights": (1, 1, 1)}, {}, "prior_weights=.*sum 1"),
    "parameter": ({"noise_rate": 1.0}, {}, "'noise_rate' parameter"),
    "device": ({"device": "nowhere"}, {}, "device='nowhere'.*this machine has: cpu"),
    "NaN": ({}, {"X": np.full((3, 7), np.nan)}, "contains NaN"),
    "no interactions": ({}, {"X": np.zeros((3, 7))}, r"\(3, 7\) has no interactions"),
    "y_val": ({}, {"y_val": np.ones((3, N_ITEMS))}, "y_val without X_val"),
}


@pytest.mark.parametrize("name", FAILURES)
@pytest.mark.parametrize("warm_start", [False, True])
def test_failed_fit_leaves_the_fitted_estimator_as_it_was(X, name, warm_start):
    params, data, message = FAILURES[name]
    estimator = recommender(warm_start=warm_start).fit(X)
    predictions = estimator.predict(X)
    estimator.set_params(**params)
    before = estimator.__dict__.copy()
    if not (warm_start and name in ("NaN", "no interactions")):
        with pytest.raises(ValueError, match=message):
            estimator.fit(**{"X": X, **data})
    else:  # the number of columns is looked at, too
        with pytest.raises(ValueError, match=f"{message}|X has 7 features"):
            estimator.fit(**{"X": X, **data})
    assert estimator.__dict__.keys() == before.keys()
    for key, value in before.items():
        assert estimator.__dict__[key] is value, key
    assert_array_equal(estimator.predict(X), predictions)


def test_failed_partial_fit_leaves_the_estimator_as_it_was(X):
    estimator = recommender().fit(X).set_params(**DIVERGING)
    predictions = estimator.predict(X)
    before = estimator.__dict__.copy()
    with pytest.raises(ValueError, match="Training diverged"):
        estimator.partial_fit(X)
    assert all(estimator.__dict__[key] is value for key, value in before.items())
    assert estimator.__dict__.keys() == before.keys()
    assert_array_equal(estimator.predict(X), predictions)
    # And training goes on as if nothing had happened.
    estimator.set_params(learning_rate=5e-3).partial_fit(X)
    assert_same_fit(estimator, recommender(max_iter=4).fit(X), X)


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_failed_first_fit_leaves_nothing(X, method):
    estimator = recommender(**DIVERGING)
    before = estimator.__dict__.copy()
    with pytest.raises(ValueError, match="Training diverged in iteration 1"):
        getattr(estimator, method)(X)
    assert estimator.__dict__ == before
    with pytest.raises(NotFittedError):
        estimator.predict(X)


def test_values_that_overflow_are_an_error_that_says_so(X):
    with (
        np.errstate(over="ignore"),
        pytest.raises(ValueError, match="very large values in X"),
    ):
        recommender().fit(X * np.float32(3e38))


def test_interrupted_fit_leaves_the_estimator_as_it_was(X, monkeypatch):
    estimator = recommender().fit(X)
    before = estimator.__dict__.copy()

    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(
        "sklearn_recvae._training.trainer.Trainer.run_iteration", interrupt
    )
    with pytest.raises(KeyboardInterrupt):
        estimator.fit(X[:, :5])
    assert estimator.__dict__ == before


# the process is left as it was found


def failing_fit(X):
    with pytest.raises(ValueError, match="diverged"):
        recommender(**DIVERGING).fit(X)


CALLS = {
    "fit": lambda model, X: recommender(max_iter=1).fit(X),
    "fit with early stopping": lambda model, X: recommender(
        early_stopping=True, max_iter=1
    ).fit(X),
    "partial_fit": lambda model, X: copy.deepcopy(model).partial_fit(X),
    "fit that fails": lambda model, X: failing_fit(X),
    "predict": lambda model, X: model.predict(X),
    "recommend": lambda model, X: model.recommend(X),
    "score": lambda model, X: model.score(X),
    "transform": lambda model, X: model.transform(X),
    "inverse_transform": lambda model, X: model.inverse_transform(np.ones((2, 8))),
    "similar_items": lambda model, X: model.similar_items([0]),
    "pickle": lambda model, X: pickle.loads(pickle.dumps(model)),
}


def global_state():
    return {
        "numpy": pickle.dumps(np.random.get_state()),  # noqa: NPY002
        "torch": torch.random.get_rng_state().numpy().tobytes(),
        "threads": torch.get_num_threads(),
        "dtype": torch.get_default_dtype(),
        "device": torch.get_default_device(),
        "gradients": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "errors": np.geterr(),
        "filters": list(warnings.filters),
    }


@pytest.mark.parametrize("name", CALLS)
def test_global_state_is_left_alone(X, model, name):
    before = global_state()
    CALLS[name](model, X)
    assert global_state() == before


@pytest.mark.parametrize("name", ["predict", "recommend", "score", "transform"])
def test_inference_writes_nothing_to_the_estimator(X, model, name):
    before = model.__dict__.copy()
    weights = [weight.clone() for weight in model.module_.parameters()]
    getattr(model, name)(X)
    assert model.__dict__ == before
    for weight, kept in zip(model.module_.parameters(), weights, strict=True):
        assert torch.equal(weight, kept)
        assert weight.grad is None


def test_default_dtype_of_torch_does_not_matter(X, model):
    assert torch.get_default_dtype() == torch.float32
    torch.set_default_dtype(torch.float64)
    try:
        estimator = recommender().fit(X)
        predictions = model.predict(X)
        recommended = model.recommend(X)
    finally:
        torch.set_default_dtype(torch.float32)
    assert_array_equal(predictions, model.predict(X))
    assert_array_equal(recommended, model.recommend(X))
    assert {weight.dtype for weight in estimator.module_.parameters()} == {
        torch.float32
    }
    assert_same_fit(estimator, model, X)


def test_inference_mode_of_torch_does_not_matter(X):
    def train():
        estimator = recommender().fit(X).partial_fit(X)
        return estimator.add_items(3).partial_fit(
            sp.hstack([X, sp.csr_array(X[:, :3])])
        )

    with torch.inference_mode():
        estimator = train()
        copied = pickle.loads(pickle.dumps(estimator))
    wide = sp.hstack([X, sp.csr_array((X.shape[0], 3))])
    expected = train()
    assert_array_equal(estimator.predict(wide), expected.predict(wide))
    copied.partial_fit(wide)  # also where the weights were made in that mode


# what is learned


def test_checkerboard():
    n = 24
    board = (np.add.outer(np.arange(n), np.arange(n)) % 2 == 0).astype(float)
    X = board - np.eye(n)
    estimator = recommender(max_iter=40, learning_rate=1e-2, noise_rate=0.3).fit(X)
    # Of the items of a user's colour only the one on the diagonal is left.
    assert_array_equal(estimator.recommend(X, 1)[:, 0], np.arange(n))
    same_colour = np.add.outer(np.arange(n), np.arange(n)) % 2 == 0
    assert (
        estimator.predict(X)[same_colour].min()
        > estimator.predict(X)[~same_colour].max()
    )


def test_better_than_popularity_for_users_never_seen():
    X, _, _ = make_interactions(
        400, 60, n_groups=4, mean_interactions=8, noise=0.05, random_state=0
    )
    train, test = X[:300], X[300:]
    fold_in, held_out = holdout_interactions(test, 0.3)
    estimator = recommender(max_iter=30).fit(train)
    popularity = np.tile(train.sum(axis=0), (100, 1))
    by_popularity = plain_recommend(popularity, fold_in.toarray() > 0, 60, range(60))
    difference = plain_ndcg(estimator.recommend(fold_in, 100), held_out) - plain_ndcg(
        by_popularity, held_out
    )
    # Paired by user, and more than a few standard errors.
    standard_error = difference.std() / np.sqrt(len(difference))
    assert difference.mean() > 5 * standard_error
    assert difference.mean() > 0.05


# switches

SWITCHES = {
    "shallow": {"n_hidden_layers": 1},
    "no dense connections": {"dense_connections": False},
    "plain prior": {"prior_weights": (1, 0, 0)},
    "old posterior alone": {"prior_weights": (0, 1, 0)},
    "wide prior": {"prior_weights": [0.0, 0.0, 1.0]},
    "no wide prior": {"prior_weights": np.array([0.25, 0.75, 0])},
    "other gamma": {"gamma": 0.5},
    "no KL": {"gamma": 0},
    "beta": {"gamma": None, "beta": 0.2},
    "no noise": {"noise_rate": 0},
    "noise in the decoder": {"decoder_noise": True},
    "joint": {"alternating": False},
    "one encoder pass": {"n_encoder_epochs": 1},
    "two decoder passes": {"n_decoder_epochs": 2},
    "batch size": {"batch_size": 17},
    "one user a batch": {"batch_size": 1, "max_iter": 1},
    "mixed or float32": {"precision": "mixed"},
    "width": {"hidden_dim": 17},
    "latent width": {"latent_dim": 1},
    "all off": {
        "n_hidden_layers": 1,
        "dense_connections": False,
        "prior_weights": (1, 0, 0),
        "gamma": None,
        "beta": 0.2,
        "alternating": False,
    },
}


@pytest.fixture(scope="module")
def float32_predictions(X):
    return recommender(precision="float32").fit(X).predict(X)


@pytest.mark.parametrize("name", SWITCHES)
def test_switch_changes_the_result(X, float32_predictions, name):
    estimator = recommender(**{"precision": "float32", **SWITCHES[name]}).fit(X)
    predictions = estimator.predict(X)
    assert np.isfinite(predictions).all()
    assert_allclose(predictions.sum(axis=1), 1, rtol=1e-6)
    assert (predictions != float32_predictions).any()
    assert_same_fit(clone(estimator).fit(X), estimator, X)


@pytest.mark.parametrize(
    ("params", "without_effect"),
    [
        ({"alternating": False}, {"decoder_noise": True}),
        ({"alternating": False}, {"n_encoder_epochs": 1}),
        ({"alternating": False}, {"n_decoder_epochs": 5}),
        ({"gamma": 0}, {"gamma": None, "beta": 0}),
        ({"n_hidden_layers": 1}, {"dense_connections": False}),
        ({"noise_rate": 0}, {"decoder_noise": True}),
        ({"device": "auto"}, {"device": "cpu"}),
        ({"batch_size": "auto"}, {"batch_size": 50}),
        ({"batch_size": 120}, {"batch_size": 10**6}),
        ({}, {"verbose": 0}),
        ({}, {"n_iter_no_change": 1}),
    ],
)
def test_parameter_without_effect(X, params, without_effect):
    if params.get("device") == "auto" and torch.cuda.is_available():
        pytest.skip("auto is not the CPU here")
    first = recommender(**params).fit(X)
    second = recommender(**{**params, **without_effect}).fit(X)
    assert_same_fit(first, second, X)


def test_without_a_kl_term_the_prior_is_not_learned_from(X):
    first = recommender(gamma=0).fit(X)
    second = recommender(gamma=0, prior_weights=(1, 0, 0)).fit(X)
    assert_array_equal(first.predict(X), second.predict(X))
    assert (first.history_["kl"] != second.history_["kl"]).all()


def test_kl_is_weighted_by_the_feedback_of_the_user(X):
    # All rows of the same length n: gamma n is the same as beta.
    equal = make_equal_rows(X, 6)
    by_gamma = recommender(gamma=0.03).fit(equal)
    by_beta = recommender(gamma=None, beta=0.03 * 6).fit(equal)
    assert_allclose(by_gamma.predict(X), by_beta.predict(X), rtol=1e-3)
    assert_allclose(by_gamma.history_["kl"], by_beta.history_["kl"], rtol=1e-3)


def make_equal_rows(X, n):
    rng = np.random.default_rng(0)
    dense = np.zeros(X.shape)
    for row in dense:
        row[rng.choice(X.shape[1], n, replace=False)] = 1
    return sp.csr_array(dense)


@pytest.mark.parametrize("again", ["partial_fit", "fit"])
def test_weights_of_another_size_cannot_be_trained_on(again):
    X, _, _ = make_interactions(30, 20, random_state=0)
    model = RecVAERecommender(4, hidden_dim=8, max_iter=1, random_state=0).fit(X)
    model.set_params(latent_dim=5, warm_start=True)
    with pytest.raises(ValueError, match=r"\(4, 8, 5, True\).*\(5, 8, 5, True\)"):
        getattr(model, again)(X)
    assert model.transform(X).shape == (30, 4)


def test_fit_where_gradients_are_switched_off():
    X, _, _ = make_interactions(30, 20, random_state=0)
    model = RecVAERecommender(4, hidden_dim=8, max_iter=1, random_state=0)
    expected = model.fit(X).predict(X)
    with torch.no_grad():
        assert np.array_equal(model.fit(X).predict(X), expected)
