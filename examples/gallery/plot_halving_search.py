"""
Successive halving over iterations
==================================

:class:`~sklearn.model_selection.HalvingRandomSearchCV` draws settings at random, trains
each of them for few iterations, and goes on with the best third, for three times as
many.
"""

# %%
# `max_iter` is the resource. Each round begins anew: nothing is kept of a shorter fit.

import matplotlib.pyplot as plt
from scipy.stats import loguniform, uniform
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.model_selection import HalvingRandomSearchCV, KFold

from sklearn_recvae import RecVAERecommender
from sklearn_recvae.datasets import fetch_movielens

X = fetch_movielens("latest-small", min_item_interactions=5).data
search = HalvingRandomSearchCV(
    RecVAERecommender(50, hidden_dim=100, random_state=0),
    {
        "gamma": loguniform(0.0005, 0.05),
        "noise_rate": uniform(0.1, 0.7),  # from 0.1 to 0.8
        "prior_weights": [(1, 0, 0), (0.5, 0.4, 0.1), (0.15, 0.75, 0.1)],
    },
    n_candidates=12,
    resource="max_iter",
    min_resources=3,
    max_resources=27,
    cv=KFold(3, shuffle=True, random_state=0),
    error_score="raise",
    random_state=0,
)
search.fit(X)

# %%
# The score of each setting in each round that it was in, against its gamma. A line
# joins the rounds of a setting.

results = search.cv_results_
gammas = results["param_gamma"].astype(float)
scores = results["mean_test_score"]

figure, ax = plt.subplots(figsize=(7, 4.5), layout="constrained")
for gamma in set(gammas):
    ax.plot(gammas[gammas == gamma], scores[gammas == gamma], color="lightgrey")
for number in range(search.n_iterations_):
    in_round = results["iter"] == number
    label = f"{in_round.sum()} settings, {search.n_resources_[number]} iterations"
    ax.plot(gammas[in_round], scores[in_round], "o", label=label)
ax.set_xscale("log")
ax.set(xlabel="gamma", ylabel="NDCG@100, mean over the folds")
ax.legend()
plt.show()

# %%
# Only gamma is on the axis. What the settings of the later rounds had besides:

for number in range(1, search.n_iterations_):
    print(f"{search.n_resources_[number]} iterations")
    for index in (results["iter"] == number).nonzero()[0]:
        params = results["params"][index]
        print(
            f"  {scores[index]:.4f}  gamma {params['gamma']:.4f}, "
            f"noise_rate {params['noise_rate']:.2f}, "
            f"prior_weights {params['prior_weights']}"
        )

# %%
# The first round prefers small values of gamma: a weak KL term lets the score rise
# sooner. Whether the values that it drops would have won in the end is not known. So
# `min_resources` should not be too small, and a value at the edge of what was kept is
# worth a full fit.
