"""Fitted estimators in files: what of them is saved, and how they are put together."""

import json
import os
import reprlib
from contextlib import contextmanager
from numbers import Integral, Real

import numpy as np
from sklearn.frozen import FrozenEstimator

from sklearn_recvae._files import check_fields, check_finite, read_file, write_file
from sklearn_recvae._ids import check_item_ids
from sklearn_recvae._sklearn import validate_params

KIND = "model"
_NAMES = "feature_names_in_"
_IDS = "item_ids_"
_CONTENT = {
    "estimator": (str,),
    "parameters": (dict,),
    "n_features_in_": (int,),
    "attributes": (dict,),
}


def save_estimator(path, estimator):
    """Write parameters and fitted state of an estimator to a file.

    Parameters
    ----------
    path : path-like
        Where the file is written.
    estimator : estimator instance
        Fitted.

    Raises
    ------
    ValueError
        If it could not be loaded from the file, which is then not written.
    """
    estimator._validate_params()
    name = type(estimator).__name__
    if _classes().get(name) is not type(estimator):
        raise ValueError(
            f"{path} is not written, for load would not find {name}: it knows "
            f"{', '.join(_classes())}. Pickle the estimator instead."
        )
    content, arrays = take_apart(estimator)
    with _refused(
        f"{path} is not written, for the {name} could not be loaded from it. Was it "
        "changed after fit? Set it back, or fit anew"
    ):
        check_finite(arrays)
        put_together(content, arrays)
    write_file(path, KIND, content, arrays)


@contextmanager
def _refused(message):
    """Turn whatever what is put together may raise into a ValueError."""
    try:
        yield
    except MemoryError:  # there is too little for what is really there
        raise
    except Exception as error:
        raise ValueError(f"{message} ({type(error).__name__}: {error}).") from error


def take_apart(estimator):
    """Give what makes a fitted estimator, but for its class.

    Parameters
    ----------
    estimator : estimator instance
        Fitted.

    Returns
    -------
    content : dict
        What JSON can hold.
    arrays : dict of ndarray
        All else.
    """
    attributes, arrays = estimator._get_fitted()
    content = {
        **_describe(estimator),
        "n_features_in_": as_json("n_features_in_", estimator.n_features_in_),
        "attributes": attributes,
    }
    for name in (_NAMES, _IDS):
        if hasattr(estimator, name):
            # As bytes: an array of strings would have the width of the longest.
            ids = json.dumps(getattr(estimator, name).tolist()).encode()
            arrays = {**arrays, name: np.frombuffer(ids, dtype=np.uint8)}
    return content, arrays


@validate_params(
    {"path": [str, os.PathLike], "mmap": ["boolean"]},
    prefer_skip_nested_validation=True,
)
def load(path, mmap=False):
    """Load an estimator from a file that its method `save` wrote.

    No code from the file is run, whoever wrote it, and loading takes no more memory
    than the file has bytes, whatever it says.

    Parameters
    ----------
    path : path-like
        The file.
    mmap : bool, default=False
        Whether large arrays are mapped into memory instead of being read. This takes
        no time, whatever their size, and processes on one machine share the memory.
        Header and small arrays are checked as always, but nobody looks whether the
        large arrays are what was saved: pass True for files that you trust. While the
        estimator is in use the file may be replaced, which is what `save` does, but
        must not be written to or cut short.

    Returns
    -------
    estimator : estimator instance
        As it was saved, on the CPU wherever it was trained. Arrays that are mapped are
        read-only; training copies them first.

    Raises
    ------
    FileNotFoundError
        If there is no file.
    ValueError
        If the file is foreign, damaged or changed, or if a later release wrote it in a
        format that this one does not know. Without `mmap` each changed byte is found.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import sklearn_recvae
    >>> from sklearn_recvae.datasets import make_interactions
    >>> X, _, _ = make_interactions(100, 20, random_state=0)
    >>> model = sklearn_recvae.EASERecommender().fit(X)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "model.safetensors")
    ...     model.save(path)
    ...     loaded = sklearn_recvae.load(path)
    >>> bool((loaded.predict(X) == model.predict(X)).all())
    True
    """
    content, arrays = read_file(path, KIND, mmap=mmap)
    with _refused(
        f"{path} is whole, but what it has does not make an estimator of this release"
    ):
        mapped = {
            name for name, array in arrays.items() if isinstance(array, np.memmap)
        }
        check_finite({name: arrays[name] for name in arrays.keys() - mapped})
        return put_together(content, arrays)


def put_together(content, arrays):
    """Make an estimator of what `take_apart` gave.

    Parameters
    ----------
    content : dict
        What JSON can hold.
    arrays : dict of ndarray
        All else.

    Returns
    -------
    estimator : estimator instance
        Fitted. It shares the memory of the arrays.

    Raises
    ------
    Exception
        Of any kind, but nothing is run or made that is larger than what is given.
    """
    check_fields(content, _CONTENT)
    cls = _find_class(content["estimator"])
    estimator = cls(**_parameters_from_json(content["parameters"]))
    estimator._validate_params()
    estimator.n_features_in_ = content["n_features_in_"]
    arrays = dict(arrays)
    for name, check in ((_NAMES, _check_names), (_IDS, check_item_ids)):
        if name in arrays:
            ids = json.loads(arrays.pop(name).tobytes())
            setattr(estimator, name, check(ids, estimator.n_features_in_))
    estimator._set_fitted(content["attributes"], arrays)
    return estimator


def _check_names(names, n_features):
    are_names = isinstance(names, list) and all(type(name) is str for name in names)
    if not are_names or len(names) != n_features:
        raise ValueError(
            f"{_NAMES} is {reprlib.repr(names)}, expected {n_features} str"
        )
    return np.array(names, dtype=object)


def as_json(name, value):
    """Give a parameter as JSON has it.

    Parameters
    ----------
    name : str
        Of the parameter.
    value : object
        What it is.

    Returns
    -------
    object
        A number, str, bool, None, a list of these, or a dict for an estimator.
    """
    if hasattr(value, "tolist"):  # of numpy
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [as_json(name, each) for each in value]
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value)
    if isinstance(value, FrozenEstimator):
        value = value.estimator  # its owner knows that it was frozen
    if hasattr(value, "get_params"):
        _check_is_found(name, type(value))
        return _describe(value)
    raise ValueError(
        f"The parameter {name}={value!r} cannot be saved, expected a number, a str, "
        f"None or a sequence of them. Set it with set_params({name}=...) first."
    )


def _describe(estimator):
    """Give class and parameters of an estimator as JSON has them."""
    parameters = estimator.get_params(deep=False).items()
    return {
        "estimator": type(estimator).__name__,
        "parameters": {name: as_json(name, value) for name, value in parameters},
    }


def _parameters_from_json(parameters):
    return {name: _from_json(value) for name, value in parameters.items()}


def _from_json(value):
    if isinstance(value, list):
        return tuple(_from_json(each) for each in value)
    if isinstance(value, dict):
        cls = _find_class(value["estimator"])
        return cls(**_parameters_from_json(value["parameters"]))
    return value


def _check_is_found(name, cls):
    """Raise a ValueError unless `_find_class` gives the class of a parameter."""
    classes = _classes()
    if classes.get(cls.__name__) is not cls:
        raise ValueError(
            f"The parameter {name} has a {cls.__name__}, which load would not find: it "
            f"knows {', '.join(classes)}. Pickle the whole instead."
        )


def _find_class(name):
    """Give the estimator of this package that has the name."""
    classes = _classes()
    if name not in classes:
        raise ValueError(f"there is no {reprlib.repr(name)}")
    return classes[name]


def _classes():
    import sklearn_recvae  # which imports this module

    faces = {name: getattr(sklearn_recvae, name) for name in sklearn_recvae.__all__}
    return {name: face for name, face in faces.items() if isinstance(face, type)}
