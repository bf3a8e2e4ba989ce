"""New users, known users with longer rows, and new items."""

import json
import pickle

import numpy as np
import pytest
from scipy.sparse import csr_array, hstack

import sklearn_recvae
from sklearn_recvae import RecVAERecommender
from sklearn_recvae._saving import put_together, take_apart
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
        for table in state.tables.values():
            yield table.mean, table.square

    step, before = model._state.n_steps, [*moments(model)]
    model.add_items(2)
    assert model._state.n_steps == step
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
    old = frame.iloc[:, :N_OLD]
    model = RecVAERecommender(**PARAMETERS).fit(old)
    for wrong, message in (
        (names[N_OLD:], "Item 0 of items is 'item 24', but the estimator knows 'ite"),
        (names[::-1], "Item 0 of items is 'item 29'"),
        ([*names, "item 3"], "only 30 are different"),
        ([*names, 3], "'item 0' and 3 in items, which has both numbers and strings"),
        ([*names, ["a", "b"]], "'items' is a list"),
        (names[: N_OLD - 1], "There are 23 items, but the estimator knows 24"),
        (6, "Pass the ids of the whole catalogue"),
    ):
        with pytest.raises(ValueError, match=message):
            model.add_items(wrong)
    assert model.n_features_in_ == N_OLD
    before = model.module_
    assert model.add_items(old.columns) is model
    assert model.module_ is before
    model.add_items(frame.columns).partial_fit(frame)
    assert model.feature_names_in_.tolist() == names


IDS = {
    "numbers": [*range(100, 100 + 2 * N_OLD, 2), 7, 2**63, 2**70, 3, 5, 1],
    "floats": [i / 2 for i in range(30)],
    "strings": [f"film {i}" for i in range(30, 0, -1)],
    "strings with zeros": [*map(str, range(28)), "a", "a\0"],
}


@pytest.mark.parametrize("ids", IDS.values(), ids=list(IDS))
@pytest.mark.parametrize("make", [list, np.array])
def test_ids_of_items(ids, make, tmp_path):
    model = RecVAERecommender(**PARAMETERS).fit(X, item_ids=make(ids[:N_OLD]))
    assert model.item_ids_.tolist() == ids[:N_OLD]
    before = model.module_
    for same in (ids[:N_OLD], 0):
        assert model.add_items(same).module_ is before
    swapped = [ids[1], ids[0], *ids[2:]]
    message = f"Item 0 of items is {ids[1]!r}, but the estimator knows {ids[0]!r} the"
    with pytest.raises(ValueError, match=message):
        model.add_items(swapped)
    with pytest.raises(ValueError, match="the estimator knows its items by id"):
        model.add_items(6)
    model.save(tmp_path / "model")
    model = sklearn_recvae.load(tmp_path / "model")
    assert model.item_ids_.tolist() == ids[:N_OLD]
    model = through_pickle(model).add_items(ids)
    assert model.item_ids_.tolist() == ids
    assert model.n_features_in_ == 30
    model.partial_fit(wide)
    # A new fit has its own ids, or none.
    model.fit(X, item_ids=ids[6:])
    assert model.item_ids_.tolist() == ids[6:]
    assert not hasattr(model.fit(X), "item_ids_")


@pytest.mark.parametrize(
    ("item_ids", "message"),
    [
        (range(23), "There are 23 item_ids, but X has 24 columns"),
        ([0, *range(23)], "only 23 are different"),
        ([None, *range(23)], "1 are missing"),
        ([True, *range(23)], "booleans and numbers"),
        ([(0,)] * 24, "'item_ids' is a tuple"),
        ([str(i).encode() for i in range(24)], "is a bytes, expected numbers or str"),
        ([*range(23), "a"], "numbers and strings"),
    ],
)
def test_bad_ids_of_items(model, item_ids, message):
    before = vars(model).copy()
    with pytest.raises(ValueError, match=message):
        model.fit(X, item_ids=item_ids)
    assert vars(model) == before


@pytest.mark.parametrize(
    "wrong", [[1], [1] * N_OLD, [None] * N_OLD, [[1]] * N_OLD, {"a": 1}, 7, "a" * N_OLD]
)
def test_wrong_ids_in_a_file(model, wrong):
    content, arrays = take_apart(model)
    arrays["item_ids_"] = np.frombuffer(json.dumps(wrong).encode(), dtype=np.uint8)
    with pytest.raises((TypeError, ValueError), match=r"item_ids|not iterable"):
        put_together(content, arrays)


def test_ids_beside_names():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X.toarray()).add_prefix("item ")
    with pytest.raises(ValueError, match="X has feature names"):
        RecVAERecommender(**PARAMETERS).fit(frame, item_ids=range(N_OLD))


def test_warm_start_keeps_the_ids():
    model = RecVAERecommender(**PARAMETERS, warm_start=True)
    model.fit(X, item_ids=range(N_OLD)).fit(X)
    assert model.item_ids_.tolist() == list(range(N_OLD))
    with pytest.raises(ValueError, match="Item 0 of item_ids is 23, but the estima"):
        model.fit(X, item_ids=range(N_OLD)[::-1])
    model.fit(X, item_ids=range(N_OLD))


def test_a_model_without_ids(model):
    with pytest.raises(ValueError, match="does not know those of its columns"):
        model.add_items(["a"])
    with pytest.raises(ValueError, match="'items' parameter of"):
        model.add_items(-1)
    before = model.module_
    assert model.add_items(0).module_ is before


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
