"""RecVAE: extreme matrices, wrong parameters, and what does not fit into memory."""

import warnings
from functools import partial

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import spearmanr
from sklearn.utils._param_validation import InvalidParameterError

from common import recommender as small_recommender
from contract import N_ITEMS, N_USERS
from contract.matrices import small_matrix
from sklearn_recvae import EASERecommender, RecVAERecommender
from sklearn_recvae.datasets import make_interactions

recommender = partial(small_recommender, latent_dim=4, hidden_dim=8, max_iter=1)


@pytest.fixture(scope="module")
def dense():
    return small_matrix()


@pytest.fixture(scope="module")
def model(dense):
    return recommender().fit(dense)


# Rows and matrices with nothing or little in them.


def test_scores_of_an_empty_row_follow_popularity():
    X, _, _ = make_interactions(100, 50, mean_interactions=10, random_state=0)
    model = recommender(max_iter=20, learning_rate=5e-3).fit(X)
    scores = model.predict(sp.csr_array((1, 50)))[0]
    assert spearmanr(scores, X.sum(axis=0)).statistic > 0.2


@pytest.mark.parametrize(
    "shape", [(1, 5), (5, 1), (1, 1), (2, 2), (3, 20)], ids=lambda shape: str(shape)
)
@pytest.mark.parametrize("alternating", [True, False])
def test_tiny_matrices_work(shape, alternating):
    estimator = recommender(alternating=alternating, max_iter=3).fit(np.ones(shape))
    X = np.zeros((2, shape[1]))
    X[0, 0] = 1
    assert_allclose(estimator.predict(X).sum(axis=1), 1, rtol=1e-6)
    assert_array_equal(estimator.recommend(X, 1)[1] >= 0, [True])
    if shape[1] == 1:
        assert_array_equal(estimator.recommend(X, 2), [[-1, -1], [0, -1]])
        assert_array_equal(estimator.similar_items([0], 1), [[-1]])


def test_fewer_users_than_a_batch(dense):
    small = recommender(batch_size=1000).fit(dense)
    exact = recommender(batch_size=N_USERS).fit(dense)
    assert_array_equal(small.predict(dense), exact.predict(dense))


def test_training_users_left_empty_by_the_holdout_are_an_error_or_work():
    # One user with interactions, ten without: whoever is held out.
    X = np.zeros((11, 6))
    X[0] = 1
    for seed in range(6):
        estimator = recommender(
            early_stopping=True, validation_fraction=0.5, random_state=seed
        )
        try:
            estimator.fit(X)
        except ValueError as error:
            assert "validation users can be evaluated" in str(error)  # noqa: PT017
            continue
        assert np.isfinite(estimator.predict(X)).all()


def test_values_of_any_scale_are_the_same_input(model, dense):
    expected = model.predict(dense)
    for scale in (1e-30, 1e-10, 1e10, 1e30):
        assert_allclose(model.predict(dense * scale), expected, rtol=1e-4)


def test_values_near_the_smallest_float_are_the_same_input(model, dense):
    # These are multiples of the smallest float, so that nothing is rounded.
    tiny = dense * np.finfo(np.float32).smallest_subnormal
    assert_allclose(model.predict(tiny), model.predict(dense), rtol=1e-4)
    mixed = np.vstack([tiny, dense])
    assert_allclose(model.predict(mixed)[N_USERS:], model.predict(dense), rtol=1e-4)
    estimator = recommender().fit(mixed)
    assert np.isfinite(estimator.predict(mixed)).all()


# Parameters


WRONG = {
    "latent_dim": [0, -1, 2.5, "8", None, True, 2**31],
    "hidden_dim": [0, 1.0, 10**12],
    "n_hidden_layers": [0, "five"],
    "dense_connections": ["yes", 2],
    "gamma": [-0.1, np.nan, np.inf, "Auto", 10**400],
    "beta": [-0.1, np.nan],
    "prior_weights": [None, 0.3, "abc"],
    "noise_rate": [-0.1, 1, 1.5, None],
    "decoder_noise": ["no"],
    "alternating": [None],
    "n_encoder_epochs": [0, 1.5],
    "n_decoder_epochs": [0],
    "max_iter": [0, -1, 1.5, None],
    "max_seconds": [-1, np.nan, np.inf, "auto"],
    "batch_size": [0, -5, "all", 1.5, None, True],
    "learning_rate": [0, -1e-3, np.nan, np.inf, "auto", 10**400],
    "ema_decay": [-0.1, 1, np.nan, None],
    "slim_interval": [0, 1.5, "auto"],
    "slim_regularization": [0, -1, np.nan, np.inf, None, 10**400],
    "slim_min_count": [-1, 2.5, None],
    "early_stopping": ["auto"],
    "validation_fraction": [0, 1, -0.5, 1.5],
    "n_iter_no_change": [0, 2.5],
    "warm_start": [None],
    "device": [None, 0],
    "precision": ["float64", "bf16", None],
    "random_state": ["seed", -1.5, np.random.default_rng(0)],
    "verbose": [-1, "loud"],
}


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name, values in WRONG.items() for value in values],
    ids=lambda value: str(value)[:20],
)
def test_parameter_out_of_range_is_an_error_of_fit_alone(dense, name, value):
    estimator = recommender(**{name: value})
    estimator.set_params(**{name: value})
    for method in (estimator.fit, estimator.partial_fit):
        with pytest.raises(InvalidParameterError, match=f"'{name}' parameter of RecV"):
            method(dense)


def test_small_integers_of_numpy_do_not_wrap(dense):
    expected = recommender(latent_dim=100, batch_size=20).fit(dense).predict(dense)
    small = recommender(latent_dim=np.int8(100), batch_size=np.int8(20)).fit(dense)
    assert_array_equal(small.predict(dense), expected)


@pytest.mark.parametrize("k", [True, 0, 5_000_000_000])
def test_length_of_lists_out_of_range(model, dense, k):
    for rank in (
        lambda: model.recommend(dense, k),
        lambda: model.explain(dense, np.zeros(N_USERS, dtype=int), k),
        lambda: model.similar_items([0], k),
        lambda: model.similar_users(dense, k),
        lambda: EASERecommender().fit(dense).similar_items([0], k),
    ):
        with pytest.raises(InvalidParameterError, match="'k' parameter of"):
            rank()


@pytest.mark.parametrize("n_items", [10**12, True])
def test_number_of_new_items_out_of_range(model, n_items):
    with pytest.raises(InvalidParameterError, match="'items' parameter of"):
        model.add_items(n_items)
    assert model.n_features_in_ == N_ITEMS


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_parameters_of_numpy_are_numbers_like_others(dense, dtype):
    model = recommender(gamma=dtype(0.25), learning_rate=dtype(0.125)).fit(dense)
    expected = recommender(gamma=0.25, learning_rate=0.125).fit(dense)
    assert_array_equal(model.predict(dense), expected.predict(dense))
    with pytest.raises(InvalidParameterError, match="gamma"):
        recommender(gamma=dtype(np.inf)).fit(dense)


def test_all_parameters_are_tried():
    assert set(WRONG) == set(RecVAERecommender().get_params())


@pytest.mark.parametrize(
    "weights",
    [
        (0.5, 0.5),
        (0.25, 0.25, 0.25, 0.25),
        (0.5, 0.5, 0.5),
        (1.5, -0.5, 0),
        (0, 0, 0),
        [[0.15, 0.75, 0.1]],
        (0.15, 0.75, 0.1 + 1e-5),
        (),
    ],
    ids=str,
)
def test_prior_weights_that_are_no_convex_combination(dense, weights):
    for method in ("fit", "partial_fit"):
        with pytest.raises(ValueError, match="prior_weights"):
            getattr(recommender(prior_weights=weights), method)(dense)


@pytest.mark.parametrize("weights", [(np.nan, 0.5, 0.5), ("a", "b", "c")])
def test_prior_weights_that_are_no_numbers(dense, weights):
    with pytest.raises(ValueError, match=r"prior_weights|could not convert string"):
        recommender(prior_weights=weights).fit(dense)


def test_prior_weights_may_miss_one_by_rounding(dense):
    weights = (0.1, 0.2, 0.7 + 5e-7)
    assert np.isfinite(
        recommender(prior_weights=weights).fit(dense).predict(dense)
    ).all()


def test_prior_weights_say_what_was_got(dense):
    with pytest.raises(
        ValueError, match=r"Got prior_weights=\(1, 1, 1\), expected thr"
    ):
        recommender(prior_weights=(1, 1, 1)).fit(dense)


def test_gamma_and_beta_exclude_each_other(dense):
    for method in ("fit", "partial_fit"):
        with pytest.raises(
            ValueError, match="gamma and beta are both None, expected o"
        ):
            getattr(recommender(gamma=None), method)(dense)
        with pytest.raises(
            ValueError, match=r"beta=0\.2 together with gamma='auto'.*Set gamma=None"
        ):
            getattr(recommender(beta=0.2), method)(dense)
        # Zero is a weight.
        with pytest.raises(ValueError, match="together with gamma=0,"):
            getattr(recommender(gamma=0, beta=0), method)(dense)


def test_training_that_diverges_names_the_likely_cause(dense):
    for params in ({"alternating": True}, {"alternating": False}):
        with pytest.raises(
            ValueError, match=r"Training diverged in iteration \d+.*lower learning_rate"
        ):
            recommender(learning_rate=1e8, max_iter=5, **params).fit(dense)


def test_a_device_that_is_not_there(dense):
    for device in ("cuda:99", "cuda99", "tpu", "meta", ""):
        with pytest.raises(
            ValueError, match=f"device='{device}' was asked for, .* has: cpu.*'auto'"
        ):
            recommender(device=device).fit(dense)


def test_good_input_does_not_warn(dense):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        estimator = recommender().fit(sp.csr_matrix(dense))
        for method in (
            estimator.predict,
            estimator.recommend,
            estimator.score,
            estimator.transform,
        ):
            method(sp.coo_array(dense))
        estimator.partial_fit(dense.tolist())
    assert [str(warning.message) for warning in caught] == []


def test_network_that_does_not_fit_into_memory():
    X, _, _ = make_interactions(20, 10, random_state=0)
    model = RecVAERecommender(10**6, hidden_dim=10**7, n_hidden_layers=2)
    with pytest.raises(
        MemoryError, match=r"takes 1.*e?.* GB in training. Lower hidden"
    ):
        model.fit(X)
    assert not hasattr(model, "module_")


@pytest.mark.parametrize("sizes", [{"latent_dim": 2**31 - 1}, {}])
def test_size_that_no_memory_could_have(sizes):
    X, _, _ = make_interactions(20, 10, random_state=0)
    model = recommender(hidden_dim=2**31 - 1, **sizes)
    with pytest.raises(MemoryError, match=r"overflow.* GB in training. Lower hidden"):
        model.fit(X)


def test_new_items_that_do_not_fit_into_memory(model, monkeypatch):
    def build(*args, **kwargs):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(RecVAERecommender, "_build_network", build)
    with pytest.raises(MemoryError, match=r"over 1000012 items takes 0.* GB"):
        model.add_items(1_000_000)
    assert model.n_features_in_ == N_ITEMS


def test_lists_that_do_not_fit_into_memory(model, dense, monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr("sklearn_recvae._ranking.np.full", fail)
    with pytest.raises(MemoryError, match=r"allocate memory Lower k, or ask"):
        model.recommend(dense)
    monkeypatch.undo()
    monkeypatch.setattr("sklearn_recvae._ranking.torch.full", fail)
    with pytest.raises(MemoryError, match=r"allocate memory Lower k, or ask"):
        model.similar_items([0])


def test_prediction_that_does_not_fit_into_memory(monkeypatch):
    X, _, _ = make_interactions(20, 10, random_state=0)
    model = RecVAERecommender(4, hidden_dim=8, max_iter=1).fit(X)

    def empty(*args, **kwargs):
        raise MemoryError("Unable to allocate 1. TiB for an array.")

    monkeypatch.setattr("sklearn_recvae._inference.np.empty", empty)
    with pytest.raises(MemoryError, match=r"1\. TiB for an array\. Use recommend"):
        model.predict(X)
