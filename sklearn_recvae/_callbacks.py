"""What is told of each iteration: a printed line, and scikit-learn's callbacks.

scikit-learn has callbacks from 1.9 on; before that the names below do nothing.
"""

import copy

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:

    class CallbackSupportMixin:
        """Stands in where scikit-learn has no callbacks."""

    def with_callbacks(method):
        """Return the method as it is."""
        return method


class IterationHooks:
    """Calls what is to be called at the beginning and the end of an iteration.

    Parameters
    ----------
    estimator : RecVAERecommender
        Being fitted.
    progress : Progress
        How far it has come.
    X, y : object
        What fit was given.
    n_iterations : int
        The most iterations there can be.
    """

    def __init__(self, estimator, progress, X, y, n_iterations):
        self.estimator = estimator
        self.progress = progress
        self.data = {"X": X, "y": y}
        self.n_iterations = n_iterations
        self.n_done = 0
        self.context = None
        if hasattr(estimator, "_init_callback_context"):
            self.context = estimator._init_callback_context(max_subtasks=n_iterations)
            self.context.call_on_fit_task_begin(estimator=estimator, **self.data)

    def begin_iteration(self):
        """Tell that an iteration begins."""
        if self.context is not None:
            self.task = self.context.subcontext(task_name="iteration")
            self.task.call_on_fit_task_begin(estimator=self.estimator, **self.data)

    def end_iteration(self, record):
        """Tell that an iteration ended; return True if a callback wants to stop."""
        self.n_done += 1
        if self.estimator.verbose:
            print(_format_record(self.n_done, self.n_iterations, record))
        if self.context is None:
            return False
        return self.task.call_on_fit_task_end(
            estimator=self.estimator,
            reconstruction_attributes=self._fitted_attributes,
            **self.data,
        )

    def end_fit(self):
        """Tell that fit is done."""
        if self.context is not None:
            self.context.call_on_fit_task_end(
                estimator=self.estimator, reconstruction_attributes=dict, **self.data
            )

    def _fitted_attributes(self):
        """Give what the estimator would have if training stopped here."""
        # A copy: a callback may keep it while training goes on.
        module = copy.deepcopy(self.progress.module)
        self.progress.give_best(module)
        return {"module_": module, **self.progress.to_attributes()}


def _format_record(number, total, record):
    score = record["validation_score"]
    return (
        f"[RecVAE] iteration {number:>{len(str(total))}}/{total}"
        f"  log-likelihood {record['likelihood']:.4f}  KL {record['kl']:.4f}"
        + (f"  NDCG@100 {score:.4f}" if score == score else "")
        + f"  {record['seconds']:.2f} s"
    )
