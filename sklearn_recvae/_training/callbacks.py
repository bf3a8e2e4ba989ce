"""What is told of a fit: a printed line an iteration, and scikit-learn's callbacks."""

import copy
from contextlib import contextmanager, nullcontext


class FitHooks:
    """Calls what is to be called at the beginning and the end of a fit.

    Parameters
    ----------
    estimator : estimator instance
        Being fitted.
    X, y : object
        What fit was given.
    n_tasks : int, default=0
        Number of iterations, at most, or of parts.
    """

    def __init__(self, estimator, X, y, n_tasks=0):
        self.estimator = estimator
        self.data = {"X": X, "y": y}
        self.n_tasks = n_tasks
        self.context = None
        if hasattr(estimator, "_init_callback_context"):
            self.context = estimator._init_callback_context(max_subtasks=n_tasks)
            self.context.call_on_fit_task_begin(estimator=estimator, **self.data)

    def part(self, name):
        """Give the `PartHooks` of a part."""
        # Parts alone may have callbacks, of which those of a whole know nothing.
        if self.context is None or not hasattr(self.estimator, "_skl_callbacks"):
            return PartHooks()
        task = self.context.subcontext(task_name=f"fit-{name}")
        return PartHooks(task, self.estimator, self.data)

    def end_fit(self):
        """Tell that fit is done."""
        if self.context is not None:
            self.context.call_on_fit_task_end(
                estimator=self.estimator, reconstruction_attributes=dict, **self.data
            )


class PartHooks:
    """Calls what is to be called before and after the fit of a part of an estimator.

    It can be sent to another process, with the callbacks, and called there.

    Parameters
    ----------
    task : CallbackContext, default=None
        Of the part's fit; None where there are no callbacks.
    estimator : estimator instance, default=None
        Being fitted.
    data : dict, default=None
        What its fit was given.
    """

    def __init__(self, task=None, estimator=None, data=None):
        self.task = task
        self.estimator = estimator
        self.data = data

    @contextmanager
    def fit_of(self, part):
        """Tell of the fit within; the part is None if it is fitted already."""
        if self.task is None:
            yield
            return
        # scikit-learn refuses a part that has a callback of its own of the kind that is
        # handed on, such as a progress bar.
        hands_on = part is not None
        with self.task.propagate_callback_context(part) if hands_on else nullcontext():
            self.task.call_on_fit_task_begin(estimator=self.estimator, **self.data)
            yield
            self.task.call_on_fit_task_end(estimator=self.estimator, **self.data)


class IterationHooks(FitHooks):
    """Calls what is to be called for each iteration too.

    Parameters
    ----------
    estimator : estimator instance
        Being fitted.
    progress : Progress
        How far it has come.
    X, y : object
        What fit was given.
    n_iterations : int
        The most iterations that this call may run.
    """

    def __init__(self, estimator, progress, X, y, n_iterations):
        super().__init__(estimator, X, y, n_iterations)
        self.progress = progress

    def begin_iteration(self):
        """Tell that an iteration begins."""
        if self.context is not None:
            self.task = self.context.subcontext(task_name="iteration")
            self.task.call_on_fit_task_begin(estimator=self.estimator, **self.data)

    def end_iteration(self):
        """Tell that an iteration ended; return True if a callback wants to stop."""
        if self.estimator.verbose:
            print(self._line())
        if self.context is None:
            return False
        return self.task.call_on_fit_task_end(
            estimator=self.estimator,
            reconstruction_attributes=self._fitted_attributes,
            **self.data,
        )

    def _line(self):
        """Describe the last iteration in a line."""
        name = type(self.estimator).__name__.removesuffix("Recommender")
        number, record = len(self.progress.history), self.progress.history[-1]
        total = max(number, self.n_tasks)
        score = record["validation_score"]
        return (
            f"[{name}] iteration {number:>{len(str(total))}}/{total}"
            f"  log-likelihood {record['likelihood']:.4f}  KL {record['kl']:.4f}"
            + (f"  NDCG@100 {score:.4f}" if score == score else "")
            + f"  {record['seconds']:.2f} s"
        )

    def _fitted_attributes(self):
        """Give what the estimator would have if training stopped here."""
        # A copy: a callback may keep it while training goes on.
        module = copy.deepcopy(self.progress.module)
        self.progress.give_best(module)
        return {"module_": module, **self.progress.to_attributes()}
