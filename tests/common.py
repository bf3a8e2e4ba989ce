"""What tests share: a small estimator, and what it should give in plain Python."""

import numpy as np
from numpy.testing import assert_array_equal

from sklearn_recvae import RecVAERecommender

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
