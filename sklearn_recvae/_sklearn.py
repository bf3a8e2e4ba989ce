"""All that the package uses of scikit-learn and that is private there, or new.

Nothing else imports a private name of scikit-learn: where a release moves one, it is
looked up here. scikit-learn has callbacks from 1.9 on; before that they do nothing.
"""

from sklearn.base import _fit_context
from sklearn.utils._param_validation import Interval, StrOptions, validate_params
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
    "validate_params",
    "with_callbacks",
]
