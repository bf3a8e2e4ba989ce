# Build: python -m sphinx -W --keep-going -b html docs docs/_build/html
# Run every example in these pages, but not the gallery:
# python -m sphinx -b doctest -D plot_gallery=0 docs docs/_build/doctest

from sklearn_recvae import __version__

project = "sklearn_recvae"
author = "the sklearn_recvae developers"
version = release = __version__

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.doctest",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build"]
templates_path = ["_templates"]
default_role = "literal"  # `name` in docstrings
toc_object_entries_show_parents = "hide"
myst_enable_extensions = ["deflist"]

autosummary_generate = True
numpydoc_show_class_members = False
# The docstrings' own examples are run by pytest.
doctest_test_doctest_blocks = ""

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
