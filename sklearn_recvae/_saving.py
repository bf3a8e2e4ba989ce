"""Fitted estimators in files: what of them is saved, and how they are put together."""

import json
from numbers import Integral, Real

import numpy as np

from sklearn_recvae._files import read_file, write_file

KIND = "model"
_NAMES = "feature_names_in_"


def save_estimator(path, estimator, attributes, arrays):
    """Write parameters and fitted state of an estimator to a file.

    Parameters
    ----------
    path : path-like
        Where the file is written.
    estimator : estimator instance
        Fitted.
    attributes : dict
        Fitted attributes that JSON can hold.
    arrays : dict of ndarray
        All others.
    """
    content = {
        "estimator": type(estimator).__name__,
        "parameters": {
            name: as_json(name, value)
            for name, value in estimator.get_params(deep=False).items()
        },
        "n_features_in_": estimator.n_features_in_,
        "attributes": attributes,
    }
    if hasattr(estimator, _NAMES):
        # As bytes: an array of strings would have the width of the longest.
        names = json.dumps(estimator.feature_names_in_.tolist()).encode()
        arrays = {**arrays, _NAMES: np.frombuffer(names, dtype=np.uint8)}
    write_file(path, KIND, content, arrays)


def load_estimator(path, cls):
    """Read a file of `save_estimator`.

    Parameters
    ----------
    path : path-like
        The file.
    cls : type
        Of the estimator that it has to be.

    Returns
    -------
    estimator : estimator instance
        As it was saved, on the CPU.
    """
    content, arrays = read_file(path, KIND)
    name = content["estimator"]
    if name != cls.__name__:
        raise ValueError(f"{path} has a {name}, expected a {cls.__name__}.")
    try:
        estimator = cls(**_as_parameters(content["parameters"]))
        estimator._validate_params()
        estimator.n_features_in_ = content["n_features_in_"]
        if _NAMES in arrays:
            names = json.loads(arrays.pop(_NAMES).tobytes())
            estimator.feature_names_in_ = np.array(names, dtype=object)
        estimator._set_fitted(content["attributes"], arrays)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"{path} is whole, but what it has does not make a {name} of this release "
            f"({type(error).__name__}: {error})."
        ) from error
    return estimator


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
        A number, str, bool, None or a list of these.
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
    raise ValueError(
        f"The parameter {name}={value!r} cannot be saved, expected a number, a str, "
        f"None or a sequence of them. Set it with set_params({name}=...) first."
    )


def _as_parameters(parameters):
    return {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in parameters.items()
    }
