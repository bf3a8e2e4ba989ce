"""RecVAE: whatever parameters are legal, fitting and recommending work."""

import numpy as np
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.base import clone

from sklearn_recvae import RecVAERecommender

MATRICES = arrays(
    np.int64,
    st.tuples(st.integers(1, 7), st.integers(1, 9)),
    elements=st.sampled_from([0, 0, 0, 1, 1, 2, 5]),
).filter(np.any)


def small(**params):
    params = {"latent_dim": 3, "hidden_dim": 4, "max_iter": 1} | params
    return RecVAERecommender(**params, random_state=0)


def prior_weights(numbers):
    total = sum(numbers)
    return tuple(number / total for number in numbers)


PARAMETERS = st.fixed_dictionaries(
    {
        "latent_dim": st.integers(1, 5),
        "hidden_dim": st.integers(1, 6),
        "n_hidden_layers": st.integers(1, 6),
        "dense_connections": st.booleans(),
        "prior_weights": st.lists(st.integers(0, 3), min_size=3, max_size=3)
        .filter(any)
        .map(prior_weights),
        "noise_rate": st.floats(0, 0.99),
        "decoder_noise": st.booleans(),
        "alternating": st.booleans(),
        "n_encoder_epochs": st.integers(1, 3),
        "n_decoder_epochs": st.integers(1, 2),
        "max_iter": st.integers(1, 3),
        "batch_size": st.one_of(st.just("auto"), st.integers(1, 9)),
        "learning_rate": st.floats(1e-6, 1e-2),
        "ema_decay": st.floats(0, 0.99),
        "slim_interval": st.sampled_from([None, 1, 2]),
        "slim_regularization": st.floats(1e-3, 1e3),
        "slim_min_count": st.integers(0, 1),
        "precision": st.sampled_from(["auto", "float32", "mixed"]),
    }
)
KL_WEIGHTS = st.one_of(
    st.floats(0, 2).map(lambda weight: {"gamma": weight}),
    st.floats(0, 2).map(lambda weight: {"gamma": None, "beta": weight}),
)


@settings(deadline=None)
@given(dense=MATRICES, parameters=PARAMETERS, kl_weight=KL_WEIGHTS)
def test_any_parameters(dense, parameters, kl_weight):
    X = sp.csr_array(dense.astype(np.float32))
    model = small(**parameters, **kl_weight).fit(X)
    again = clone(model).fit(X)
    probabilities = model.predict(X)
    np.testing.assert_array_equal(probabilities, again.predict(X))
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    assert (probabilities >= 0).all()
    assert model.n_iter_ == parameters["max_iter"]
    for name in ("likelihood", "kl"):
        assert np.isfinite(model.history_[name]).all()
    for row, ranked in zip(dense, model.recommend(X, k=dense.shape[1]), strict=True):
        unseen = np.flatnonzero(row == 0)
        assert sorted(ranked[: len(unseen)]) == unseen.tolist()
        assert (ranked[len(unseen) :] == -1).all()
