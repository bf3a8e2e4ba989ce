# Build: python -m sphinx -W --keep-going -b html docs docs/_build/html
# Run every example in these pages, but not the gallery:
# python -m sphinx -b doctest -D plot_gallery=0 docs docs/_build/doctest

import sys
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from sklearn_recvae import __version__

docs = Path(__file__).parent
sys.path.insert(0, str(docs))
import figures  # noqa: E402 - of this folder
from api_pages import methods_by_class  # noqa: E402

project = "sklearn_recvae"
author = "the sklearn_recvae developers"
version = release = __version__

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.doctest",
    "sphinx.ext.intersphinx",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build"]
figures.draw(figures.read_results("baselines.json"), docs / "generated" / "quality.svg")
templates_path = ["_templates"]
default_role = "literal"  # `name` in docstrings
toc_object_entries_show_parents = "hide"
myst_enable_extensions = ["deflist"]

autosummary_generate = True
autosummary_context = {"methods_by_class": methods_by_class(docs / "api.md")}
numpydoc_show_class_members = False
# The docstrings' own examples are run by pytest.
doctest_test_doctest_blocks = ""


def can_be_reached(url):
    """Whether the table of what a documentation has can be read from there."""
    try:
        with urlopen(f"{url}objects.inv", timeout=10):
            return True
    except (URLError, TimeoutError, ConnectionError):
        return False


# Every reference must be found. Without a network those into other documentations are
# plain text; -W would else make a failed download an error.
nitpicky = True
OTHERS = {
    "python": "https://docs.python.org/3/",
    "numpy": "https://numpy.org/doc/stable/",
    "joblib": "https://joblib.readthedocs.io/en/stable/",
    "scipy": "https://docs.scipy.org/doc/scipy/",
    "sklearn": "https://scikit-learn.org/stable/",
    "torch": "https://docs.pytorch.org/docs/stable/",
}
intersphinx_mapping = {
    name: (url, None) for name, url in OTHERS.items() if can_be_reached(url)
}
nitpick_ignore_regex = [
    ("py:.*", rf"{name}\..*") for name in OTHERS if name not in intersphinx_mapping
]

# A property that its class describes; it has no place of its own.
nitpick_ignore = [("py:obj", "named_estimators_")]

# The examples read MovieLens latest-small, which `fetch_movielens` downloads once.
# Without a network: -D plot_gallery=0.
sphinx_gallery_conf = {
    "examples_dirs": "../examples/gallery",
    "gallery_dirs": "auto_examples",
    "abort_on_example_error": True,
    "backreferences_dir": "generated/backreferences",
    "doc_module": "sklearn_recvae",
    "show_signature": False,
}

html_theme = "pydata_sphinx_theme"
html_title = f"sklearn_recvae {version}"
html_show_sourcelink = False
html_theme_options = {
    "navbar_end": ["theme-switcher"],
    "secondary_sidebar_items": ["page-toc"],
    "navigation_with_keys": False,
}
