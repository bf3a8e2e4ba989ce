"""Try the installed package: all its modules, and a model from fit to file."""

import importlib
import pkgutil
import tempfile
from importlib.metadata import version
from pathlib import Path

import sklearn_recvae
from sklearn_recvae import RecVAERecommender
from sklearn_recvae.datasets import make_interactions

assert Path(sklearn_recvae.__file__).parent.parent.name == "site-packages"
assert version("sklearn_recvae") == sklearn_recvae.__version__
for module in pkgutil.walk_packages(sklearn_recvae.__path__, "sklearn_recvae."):
    importlib.import_module(module.name)

X, _, _ = make_interactions(60, 40, random_state=0)
model = RecVAERecommender(4, hidden_dim=8, max_iter=2, random_state=0).fit(X)
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder, "model.safetensors")
    model.save(path)
    loaded = sklearn_recvae.load(path)
assert (loaded.recommend(X) == model.recommend(X)).all()
print(f"{sklearn_recvae.__file__} works")
