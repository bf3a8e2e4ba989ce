"""A nightly refresh, on real data in the order of time."""

from zipfile import ZipFile

import numpy as np
import pytest

from sklearn_recvae import RecVAERecommender
from sklearn_recvae.preprocessing import InteractionEncoder


@pytest.fixture(scope="module")
def days(data_dir):
    """Give the events of both days, those of the first, and some held out of both."""
    with ZipFile(data_dir / "ml-latest-small" / "ml-latest-small.zip") as archive:
        with archive.open("ml-latest-small/ratings.csv") as file:
            ratings = np.loadtxt(file, delimiter=",", skiprows=1)
    users, items, weights, times = ratings.T
    table = {"user": users.astype(int), "item": items.astype(int), "rating": weights}
    held_out = np.random.default_rng(0).random(len(times)) < 0.2
    is_early = times <= np.quantile(times, 0.9)
    return [
        {name: column[rows] for name, column in table.items()}
        for rows in (is_early & ~held_out, ~held_out, held_out)
    ]


def new_encoder():
    return InteractionEncoder(weight="rating", threshold=3.5, min_item_interactions=2)


def new_model():
    return RecVAERecommender(
        32,
        hidden_dim=50,
        max_iter=20,
        batch_size=100,
        learning_rate=1e-3,
        random_state=0,
    )


def score(model, encoder, table, held_out):
    X = encoder.transform(table)
    Y = encoder.set_params(handle_unknown="ignore").transform(held_out)
    encoder.set_params(handle_unknown="error")
    return model.score(X, Y)


def test_refresh_is_as_good_as_a_new_fit(days):
    first_day, both_days, held_out = days
    encoder = new_encoder()
    X = encoder.fit_transform(first_day)
    model = new_model().fit(X, item_ids=encoder.item_ids_)
    n_users, n_items = X.shape

    encoder.partial_fit(both_days)
    X = encoder.transform(both_days)
    assert X.shape[0] > n_users
    assert X.shape[1] > n_items
    model.add_items(encoder.item_ids_)
    for _ in range(10):
        model.partial_fit(X)
    refreshed = score(model, encoder, both_days, held_out)

    anew = new_encoder()
    X = anew.fit_transform(both_days)
    new = new_model().fit(X, item_ids=anew.item_ids_)
    assert refreshed == pytest.approx(score(new, anew, both_days, held_out), abs=0.02)

    # The encoder that was fitted anew has the same items in another order.
    assert set(anew.item_ids_) == set(encoder.item_ids_)
    assert score(model, anew, both_days, held_out) < refreshed - 0.1
    with pytest.raises(ValueError, match=r"Item \d+ of items is \d+, but the estim"):
        model.add_items(anew.item_ids_)
