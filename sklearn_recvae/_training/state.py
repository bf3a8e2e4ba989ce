"""The state of training: what the next iteration depends on, and the best so far.

Both are written to arrays and restored from them, so that training goes on as if it had
never been interrupted.
"""

import copy
import math
import reprlib
from types import NoneType
from typing import NamedTuple

import numpy as np
import torch

from sklearn_recvae._files import check_arrays, check_fields, check_finite
from sklearn_recvae._training.optimizers import RowAdam

# What is recorded of each iteration.
RECORD = ("likelihood", "kl", "validation_score", "seconds")


class TrainingState(NamedTuple):
    """What lives on from one call of fit or partial_fit to the next."""

    module: torch.nn.Module
    tables: dict  # of RowAdam, by the name of the tensor with a row for each item
    dense: dict  # of torch.optim.Adam, "encoder" and "decoder", of the other weights
    generator: torch.Generator

    @property
    def n_steps(self):
        """Number of steps that the encoder has taken."""
        return self.tables[self.module.input_table].n_steps

    def catch_up(self):
        """Bring all rows of all tables up to the last step."""
        for table in self.tables.values():
            table.catch_up()


def new_training_state(module, seed):
    """Give each weight of the module its Adam, and make a source of randomness.

    Parameters
    ----------
    module : VariationalNetwork
        On the device where it is to be trained.
    seed : int
        For noise, samples and the order of users.

    Returns
    -------
    TrainingState
        At the start of training.
    """
    weights = dict(module.named_parameters())
    tables = {name: RowAdam(weights.pop(name)) for name in module.item_tables}
    halves = {"encoder": [], "decoder": []}
    for name, weight in weights.items():
        halves["decoder" if name.startswith("decoder.") else "encoder"].append(weight)
    dense = {
        half: torch.optim.Adam(weights, fused=True)
        for half, weights in halves.items()
        if weights  # the decoder may be one table
    }
    generator = torch.Generator(module.device).manual_seed(seed)
    return TrainingState(module, tables, dense, generator)


def state_to_arrays(state):
    """Copy a training state, between iterations, to arrays by name.

    Parameters
    ----------
    state : TrainingState
        Left as it is, but for rows that were behind: they catch up.

    Returns
    -------
    dict of ndarray
        Everything that the next iterations depend on.
    """
    state.catch_up()
    tensors = _module_and_tables(state)
    for half, optimizer in state.dense.items():
        for number, moments in optimizer.state_dict()["state"].items():
            tensors |= _prefixed(f"{half}.{number}.", moments)
    return {name: tensor.cpu().numpy() for name, tensor in tensors.items()}


def _module_and_tables(state):
    """Give all tensors but the moments of the dense weights, which come later."""
    tensors = _prefixed("module.", state.module.state_dict())
    for name, table in state.tables.items():
        moments = {
            "mean": table.mean,
            "square": table.square,
            "n_steps": torch.tensor(table.n_steps),
        }
        tensors |= _prefixed(f"{name}.", moments)
    return tensors | {"generator": state.generator.get_state()}


def restore_state(state, arrays):
    """Put a training state to where another one was.

    Parameters
    ----------
    state : TrainingState
        Of the same sizes, changed in place.
    arrays : dict of ndarray
        From `state_to_arrays`.
    """
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    state.module.load_state_dict(with_prefix("module.", tensors))
    for name, table in state.tables.items():
        moments = with_prefix(f"{name}.", tensors)
        table.restore(moments["mean"], moments["square"], int(moments["n_steps"]))
    state.generator.set_state(tensors["generator"])
    for half, optimizer in state.dense.items():
        n_weights = len(optimizer.param_groups[0]["params"])
        moments = {
            number: with_prefix(f"{half}.{number}.", tensors)
            for number in range(n_weights)
        }
        moments = {
            number: of_weight for number, of_weight in moments.items() if of_weight
        }
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": moments, "param_groups": groups})


def restore_training(state, progress, n_iterations, arrays):
    """Put state and progress to where those of a checkpoint are.

    Parameters
    ----------
    state : TrainingState
        New, changed in place.
    progress : Progress
        New, of the same module, changed in place.
    n_iterations : int
        How many there were, at least 1.
    arrays : dict of ndarray
        From `state_to_arrays` and `Progress.to_arrays`, through a file.

    Raises
    ------
    ValueError
        If these are not the arrays of such a training. Nothing is changed then.
    """
    of_progress = progress.describe_arrays(n_iterations, arrays)
    check_arrays(arrays, _describe_state(state) | of_progress)
    # Scores are NaN where there is no validation.
    check_finite(
        {name: each for name, each in arrays.items() if not name.startswith("history.")}
    )
    try:
        torch.Generator(state.generator.device).set_state(
            torch.from_numpy(arrays["generator"])
        )
    except RuntimeError as error:
        raise ValueError(f"the generator has no state that is one: {error}") from error
    restore_state(state, arrays)
    progress.restore(arrays)


def _describe_state(state):
    """Give dtype and shape of what `state_to_arrays` gives after an iteration."""
    tensors = _module_and_tables(state)
    for half, optimizer in state.dense.items():
        (group,) = optimizer.param_groups
        for number, weight in enumerate(group["params"]):
            moments = {"step": torch.tensor(0.0), "exp_avg": weight}
            moments["exp_avg_sq"] = weight
            tensors |= _prefixed(f"{half}.{number}.", moments)
    return _describe(tensors)


def _describe(tensors):
    """Give dtype and shape of the arrays that tensors become."""
    return {
        name: (np.dtype(str(tensor.dtype).removeprefix("torch.")), tuple(tensor.shape))
        for name, tensor in tensors.items()
    }


def _prefixed(prefix, tensors):
    return {prefix + name: tensor for name, tensor in tensors.items()}


def with_prefix(prefix, tensors):
    """Give what has the prefix in its name, without it."""
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }


def describe_history(prefix, n_iterations):
    """Give dtype and shape of what is recorded of so many iterations."""
    column = (np.dtype(np.float64), (n_iterations,))
    return {f"{prefix}{name}": column for name in RECORD}


def history_to_json(columns):
    """Give the columns of a history as JSON has them: NaN is None."""
    return {
        name: [None if math.isnan(number) else number for number in column.tolist()]
        for name, column in columns.items()
    }


def history_from_json(columns, n_iterations):
    """Turn what `history_to_json` gave into a history of so many iterations.

    Raises
    ------
    ValueError
        If it is none.
    """
    check_fields(columns, {name: (list,) for name in RECORD})
    for name, column in columns.items():
        if len(column) != n_iterations or not {float, NoneType} >= set(
            map(type, column)
        ):
            raise ValueError(
                f"the history of {name} is {reprlib.repr(column)}, expected "
                f"{n_iterations} numbers"
            )
    return {name: np.array(column, np.float64) for name, column in columns.items()}


def check_best(iteration, score, n_iterations):
    """Raise a ValueError unless this may be the best of so many; both may be None."""
    if iteration is None and score is None:
        return
    if (
        iteration is None
        or score is None
        or not 1 <= iteration <= n_iterations
        or not math.isfinite(score)
    ):
        raise ValueError(
            f"the best of {n_iterations} iterations is {iteration}, with score {score}"
        )


class Progress:
    """How far a fit has come: its iterations, and the best weights among them.

    Parameters
    ----------
    module : VariationalNetwork
        What is trained.
    ema_decay : float, default=0.0
        As in `RecVAERecommender`.
    history : iterable of dict, default=()
        Records of iterations before: ``likelihood``, ``kl``, ``validation_score`` (NaN
        without validation) and ``seconds`` each.

    Attributes
    ----------
    module : VariationalNetwork
        What is validated and given out: what is trained, or an average of its weights,
        which is another module after each iteration.
    """

    def __init__(self, module, ema_decay=0.0, history=()):
        self.module = copy.deepcopy(module) if ema_decay else module
        self.ema_decay = ema_decay
        # Changed in one assignment, as an interrupt may strike before and after it.
        self._reached = _Reached(tuple(history), None, None)

    @property
    def history(self):
        """Tuple of a record an iteration."""
        return self._reached.history

    @property
    def best_iteration(self):
        """Counted from 1; None without validation."""
        return self._reached.best_iteration

    @property
    def best_score(self):
        """Validation score of the best iteration; None without validation."""
        if self.best_iteration is None:
            return None
        return self.history[self.best_iteration - 1]["validation_score"]

    @torch.no_grad()
    def average(self, module):
        """Take what one more iteration has trained into the average."""
        if self.module is module:
            return
        n_iterations = len(self.history) + 1
        # The first one is all there is; before that the average was nothing.
        share = (1 - self.ema_decay) / (1 - self.ema_decay**n_iterations)
        average = copy.deepcopy(self.module)
        weights = zip(average.parameters(), module.parameters(), strict=True)
        for mean, weight in weights:
            mean.lerp_(weight, share)
        self.module = average

    def add(self, record):
        """Add an iteration, and copy the weights if it is the best one."""
        history, best, best_weights = (*self.history, record), *self._reached[1:]
        score = record["validation_score"]
        if score > (-math.inf if best is None else self.best_score):
            best = len(history)
            best_weights = copy.deepcopy(self.module.state_dict())
        self._reached = _Reached(history, best, best_weights)

    def has_stalled(self, patience):
        """Whether there were that many iterations without a better one."""
        if patience is None or not self.history:
            return False
        return len(self.history) - (self.best_iteration or 0) >= patience

    def give_best(self, module):
        """Give what was trained the best weights, without validation the last ones."""
        if self.best_iteration is not None:
            module.load_state_dict(self._reached.best_weights)
        elif self.module is not module:
            module.load_state_dict(self.module.state_dict())

    def to_attributes(self):
        """Give what a fitted estimator tells of it."""
        return {
            "n_iter_": len(self.history),
            "history_": as_columns(self.history),
            "best_iteration_": self.best_iteration,
            "best_score_": self.best_score,
        }

    def to_arrays(self):
        """Copy to arrays by name, but for weights that are trained."""
        arrays = _prefixed("history.", as_columns(self.history))
        tensors = {}
        if self.ema_decay:
            tensors |= _prefixed("average.", self.module.state_dict())
        if self.best_iteration is not None:
            arrays["best_iteration"] = np.array(self.best_iteration)
            if self.best_iteration < len(self.history):
                tensors |= _prefixed("best.", self._reached.best_weights)
        return arrays | {name: tensor.cpu().numpy() for name, tensor in tensors.items()}

    def describe_arrays(self, n_iterations, arrays):
        """Give dtype and shape of what `to_arrays` gave another one of the same kind.

        It depends on which iteration was the best one; that is looked up in the arrays.
        """
        described = describe_history("history.", n_iterations)
        weights = _describe(self.module.state_dict())
        if self.ema_decay:
            described |= _prefixed("average.", weights)
        if "best_iteration" in arrays:
            best = {"best_iteration": (np.dtype(np.int64), ())}
            check_arrays({"best_iteration": arrays["best_iteration"]}, best)
            described |= best
            check_best(arrays["best_iteration"], 0.0, n_iterations)
            if arrays["best_iteration"] < n_iterations:
                described |= _prefixed("best.", weights)
        return described

    def restore(self, arrays):
        """Go to where another one was; what is trained is there already."""
        columns = with_prefix("history.", arrays)
        average, best = (
            {
                name: torch.from_numpy(array)
                for name, array in with_prefix(prefix, arrays).items()
            }
            for prefix in ("average.", "best.")
        )
        if average:
            self.module.load_state_dict(average)
        best_iteration = None
        if "best_iteration" in arrays:
            best_iteration = int(arrays["best_iteration"])
            best = best or copy.deepcopy(self.module.state_dict())
        self._reached = _Reached(as_records(columns), best_iteration, best)


class _Reached(NamedTuple):
    """What belongs together: iterations, and which was the best with what weights."""

    history: tuple
    best_iteration: int | None
    best_weights: dict | None


def as_columns(history):
    """Give records as an array for each name."""
    return {name: np.array([record[name] for record in history]) for name in history[0]}


def as_records(columns):
    """Give what `as_columns` gave as records again."""
    rows = zip(*(column.tolist() for column in columns.values()), strict=True)
    return tuple(dict(zip(columns, row, strict=True)) for row in rows)


def add_item_rows(module, arrays, larger):
    """Enlarge a training state by items at the end.

    Parameters
    ----------
    module : VariationalNetwork
        Says which of its tensors have a row for each item.
    arrays : dict of ndarray
        From `state_to_arrays`.
    larger : dict of ndarray
        The weights of a new module with more items: the new rows are taken from it.

    Returns
    -------
    dict of ndarray
        For `restore_state`. The old rows are as they were, and all else too. A new
        item has no moments, and the lowest bias of all: nobody has it yet.
    """
    enlarged = dict(arrays)
    for name in module.item_tables:
        weight = arrays[f"module.{name}"]
        rows = larger[name][len(weight) :]
        if weight.ndim == 1:  # a bias
            rows = np.full_like(rows, weight.min())
        enlarged[f"module.{name}"] = np.concatenate([weight, rows])
        for moment in ("mean", "square"):
            before = arrays[f"{name}.{moment}"]
            enlarged[f"{name}.{moment}"] = np.concatenate([before, np.zeros_like(rows)])
    return enlarged
