"""A KeyboardInterrupt at each place where one may strike."""

import copy
import functools
import inspect
import itertools
import sys

import numpy as np
import pytest
import torch

from sklearn_recvae import (
    BlendedRecommender,
    EASERecommender,
    RecVAERecommender,
)
from sklearn_recvae._batches import InteractionTensors
from sklearn_recvae._interactions import as_csr
from sklearn_recvae._training import optimizers
from sklearn_recvae._training.optimizers import RowAdam
from sklearn_recvae._training.state import Progress
from sklearn_recvae.datasets import make_interactions


def interrupt_at(number, functions, action, event="opcode"):
    """Call action, interrupt it there within these functions; return if that was."""
    codes = {inspect.unwrap(function).__code__ for function in functions}
    counter = itertools.count()

    def trace(frame, happened, _):
        if frame.f_code not in codes:
            return None
        frame.f_trace_opcodes = event == "opcode"
        if happened == event and next(counter) == number:
            raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        action()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


def interrupt_everywhere(functions, make, action, check, event="opcode"):
    """Make something, interrupt an action on it, check it: for each place in turn."""
    struck, number = True, 0
    while struck:
        subject = make()
        call = functools.partial(action, subject)
        struck = interrupt_at(number, functions, call, event)
        check(subject)
        number += 1
    assert number > 5  # or nothing was interrupted


# The first layer


N_ITEMS, WIDTH = 30, 3


def draw_batch(seed):
    rng = np.random.default_rng(seed)
    X = as_csr(1.0 * (rng.uniform(size=(4, N_ITEMS)) < 0.05))
    return InteractionTensors(X, torch.device("cpu")).batch(torch.arange(4))


def take_step(table, seed):
    look_up = table.look_up(draw_batch(seed))
    gradient = torch.sin(torch.arange(4.0 * WIDTH) + seed).reshape(4, WIDTH)
    table.step(look_up, gradient)


def table_left_behind():
    """A table whose rows have missed different numbers of steps."""
    table = RowAdam(torch.nn.Parameter(torch.ones(N_ITEMS, WIDTH)))
    table.lr = 0.1
    for seed in range(6):
        take_step(table, seed)
    assert table._clock.first_step < table.n_steps
    return table


def caught_up(table):
    table.catch_up()
    return [each.clone() for each in (*table._tables(), torch.tensor(table.n_steps))]


def equal(tables, others):
    pairs = zip(tables, others, strict=True)
    return all(torch.equal(one, other) for one, other in pairs)


# Those that change something.
WRITING = [RowAdam.catch_up, RowAdam._write, RowAdam._finish]


@pytest.fixture
def deferring(monkeypatch):
    monkeypatch.setattr(optimizers, "DEFERRED_SHARES", (1, 1))
    monkeypatch.setattr(optimizers, "CHUNK_BYTES", 4 * WIDTH * 11)  # 3 chunks


@pytest.mark.usefixtures("deferring")
def test_catching_up_again_after_an_interrupt():
    before = table_left_behind()
    expected = caught_up(copy.deepcopy(before))

    def check(table):
        assert equal(caught_up(table), expected)

    interrupt_everywhere(
        WRITING, lambda: copy.deepcopy(before), RowAdam.catch_up, check
    )


@pytest.mark.usefixtures("deferring")
def test_step_after_an_interrupted_catching_up():
    before = table_left_behind()
    expected = copy.deepcopy(before)
    take_step(expected, 6)
    expected = caught_up(expected)

    def check(table):
        take_step(table, 6)
        torch.testing.assert_close(caught_up(table), expected, rtol=1e-5, atol=0)

    interrupt_everywhere(
        WRITING, lambda: copy.deepcopy(before), RowAdam.catch_up, check, "line"
    )


@pytest.mark.usefixtures("deferring")
def test_interrupted_step_is_taken_or_not():
    before = table_left_behind()
    after = copy.deepcopy(before)
    take_step(after, 6)
    expected = [caught_up(copy.deepcopy(before)), caught_up(after)]
    taken = []

    def check(table):
        (number,) = (n for n in (0, 1) if equal(caught_up(table), expected[n]))
        taken.append(number)

    interrupt_everywhere(
        [RowAdam.step, RowAdam._step_selected, *WRITING[1:]],
        lambda: copy.deepcopy(before),
        lambda table: take_step(table, 6),
        check,
    )
    assert taken == sorted(taken)
    assert {*taken} == {0, 1}


# The best weights


class Run:
    """Iterations of something that is trained, and what they come to."""

    def __init__(self, ema_decay, scores):
        torch.manual_seed(0)
        self.module = torch.nn.Linear(2, 2)
        self.progress = Progress(self.module, ema_decay)
        self.scores = scores
        self.validated = []

    def run(self):
        for score in self.scores:
            with torch.no_grad():
                self.module.weight += 1
                self.module.bias -= 1
            self.progress.average(self.module)
            self.validated.append(weights_of(self.progress.module))
            self.progress.add(
                {"likelihood": 0.0, "kl": 0.0, "validation_score": score, "seconds": 0}
            )
        self.progress.give_best(self.module)


def weights_of(module):
    return torch.cat([weight.flatten() for weight in module.state_dict().values()])


@pytest.mark.parametrize("ema_decay", [0, 0.5])
@pytest.mark.parametrize("scores", [[0.1, 0.2, 0.3], [0.2, 0.1, 0.3], [np.nan] * 3])
def test_best_weights_are_those_of_the_best_score(ema_decay, scores):
    whole = Run(ema_decay, scores)
    whole.run()

    def check(run):
        progress = run.progress
        n_iter = len(progress.history)
        if n_iter == 0:
            assert progress.best_iteration is None
            return  # the estimator stays as it was
        progress.give_best(run.module)
        found = weights_of(run.module)
        if np.isnan(scores[0]):
            # The last ones, or those of the iteration that was under way.
            assert progress.best_score is None
            assert any(
                torch.equal(found, each) for each in whole.validated[n_iter - 1 :]
            )
        else:
            assert progress.best_score == max(scores[:n_iter])
            assert torch.equal(found, whole.validated[progress.best_iteration - 1])

    interrupt_everywhere(
        [Progress.average, Progress.add, Progress.give_best],
        lambda: Run(ema_decay, scores),
        Run.run,
        check,
    )


# Whole fits


X, _, _ = make_interactions(60, 20, mean_interactions=6, random_state=0)
X_train, X_val = X[:40], X[40:]


@pytest.mark.parametrize("settings", [{}, {"ema_decay": 0.5, "alternating": False}])
def test_interrupted_fits_have_the_best_score(settings):
    outcomes = []

    def make():
        model = RecVAERecommender(2, hidden_dim=3, n_hidden_layers=1, random_state=0)
        return model.set_params(max_iter=2, learning_rate=0.05, **settings)

    def check(model):
        outcomes.append(getattr(model, "n_iter_", 0))
        if outcomes[-1]:
            assert model.score(X_val) == model.best_score_
            assert len(model.history_["kl"]) == model.n_iter_
            assert model.best_score_ == max(model.history_["validation_score"])

    interrupt_everywhere(
        [Progress.add, Progress.give_best],
        make,
        lambda model: model.fit(X_train, X_val=X_val),
        check,
        "line",
    )
    assert set(outcomes) == {0, 1, 2}


def ease():
    return EASERecommender()


def blend():
    return BlendedRecommender([("a", ease()), ("b", ease())], weights=None)


@pytest.mark.parametrize("make", [ease, blend])
def test_interrupted_fits_are_whole_or_not_at_all(make):
    before, after = (make().fit(data).predict(X) for data in (X[:, ::-1], X))

    def check(model):
        found = model.predict(X)
        assert any(np.array_equal(found, each) for each in (before, after))

    interrupt_everywhere(
        [type(make()).fit],
        lambda: make().fit(X[:, ::-1]),
        lambda model: model.fit(X),
        check,
    )


def test_interrupt_in_the_first_copy_is_a_keyboard_interrupt(monkeypatch):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    model = RecVAERecommender(2, hidden_dim=3, max_iter=2, random_state=0)
    monkeypatch.setattr("sklearn_recvae._training.state.copy.deepcopy", interrupt)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X_train, X_val=X_val)
    monkeypatch.undo()
    assert not hasattr(model, "module_")
