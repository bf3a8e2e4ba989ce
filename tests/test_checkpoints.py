import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV

import sklearn_recvae
from sklearn_recvae import RecVAERecommender
from sklearn_recvae._files import write_file
from sklearn_recvae.datasets import make_interactions

PROJECT = Path(sklearn_recvae.__file__).parents[1]
X, _, _ = make_interactions(120, 30, random_state=0)
X_train, X_val = X[:90], X[90:]
PARAMETERS = {"latent_dim": 4, "hidden_dim": 8, "max_iter": 5, "random_state": 0}


def recommender(**changed):
    return RecVAERecommender(**{**PARAMETERS, **changed})


def assert_same_fit(model, other):
    weights, others = model.module_.state_dict(), other.module_.state_dict()
    assert weights.keys() == others.keys()
    for name, weight in weights.items():
        np.testing.assert_array_equal(weight, others[name], err_msg=name)
    assert model.n_iter_ == other.n_iter_
    assert model.best_iteration_ == other.best_iteration_
    assert model.best_score_ == other.best_score_
    for name in set(model.history_) - {"seconds"}:
        np.testing.assert_array_equal(model.history_[name], other.history_[name])
    # The optimisers and the random numbers too.
    for each in (model, other):
        each.partial_fit(X)
    np.testing.assert_array_equal(model.predict(X), other.predict(X))


SETTINGS = [
    {},
    {"alternating": False},
    {"decoder_noise": True, "n_encoder_epochs": 1, "n_decoder_epochs": 2},
    {"precision": "mixed"},
    {"early_stopping": True, "n_iter_no_change": 2, "max_iter": 30},
    {"ema_decay": 0.5, "slim_interval": 2, "slim_min_count": 5},
]


@pytest.mark.parametrize("n_iter", [1, 3, 5])
@pytest.mark.parametrize("settings", SETTINGS)
def test_goes_on_to_the_same_fit(settings, n_iter, tmp_path):
    validation = {} if "early_stopping" in settings else {"X_val": X_val}
    expected = recommender(**settings).fit(X_train, **validation)
    shorter = recommender(**{**settings, "max_iter": n_iter})
    shorter.fit(X_train, **validation, checkpoint=tmp_path)
    model = recommender(**settings)
    assert model.fit(X_train, **validation, checkpoint=tmp_path) is model
    assert_same_fit(model, expected)


@pytest.mark.parametrize("ema_decay", [0, 0.7])
def test_without_validation(ema_decay, tmp_path):
    settings = {"ema_decay": ema_decay}
    recommender(**settings, max_iter=2).fit(X_train, checkpoint=tmp_path)
    model = recommender(**settings).fit(X_train, checkpoint=tmp_path)
    assert_same_fit(model, recommender(**settings).fit(X_train))
    assert model.best_iteration_ is None


def test_large_first_layer_that_is_left_behind(tmp_path):
    """Rows without gradient are made up for before a checkpoint is written."""
    few, _, _ = make_interactions(60, 3000, mean_interactions=5, random_state=0)
    settings = {"batch_size": 10, "max_iter": 4}
    expected = recommender(**settings).fit(few)
    recommender(**{**settings, "max_iter": 2}).fit(few, checkpoint=tmp_path)
    model = recommender(**settings).fit(few, checkpoint=tmp_path)
    np.testing.assert_array_equal(model.predict(few), expected.predict(few))


def test_finished_fit_is_not_run_again(tmp_path, monkeypatch):
    expected = recommender().fit(X_train, X_val=X_val, checkpoint=tmp_path)

    def run_iteration(self):
        raise AssertionError("there is nothing to train")

    monkeypatch.setattr("sklearn_recvae.training.Trainer.run_iteration", run_iteration)
    model = recommender().fit(X_train, X_val=X_val, checkpoint=tmp_path)
    np.testing.assert_array_equal(model.predict(X), expected.predict(X))


def test_last_two_iterations_are_kept(tmp_path):
    folder = tmp_path / "a" / "b"  # is made
    recommender().fit(X_train, checkpoint=str(folder))
    assert sorted(os.listdir(folder)) == [
        "000004.checkpoint",
        "000005.checkpoint",
        "lock",
    ]


def test_no_random_state(tmp_path):
    """The seed that was drawn is in the checkpoint."""
    settings = {"random_state": None, "early_stopping": True, "n_iter_no_change": 99}
    recommender(**settings, max_iter=2).fit(X_train, checkpoint=tmp_path)
    shutil.copytree(tmp_path, tmp_path / "copy")
    models = [
        recommender(**settings).fit(X_train, checkpoint=folder)
        for folder in (tmp_path, tmp_path / "copy")
    ]
    np.testing.assert_array_equal(models[0].predict(X), models[1].predict(X))
    with pytest.raises(ValueError, match="Set random_state to an int or None"):
        recommender(random_state=np.random.RandomState(0)).fit(
            X_train, checkpoint=tmp_path / "other"
        )


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"gamma": 0.1}, "gamma was 0.005 and is 0.1"),
        ({"random_state": 1}, "random_state was 0 and is 1"),
        ({"prior_weights": (1, 0, 0)}, "prior_weights was"),
        ({"precision": "mixed"}, "precision was"),
        ({"max_iter": 1}, "have 2 iterations, but max_iter=1"),
    ],
)
def test_another_fit_is_refused(changed, message, tmp_path):
    recommender(max_iter=2, precision="float32").fit(X_train, checkpoint=tmp_path)
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}
    model = recommender(**{"precision": "float32", **changed})
    with pytest.raises(ValueError, match=message):
        model.fit(X_train, checkpoint=tmp_path)
    assert not hasattr(model, "module_")
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_other_data_are_refused(tmp_path):
    recommender().fit(X_train, X_val=X_val, checkpoint=tmp_path)
    changed = X_train.copy()
    changed.data[7] = 2
    for data in (X_train[:-1], X_train[::-1], changed):
        with pytest.raises(ValueError, match=r"another fit: X was \(90, 30\), SHA-256"):
            recommender().fit(data, X_val=X_val, checkpoint=tmp_path)
    with pytest.raises(ValueError, match="another fit: X_val was"):
        recommender().fit(X_train, X_val=X_val[:-1], checkpoint=tmp_path)
    with pytest.raises(ValueError, match=r"X_val was .* and is none"):
        recommender().fit(X_train, checkpoint=tmp_path)


def test_warm_start_begins_with_the_same_weights(tmp_path):
    model = recommender(warm_start=True).fit(X_train)
    model.fit(X_train, checkpoint=tmp_path)
    with pytest.raises(ValueError, match="initial weights was"):
        model.fit(X_train, checkpoint=tmp_path)


def test_second_writer_is_refused(tmp_path):
    class Wait:
        """Begins another fit in the same folder while this one runs."""

        errors = []  # noqa: RUF012

        def __call__(self, estimator, *args):
            try:
                recommender().fit(X_train, checkpoint=tmp_path)
            except ValueError as error:
                self.errors.append(str(error))

    from sklearn_recvae.training import Trainer

    run_iteration, wait = Trainer.run_iteration, Wait()

    def run_after_another(self):
        thread = threading.Thread(target=wait, args=(self,))
        thread.start()
        thread.join()
        return run_iteration(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "run_iteration", run_after_another)
        recommender(max_iter=1).fit(X_train, checkpoint=tmp_path)
    (message,) = wait.errors
    assert "Another fit has its checkpoints in" in message
    assert str(tmp_path) in message
    recommender().fit(X_train, checkpoint=tmp_path)  # the folder is free again


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_search_with_one_folder_is_refused(n_jobs, tmp_path):
    search = GridSearchCV(
        recommender(),
        {"gamma": [0.005, 0.01]},
        cv=2,
        n_jobs=n_jobs,
        error_score="raise",
    )
    with pytest.raises(ValueError, match=r"[Aa]nother fit"):
        search.fit(X, checkpoint=tmp_path)


@pytest.mark.parametrize("damage", [b"", b"not a file of ours", None])
def test_damaged_newest_file(damage, tmp_path):
    expected = recommender().fit(X_train, X_val=X_val)
    recommender(max_iter=4).fit(X_train, X_val=X_val, checkpoint=tmp_path)
    newest = tmp_path / "000004.checkpoint"
    newest.write_bytes(newest.read_bytes()[:-1000] if damage is None else damage)
    with pytest.warns(UserWarning, match=r"000004\.checkpoint is no .* before it is"):
        model = recommender().fit(X_train, X_val=X_val, checkpoint=tmp_path)
    assert_same_fit(model, expected)


def test_both_files_damaged(tmp_path):
    recommender(max_iter=4).fit(X_train, checkpoint=tmp_path)
    for file in tmp_path.glob("*.checkpoint"):
        file.write_bytes(b"")
    with pytest.warns(UserWarning, match="is no checkpoint"):
        model = recommender().fit(X_train, checkpoint=tmp_path)
    assert_same_fit(model, recommender().fit(X_train))


def test_file_with_another_content(tmp_path):
    recommender(max_iter=2).fit(X_train, checkpoint=tmp_path)
    write_file(tmp_path / "000003.checkpoint", "checkpoint", {"iteration": "3"}, {})
    with pytest.warns(UserWarning, match="000003.* is whole, but no checkpoint"):
        model = recommender().fit(X_train, checkpoint=tmp_path)
    assert_same_fit(model, recommender().fit(X_train))


def test_full_disk(tmp_path, monkeypatch):
    expected = recommender().fit(X_train)
    recommender(max_iter=1).fit(X_train, checkpoint=tmp_path / "first")
    n_arrays = len(np.load(tmp_path / "first" / "000001.checkpoint").files) - 1
    tmp_path /= "second"
    write_array = np.lib.format.write_array
    calls = []

    def fail_later(stream, array, **options):
        calls.append(1)
        if len(calls) > 2.5 * n_arrays:  # in the third file
            stream.write(b"half")
            raise OSError(28, "No space left on device")
        write_array(stream, array, **options)

    monkeypatch.setattr(np.lib.format, "write_array", fail_later)
    with pytest.warns(UserWarning, match=r"could not be written .*No space left"):
        model = recommender().fit(X_train, checkpoint=tmp_path)
    np.testing.assert_array_equal(model.predict(X), expected.predict(X))
    monkeypatch.undo()
    assert sorted(os.listdir(tmp_path)) == [
        "000001.checkpoint",
        "000002.checkpoint",
        "lock",
    ]
    model = recommender().fit(X_train, checkpoint=tmp_path)
    assert_same_fit(model, expected)


def test_interrupted_fit_can_be_used_and_goes_on(tmp_path, monkeypatch):
    from sklearn_recvae.training import Trainer

    expected = recommender().fit(X_train, X_val=X_val)
    step, calls = Trainer._step, []

    def interrupt(optimizer):
        calls.append(1)
        if len(calls) == 11:
            raise KeyboardInterrupt
        step(optimizer)

    monkeypatch.setattr(Trainer, "_step", staticmethod(interrupt))
    model = recommender()
    with pytest.raises(KeyboardInterrupt, match=r"has \d iterations"):
        model.fit(X_train, X_val=X_val, checkpoint=tmp_path)
    monkeypatch.undo()
    best = model.best_iteration_
    assert model.n_iter_ == len(model.history_["kl"]) > 0
    assert model.score(X_val) == expected.history_["validation_score"][best - 1]
    model.fit(X_train, X_val=X_val, checkpoint=tmp_path)
    assert_same_fit(model, expected)


SCRIPT = """
import sys
from sklearn_recvae import RecVAERecommender
from sklearn_recvae._files import write_file
from sklearn_recvae.datasets import make_interactions
import torch

torch.set_num_threads(1)
X, _, _ = make_interactions(120, 30, random_state=0)
parameters = {parameters}
print("begins", flush=True)
RecVAERecommender(**parameters).fit(X[:90], X_val=X[90:], checkpoint=sys.argv[1])
"""


@pytest.mark.skipif(os.name == "nt", reason="kill -9")
def test_killed_process(tmp_path):
    parameters = {**PARAMETERS, "max_iter": 40}
    expected = RecVAERecommender(**parameters).fit(X_train, X_val=X_val)
    script = SCRIPT.format(parameters=parameters)
    for delay in (0.1, 0.25):
        process = subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path)],
            env={**os.environ, "PYTHONPATH": str(PROJECT)},
            stdout=subprocess.PIPE,
        )
        process.stdout.readline()
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    (tmp_path / ".000099.checkpoint.0a1b2c3d.tmp").write_bytes(b"half")
    model = RecVAERecommender(**parameters).fit(
        X_train, X_val=X_val, checkpoint=tmp_path
    )
    assert_same_fit(model, expected)
    names = [file.name for file in tmp_path.iterdir()]
    assert [name for name in names if name.endswith(".tmp")] == []


def test_fingerprint_can_be_read_by_people(tmp_path):
    recommender(max_iter=1).fit(X_train, checkpoint=tmp_path)
    header = json.loads(np.load(tmp_path / "000001.checkpoint")["header.json"])
    assert header["content"]["fingerprint"]["gamma"] == "0.005"
    assert header["content"]["iteration"] == 1
