"""New users, known users with longer rows, and new items."""

import pickle

import numpy as np
import pytest
from scipy.sparse import csr_array, hstack

from sklearn_recvae import RecVAERecommender
from sklearn_recvae.datasets import make_interactions

wide, _, _ = make_interactions(80, 30, random_state=0)
N_OLD = 24
X = csr_array(wide[:, :N_OLD])
PARAMETERS = {"latent_dim": 6, "hidden_dim": 12, "max_iter": 3, "random_state": 0}


def widen(X, n_new):
    return csr_array(hstack([X, csr_array((X.shape[0], n_new))]))


@pytest.fixture
def model():
    return RecVAERecommender(**PARAMETERS).fit(X)


def through_pickle(model):
    return pickle.loads(pickle.dumps(model))


@pytest.mark.parametrize("prepare", [lambda model: model, through_pickle])
def test_old_items_keep_what_they_have(model, prepare):
    before = prepare(model).recommend(X, k=N_OLD, return_scores=True)
    Z = model.transform(X)
    model = prepare(model)
    assert model.add_items(6) is model
    assert model.n_features_in_ == 30
    after = model.recommend(
        widen(X, 6), k=N_OLD, items=range(N_OLD), return_scores=True
    )
    for array, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(array, other)
    np.testing.assert_array_equal(model.transform(widen(X, 6)), Z)
    bias = model.module_.decoder.bias.detach().numpy()
    assert (bias[N_OLD:] == bias[:N_OLD].min()).all()
    with pytest.raises(ValueError, match="X has 24 features, but"):
        model.predict(X)


def test_moments_stay(model):
    def moments(model):
        state = model._state
        yield state.input_optimizer.mean, state.input_optimizer.square
        for moments in state.decoder_optimizer.state_dict()["state"].values():
            yield moments["exp_avg"], moments["exp_avg_sq"]

    step, before = model._state.input_optimizer.n_steps, [*moments(model)]
    model.add_items(2)
    assert model._state.input_optimizer.n_steps == step
    for old_pair, new_pair in zip(before, moments(model), strict=True):
        for old, new in zip(old_pair, new_pair, strict=True):
            np.testing.assert_array_equal(new[: len(old)], old)
            assert not new[len(old) :].any()


def test_training_goes_on_with_new_items(model):
    model.add_items(6)
    unpopular = model.predict(wide)[:, N_OLD:].mean()
    for _ in range(30):
        model.partial_fit(wide)
    assert model.n_iter_ == 33
    assert model.predict(wide)[:, N_OLD:].mean() > unpopular
    loaded = through_pickle(model)
    np.testing.assert_array_equal(loaded.predict(wide), model.predict(wide))


def test_adding_is_reproducible(model):
    other = RecVAERecommender(**PARAMETERS).fit(X).add_items(2).add_items(4)
    again = RecVAERecommender(**PARAMETERS).fit(X).add_items(2).add_items(4)
    np.testing.assert_array_equal(other.predict(wide), again.predict(wide))
    rows = other.module_.encoder.input.weight[N_OLD:].detach().numpy()
    assert len(np.unique(rows)) == rows.size  # each has its own


def test_names():
    pandas = pytest.importorskip("pandas")
    names = [f"item {i}" for i in range(30)]
    frame = pandas.DataFrame(wide.toarray(), columns=names)
    model = RecVAERecommender(**PARAMETERS).fit(frame.iloc[:, :N_OLD])
    for wrong in (["item 3"], ["new", "new"], [3], [["a", "b"]]):
        with pytest.raises(ValueError, match="expected strings that differ"):
            model.add_items(wrong)
    with pytest.raises(ValueError, match="Pass the names of the new items"):
        model.add_items(6)
    assert model.n_features_in_ == N_OLD
    model.add_items(names[N_OLD:]).partial_fit(frame)
    assert model.feature_names_in_.tolist() == names


def test_numbers_only_without_names(model):
    with pytest.raises(ValueError, match="fitted without feature names"):
        model.add_items(["a"])
    with pytest.raises(ValueError, match="'items' parameter of"):
        model.add_items(0)


def test_new_users_and_longer_rows(model):
    """partial_fit takes any users, over the same items."""
    longer = X.copy()
    longer = csr_array(longer.toarray() + np.eye(80, N_OLD))
    others, _, _ = make_interactions(7, N_OLD, random_state=5)
    model.partial_fit(longer).partial_fit(others)
    assert model.n_iter_ == 5
    assert np.isfinite(model.predict(X)).all()


def test_warm_start_begins_with_the_weights_of_before(model):
    warm = RecVAERecommender(**PARAMETERS, warm_start=True).fit(X)
    first = warm.history_["likelihood"]
    warm.fit(X)
    assert warm.history_["likelihood"][0] > first[0]
    assert warm.n_iter_ == 3
