"""What training keeps, and what grows with the items."""

import numpy as np
import pytest

from sklearn_recvae._batches import InteractionTensors
from sklearn_recvae._network import RecVAE
from sklearn_recvae._recvae import RecVAERecommender
from sklearn_recvae._training.fit import TrainingOptions
from sklearn_recvae._training.state import (
    RECORD,
    Progress,
    new_training_state,
    restore_training,
    state_to_arrays,
)
from sklearn_recvae._training.trainer import Trainer
from sklearn_recvae.datasets import make_interactions

TABLE = "encoder.input.weight"
X, _, _ = make_interactions(40, 12, random_state=0)


def new_training(ema_decay=0.5):
    state = new_training_state(RecVAE.build(12, 3, 4, 2, True, seed=0), 0)
    return state, Progress(state.module, ema_decay)


@pytest.fixture(scope="module")
def checkpoint():
    """Arrays after two iterations, of which the first was the better one."""
    state, progress = new_training()
    estimator = RecVAERecommender(3, hidden_dim=4, n_hidden_layers=2, gamma=0.005)
    trainer = Trainer(
        state,
        InteractionTensors(X, state.module.device),
        estimator._build_objective(state.module),
        TrainingOptions.of(estimator),
    )
    for number, score in enumerate((0.5, 0.25), start=1):
        likelihood, kl = trainer.run_iteration(number)
        progress.average(state.module)
        progress.add(dict(zip(RECORD, (likelihood, kl, score, 1.0), strict=True)))
    return state_to_arrays(state) | progress.to_arrays()


def to_arrays(state, progress):
    arrays = state_to_arrays(state)
    return arrays | (progress.to_arrays() if progress.history else {})


def test_training_is_restored(checkpoint):
    state, progress = new_training()
    restore_training(state, progress, 2, checkpoint)
    restored = to_arrays(state, progress)
    assert restored.keys() == checkpoint.keys()
    for name, array in checkpoint.items():
        np.testing.assert_array_equal(restored[name], array)
    assert progress.best_iteration == 1


CHANGES = {
    "no array": lambda arrays: arrays.clear(),
    "no array generator": lambda arrays: arrays.pop("generator"),
    "an array other, which": lambda arrays: arrays.update(other=np.zeros(3)),
    "no array history.kl": lambda arrays: arrays.pop("history.kl"),
    "no array best.decoder": lambda arrays: arrays.pop("best.decoder.bias"),
    "no array average.decoder": lambda arrays: arrays.pop("average.decoder.bias"),
    "encoder.input.weight.mean has": lambda arrays: arrays.update(
        {
            "encoder.input.weight.mean": arrays["encoder.input.weight.mean"].astype(
                np.int64
            )
        }
    ),
    "encoder.input.weight.square has": lambda arrays: arrays.update(
        {f"{TABLE}.square": arrays[f"{TABLE}.square"][:1]}
    ),
    "encoder.0.exp_avg has": lambda arrays: arrays.update(
        {"encoder.0.exp_avg": np.zeros((1, 1), np.float32)}
    ),
    "module.decoder.bias .* not finite": lambda arrays: arrays.update(
        {"module.decoder.bias": np.full(12, np.nan, np.float32)}
    ),
    "decoder.bias.n_steps has": lambda arrays: arrays.update(
        {"decoder.bias.n_steps": np.array(2.5)}
    ),
    "best of 2 iterations is 3": lambda arrays: arrays.update(
        best_iteration=np.array(3)
    ),
    "best_iteration has": lambda arrays: arrays.update(best_iteration=np.array([1, 2])),
    "generator has no state": lambda arrays: arrays.update(
        generator=np.full_like(arrays["generator"], 255)
    ),
}


@pytest.mark.parametrize("message", CHANGES)
def test_what_is_no_state_is_refused_before_anything_changes(message, checkpoint):
    arrays = dict(checkpoint)
    CHANGES[message](arrays)
    state, progress = new_training()
    before = to_arrays(state, progress)
    with pytest.raises(ValueError, match=message):
        restore_training(state, progress, 2, arrays)
    after = to_arrays(state, progress)
    assert before.keys() == after.keys()
    for name, array in before.items():
        np.testing.assert_array_equal(after[name], array)
    assert progress.history == ()
    assert progress.best_iteration is None


def test_number_of_iterations_must_be_that_of_the_history(checkpoint):
    with pytest.raises(ValueError, match=r"history.likelihood has .* expected"):
        restore_training(*new_training(), 3, checkpoint)
