"""Fitted estimators in files: what of them is saved, and how they are put together."""

import json
from numbers import Integral, Real

import numpy as np
from sklearn.frozen import FrozenEstimator

from sklearn_recvae._files import read_file, write_file

KIND = "model"
_NAMES = "feature_names_in_"


def save_estimator(path, estimator):
    """Write parameters and fitted state of an estimator to a file.

    Parameters
    ----------
    path : path-like
        Where the file is written.
    estimator : estimator instance
        Fitted.
    """
    write_file(path, KIND, *take_apart(estimator))


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
        **as_json("estimator", estimator),
        "n_features_in_": estimator.n_features_in_,
        "attributes": attributes,
    }
    if hasattr(estimator, _NAMES):
        # As bytes: an array of strings would have the width of the longest.
        names = json.dumps(estimator.feature_names_in_.tolist()).encode()
        arrays = {**arrays, _NAMES: np.frombuffer(names, dtype=np.uint8)}
    return content, arrays


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
        return put_together(content, arrays, cls)
    except (LookupError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"{path} is whole, but what it has does not make a {name} of this release "
            f"({type(error).__name__}: {error})."
        ) from error


def put_together(content, arrays, cls=None):
    """Make an estimator of what `take_apart` gave.

    Parameters
    ----------
    content : dict
        What JSON can hold.
    arrays : dict of ndarray
        All else.
    cls : type, default=None
        Of the estimator; None means the one of this package that has its name.

    Returns
    -------
    estimator : estimator instance
        Fitted.
    """
    cls = cls or _find_class(content["estimator"])
    estimator = cls(**_parameters_from_json(content["parameters"]))
    estimator._validate_params()
    estimator.n_features_in_ = content["n_features_in_"]
    if _NAMES in arrays:
        names = json.loads(arrays.pop(_NAMES).tobytes())
        estimator.feature_names_in_ = np.array(names, dtype=object)
    estimator._set_fitted(content["attributes"], arrays)
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
        parameters = value.get_params(deep=False).items()
        return {
            "estimator": type(value).__name__,
            "parameters": {each: as_json(each, of) for each, of in parameters},
        }
    raise ValueError(
        f"The parameter {name}={value!r} cannot be saved, expected a number, a str, "
        f"None or a sequence of them. Set it with set_params({name}=...) first."
    )


def _parameters_from_json(parameters):
    return {name: _from_json(value) for name, value in parameters.items()}


def _from_json(value):
    if isinstance(value, list):
        return tuple(_from_json(each) for each in value)
    if isinstance(value, dict):
        cls = _find_class(value["estimator"])
        return cls(**_parameters_from_json(value["parameters"]))
    return value


def _find_class(name):
    """Give the estimator of this package that has the name."""
    import sklearn_recvae  # which imports this module

    if name not in sklearn_recvae.__all__:
        raise ValueError(f"there is no {name}")
    return getattr(sklearn_recvae, name)
