"""Damaged and crafted files of models, and what comes of loading them.

An outcome with a word in capitals must not occur.
"""

import hashlib
import io
import json
import tempfile
from collections import Counter
from pathlib import Path
from zipfile import ZipFile

import numpy as np
from sklearn.frozen import FrozenEstimator

from sklearn_recvae import BlendedRecommender, EASERecommender, RecVAERecommender
from sklearn_recvae.datasets import make_interactions

N_USERS, N_ITEMS = 30, 20
# What stands in JSON where something else should.
ODD_VALUES = [
    *(None, True, False, 0, 1, -1, 3, 10**9, 10**30, 0.5, -1e308, float("nan")),
    *(float("inf"), "", "text", "BlendedRecommender", "__all__", "0.coef_"),
    *([], {}, [[]], [None], [0.5, 0.5], [True], [1] * 1000, {"estimator": "text"}),
    {"estimator": "EASERecommender", "parameters": {}},
]


def try_damaged(seeds):
    """Load files with bytes that were changed, lost, repeated or left out."""
    return _try(seeds, _damage, _must_be_the_same)


def try_crafted(seeds):
    """Load files in which something is odd, but every digest is right."""
    return _try(seeds, _craft, _must_be_usable)


def _try(seeds, change, check):
    X, _, _ = make_interactions(N_USERS, N_ITEMS, random_state=0)
    outcomes = Counter()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.npz")
        models = _fit_models(X)
        whole = []
        for model in models:
            model.save(path)
            whole.append(path.read_bytes())
        for seed in seeds:
            rng = np.random.default_rng(seed)
            number = seed % len(models)
            what, content = change(whole[number], rng)
            path.write_bytes(content)
            try:
                loaded = type(models[number]).load(path)
            except ValueError:
                outcome = "ValueError"
            except Exception as error:
                outcome = f"RAISES {type(error).__name__}"
            else:
                outcome = check(loaded, models[number], X, path)
            outcomes[f"{what}: {outcome}"] += 1
        if [file.name for file in Path(folder).iterdir()] != ["model.npz"]:
            outcomes["WROTE A FILE"] += 1
    return outcomes


def _fit_models(X):
    recvae = RecVAERecommender(4, hidden_dim=8, max_iter=2, random_state=0)
    ids = [f"item {number}" for number in range(N_ITEMS)]
    recvae.fit(X, X_val=X, item_ids=ids)
    ease = EASERecommender().fit(X)
    parts = [("recvae", FrozenEstimator(recvae)), ("ease", EASERecommender())]
    return recvae, ease, BlendedRecommender(parts, weights=[1, 2]).fit(X)


def _must_be_the_same(loaded, model, X, path):
    same = (loaded.predict(X) == model.predict(X)).all()
    return "loaded, the same model" if same else "loaded, ANOTHER MODEL"


def _must_be_usable(loaded, model, X, path):
    try:
        with np.errstate(all="ignore"):
            loaded.predict(X)
            loaded.recommend(X, k=3)
        loaded.save(path)
        type(loaded).load(path)
    except Exception as error:
        return f"loaded, BUT THEN {type(error).__name__}"
    return "loaded, and can be used"


def _damage(content, rng):
    place, other = np.sort(rng.integers(len(content), size=2))
    damages = {
        "cut short": lambda: content[:place],
        "a byte changed": lambda: (
            content[:place]
            + bytes([content[place] ^ rng.integers(1, 256)])
            + content[place + 1 :]
        ),
        "a part zeroed": lambda: (
            content[:place] + bytes(other - place) + content[other:]
        ),
        "a part left out": lambda: content[:place] + content[other:],
        "a part repeated": lambda: content[:other] + content[place:],
        "noise": lambda: rng.bytes(len(content)),
    }
    damage = rng.choice(list(damages))
    return damage, damages[damage]()


def _craft(content, rng):
    with ZipFile(io.BytesIO(content)) as archive:
        header = json.loads(archive.read("header.json"))
        parts = {
            name: np.load(io.BytesIO(archive.read(f"{name}.npy")))
            for name in header["arrays"]
        }
    del header["sha256"]
    crafts = {
        "odd value": lambda: _change_value(header, rng),
        "odd sizes": lambda: _change_sizes(header, rng),
        "odd array": lambda: _change_array(header["arrays"], parts, rng),
    }
    craft = rng.choice(list(crafts), p=[0.6, 0.1, 0.3])
    crafts[craft]()
    return craft, _as_file(header, parts)


def _as_file(header, parts):
    """Make a file of header and arrays, with the digest that fits."""
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode()).hexdigest()
    stream = io.BytesIO()
    with ZipFile(stream, "w") as archive:
        archive.writestr("header.json", json.dumps({**header, "sha256": digest}))
        for name, array in parts.items():
            with archive.open(f"{name}.npy", "w") as part:
                np.save(part, array)
    return stream.getvalue()


def _change_value(header, rng):
    """Put something odd for a value, take it away, or add another one."""
    places = [
        (owner, key)
        for owner, key in _walk(header)
        if key not in ("format", "format_version")
    ]
    owner, key = places[rng.integers(len(places))]
    odd = ODD_VALUES[rng.integers(len(ODD_VALUES))]
    if (change := rng.integers(4)) == 0:
        del owner[key]
    elif change == 1 and isinstance(owner, dict):
        owner["more"] = odd
    elif change == 1:
        owner.append(owner[key])
    else:
        owner[key] = odd


def _walk(tree):
    """Yield each place in nested dicts and lists."""
    keys = list(tree) if isinstance(tree, dict) else range(len(tree))
    for key in keys:
        yield tree, key
        if isinstance(tree[key], dict | list):
            yield from _walk(tree[key])


def _change_sizes(header, rng):
    """Claim other sizes of networks and matrices."""
    sizes = [
        (owner, key)
        for owner, key in _walk(header)
        if key in ("n_features_in_", "n_iter_")
        or (isinstance(owner, list) and type(owner[key]) is int)
    ]
    owner, key = sizes[rng.integers(len(sizes))]
    owner[key] = [0, -1, 2, 10**6, 10**9, 10**18][rng.integers(6)]


def _change_array(described, parts, rng):
    """Put another array in the place of one, rightly described."""
    name = rng.choice(list(parts))
    array = parts[name]
    changes = [
        lambda: np.full(array.shape, np.nan, np.float32),
        lambda: np.zeros(array.shape, np.int64),
        lambda: array.astype(np.float64),
        lambda: np.atleast_1d(array)[..., :-1],
        lambda: array[None],
        lambda: np.atleast_1d(array)[:0],
        lambda: np.zeros((), array.dtype),
        lambda: np.frombuffer(b'["a", "a", 3]', np.uint8),
        lambda: np.frombuffer(b"[" * 5000, np.uint8),
    ]
    change = rng.integers(len(changes) + 3)
    if change == len(changes):
        del parts[name], described[name]
        return
    if change == len(changes) + 1:
        name = f"{name}.more"
    elif change == len(changes) + 2:
        name = rng.choice(["feature_names_in_", "item_ids_", "x", "-1.coef_", ""])
    changed = changes[change % len(changes)]()
    parts[name] = np.asarray(changed, order="C")
    described[name] = {
        "dtype": str(changed.dtype),
        "shape": list(changed.shape),
        "sha256": hashlib.sha256(parts[name]).hexdigest(),
    }
