"""Whom to recommend what: per-user candidates and exclusions, samples."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_array, csr_array, random_array
from sklearn.base import clone

from sklearn_recvae import (
    BlendedRecommender,
    EASERecommender,
    RecVAERecommender,
)
from sklearn_recvae import _inference as inference
from sklearn_recvae import _ranking as ranking
from sklearn_recvae.datasets import make_interactions
from sklearn_recvae.model_selection import holdout_interactions

N_USERS, N_ITEMS = 40, 30
X, _, _ = make_interactions(N_USERS, N_ITEMS, random_state=0)


@pytest.fixture(params=[RecVAERecommender, EASERecommender], scope="module")
def model(request):
    if request.param is EASERecommender:
        return EASERecommender().fit(X)
    return RecVAERecommender(6, hidden_dim=12, max_iter=3, random_state=0).fit(X)


def filter_full_ranking(model, k, forbidden):
    """Rank all items of each user, then drop what is forbidden."""
    ranked, scores = model.recommend(
        X, k=N_ITEMS, exclude_seen=False, return_scores=True
    )
    expected = np.full((N_USERS, k), -1)
    expected_scores = np.full((N_USERS, k), -np.inf)
    for user in range(N_USERS):
        kept = ~forbidden[user, ranked[user]]
        n = min(k, kept.sum())
        expected[user, :n] = ranked[user, kept][:n]
        expected_scores[user, :n] = scores[user, kept][:n]
    return expected, expected_scores


@settings(max_examples=50, deadline=None)
@given(
    k=st.integers(1, N_ITEMS + 3),
    densities=st.tuples(*[st.sampled_from([None, 0, 0.02, 0.1, 0.5, 1])] * 2),
    exclude_seen=st.booleans(),
    cost=st.sampled_from([0, 8, 1000]),
    seed=st.integers(0, 9),
)
def test_matrices_equal_filtering_a_full_ranking(
    model, k, densities, exclude_seen, cost, seed
):
    rng = np.random.default_rng(seed)
    items, exclude_items = (
        None
        if density is None
        else random_array((N_USERS, N_ITEMS), density=density, rng=rng, format="csr")
        for density in densities
    )
    forbidden = np.zeros((N_USERS, N_ITEMS), dtype=bool)
    if items is not None:
        forbidden |= items.toarray() == 0
    if exclude_items is not None:
        forbidden |= exclude_items.toarray() > 0
    if exclude_seen:
        forbidden |= X.toarray() > 0
    expected, expected_scores = filter_full_ranking(model, k, forbidden)
    with pytest.MonkeyPatch.context() as patch:
        # Pairs by themselves, or within whole rows; several blocks of users.
        patch.setattr(inference, "PAIR_COST", cost)
        patch.setattr(ranking, "SCORES_BYTES", 4 * N_ITEMS * 7)
        ranked, scores = model.recommend(
            X,
            k=k,
            exclude_seen=exclude_seen,
            items=items,
            exclude_items=exclude_items,
            return_scores=True,
        )
    np.testing.assert_array_equal(ranked, expected)
    np.testing.assert_allclose(scores, expected_scores, rtol=1e-4, atol=1e-5)


def test_matrix_and_list_together(model):
    pairs = np.zeros((N_USERS, N_ITEMS))
    pairs[:, [3, 5, 7]] = 1
    ranked = model.recommend(X, k=3, items=pairs, exclude_items=[5], exclude_seen=False)
    assert {*ranked.ravel()} == {3, 7, -1}
    ranked = model.recommend(X, k=3, items=[3, 5], exclude_items=pairs)
    assert (ranked == -1).all()


@pytest.mark.parametrize("container", [coo_array, csr_array, np.asarray, list])
def test_containers_of_pairs(model, container):
    pairs = np.random.default_rng(0).random((N_USERS, N_ITEMS)) < 0.3
    as_list = container is list
    given_pairs = pairs.astype(int).tolist() if as_list else container(pairs)
    np.testing.assert_array_equal(
        model.recommend(X, items=given_pairs),
        model.recommend(X, items=csr_array(pairs)),
    )


def test_pairs_of_other_users_are_refused(model):
    with pytest.raises(ValueError, match=r"items is a matrix of shape \(39, 30\)"):
        model.recommend(X, items=X[:-1])
    with pytest.raises(ValueError, match="exclude_items is a matrix of shape"):
        model.recommend(X, exclude_items=X[:, :-1])
    with pytest.raises(ValueError, match="Negative values"):
        model.recommend(X, items=-X)


def test_caller_s_pairs_stay_as_they_were(model):
    pairs = csr_array(np.array([[1.0, 0, 0, 2] + [0] * (N_ITEMS - 4)] * N_USERS))
    pairs.data[::2] = 0  # explicit zeros are no pairs
    arrays = [array.copy() for array in (pairs.data, pairs.indices, pairs.indptr)]
    ranked = model.recommend(X, k=2, items=pairs, exclude_seen=False)
    assert {*ranked.ravel()} == {3, -1}
    for before, after in zip(
        arrays, (pairs.data, pairs.indices, pairs.indptr), strict=True
    ):
        np.testing.assert_array_equal(before, after)


@pytest.fixture(scope="module")
def recvae():
    return RecVAERecommender(6, hidden_dim=12, max_iter=3, random_state=0).fit(X)


def test_samples(recvae, monkeypatch):
    mean = recvae.recommend(X)
    sampled, sampled_scores = recvae.recommend(
        X, sample=True, random_state=3, return_scores=True
    )
    assert (sampled != mean).any()
    again = recvae.recommend(X, sample=True, random_state=np.random.RandomState(3))
    np.testing.assert_array_equal(again, sampled)
    other = recvae.recommend(X, sample=True, random_state=4)
    assert (other != sampled).any()
    assert (recvae.recommend(X, sample=True) >= -1).all()
    np.testing.assert_array_equal(recvae.recommend(X), mean)
    # How users are dealt out to blocks changes nothing.
    monkeypatch.setattr(ranking, "SCORES_BYTES", 4 * N_ITEMS * 3)
    again, again_scores = recvae.recommend(
        X, sample=True, random_state=3, return_scores=True
    )
    np.testing.assert_array_equal(again, sampled)
    np.testing.assert_allclose(again_scores, sampled_scores, rtol=1e-5)
    # Nor do candidates, scored pair by pair.
    all_pairs = np.ones(X.shape)
    monkeypatch.setattr(inference, "PAIR_COST", 0.5)
    again = recvae.recommend(X, sample=True, random_state=3, items=all_pairs)
    np.testing.assert_array_equal(again, sampled)


def test_products_of_pairs(monkeypatch):
    monkeypatch.setattr(inference, "SCORES_BYTES", 4 * 5 * 3 * 4)  # 4 rows at a time
    rng = np.random.default_rng(0)
    z, weight = rng.standard_normal((10, 5)), rng.standard_normal((8, 5))
    items = rng.integers(8, size=(10, 3))
    expected = np.take_along_axis(z @ weight.T, items, axis=1)
    tensors = (torch.from_numpy(array) for array in (z, weight, items))
    z, weight, items = tensors
    for products in (inference._products_of_pairs, inference._gathered_products):
        np.testing.assert_allclose(products(z, weight, items), expected)


def test_samples_are_of_the_posterior(recvae):
    """Mean and variance of a score over many draws, by the formula."""
    from sklearn_recvae._batches import InteractionTensors
    from sklearn_recvae._interactions import as_csr

    user = as_csr(X[[0]])
    batch = InteractionTensors(user, torch.device("cpu")).batch(torch.tensor([0]))
    with torch.no_grad():
        mean, log_variance = recvae.module_.encoder(batch, torch.float64)
        weight = recvae.module_.decoder.weight
        expected = weight @ mean[0] + recvae.module_.decoder.bias
        variance = weight.square() @ log_variance[0].exp()
    n_draws = 3000
    copies = csr_array(np.repeat(X[[0]].toarray(), n_draws, axis=0))
    ranked, scores = recvae.recommend(
        copies,
        k=N_ITEMS,
        exclude_seen=False,
        sample=True,
        random_state=0,
        return_scores=True,
    )
    by_item = np.take_along_axis(scores, ranked.argsort(axis=1), axis=1)
    error = variance.sqrt().numpy() / n_draws**0.5
    assert (np.abs(by_item.mean(axis=0) - expected.numpy()) < 5 * error).all()
    ratio = by_item.var(axis=0) / variance.numpy()
    assert (np.abs(ratio - 1) < 5 * (2 / n_draws) ** 0.5).all()


def test_linear_model_has_nothing_to_sample():
    with pytest.raises(TypeError, match="sample"):
        EASERecommender().fit(X).recommend(X, sample=True)


def frames_of(library):
    """Give a function that makes a frame, and the columns of X as one of those."""
    library = pytest.importorskip(library)
    names = [f"item {i}" for i in range(N_ITEMS)]

    def frame(array, names=names):
        columns = dict(zip(names, np.asarray(array, dtype=np.float32).T, strict=True))
        return library.DataFrame(columns)

    return frame, names


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_columns_of_frames_are_those_of_x_in_the_same_order(library):
    frame, names = frames_of(library)
    fold_in, held_out = (half.toarray() for half in holdout_interactions(X))
    pairs = np.zeros((N_USERS, N_ITEMS))
    pairs[:, 3] = 1
    model = EASERecommender().fit(frame(X.toarray()))
    lists = model.recommend(frame(fold_in), k=N_ITEMS, exclude_items=frame(pairs))
    assert not (lists == 3).any()
    assert (model.recommend(frame(fold_in), 1, items=frame(pairs)) <= 3).all()
    score = model.score(frame(fold_in), frame(held_out))
    assert score == model.score(frame(fold_in), held_out)  # arrays have no names

    for parameter in ("items", "exclude_items"):
        other = {parameter: frame(pairs, names[::-1])}
        message = f"Column 0 of {parameter} is named 'item 29', expected 'item 0'"
        with pytest.raises(ValueError, match=message):
            model.recommend(frame(fold_in), **other)
    with pytest.raises(ValueError, match="Column 0 of y is named 'item 29', expected"):
        model.score(frame(fold_in), frame(held_out, names[::-1]))
    # The names of the fit count for a matrix without any.
    with pytest.raises(ValueError, match="Column 2 of y is named 'new', expected"):
        model.score(fold_in, frame(held_out, [*names[:2], "new", *names[3:]]))


@pytest.mark.parametrize("library", ["pandas", "polars"])
@pytest.mark.filterwarnings("ignore:X has feature names, but:UserWarning")
def test_columns_of_frames_without_names_in_fit(library):
    frame, names = frames_of(library)
    fold_in, held_out = (half.toarray() for half in holdout_interactions(X))
    model = EASERecommender().fit(X)
    score = model.score(frame(fold_in), frame(held_out))
    assert score == model.score(fold_in, held_out)
    with pytest.raises(ValueError, match="Column 0 of y is named 'item 29', expected"):
        model.score(frame(fold_in), frame(held_out, names[::-1]))


@pytest.mark.parametrize("library", ["pandas", "polars"])
@pytest.mark.parametrize(
    "model",
    [
        RecVAERecommender(2, hidden_dim=4, max_iter=1),
        BlendedRecommender([("ease", EASERecommender())], weights="auto"),
    ],
)
def test_columns_of_validation_are_those_of_x_in_the_same_order(library, model):
    frame, names = frames_of(library)
    fold_in, held_out = (half.toarray() for half in holdout_interactions(X))
    model = clone(model).fit(
        frame(X.toarray()), X_val=frame(fold_in), y_val=frame(held_out)
    )
    assert model.best_score_ > 0
    with pytest.raises(ValueError, match="Column 0 of y_val is named 'item 29'"):
        model.fit(
            frame(X.toarray()),
            X_val=frame(fold_in),
            y_val=frame(held_out, names[::-1]),
        )


@pytest.mark.parametrize("method", ["recommend", "similar_items", "explain"])
def test_errors_name_the_class_that_the_user_knows(model, method):
    name = f"{type(model).__name__}.{method}"
    arguments = ([0], [0]) if method == "explain" else ([0],)
    with pytest.raises(ValueError, match=f"'k' parameter of {name} must be an int"):
        getattr(model, method)(*arguments, k=True)


def test_one_item_is_to_be_passed_in_a_list(model):
    with pytest.raises(
        ValueError, match=r"Got items=5, expected a list .* items=\[5\]"
    ):
        model.similar_items(5)
