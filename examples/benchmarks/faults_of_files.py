"""What damaged and crafted files of models lead to when they are loaded."""

import copy
import hashlib
import io
import json
import tempfile
import warnings
import zipfile
from collections import Counter
from pathlib import Path

import damage
import numpy as np
from faults_counted import WRONG, in_processes

from sklearn_recvae import EASERecommender, RecVAERecommender
from sklearn_recvae.datasets import make_interactions

MORE_BYTES = 2**30  # of address space that loading may take
HEADER = "header.json"


def study_files(args):
    """Load damaged files, crafted ones and zips that lie, as many of each."""
    studies = load_damaged, load_crafted, load_lying
    return sum((in_processes(study, args.count) for study in studies), Counter())


def load_damaged(seeds):
    limit_memory()
    return damage.try_damaged(seeds)


def load_crafted(seeds):
    limit_memory()
    return damage.try_crafted(seeds)


def load_lying(seeds):
    warnings.simplefilter("ignore")  # of zipfile, of names that are there twice
    limit_memory()
    X, _, _ = make_interactions(30, 20, random_state=0)
    recvae = RecVAERecommender(4, hidden_dim=8, max_iter=1, random_state=0)
    models = [recvae.fit(X), EASERecommender().fit(X)]
    outcomes = Counter()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.npz")
        for seed in seeds:
            rng = np.random.default_rng(seed)
            model = models[seed % len(models)]
            model.save(path)
            lie = rng.choice(list(LIES))
            path.write_bytes(LIES[lie](path.read_bytes(), rng))
            outcomes[f"{lie}: {load(path, model, X)}"] += 1
    return outcomes


def limit_memory():
    """Let this process fail if it asks for much more memory than it has by now."""
    import resource  # is not on Windows

    statm = Path("/proc/self/statm")
    if statm.exists():
        in_use = int(statm.read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (in_use + MORE_BYTES,) * 2)


def load(path, model, X):
    """Say what comes of loading."""
    try:
        loaded = type(model).load(path)
    except ValueError:
        return "ValueError"
    except Exception as error:
        return f"{WRONG} {type(error).__name__}"
    same = np.array_equal(loaded.predict(X), model.predict(X))
    return "loaded, the same model" if same else f"{WRONG} loaded, another model"


def unpack(content):
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return [(info.filename, archive.read(info)) for info in archive.infolist()]


def pack(members):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name), content)
    return stream.getvalue()


def choose_array(members, rng):
    return rng.choice([n for n, (name, _) in enumerate(members) if name != HEADER])


def change_length_of_header(content, rng):
    """Have an array's own header say that it is shorter or longer."""
    members = unpack(content)
    number = choose_array(members, rng)
    name, array = members[number]
    length = int(rng.integers(2**16)).to_bytes(2, "little")
    members[number] = name, array[:8] + length + array[10:]
    return pack(members)


def claim_a_huge_shape(content, rng):
    """Have an array's own header claim what no memory holds."""
    members = unpack(content)
    number = choose_array(members, rng)
    name, array = members[number]
    values = np.load(io.BytesIO(array))
    stream = io.BytesIO()
    shape = tuple(int(rng.choice([10**11, 10**18, 2**40, 0, -1])) for _ in range(2))
    described = {"descr": values.dtype.str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, described)
    members[number] = name, stream.getvalue() + values.tobytes()
    return pack(members)


def repeat_a_name(content, rng):
    members = unpack(content)
    name, _ = members[rng.integers(len(members))]
    members.append((name, rng.bytes(100)))
    return pack(members)


def overlap_members(content, rng):
    """Have the zip's directory lead two names to the same place."""
    directory = content.index(b"PK\1\2")
    entries = [directory]
    while (found := content.find(b"PK\1\2", entries[-1] + 4)) > 0:
        entries.append(found)
    one, other = rng.choice(entries, size=2)
    place = content[other + 42 : other + 46]  # where the contents of a member begin
    return content[: one + 42] + place + content[one + 46 :]


def change_description(content, rng):
    """Have the header describe an array otherwise; the digest is right."""
    members = dict(unpack(content))
    header = json.loads(members[HEADER])
    names = list(header["arrays"])
    described = header["arrays"][names[rng.integers(len(names))]]
    field = rng.choice(list(described))
    values = [*VALUES, [10**11], [2**62, 4], [0], [-1, -20], ["20", 4], "object", "<f2"]
    described[field] = copy.deepcopy(values[rng.integers(len(values))])
    return pack(with_digest(header, members).items())


def with_digest(header, members):
    del header["sha256"]
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    header["sha256"] = digest.hexdigest()
    return {**members, HEADER: json.dumps(header)}


VALUES = [None, [], {}, "", "x", True, -1, 0, 10**9, 10**400, 0.5, -1e308, [1, 2], [[]]]
LIES = {
    "length of a header changed": change_length_of_header,
    "a huge shape": claim_a_huge_shape,
    "a name twice": repeat_a_name,
    "members overlap": overlap_members,
    "description changed, right digest": change_description,
}
