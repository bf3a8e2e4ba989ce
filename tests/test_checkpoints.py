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
from sklearn_recvae import _files as files
from sklearn_recvae._files import read_file, write_file
from sklearn_recvae._training.checkpoints import KIND, CheckpointFolder
from sklearn_recvae._training.trainer import Trainer
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

    def run_iteration(self, number):
        raise AssertionError("there is nothing to train")

    monkeypatch.setattr(
        "sklearn_recvae._training.trainer.Trainer.run_iteration", run_iteration
    )
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
        ({"gamma": 0.1}, "gamma was 'auto' and is 0.1"),
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

    run_iteration, wait = Trainer.run_iteration, Wait()

    def run_after_another(self, number):
        thread = threading.Thread(target=wait, args=(self,))
        thread.start()
        thread.join()
        return run_iteration(self, number)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "run_iteration", run_after_another)
        recommender(max_iter=1).fit(X_train, checkpoint=tmp_path)
    (message,) = wait.errors
    assert "Another fit has its checkpoints in" in message
    assert str(tmp_path) in message
    recommender().fit(X_train, checkpoint=tmp_path)  # the folder is free again


def test_failed_start_gives_the_folder_free(tmp_path):
    folder = CheckpointFolder(tmp_path)
    (tmp_path / "000001.checkpoint").mkdir()
    with pytest.raises(ValueError, match=r"000001\.checkpoint is a folder, but"):
        folder.__enter__()
    (tmp_path / "000001.checkpoint").rmdir()
    with CheckpointFolder(tmp_path):  # though the first one is still there
        pass


def test_file_that_may_not_be_read(tmp_path, monkeypatch):
    recommender(max_iter=1).fit(X_train, checkpoint=tmp_path)

    def refuse(*arguments):
        raise PermissionError("not yours")

    folder = CheckpointFolder(tmp_path)
    monkeypatch.setattr("sklearn_recvae._training.checkpoints.read_file", refuse)
    with pytest.raises(PermissionError):
        folder.__enter__()
    monkeypatch.undo()
    with CheckpointFolder(tmp_path):
        pass
    assert checkpoints_in(tmp_path) == ["000001"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_forked_process_does_not_keep_the_folder(tmp_path):
    read_end, write_end = os.pipe()
    is_there, is_here = os.pipe()
    with CheckpointFolder(tmp_path):
        child = os.fork()
        if child == 0:  # lives until the pipe is closed
            os.close(write_end)
            os.write(is_here, b"1")
            os.read(read_end, 1)
            os._exit(0)
        os.read(is_there, 1)
        with pytest.raises(ValueError, match="is running"):
            CheckpointFolder(tmp_path).__enter__()
    try:
        with CheckpointFolder(tmp_path):
            pass
    finally:
        os.close(write_end)
        os.waitpid(child, 0)
        for end in (read_end, is_there, is_here):
            os.close(end)


@pytest.mark.parametrize("name", ["000007.checkpoint", ".000007.checkpoint.ab.tmp"])
def test_folders_with_names_of_checkpoints(name, tmp_path):
    (tmp_path / name).mkdir()
    (tmp_path / "x.checkpoint").mkdir()  # is none of ours
    with pytest.raises(ValueError, match=rf"{name} is a folder, but its name"):
        recommender().fit(X_train, checkpoint=tmp_path)
    (tmp_path / name).rmdir()
    recommender(max_iter=1).fit(X_train, checkpoint=tmp_path)


def test_what_is_no_folder_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    for path in ("file", "file/below", tmp_path / "file"):
        with pytest.raises(ValueError, match="which is not a folder, or lies in"):
            recommender().fit(X_train, checkpoint=path)
    with pytest.raises(ValueError, match="Got checkpoint='', expected the path of"):
        recommender().fit(X_train, checkpoint="")
    assert os.listdir(tmp_path) == ["file"]


def test_same_data_with_indices_of_64_bits(tmp_path):
    recommender(max_iter=1).fit(X_train, X_val=X_val, checkpoint=tmp_path)
    wide, wide_val = X_train.copy(), X_val.copy()
    for matrix in (wide, wide_val):
        matrix.indptr = matrix.indptr.astype(np.int64)
        matrix.indices = matrix.indices.astype(np.int64)
    model = recommender().fit(wide, X_val=wide_val, checkpoint=tmp_path)
    assert_same_fit(model, recommender().fit(X_train, X_val=X_val))


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


def train_until(iteration, folder, monkeypatch):
    """Run a fit of ten iterations up to one of them, where it is killed."""
    save = CheckpointFolder.save

    def save_and_die(self, state, progress):
        save(self, state, progress)
        if len(progress.history) == iteration:
            raise SystemExit

    monkeypatch.setattr(CheckpointFolder, "save", save_and_die)
    with pytest.raises(SystemExit):
        recommender(max_iter=10).fit(X_train, X_val=X_val, checkpoint=folder)
    monkeypatch.undo()


def checkpoints_in(folder):
    return sorted(file.stem for file in folder.glob("*.checkpoint"))


@pytest.mark.filterwarnings("ignore:.* is no checkpoint")
@pytest.mark.parametrize("n_damaged", [1, 2])
def test_damaged_files_do_not_count(n_damaged, tmp_path, monkeypatch):
    train_until(8, tmp_path, monkeypatch)
    for file in sorted(tmp_path.glob("*.checkpoint"))[-n_damaged:]:
        file.write_bytes(b"")
    begin = 0 if n_damaged == 2 else 7
    if n_damaged == 2:
        train_until(1, tmp_path, monkeypatch)
        assert checkpoints_in(tmp_path) == ["000001"]
        train_until(3, tmp_path, monkeypatch)
        assert checkpoints_in(tmp_path) == ["000002", "000003"]
        begin = 3
    started = []
    run_iteration = Trainer.run_iteration

    def count(trainer, number):
        started.append(number)
        return run_iteration(trainer, number)

    monkeypatch.setattr(Trainer, "run_iteration", count)
    model = recommender(max_iter=10).fit(X_train, X_val=X_val, checkpoint=tmp_path)
    assert started == list(range(begin + 1, 11))
    monkeypatch.undo()
    assert_same_fit(model, recommender(max_iter=10).fit(X_train, X_val=X_val))
    assert checkpoints_in(tmp_path) == ["000009", "000010"]
    assert len(list(tmp_path.glob("*.damaged"))) == n_damaged


def left_out(name):
    return lambda content, arrays: (
        content,
        {n: a for n, a in arrays.items() if n != name},
    )


def with_array(name, array):
    return lambda content, arrays: (content, {**arrays, name: array})


def with_content(**changed):
    return lambda content, arrays: ({**content, **changed}, arrays)


WRONG = {
    "no content": lambda content, arrays: ({}, arrays),
    "a list": lambda content, arrays: ([], arrays),
    "no arrays": lambda content, arrays: (content, {}),
    "no fingerprint": lambda content, arrays: (
        {name: content[name] for name in ("seed", "iteration")},
        arrays,
    ),
    "a fingerprint of text": with_content(fingerprint="all"),
    "text as iteration": with_content(iteration="4"),
    "another iteration": with_content(iteration=3),
    "a seed of text": with_content(seed="0"),
    "a negative seed": with_content(seed=-1),
    "no generator": left_out("generator"),
    "a short generator": with_array("generator", np.zeros(7, np.uint8)),
    "a generator of zeros": with_array("generator", np.zeros(5056, np.uint8)),
    "no weights": left_out("module.decoder.weight"),
    "weights of another shape": with_array(
        "module.decoder.weight", np.zeros((30, 5), np.float32)
    ),
    "weights that are no numbers": with_array(
        "module.decoder.weight", np.full((30, 4), np.nan, np.float32)
    ),
    "moments of another shape": with_array(
        "encoder.0.exp_avg", np.zeros(9, np.float32)
    ),
    "no moments": left_out("decoder.weight.square"),
    "moments of integers": with_array("decoder.bias.mean", np.zeros(30, np.int64)),
    "moments that are not ours": with_array("decoder.7.exp_avg", np.zeros(1)),
    "a short history": with_array("history.kl", np.zeros(3)),
    "no history": left_out("history.validation_score"),
    "a history of more": with_array("history.color", np.zeros(4)),
    "the best of none": with_array("best_iteration", np.array(0)),
    "the best of later": with_array("best_iteration", np.array(5)),
    "two best": with_array("best_iteration", np.array([1, 2])),
    "an average": with_array("average.decoder.bias", np.zeros(30, np.float32)),
}


@pytest.fixture(scope="module")
def four_iterations(tmp_path_factory):
    """A folder of a fit that was stopped, and what the whole fit comes to."""
    folder = tmp_path_factory.mktemp("checkpoints")
    model = recommender(max_iter=4).fit(X_train, X_val=X_val, checkpoint=folder)
    return folder, model.predict(X)


@pytest.mark.parametrize("wrong", WRONG)
def test_newest_file_with_wrong_contents(wrong, four_iterations, tmp_path):
    """It is whole, its digest is right, and the one before it is used."""
    source, expected = four_iterations
    folder = shutil.copytree(source, tmp_path / "copy")
    newest = folder / "000004.checkpoint"
    write_file(newest, KIND, *WRONG[wrong](*read_file(newest, KIND)))
    with pytest.warns(
        UserWarning, match=r"000004.* is whole, but .* before it is used"
    ):
        model = recommender(max_iter=4).fit(X_train, X_val=X_val, checkpoint=folder)
    np.testing.assert_array_equal(model.predict(X), expected)
    assert checkpoints_in(folder) == ["000003", "000004"]


def test_file_of_a_later_release_is_left_alone(four_iterations, tmp_path, monkeypatch):
    source, expected = four_iterations
    folder = shutil.copytree(source, tmp_path / "copy")
    newest = folder / "000004.checkpoint"
    content, arrays = read_file(newest, KIND)
    monkeypatch.setattr(files, "FORMAT_VERSION", 2)
    write_file(newest, KIND, content, arrays)
    monkeypatch.undo()
    before = newest.read_bytes()
    model = recommender(max_iter=4)
    message = r"000004\.checkpoint is not read: its format version is 2, .* upgrade"
    with pytest.raises(ValueError, match=message):
        model.fit(X_train, X_val=X_val, checkpoint=folder)
    assert newest.read_bytes() == before
    assert checkpoints_in(folder) == ["000003", "000004"]
    newest.unlink()  # the folder is not locked, and what it has can be used
    model.fit(X_train, X_val=X_val, checkpoint=folder)
    np.testing.assert_array_equal(model.predict(X), expected)


def test_full_disk(tmp_path, monkeypatch):
    expected = recommender().fit(X_train)
    recommender(max_iter=1).fit(X_train, checkpoint=tmp_path / "first")
    _, arrays = read_file(tmp_path / "first" / "000001.checkpoint", KIND)
    tmp_path /= "second"
    write_array = files._write_array
    calls = []

    def fail_later(stream, array):
        calls.append(1)
        if len(calls) > 2.5 * len(arrays):  # in the third file
            stream.write(b"half")
            raise OSError(28, "No space left on device")
        write_array(stream, array)

    monkeypatch.setattr(files, "_write_array", fail_later)
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
    expected = recommender().fit(X_train, X_val=X_val)
    apply, calls = Trainer._apply, []

    def interrupt(trainer, gradients):
        calls.append(1)
        if len(calls) == 11:
            raise KeyboardInterrupt
        apply(trainer, gradients)

    monkeypatch.setattr(Trainer, "_apply", interrupt)
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
    safetensors = pytest.importorskip("safetensors")
    with safetensors.safe_open(tmp_path / "000001.checkpoint", "numpy") as file:
        header = json.loads(file.metadata()["sklearn_recvae"])
    assert header["content"]["fingerprint"]["gamma"] == "'auto'"
    assert header["content"]["iteration"] == 1
