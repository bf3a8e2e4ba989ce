"""Every docstring is complete, and what users call has an example."""

import importlib
import inspect
import pkgutil
import re

import pytest

import sklearn_recvae

numpydoc_validate = pytest.importorskip("numpydoc.validate")

# ES01: no extended summary; a short summary can be enough.
# SA01: no See Also section; most objects have no sibling.
ALLOWED = {"ES01", "SA01"}
# Of methods, and of the rooms behind the user-facing ones:
# EX01: no example; the class has them, and the rooms behind have tests.
# RT02: a single return value has a name, as in scikit-learn.
# RT04, PR08: no capital letter; a description may begin with a dtype (float32) or a
#   symbol of the paper (x, log p), which are written small.
ALLOWED_IN_METHODS = ALLOWED | {"EX01", "RT02", "RT04", "PR08"}
# Of the rooms behind the user-facing ones:
# PR01, RT01, YD01: no sections; a method of one sentence names its arguments in it, and
#   the fields of a named tuple have a comment each.
# PR04: no type; "as in the estimator" stands for the list of parameters.
ALLOWED_BEHIND = ALLOWED_IN_METHODS | {"PR01", "RT01", "YD01", "PR04"}

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(sklearn_recvae.__path__, "sklearn_recvae.")
)
ESTIMATORS = ("_recvae", "_multvae", "_ease", "_ease_cv", "_popularity", "_blend")


def is_user_facing(name):
    """Whether a user calls it by name and reads it in the API reference."""
    rooms = tuple(f"sklearn_recvae.{room}." for room in ESTIMATORS)
    return "._" not in name or name.startswith(rooms)


# What a user calls by name: each has an example.
WITH_EXAMPLE = [
    "sklearn_recvae.RecVAERecommender",
    "sklearn_recvae.MultVAERecommender",
    "sklearn_recvae.EASERecommenderCV",
    "sklearn_recvae.PopularityRecommender",
    "sklearn_recvae.SparseEASERecommender",
    "sklearn_recvae.datasets.load_movielens",
    "sklearn_recvae.datasets.fetch_movielens",
    "sklearn_recvae.datasets.load_netflix",
    "sklearn_recvae.datasets.load_msd",
    "sklearn_recvae.datasets.make_interactions",
    "sklearn_recvae.metrics.ndcg_at_k",
    "sklearn_recvae.metrics.recall_at_k",
    "sklearn_recvae.metrics.precision_at_k",
    "sklearn_recvae.metrics.hit_rate_at_k",
    "sklearn_recvae.metrics.mrr_at_k",
    "sklearn_recvae.metrics.map_at_k",
    "sklearn_recvae.metrics.catalogue_coverage_at_k",
    "sklearn_recvae.metrics.novelty_at_k",
    "sklearn_recvae.metrics.mean_popularity_at_k",
    "sklearn_recvae.metrics.ranking_scorer",
    "sklearn_recvae.model_selection.holdout_interactions",
    "sklearn_recvae.model_selection.strong_generalization_split",
    "sklearn_recvae.model_selection.temporal_split",
]


def is_written_in(member, module):
    """Whether the module, or a room of it where it is a package, has the definition."""
    function = inspect.unwrap(member) if callable(member) else member
    written_in = getattr(function, "__module__", None)
    return f"{written_in}.".startswith(f"{module.__name__}.")


def public_objects():
    """Names of modules, and of their public classes, functions and methods."""
    for module_name in MODULES:
        module = importlib.import_module(module_name)
        if re.search(r"^ *(def|class) ", inspect.getsource(module), re.MULTILINE):
            yield module.__name__  # numpydoc fails where a file defines nothing
        for name, member in vars(module).items():
            written_here = inspect.isclass(member) or inspect.isroutine(member)
            if name.startswith("_") or not written_here:
                continue
            if not is_written_in(member, module):
                continue
            yield f"{module.__name__}.{name}"
            if inspect.isclass(member):
                for attribute, value in vars(member).items():
                    if attribute.startswith("_"):
                        continue
                    if inspect.isfunction(value) or isinstance(value, property):
                        yield f"{module.__name__}.{name}.{attribute}"


def errors_of(name, allowed):
    found = numpydoc_validate.validate(name)["errors"]
    return [f"{code}: {text}" for code, text in found if code not in allowed]


@pytest.mark.parametrize("name", sorted(public_objects()))
def test_docstring_is_complete(name):
    allowed = ALLOWED_IN_METHODS if is_user_facing(name) else ALLOWED_BEHIND
    assert errors_of(name, allowed) == []


@pytest.mark.parametrize("name", WITH_EXAMPLE)
def test_docstring_has_an_example(name):
    assert errors_of(name, ALLOWED) == []


def test_the_package_says_what_it_is():
    assert "RecVAE" in sklearn_recvae.__doc__
    assert sklearn_recvae.__all__ == [
        "BlendedRecommender",
        "EASERecommender",
        "EASERecommenderCV",
        "MultVAERecommender",
        "PopularityRecommender",
        "RecVAERecommender",
        "SparseEASERecommender",
        "load",
    ]


def test_every_room_is_seen():
    rooms = {"_recvae", "_network", "_kernels", "_training.objective", "metrics"}
    assert {f"sklearn_recvae.{room}" for room in rooms} <= set(MODULES)
