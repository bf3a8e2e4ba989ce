"""The reference names all that is public, and nothing else."""

import importlib
import importlib.util
import inspect
from pathlib import Path

import pytest

import sklearn_recvae
from sklearn_recvae import (
    BlendedRecommender,
    EASERecommender,
    EASERecommenderCV,
    MultVAERecommender,
    PopularityRecommender,
    RecVAERecommender,
    SparseEASERecommender,
)

DOCS = Path(sklearn_recvae.__file__).parents[1] / "docs"
if not DOCS.is_dir():
    pytest.skip("the docs are in a checkout only", allow_module_level=True)
API = DOCS / "api.md"

OF_ALL_RECOMMENDERS = set("fit predict recommend score explain save".split())
OF_LATENT_ONES = {
    "partial_fit",
    "add_items",
    "transform",
    "inverse_transform",
    "similar_items",
    "similar_users",
}


@pytest.fixture(scope="module")
def api_pages():
    spec = importlib.util.spec_from_file_location("api_pages", DOCS / "api_pages.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("cls", "expected"),
    [
        (RecVAERecommender, OF_ALL_RECOMMENDERS | OF_LATENT_ONES),
        (MultVAERecommender, OF_ALL_RECOMMENDERS | OF_LATENT_ONES),
        (EASERecommender, OF_ALL_RECOMMENDERS | {"similar_items"}),
        (EASERecommenderCV, OF_ALL_RECOMMENDERS | {"similar_items"}),
        (SparseEASERecommender, OF_ALL_RECOMMENDERS | {"similar_items"}),
        (PopularityRecommender, OF_ALL_RECOMMENDERS),
        (BlendedRecommender, OF_ALL_RECOMMENDERS),
    ],
)
def test_api_page_has_methods_of_mixins(api_pages, cls, expected):
    methods = api_pages.methods_by_class(API)[f"sklearn_recvae.{cls.__name__}"]
    assert expected <= set(methods)
    # What scikit-learn documents is left out.
    assert not {"get_params", "set_params", "fit_transform"} & set(methods)
    assert not any(name.startswith(("_", "set_")) for name in methods)


@pytest.mark.parametrize(
    "room", ["", ".preprocessing", ".metrics", ".model_selection", ".datasets"]
)
def test_api_lists_what_is_public(api_pages, room):
    module = importlib.import_module(f"sklearn_recvae{room}")
    public = {
        f"{module.__name__}.{name}"
        for name, member in inspect.getmembers(module)
        if not name.startswith("_")
        and (inspect.isclass(member) or inspect.isfunction(member))
        and f"{member.__module__}.".startswith(f"{module.__name__}.")
    }
    assert public <= set(api_pages.listed_objects(API))


def test_a_method_without_a_place_on_its_page_is_found(api_pages, tmp_path):
    (tmp_path / "generated").mkdir()
    for name in api_pages.listed_objects(API):
        targets = [name]
        targets += [
            f"{name}.{m}" for m in api_pages.methods_by_class(API).get(name, [])
        ]
        page = "".join(f'<dt id="{target}">' for target in targets)
        (tmp_path / "generated" / f"{name}.html").write_text(page, encoding="utf-8")
    assert api_pages.missing_targets(tmp_path, API) == []

    page = tmp_path / "generated" / "sklearn_recvae.EASERecommender.html"
    without = page.read_text(encoding="utf-8").replace("Recommender.recommend", "")
    page.write_text(without, encoding="utf-8")
    (tmp_path / "generated" / "sklearn_recvae.metrics.ndcg_at_k.html").unlink()
    assert api_pages.missing_targets(tmp_path, API) == [
        "sklearn_recvae.EASERecommender.recommend",
        "sklearn_recvae.metrics.ndcg_at_k",
    ]
