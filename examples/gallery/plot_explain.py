"""
Why this film
=============

A recommendation is easier to trust if it comes with its reasons. Each item of a user's
history is left out in turn, and the ones without which the score of the recommended
item falls most are shown.
"""

# %%
# The model, on films with five or more users.

import matplotlib.pyplot as plt
import numpy as np

from sklearn_recvae import RecVAERecommender
from sklearn_recvae.datasets import fetch_movielens

movielens = fetch_movielens("latest-small", min_item_interactions=5)
X, titles = movielens.data, movielens.item_titles
model = RecVAERecommender(
    50, hidden_dim=200, max_iter=25, learning_rate=2e-3, random_state=0
).fit(X)

# %%
# The user with the median number of films, ten recommendations, three reasons for each.

n_films = np.diff(X.indptr)
user = np.argsort(n_films, kind="stable")[len(n_films) // 2]
row = X[[user]]
recommended = model.recommend(row, k=10)
reasons, effects = model.explain(row, recommended, k=3, return_scores=True)
print(f"{n_films[user]} films in the history")
for film, of_film in zip(recommended[0], reasons[0], strict=True):
    print(f"\n{titles[film]}, because of")
    for reason in of_film:
        print(f"    {titles[reason]}")

# %%
# The effect of every film of the history on the first recommendation: the difference of
# its log-probability with the film and without it. Films on the left speak for it,
# those on the right against it.

_, effects = model.explain(row, recommended[:, 0], k=n_films[user], return_scores=True)
figure, ax = plt.subplots(figsize=(7, 3.5), layout="constrained")
ax.bar(range(n_films[user]), effects[0])
ax.axhline(0, color="grey", linewidth=0.8)
ax.set(
    xlabel="films of the history, by their effect",
    ylabel=f"effect on the log-probability of\n{titles[recommended[0, 0]]}",
)
plt.show()

# %%
# The model is not linear, so the effects of several films do not add up. What is shown
# is what the model used, not what the user thought.
