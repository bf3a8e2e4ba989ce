"""
Grid search over a pipeline of ratings
======================================

:class:`~sklearn.preprocessing.Binarizer` turns ratings into interactions, and
:class:`~sklearn.model_selection.GridSearchCV` tunes the pipeline. Rows are users, so a
test fold has users whom the model has not seen.
"""

# %%
# The loader thresholds the ratings by itself and keeps the interactions alone. Here the
# ratings are read from the downloaded file, and
# :class:`~sklearn_recvae.preprocessing.InteractionEncoder` makes a matrix of them. Its
# columns are the films that five or more users have rated.

import zipfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import get_data_home
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Binarizer

from sklearn_recvae import RecVAERecommender
from sklearn_recvae.datasets import fetch_movielens
from sklearn_recvae.preprocessing import InteractionEncoder

movielens = fetch_movielens("latest-small", threshold=None, min_item_interactions=5)
path = Path(get_data_home(), "sklearn_recvae", "ml-latest-small.zip")
with zipfile.ZipFile(path).open("ml-latest-small/ratings.csv") as file:
    table = np.genfromtxt(file, delimiter=",", names=True, dtype=None)
encoder = InteractionEncoder(
    user="userId",
    item="movieId",
    weight="rating",
    item_ids=movielens.item_ids,
    handle_unknown="ignore",
)
X = encoder.fit_transform({name: table[name] for name in table.dtype.names})

# %%
# Test users are scored by NDCG@100: their rows are split into what the model sees and
# what it has to find.

model = RecVAERecommender(50, hidden_dim=100, max_iter=20, random_state=0)
grid = {
    "recvaerecommender__gamma": [0.001, 0.005, 0.02],
    "recvaerecommender__noise_rate": [0.3, 0.6],
}
cv = KFold(3, shuffle=True, random_state=0)
search = GridSearchCV(
    make_pipeline(Binarizer(threshold=3.5), model), grid, cv=cv, error_score="raise"
)
search.fit(X)

# %%
# Means and standard errors over the folds. Three folds give a rough standard error;
# they share most of their training users, so it is a guide, not a test.

shape = [len(values) for values in grid.values()]
means = search.cv_results_["mean_test_score"].reshape(shape)
errors = search.cv_results_["std_test_score"].reshape(shape) / (cv.n_splits - 1) ** 0.5
gammas, noise_rates = grid.values()

figure, ax = plt.subplots(figsize=(7, 4), layout="constrained")
for column, noise_rate in enumerate(noise_rates):
    ax.errorbar(
        np.multiply(gammas, 1.03 ** (column - 0.5)),  # aside, so that bars stay apart
        means[:, column],
        errors[:, column],
        fmt="o-",
        capsize=3,
        label=noise_rate,
    )
ax.set_xscale("log")
ax.minorticks_off()
ax.set_xticks(gammas, gammas)
ax.set(xlabel="gamma", ylabel="NDCG@100, mean and standard error")
ax.legend(title="noise_rate")
plt.show()

# %%
# A pipeline does not forward `recommend`. The steps before the last one prepare the
# matrix, and the last one recommends.

best = search.best_estimator_
print(search.best_params_)
user = 0
for item in best[-1].recommend(best[:-1].transform(X[[user]]), k=10)[0]:
    print(movielens.item_titles[item])
