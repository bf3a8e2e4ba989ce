"""Cross-validation, searches and pipelines of scikit-learn."""

import warnings
from functools import partial

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse import csr_matrix, load_npz
from sklearn import config_context
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    KFold,
    RandomizedSearchCV,
    cross_val_score,
    cross_validate,
)
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import Binarizer, Normalizer

from common import recommender as small_recommender
from sklearn_recvae.datasets import make_interactions
from sklearn_recvae.metrics import ndcg_at_k, ranking_scorer, recall_at_k
from sklearn_recvae.model_selection import holdout_interactions

CV = KFold(2, shuffle=True, random_state=0)


recommender = partial(small_recommender, max_iter=2)


def binarizing_pipeline(**params):
    return Pipeline(
        [("binarize", Binarizer(threshold=3.5)), ("recvae", recommender(**params))]
    )


@pytest.fixture(scope="module")
def X(data_dir):
    """The ratings behind the interactions: ones are fours, with some twos between."""
    X = load_npz(data_dir / "ml-latest-small" / "interactions.npz").tocsr()
    assert X.shape == (603, 6298)
    assert X.nnz == 48_562
    ratings = X.astype(np.float32) * 4
    rng = np.random.default_rng(0)
    ratings.data[rng.random(ratings.nnz) < 0.2] = 2
    return ratings


@pytest.fixture(scope="module")
def small():
    return make_interactions(150, 40, mean_interactions=8, random_state=0)[0]


def search_twice(search, X):
    """Fit two equal searches; return the second, after a comparison with the first."""
    first, second = search().fit(X), search().fit(X)
    for key, values in first.cv_results_.items():
        if "time" not in key and not key.startswith("param"):
            assert_array_equal(values, second.cv_results_[key], err_msg=key)
    assert first.best_params_ == second.best_params_
    assert first.best_score_ == second.best_score_
    assert np.isfinite(second.cv_results_["mean_test_score"]).all()
    assert_array_equal(
        first.best_estimator_.predict(X[:20]), second.best_estimator_.predict(X[:20])
    )
    return second


def test_grid_search_in_a_pipeline_in_two_processes(X):
    grid = {
        "recvae__gamma": [0.0005, 0.05],
        "recvae__prior_weights": [(0.15, 0.75, 0.1), (1, 0, 0)],
        "recvae__noise_rate": [0.2, 0.5],
    }
    before = [X.data.copy(), X.indices.copy(), X.indptr.copy()]
    search = search_twice(
        lambda: GridSearchCV(
            binarizing_pipeline(), grid, cv=CV, n_jobs=2, error_score="raise"
        ),
        X,
    )
    assert len(search.cv_results_["params"]) == 8
    assert {str(p) for p in search.cv_results_["param_recvae__prior_weights"]} == {
        "(0.15, 0.75, 0.1)",
        "(1, 0, 0)",
    }
    # The candidates are not the same model under different names.
    assert len(set(search.cv_results_["mean_test_score"])) == 8
    for array, kept in zip((X.data, X.indices, X.indptr), before, strict=True):
        assert_array_equal(array, kept)

    # Recommending from the search, as in the documentation.
    best = search.best_estimator_
    recommended = best[-1].recommend(best[:-1].transform(X), 10)
    assert recommended.shape == (603, 10)
    liked = (X > 3.5).toarray()
    assert not np.take_along_axis(liked, recommended, axis=1).any()
    # What was rated low is no interaction, and may be recommended.
    alone = recommender(
        gamma=best[-1].gamma,
        prior_weights=best[-1].prior_weights,
        noise_rate=best[-1].noise_rate,
    ).fit((X > 3.5).astype(np.float32))
    assert_array_equal(recommended, alone.recommend(X > 3.5, 10))


def test_processes_and_the_sequence_agree(small):
    grid = {"gamma": [0.001, 0.1]}
    scores = [
        GridSearchCV(recommender(), grid, cv=CV, n_jobs=n_jobs, error_score="raise")
        .fit(small)
        .cv_results_["mean_test_score"]
        for n_jobs in (None, 2)
    ]
    # Equal to rounding: workers have fewer threads each.
    assert_allclose(scores[0], scores[1], rtol=1e-3)


def test_grid_search_scores_are_those_of_the_folds(small):
    search = GridSearchCV(
        recommender(), {"noise_rate": [0.5]}, cv=CV, error_score="raise"
    ).fit(small)
    for number, (train, test) in enumerate(CV.split(small)):
        expected = recommender(noise_rate=0.5).fit(small[train]).score(small[test])
        assert search.cv_results_[f"split{number}_test_score"][0] == expected


def test_halving_grid_search(X):
    search = search_twice(
        lambda: HalvingGridSearchCV(
            binarizing_pipeline(),
            {"recvae__gamma": [0.0005, 0.005, 0.05]},
            resource="recvae__max_iter",
            min_resources=1,
            max_resources=3,
            cv=CV,
            random_state=0,
            error_score="raise",
        ),
        X,
    )
    assert search.n_iterations_ == 2
    assert search.best_estimator_["recvae"].max_iter == 3


def test_halving_over_users(small):
    search = search_twice(
        lambda: HalvingGridSearchCV(
            recommender(),
            {"gamma": [0.001, 0.1]},
            min_resources=40,
            factor=2,
            cv=CV,
            random_state=0,
            error_score="raise",
        ),
        small,
    )
    assert search.n_resources_[0] == 40


def test_randomized_search(small):
    search_twice(
        lambda: RandomizedSearchCV(
            recommender(),
            {"gamma": np.logspace(-4, 0, 9), "noise_rate": [0.2, 0.5]},
            n_iter=3,
            cv=CV,
            random_state=0,
            error_score="raise",
        ),
        small,
    )


def test_cross_validate_with_several_ranking_scorers(X):
    scoring = {
        "ndcg": ranking_scorer("ndcg", 100),
        "recall": ranking_scorer("recall", 20),
    }
    results = [
        cross_validate(
            binarizing_pipeline(),
            X,
            cv=CV,
            scoring=scoring,
            return_estimator=True,
            error_score="raise",
        )
        for _ in range(2)
    ]
    for key in ("test_ndcg", "test_recall"):
        assert results[0][key].shape == (2,)
        assert_array_equal(results[0][key], results[1][key])
        assert ((results[0][key] > 0) & (results[0][key] < 1)).all()
    # By hand, from the lists of the estimator itself.
    for fold, (_, test) in enumerate(CV.split(X)):
        fold_in, held_out = holdout_interactions(X[test])
        pipeline = results[0]["estimator"][fold]
        # The scorer masks all that is in the raw row, also what was rated low.
        scores = pipeline.predict(fold_in).astype(np.float64)
        scores[fold_in.toarray() > 0] = -np.inf
        ranked = np.argsort(-scores, axis=1, kind="stable")[:, :100]
        assert_allclose(
            results[0]["test_ndcg"][fold], ndcg_at_k(held_out, ranked, 100), rtol=1e-12
        )
        assert_allclose(
            results[0]["test_recall"][fold],
            recall_at_k(held_out, ranked, 20),
            rtol=1e-12,
        )


def test_own_score_and_ranking_scorer_agree(small):
    own = cross_val_score(recommender(), small, cv=CV, error_score="raise")
    scorer = cross_val_score(
        recommender(), small, cv=CV, scoring=ranking_scorer(), error_score="raise"
    )
    # One ranks probabilities, the other their logarithms.
    assert_allclose(own, scorer, rtol=1e-6)


def test_refit_on_one_of_several_scorers(small):
    search = GridSearchCV(
        recommender(),
        {"gamma": [0.001, 0.1]},
        cv=CV,
        scoring={"ndcg": ranking_scorer(), "recall": ranking_scorer("recall", 5)},
        refit="recall",
        error_score="raise",
    ).fit(small)
    column = search.cv_results_["mean_test_recall"]
    assert search.best_score_ == column.max()
    assert 0 < search.score(small) <= 1


def test_early_stopping_inside_a_search(X):
    search = search_twice(
        lambda: GridSearchCV(
            binarizing_pipeline(
                early_stopping=True,
                n_iter_no_change=1,
                max_iter=5,
                validation_fraction=0.2,
            ),
            {"recvae__learning_rate": [1e-30, 5e-3]},
            cv=CV,
            error_score="raise",
        ),
        X,
    )
    best = search.best_estimator_["recvae"]
    assert best.best_score_ == best.history_["validation_score"].max()
    assert best.n_iter_ <= 5


def test_searching_with_y_is_the_published_protocol_or_an_error(small):
    fold_in, held_out = holdout_interactions(small)
    search = GridSearchCV(
        recommender(), {"gamma": [0.001, 0.1]}, cv=CV, error_score="raise"
    )
    search.fit(fold_in, held_out)
    train, test = next(CV.split(small))
    expected = recommender(gamma=0.001).fit(fold_in[train])
    assert search.cv_results_["split0_test_score"][0] == expected.score(
        fold_in[test], held_out[test]
    )
    with pytest.raises(ValueError, match=r"of the .* held-out entries of y are also"):
        search.fit(small, small)


def test_one_dimensional_y_warns_and_is_ignored(small):
    y = np.arange(small.shape[0])
    with pytest.warns(UserWarning, match="1-D y is ignored"):
        scores = cross_val_score(recommender(), small, y, cv=CV, error_score="raise")
    assert_array_equal(
        scores, cross_val_score(recommender(), small, cv=CV, error_score="raise")
    )


def test_pipeline_that_weights_the_items(small):
    pipeline = make_pipeline(TfidfTransformer(), recommender()).fit(small)
    scorer = ranking_scorer()
    assert 0 < pipeline.score(small) <= 1
    assert 0 < scorer(pipeline, small) <= 1
    union = FeatureUnion([("a", Normalizer()), ("b", Normalizer())])
    doubled = make_pipeline(union, recommender()).fit(small)
    with pytest.raises(ValueError, match="expected one score per user and item"):
        scorer(doubled, small)


def test_recommender_as_a_transformer_in_a_pipeline(small):
    pipeline = make_pipeline(recommender(), Normalizer())
    Z = pipeline.fit_transform(small)
    assert Z.shape == (150, 8)
    assert_allclose(np.linalg.norm(Z, axis=1), 1, rtol=1e-5)
    assert_array_equal(
        pipeline.get_feature_names_out(), [f"recvaerecommender{i}" for i in range(8)]
    )


def test_pipeline_forwards_predict_and_score_and_not_recommend(small):
    pipeline = make_pipeline(Binarizer(), recommender()).fit(small)
    assert_array_equal(pipeline.predict(small), pipeline[-1].predict(small))
    assert pipeline.score(small) == pipeline[-1].score(small)
    assert not hasattr(pipeline, "recommend")


def test_metadata_routing(small):
    weight = np.random.default_rng(0).integers(1, 4, small.shape[0]).astype(float)
    with config_context(enable_metadata_routing=True):
        pipeline = make_pipeline(
            Binarizer(), recommender().set_score_request(sample_weight=True)
        ).fit(small)
        plain = make_pipeline(Binarizer(), recommender()).fit(small)
        assert plain.score(small) == plain[-1].score(small)
        assert pipeline.score(small) == plain.score(small)
        weighted = pipeline.score(small, sample_weight=weight)
        assert weighted == plain[-1].score(small, sample_weight=weight)
        assert weighted != plain.score(small)

        scores = cross_validate(
            recommender().set_score_request(sample_weight=True),
            small,
            cv=CV,
            params={"sample_weight": weight},
            error_score="raise",
        )["test_score"]
        for fold, (train, test) in enumerate(CV.split(small)):
            expected = recommender().fit(small[train])
            assert scores[fold] == expected.score(
                small[test], sample_weight=weight[test]
            )


def test_validation_data_are_routed_to_fit(small):
    with config_context(enable_metadata_routing=True):
        estimator = recommender().set_fit_request(X_val=True, y_val=True)
        fold_in, held_out = holdout_interactions(small[100:])
        pipeline = make_pipeline(Binarizer(), estimator)
        pipeline.fit(small[:100], X_val=fold_in, y_val=held_out)
    assert pipeline[-1].best_score_ is not None
    assert pipeline[-1].best_score_ == pipeline[-1].score(fold_in, held_out)


def test_validation_data_reach_a_pipeline_by_name(small):
    pipeline = Pipeline([("binarize", Binarizer()), ("recvae", recommender())])
    pipeline.fit(small[:100], recvae__X_val=small[100:])
    assert pipeline["recvae"].best_score_ == pipeline["recvae"].score(small[100:])


@pytest.mark.parametrize("search", [False, True])
def test_validation_data_are_transformed_by_the_first_steps(search):
    rng = np.random.default_rng(0)
    ratings, _, _ = make_interactions(150, 40, random_state=0)
    ratings.data[:] = rng.integers(1, 6, ratings.nnz)
    X, X_val = ratings[:100], ratings[100:]
    with config_context(enable_metadata_routing=True):
        estimator = Pipeline(
            [
                ("binarize", Binarizer(threshold=3.5)),
                ("recvae", recommender().set_fit_request(X_val=True)),
            ],
            transform_input=["X_val"],
        )
        if search:
            grid = {"recvae__gamma": ["auto"]}
            estimator = GridSearchCV(estimator, grid, cv=CV, error_score="raise")
        estimator.fit(X, X_val=X_val)
    model = (estimator.best_estimator_ if search else estimator)[-1]
    expected = recommender().fit(
        Binarizer(threshold=3.5).transform(X),
        X_val=Binarizer(threshold=3.5).transform(X_val),
    )
    assert_array_equal(
        model.history_["validation_score"], expected.history_["validation_score"]
    )
    assert_array_equal(model.predict(X), expected.predict(X))


def test_a_candidate_that_cannot_be_fitted_is_not_chosen(small):
    search = GridSearchCV(recommender(), {"learning_rate": [1e6, 5e-3]}, cv=CV)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        search.fit(small)
    assert np.isnan(search.cv_results_["mean_test_score"][0])
    assert search.best_params_ == {"learning_rate": 5e-3}


def test_sparse_matrix_and_array_are_searched_alike(small):
    scores = [
        cross_val_score(recommender(), X, cv=CV, error_score="raise")
        for X in (small, csr_matrix(small), small.toarray(), small.tocsr().astype(bool))
    ]
    for other in scores[1:]:
        assert_array_equal(other, scores[0])
