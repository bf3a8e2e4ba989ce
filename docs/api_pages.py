"""Which methods an API page has, and a check that built pages have them.

Check: python docs/api_pages.py docs/_build/html
"""

import importlib
import inspect
import re
import sys
from pathlib import Path

from sklearn.base import BaseEstimator

# A line of an autosummary table in api.md, below its `currentmodule`.
LISTED = re.compile(r"^   ([A-Za-z_.]+)$", flags=re.MULTILINE)


def listed_objects(page):
    """Give the full name and the object of each line in the tables of api.md."""
    objects = {}
    for name in LISTED.findall(Path(page).read_text(encoding="utf-8")):
        *rooms, last = ["sklearn_recvae", *name.split(".")]
        module = importlib.import_module(".".join(rooms))
        objects[".".join([*rooms, last])] = getattr(module, last)
    return objects


def own_methods(cls):
    """List the public methods that this package defines, in the class or its mixins.

    What scikit-learn defines is in its own documentation. That goes for `get_params`
    and `set_params` too, where a class has its own.
    """
    names = []
    for name in dir(cls):
        if name.startswith("_") or hasattr(BaseEstimator, name):
            continue
        owner = next(base for base in cls.__mro__ if name in vars(base))
        member = vars(owner)[name]
        is_method = inspect.isfunction(member) or isinstance(member, classmethod)
        if is_method and owner.__module__.startswith("sklearn_recvae."):
            names.append(name)
    return names


def methods_by_class(page):
    """Map the full name of each class in api.md to its methods, for the template."""
    return {
        name: own_methods(member)
        for name, member in listed_objects(page).items()
        if inspect.isclass(member)
    }


def missing_targets(html, page):
    """List what has no place to link to in the folder of built pages."""
    missing = []
    for name, member in listed_objects(page).items():
        file = Path(html, "generated", f"{name}.html")
        text = file.read_text(encoding="utf-8") if file.is_file() else ""
        methods = own_methods(member) if inspect.isclass(member) else []
        targets = [name, *(f"{name}.{method}" for method in methods)]
        missing += [target for target in targets if f'id="{target}"' not in text]
    return missing


if __name__ == "__main__":
    missing = missing_targets(sys.argv[1], Path(__file__).with_name("api.md"))
    if missing:
        sys.exit("Not on an API page:\n" + "\n".join(missing))
