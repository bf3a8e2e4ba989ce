"""Which room of the package may import which, read from the files themselves."""

import ast
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import sklearn_recvae

PACKAGE = Path(sklearn_recvae.__file__).parent
PROJECT = PACKAGE.parent
FACE = "sklearn_recvae"

# Importing these does not import torch.
WITHOUT_TORCH = {
    "_ids",
    "_interactions",
    "_sklearn",
    "_splitting",
    "_tables",
    "_times",
    "_validation",
    "_version",
    "datasets",
    "metrics",
    "model_selection",
    "preprocessing",
}


def name_of(file):
    return ".".join(file.relative_to(PROJECT).with_suffix("").parts).removesuffix(
        ".__init__"
    )


TREES = {
    name_of(file): ast.parse(file.read_text(encoding="utf-8"))
    for file in PACKAGE.rglob("*.py")
}
ROOMS = TREES.keys() - {FACE}


def imports(statements):
    """List the modules that these statements import, of this package and others."""
    found = set()
    for node in statements:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found.add(whole if whole in TREES else node.module)
    return found


IMPORTS = {name: imports(ast.walk(TREES[name])) for name in ROOMS}
AT_IMPORT = {name: imports(TREES[name].body) for name in ROOMS}


def closure(room, graph):
    """Give what a room imports, and what these import, and so on."""
    found, left = set(), [room]
    while left:
        for each in graph.get(left.pop(), ()):
            if each not in found:
                found.add(each)
                left.append(each)
    return found


def is_estimator(room):
    defined = [n for n in TREES[room].body if isinstance(n, ast.ClassDef)]
    return any(node.name.endswith(("Recommender", "Mixin")) for node in defined)


def test_rooms_are_found():
    assert {f"{FACE}.{room}" for room in WITHOUT_TORCH} <= ROOMS
    assert f"{FACE}._training.trainer" in ROOMS
    assert {r for r in ROOMS if is_estimator(r)} >= {f"{FACE}._base", f"{FACE}._ease"}
    assert "torch" in closure(f"{FACE}._recvae", AT_IMPORT)
    assert f"{FACE}._kernels" in closure(f"{FACE}._recvae", AT_IMPORT)


@pytest.mark.parametrize("room", sorted(WITHOUT_TORCH))
def test_import_does_without_torch(room):
    rooms = [r for r in ROOMS if f"{r}.".startswith(f"{FACE}.{room}.")]
    found = set().union(*(closure(each, AT_IMPORT) for each in rooms))
    assert not {name for name in found if name.split(".")[0] == "torch"}


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_no_room_imports_the_face(room):
    # A file has the name of a class, which is looked up when the file is read.
    knows_the_faces = room == f"{FACE}._saving"
    assert (FACE in IMPORTS[room]) == knows_the_faces
    assert FACE not in AT_IMPORT[room], "import the room that has the definition"


def test_training_knows_no_estimator():
    wing = [room for room in ROOMS if room.startswith(f"{FACE}._training")]
    for room in wing:
        assert not [each for each in IMPORTS[room] & ROOMS if is_estimator(each)], room


def test_there_is_no_circle():
    graph = {room: IMPORTS[room] & ROOMS for room in ROOMS}
    list(TopologicalSorter(graph).static_order())  # raises a CycleError


def test_private_names_of_scikit_learn_are_in_one_room():
    for room, tree in TREES.items():
        names = [
            part
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and node.module.startswith("sklearn.")
            for path in (node.module, *(alias.name for alias in node.names))
            for part in path.split(".")
        ]
        private = [name for name in names if name.startswith("_")]
        assert bool(private) == (room == f"{FACE}._sklearn"), room


def test_faces_are_imported_when_they_are_used():
    code = """
import sys
import sklearn_recvae
from sklearn_recvae import datasets, metrics, model_selection, preprocessing

X, _, _ = datasets.make_interactions(60, 30, random_state=0)
model_selection.strong_generalization_split(X, 5, 5)
metrics.ndcg_at_k(X, X.toarray().argsort(axis=1)[:, ::-1])
preprocessing.InteractionEncoder().fit({"user": [1], "item": [2]})
assert set(sklearn_recvae.__all__) < set(dir(sklearn_recvae))
assert "torch" not in sys.modules
from sklearn_recvae import *

assert "torch" in sys.modules
assert EASERecommender is sklearn_recvae.EASERecommender
assert {*sklearn_recvae.__all__} <= {*vars(sklearn_recvae), *globals()}
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_name_that_does_not_exist_is_no_attribute():
    with pytest.raises(
        AttributeError, match="'sklearn_recvae' has no attribute 'RecV'"
    ):
        sklearn_recvae.RecV  # noqa: B018
    assert not hasattr(sklearn_recvae, "__wrapped__")


def test_editors_are_told_the_faces():
    (guarded,) = (node for node in TREES[FACE].body if isinstance(node, ast.If))
    told = {alias.name for node in guarded.body for alias in node.names}
    assert told == set(sklearn_recvae.__all__)


def test_style_is_checked_by_the_same_ruff():
    config = PROJECT / ".pre-commit-config.yaml"
    if not config.is_file():
        pytest.skip("the hooks are in a checkout only")
    pyproject = (PROJECT / "pyproject.toml").read_text(encoding="utf-8")
    (bound,) = re.findall(r'"(ruff[^"]*)"', pyproject)
    hooks = re.findall(r'"(ruff[^"]*)"', config.read_text(encoding="utf-8"))
    assert hooks == [bound, bound]
