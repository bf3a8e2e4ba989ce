"""Hash what fits give, to show that a change of the code changed no number.

RecVAE with each switch of the paper, averaging, ImplicitSLIM, both precisions,
validation, a resumed fit and a grown catalogue; then EASE and a blend. Run it at the
commit before and at the commit after, on one machine with one number of threads:

    export OMP_NUM_THREADS=1
    PYTHONPATH=before python examples/benchmarks/identity.py --output before.json
    PYTHONPATH=after python examples/benchmarks/identity.py --compare before.json

It uses public names only, so that one copy of this script runs at both commits.
"""

import argparse
import hashlib
import json
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from machine import describe_machine
from scipy.sparse import csr_array, load_npz

from sklearn_recvae import (
    BlendedRecommender,
    EASERecommender,
    RecVAERecommender,
)
from sklearn_recvae.datasets import make_interactions
from sklearn_recvae.model_selection import strong_generalization_split

PARTS = {
    "X_train": "train",
    "X_val": "val_fold_in",
    "y_val": "val_held_out",
    "X_test": "test_fold_in",
}
N_ITERATIONS = 2
# Items that are not there at first where the catalogue grows.
N_NEW_ITEMS = 20

SWITCHES = {
    "paper": {},
    "no dense connections": {"dense_connections": False},
    "beta": {"gamma": None, "beta": 0.2},
    "plain prior": {"prior_weights": (1, 0, 0)},
    "no noise": {"noise_rate": 0.0},
    "decoder noise": {"decoder_noise": True},
    "not alternating": {"alternating": False},
    "no novelties": {
        "dense_connections": False,
        "n_hidden_layers": 1,
        "gamma": None,
        "beta": 0.2,
        "prior_weights": (1, 0, 0),
        "alternating": False,
    },
    "ema_decay": {"ema_decay": 0.5},
    "slim_interval": {"slim_interval": 2, "slim_min_count": 5},
    "float32": {"precision": "float32"},
    # Narrow, since bfloat16 takes long where the hardware has none.
    "mixed": {"precision": "mixed", "latent_dim": 8, "hidden_dim": 16},
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    data = os.environ.get("SKLEARN_RECVAE_DATA")
    parser.add_argument(
        "--data",
        type=Path,
        default=Path(data, "ml-1m", "split") if data else None,
        help="folder of a split, by default $SKLEARN_RECVAE_DATA/ml-1m/split",
    )
    parser.add_argument("--users", type=int, default=500, help="training users to take")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, made data")
    parser.add_argument("--output", type=Path, help="write the hashes to this file")
    parser.add_argument("--compare", type=Path, help="a file that --output has written")
    args = parser.parse_args()
    if not args.quick and args.data is None:
        parser.error("pass --data or --quick, or set SKLEARN_RECVAE_DATA")

    result = {"circumstances": circumstances(args), "settings": {}}
    for name, hashes in run_settings(args):
        result["settings"][name] = hashes
        print(f"{name:22}", *(f"{k} {v}" for k, v in hashes.items()), sep="  ")
        sys.stdout.flush()
    if args.output:
        args.output.write_text(json.dumps(result, indent=1))
    if args.compare:
        differences = compare(json.loads(args.compare.read_text()), result)
        print("\n".join(differences) or "the same")
        sys.exit(bool(differences))


def circumstances(args):
    """Name what numbers depend on beside the code."""
    machine = describe_machine()
    names = ("processor", "torch_threads", "versions")
    data = "made" if args.quick else f"{args.users} users of {args.data.absolute()}"
    return {"data": data, **{name: machine[name] for name in names}}


def compare(before, after):
    """List what differs, in circumstances or in a setting."""
    differences = []
    for part in ("circumstances", "settings"):
        old, new = before[part], after[part]
        differences += [
            f"different: {name} was {old.get(name)} and is {new.get(name)}"
            for name in {**old, **new}
            if old.get(name) != new.get(name)
        ]
    return differences


def run_settings(args):
    """Yield the name of each setting and its hashes."""
    split = make_split() if args.quick else load_split(args.data, args.users)
    sizes = {"device": "cpu", "max_iter": N_ITERATIONS, "gamma": 0.005}
    if args.quick:
        sizes |= {"latent_dim": 8, "hidden_dim": 16}
    for name, switches in SWITCHES.items():
        yield name, fit_plainly(split, sizes | switches)
    yield "validation", fit_with_validation(split, sizes)
    yield "held-out users", fit_with_early_stopping(split, sizes)
    yield "resumed", fit_resumed(split, sizes)
    yield "warm start", fit_warmly(split, sizes)
    yield "grown", fit_grown(split, sizes)
    yield "EASE", hash_model(EASERecommender(300).fit(split["X_train"]), split)
    yield "blend", fit_blend(split, sizes)


def fit_plainly(split, parameters):
    """Fit without validation."""
    with Randomness() as randomness:
        model = RecVAERecommender(random_state=randomness.state, **parameters)
        model.fit(split["X_train"])
        return hash_model(model, split, randomness)


def fit_with_validation(split, sizes):
    """Stop early, by validation users that are passed."""
    with Randomness() as randomness:
        model = RecVAERecommender(
            early_stopping=True,
            n_iter_no_change=1,
            random_state=randomness.state,
            **sizes,
        )
        model.fit(split["X_train"], X_val=split["X_val"], y_val=split["y_val"])
        return hash_model(model, split, randomness)


def fit_with_early_stopping(split, sizes):
    """Stop early, by training users that the model holds out itself."""
    with Randomness() as randomness:
        model = RecVAERecommender(
            early_stopping=True, random_state=randomness.state, **sizes
        )
        model.fit(split["X_train"])
        return hash_model(model, split, randomness)


def fit_resumed(split, sizes):
    """Stop half way, and go on from the checkpoint with a new estimator."""
    with Randomness() as randomness, tempfile.TemporaryDirectory() as folder:
        for max_iter in (N_ITERATIONS // 2, N_ITERATIONS):
            # A fit that goes on takes no RandomState.
            model = RecVAERecommender(random_state=0, **sizes | {"max_iter": max_iter})
            model.fit(split["X_train"], checkpoint=folder)
        return hash_model(model, split, randomness)


def fit_warmly(split, sizes):
    """Fit anew, from the weights of the last fit."""
    with Randomness() as randomness:
        model = RecVAERecommender(
            warm_start=True,
            random_state=randomness.state,
            **sizes | {"max_iter": N_ITERATIONS // 2},
        )
        model.fit(split["X_train"]).fit(split["X_train"])
        return hash_model(model, split, randomness)


def fit_grown(split, sizes):
    """Fit on a part of the catalogue, then add the rest."""
    with Randomness() as randomness:
        model = RecVAERecommender(
            random_state=randomness.state, **sizes | {"max_iter": N_ITERATIONS // 2}
        )
        model.fit(split["X_train"][:, :-N_NEW_ITEMS]).add_items(N_NEW_ITEMS)
        return hash_model(model, split, randomness)


def fit_blend(split, sizes):
    """Blend both, with learned weights."""
    with Randomness() as randomness:
        recvae = RecVAERecommender(random_state=randomness.state, **sizes)
        model = BlendedRecommender(
            [("recvae", recvae), ("ease", EASERecommender(300))],
            weights="auto",
            random_state=randomness.state,
        )
        model.fit(split["X_train"], X_val=split["X_val"], y_val=split["y_val"])
        return hash_model(model, split, randomness)


class Randomness:
    """A RandomState for a model, and a watch over the global generators."""

    def __enter__(self):
        self.state = np.random.RandomState(0)
        self._before = self._global_state()
        return self

    def __exit__(self, *error):
        pass

    def digest(self):
        """Hash the state that the model was given, as the model has left it."""
        if self._global_state() != self._before:
            return "A GLOBAL GENERATOR WAS USED"
        return digest(*self.state.get_state(legacy=True)[1:3])

    @staticmethod
    def _global_state():
        numpy_state = np.random.get_state(legacy=True)[1:3]  # noqa: NPY002
        return digest(*numpy_state, torch.get_rng_state())


def hash_model(model, split, randomness=None):
    """Hash what a fitted model gives, and what it gives after one more iteration."""
    X = split["X_test"]
    hashes = {"predictions": digest(model.predict(X))}
    hashes["lists"] = digest(*model.recommend(X, k=20, return_scores=True))
    if hasattr(model, "history_"):
        names = ("likelihood", "kl", "validation_score")
        hashes["history"] = digest(*(model.history_[name] for name in names))
    if hasattr(model, "partial_fit"):
        # It depends on the moments of the optimisers and on their random numbers.
        model.partial_fit(split["X_train"])
        hashes["partial_fit"] = digest(model.predict(X))
    if randomness is not None:
        hashes["random_state"] = randomness.digest()
    return hashes


def digest(*arrays):
    """Give the first 16 digits of a SHA-256."""
    sha = hashlib.sha256()
    for array in arrays:
        sha.update(np.ascontiguousarray(array))
    return sha.hexdigest()[:16]


def load_split(folder, n_users):
    """Read the parts that are needed."""
    split = {
        name: csr_array(load_npz(folder / f"{file}.npz"))
        for name, file in PARTS.items()
    }
    return split | {"X_train": split["X_train"][:n_users]}


def make_split():
    """Make data, small enough for a test."""
    X, _, _ = make_interactions(80, 60, mean_interactions=15, random_state=0)
    split = strong_generalization_split(X, 10, 10, random_state=0)
    return {name: split[name] for name in PARTS}


if __name__ == "__main__":
    main()
