"""Damaged and crafted files of models, and what comes of loading them.

An outcome with a word in capitals must not occur.
"""

import hashlib
import json
import tempfile
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
from sklearn.frozen import FrozenEstimator

import sklearn_recvae
from sklearn_recvae import BlendedRecommender, EASERecommender, RecVAERecommender
from sklearn_recvae.datasets import make_interactions

N_USERS = 30
# Of small models, and of models with arrays that are mapped into memory.
N_ITEMS, N_ITEMS_OF_MAPPED = 20, 520
LENGTH_BYTES, ALIGNMENT = 8, 64
KEY = "sklearn_recvae"
# What stands in JSON where something else should.
ODD_VALUES = [
    *(None, True, False, 0, 1, -1, 3, 10**9, 10**30, 0.5, -1e308, float("nan")),
    *(float("inf"), "", "text", "BlendedRecommender", "__all__", "0.coef_", "load"),
    *([], {}, [[]], [None], [0.5, 0.5], [True], [1] * 1000, {"estimator": "text"}),
    {"estimator": "EASERecommender", "parameters": {}},
]


def try_damaged(seeds):
    """Load files with bytes that were changed, lost, repeated or put in."""
    return _try(seeds, partial(_damage, _anywhere))


def try_damaged_headers(seeds):
    """Map files into memory whose headers were damaged."""
    return _try(seeds, partial(_damage, _in_the_header), mmap=True)


def try_damaged_arrays(seeds):
    """Map files into memory whose arrays were damaged, and use what comes of it."""
    return _try(seeds, partial(_damage, _in_the_arrays), mmap=True)


def try_crafted(seeds):
    """Load files in which something is odd, but every digest is right."""
    return _try(seeds, _craft)


def try_crafted_and_mapped(seeds):
    """Map such files into memory."""
    return _try(seeds, _craft, mmap=True)


def _try(seeds, change, mmap=False):
    n_items = N_ITEMS_OF_MAPPED if mmap else N_ITEMS
    X, _, _ = make_interactions(N_USERS, n_items, random_state=0)
    outcomes = Counter()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model")
        whole = []
        for model in _fit_models(X):
            model.save(path)
            whole.append(path.read_bytes())
        for seed in seeds:
            rng = np.random.default_rng(seed)
            what, content, may_load = change(whole[seed % len(whole)], rng)
            path.write_bytes(content)
            outcome = _outcome(path, X, mmap, may_load)
            outcomes[f"{what}: {outcome}"] += 1
        if [file.name for file in Path(folder).iterdir()] != ["model"]:
            outcomes["WROTE A FILE"] += 1
    return outcomes


def _fit_models(X):
    # Wide where it is to be mapped: arrays below 1 MB are read.
    hidden_dim = 600 if X.shape[1] == N_ITEMS_OF_MAPPED else 8
    recvae = RecVAERecommender(
        4, hidden_dim=hidden_dim, n_hidden_layers=1, max_iter=2, random_state=0
    )
    ids = [f"item {number}" for number in range(X.shape[1])]
    recvae.fit(X, X_val=X, item_ids=ids)
    ease = EASERecommender().fit(X)
    parts = [("recvae", FrozenEstimator(recvae)), ("ease", EASERecommender())]
    return recvae, ease, BlendedRecommender(parts, weights=[1, 2]).fit(X)


def _outcome(path, X, mmap, may_load):
    """Say what comes of loading and using what is loaded."""
    try:
        loaded = sklearn_recvae.load(path, mmap=mmap)
    except ValueError as error:
        return "ValueError" if str(path) in str(error) else "DOES NOT SAY which file"
    except Exception as error:
        return f"RAISES {type(error).__name__}"
    if not may_load:
        return "is LOADED"
    try:
        with np.errstate(all="ignore"):
            loaded.predict(X)
            loaded.recommend(X, k=3)
            loaded.explain(X, np.zeros(X.shape[0], dtype=int))
        if not mmap:
            loaded.save(path)
            sklearn_recvae.load(path)
    except Exception as error:
        return f"loaded, BUT THEN {type(error).__name__}"
    return "loaded, and can be used"


def _damage(choose_places, content, rng):
    place, other = choose_places(content, rng)
    before, part, after = content[:place], content[place:other], content[other:]
    flipped = bytes([content[place] ^ rng.integers(1, 256)]) + content[place + 1 :]
    damages = {
        "a byte changed": lambda: before + flipped,
        "a part zeroed": lambda: before + bytes(len(part)) + after,
        "a part that is noise": lambda: before + rng.bytes(len(part)) + after,
        "cut short": lambda: before,
        "a part left out": lambda: before + after,
        "a part repeated": lambda: before + part + part + after,
        "bytes put in": lambda: before + rng.bytes(rng.integers(1, 99)) + part + after,
    }
    # Within arrays that are mapped, only what keeps the size of the file is not seen.
    names = list(damages)[: 3 if choose_places is _in_the_arrays else None]
    damage = rng.choice(names)
    damaged = damages[damage]()
    if damaged == content:  # zeros for zeros
        return _damage(choose_places, content, rng)
    return damage, damaged, choose_places is _in_the_arrays


def _anywhere(content, rng):
    return np.sort(rng.integers(len(content), size=2))


def _in_the_header(content, rng):
    return np.sort(rng.integers(_length_of_header(content), size=2))


def _in_the_arrays(content, rng):
    return np.sort(rng.integers(_length_of_header(content), len(content), size=2))


def _length_of_header(content):
    return LENGTH_BYTES + int.from_bytes(content[:LENGTH_BYTES], "little")


def take_apart(content):
    """Give the fields of the header, the JSON in it, and the bytes of each array."""
    begin = _length_of_header(content)
    fields = json.loads(content[LENGTH_BYTES:begin])
    said = json.loads(fields.pop("__metadata__")[KEY])
    parts = {}
    for name, field in fields.items():
        first, last = field["data_offsets"]
        parts[name] = content[begin + first : begin + last]
    return fields, said, parts


def put_together(fields, said, parts):
    """Make a file of fields, JSON and arrays, with the digest that fits."""
    digest = hashlib.sha256(_lay_out(fields, said, "")).hexdigest()
    return _lay_out(fields, said, digest) + b"".join(parts.values())


def _lay_out(fields, said, digest):
    said = {name: value for name, value in said.items() if name != "sha256"}
    text = json.dumps({**said, "sha256": digest})
    header = json.dumps({"__metadata__": {KEY: text}, **fields}).encode()
    header += b" " * (-(LENGTH_BYTES + len(header)) % ALIGNMENT)
    return len(header).to_bytes(LENGTH_BYTES, "little") + header


def _craft(content, rng):
    fields, said, parts = take_apart(content)
    crafts = {
        "odd value": lambda: change_value(said, rng),
        "odd sizes": lambda: _change_sizes(said, rng),
        "odd array": lambda: _change_array(fields, said, parts, rng),
    }
    craft = rng.choice(list(crafts), p=[0.6, 0.1, 0.3])
    crafts[craft]()
    return craft, put_together(fields, said, parts), True


def change_value(tree, rng, kept=("format", "format_version", "sha256")):
    """Put something odd for a value, take it away, or add another one."""
    places = [(owner, key) for owner, key in _walk(tree) if key not in kept]
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


def _change_sizes(said, rng):
    """Claim other sizes of networks and matrices."""
    sizes = [
        (owner, key)
        for owner, key in _walk(said)
        if key in ("n_features_in_", "n_iter_")
        or (isinstance(owner, list) and type(owner[key]) is int)
    ]
    owner, key = sizes[rng.integers(len(sizes))]
    owner[key] = [0, -1, 2, 10**6, 10**9, 10**18][rng.integers(6)]


def _change_array(fields, said, parts, rng):
    """Put another array in the place of one, rightly described."""
    name = rng.choice(list(parts))
    shape = fields[name]["shape"]
    changes = [
        lambda: np.full(shape, np.nan, np.float32),
        lambda: np.zeros(shape, np.int64),
        lambda: np.zeros(shape, np.float64),
        lambda: np.ones([*shape[:-1], shape[-1] - 1], np.float32),
        lambda: np.ones([1, *shape], np.float32),
        lambda: np.ones([0, *shape[1:]], np.float32),
        lambda: np.zeros((), np.float32),
        lambda: np.frombuffer(b'["a", "a", 3]', np.uint8),
        lambda: np.frombuffer(b"[" * 5000, np.uint8),
    ]
    change = rng.integers(len(changes) + 3)
    if change == len(changes):
        del parts[name]
    else:
        if change == len(changes) + 1:
            name = f"{name}.more"
        elif change == len(changes) + 2:
            name = rng.choice(
                ["feature_names_in_", "item_ids_", "x", "-1.coef_", "", "__metadata__"]
            )
        array = changes[change % len(changes)]()
        parts[name] = array.tobytes()
        fields[name] = {"dtype": _name_of_dtype(array), "shape": list(array.shape)}
    begin = 0
    for name in list(fields):
        if name not in parts:
            del fields[name]
            continue
        end = begin + len(parts[name])
        fields[name]["data_offsets"] = [begin, end]
        begin = end
    said["arrays"] = {
        name: hashlib.sha256(part).hexdigest() for name, part in parts.items()
    }


def _name_of_dtype(array):
    kind = {"f": "F", "i": "I", "u": "U"}[array.dtype.kind]
    return f"{kind}{8 * array.itemsize}"
