"""What damaged and crafted files of models lead to when they are loaded."""

import copy
import tempfile
from collections import Counter
from pathlib import Path

import damage
import numpy as np
from faults_counted import WRONG, in_processes
from sklearn.frozen import FrozenEstimator

import sklearn_recvae
from sklearn_recvae import BlendedRecommender, EASERecommender, RecVAERecommender
from sklearn_recvae.datasets import make_interactions

MORE_BYTES = 2**30  # of address space that loading may take


def study_files(args):
    """Load, or map, damaged files, crafted ones, and such that lie: as many of each."""
    outcomes = Counter()
    for study in STUDIES:
        for outcome, count in in_processes(STUDIES[study], args.count, 250).items():
            outcomes[f"{study}: {outcome}"] += count
    return outcomes


def within_limits(study, seeds):
    """Run a study in a process that fails if it asks for much more memory."""
    import resource  # is not on Windows

    statm = Path("/proc/self/statm")
    if statm.exists():
        in_use = int(statm.read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (in_use + MORE_BYTES,) * 2)
    return study(seeds)


def load_damaged(seeds):
    return within_limits(damage.try_damaged, seeds)


def map_damaged_headers(seeds):
    return within_limits(damage.try_damaged_headers, seeds)


def map_damaged_arrays(seeds):
    return within_limits(damage.try_damaged_arrays, seeds)


def load_crafted(seeds):
    return within_limits(damage.try_crafted, seeds)


def map_crafted(seeds):
    return within_limits(damage.try_crafted_and_mapped, seeds)


def load_lying(seeds):
    return within_limits(try_lying, seeds)


def try_lying(seeds):
    """Load and map files whose headers lie about where arrays are, digests right."""
    X, _, _ = make_interactions(30, 20, random_state=0)
    recvae = RecVAERecommender(4, hidden_dim=8, max_iter=1, random_state=0)
    parts = [("recvae", FrozenEstimator(recvae.fit(X))), ("ease", EASERecommender())]
    models = [recvae, BlendedRecommender(parts).fit(X)]
    outcomes = Counter()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model")
        for seed in seeds:
            rng = np.random.default_rng(seed)
            models[seed % len(models)].save(path)
            fields, said, parts = damage.take_apart(path.read_bytes())
            lie = rng.choice(list(LIES))
            LIES[lie](fields, rng)
            path.write_bytes(damage.put_together(fields, said, parts))
            outcomes[f"{lie}: {load(path, mmap=bool(seed % 3))}"] += 1
    return outcomes


def load(path, mmap):
    """Say what comes of loading."""
    try:
        sklearn_recvae.load(path, mmap=mmap)
    except ValueError:
        return "ValueError"
    except Exception as error:
        return f"{WRONG} {type(error).__name__}"
    return f"{WRONG} loaded"


def choose_field(fields, rng):
    return fields[rng.choice(list(fields))]


def claim_a_huge_shape(fields, rng):
    field = choose_field(fields, rng)
    field["shape"] = [int(rng.choice([10**11, 10**18, 2**40, -1])) for _ in range(2)]


def overlap(fields, rng):
    """Have an array begin at the place of another one."""
    field = choose_field(fields, rng)
    begin, end = field["data_offsets"]
    shift = int(rng.integers(1, end - begin + 2)) * rng.choice([-1, 1])
    field["data_offsets"] = [int(begin + shift), int(end + shift)]


def reach_out(fields, rng):
    """Have an array end behind the file."""
    choose_field(fields, rng)["data_offsets"][1] += int(rng.integers(1, 10**12))


def swap(fields, rng):
    """List the arrays in another order than they are in."""
    first = next(iter(fields))
    fields[first] = fields.pop(first)


def change_field(fields, rng):
    field = choose_field(fields, rng)
    key = rng.choice(list(field))
    values = [value for value in VALUES if value != field[key]]
    field[key] = copy.deepcopy(values[rng.integers(len(values))])


VALUES = [
    *(None, [], {}, "", "x", True, -1, 0, 10**9, 10**400, 0.5, -1e308, [1, 2], [[]]),
    *([10**11], [2**62, 4], [0], [-1, -20], ["20", 4], "object", "BF16"),
]
LIES = {
    "a huge shape": claim_a_huge_shape,
    "arrays overlap": overlap,
    "an array reaches out": reach_out,
    "another order": swap,
    "an odd field": change_field,
}
STUDIES = {
    "read, damaged": load_damaged,
    "mapped, damaged header": map_damaged_headers,
    "mapped, damaged arrays": map_damaged_arrays,
    "read, crafted, right digest": load_crafted,
    "mapped, crafted, right digest": map_crafted,
    "header lies, right digest": load_lying,
}
