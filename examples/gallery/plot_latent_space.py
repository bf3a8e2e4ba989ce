"""
Items in the latent space, by genre
===================================

The decoder of RecVAE is linear: an item's logit is the product of the user's latent
vector and the item's row in the weight matrix, plus a bias. These rows are an embedding
of the items, learned from interactions alone. Do they know the genres?
"""

# %%
# The model is trained on all users. The weights start at random, and few users make few
# steps, so the steps are larger here: this step size was chosen among four settings as
# the one that shows the genres best. An item's embedding is found by
# :meth:`~sklearn_recvae.RecVAERecommender.inverse_transform`: one unit along a latent
# dimension changes the log-probabilities by that column of the weight matrix, up to a
# constant for all items, which centring removes.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.manifold import TSNE
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import normalize

from sklearn_recvae import RecVAERecommender
from sklearn_recvae.datasets import fetch_movielens

movielens = fetch_movielens("latest-small", min_item_interactions=10)
X, titles = movielens.data, movielens.item_titles
model = RecVAERecommender(
    50, hidden_dim=200, max_iter=25, learning_rate=2e-3, random_state=0
).fit(X)

origin = np.log(model.inverse_transform(np.zeros((1, 50))))
embedding = (np.log(model.inverse_transform(np.eye(50))) - origin).T
embedding = normalize(embedding - embedding.mean(axis=0))
print(f"{embedding.shape[0]} items in {embedding.shape[1]} dimensions")

# %%
# t-SNE keeps near items near; distances between far groups mean little. Items with one
# of these genres, and none of the other three, are coloured.

shown = ["Animation", "Horror", "Sci-Fi", "Romance"]
genres = [set(text.split("|")) for text in movielens.item_genres]
only = np.array(
    [
        (of_item & set(shown)).pop() if len(of_item & set(shown)) == 1 else ""
        for of_item in genres
    ]
)
places = TSNE(metric="cosine", init="pca", random_state=0).fit_transform(embedding)

figure, ax = plt.subplots(figsize=(7, 6), layout="constrained")
ax.scatter(*places[only == ""].T, s=6, color="lightgrey", label="other items")
for genre in shown:
    ax.scatter(*places[only == genre].T, s=18, label=genre)
ax.set(xlabel="first t-SNE dimension", ylabel="second t-SNE dimension")
ax.legend()
plt.show()

# %%
# A picture may deceive. How often does an item's nearest neighbour in the embedding,
# not in the picture, have the item's genre, and how often does any item have it? The
# genres form loose groups, and neighbours share them more often than by chance,
# although the model was never shown a genre.

_, neighbors = (
    NearestNeighbors(n_neighbors=1, metric="cosine").fit(embedding).kneighbors()
)
for genre in shown:
    has = np.array([genre in of_item for of_item in genres])
    nearest = has[neighbors[has, 0]].mean()
    print(f"{genre:>9}: {nearest:.2f} of the nearest, {has.mean():.2f} of all")

# %%
# For the neighbours themselves there is
# :meth:`~sklearn_recvae.RecVAERecommender.similar_items`.

item = np.flatnonzero(titles == "Toy Story (1995)")[0]
for neighbor in model.similar_items([item], k=5)[0]:
    print(titles[neighbor], "-", movielens.item_genres[neighbor])
