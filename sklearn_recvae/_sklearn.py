"""All that the package uses of scikit-learn and that is private there, or new.

Nothing else imports a private name of scikit-learn: where a release moves one, it is
looked up here. scikit-learn has callbacks from 1.9 on; before that they do nothing.
"""

import functools
import inspect

from sklearn import get_config
from sklearn.base import _fit_context
from sklearn.utils._param_validation import (
    Interval,
    StrOptions,
    validate_parameter_constraints,
    validate_params,
)
from sklearn.utils.metaestimators import _BaseComposition
from sklearn.utils.validation import _check_sample_weight, _get_feature_names

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:

    class CallbackSupportMixin:
        """Stands in where scikit-learn has no callbacks."""

    def with_callbacks(method):
        """Return the method as it is."""
        return method


__all__ = [
    "CallbackSupportMixin",
    "Interval",
    "StrOptions",
    "_BaseComposition",
    "_check_sample_weight",
    "_fit_context",
    "_get_feature_names",
    "validate_arguments",
    "validate_params",
    "with_callbacks",
]


def validate_arguments(constraints):
    """Make a decorator of methods that checks each argument against its constraints.

    It does what `validate_params` does, but an error has the name of the estimator's
    class. `validate_params` would name the class that the method is written in, of
    which the user has not heard if it is a mixin.
    """

    def decorate(method):
        signature = inspect.signature(method)

        @functools.wraps(method)
        def wrapper(estimator, *args, **kwargs):
            bound = signature.bind(estimator, *args, **kwargs)
            bound.apply_defaults()
            if not get_config()["skip_parameter_validation"]:
                caller = f"{type(estimator).__name__}.{method.__name__}"
                validate_parameter_constraints(constraints, bound.arguments, caller)
            return method(estimator, *args, **kwargs)

        return wrapper

    return decorate
