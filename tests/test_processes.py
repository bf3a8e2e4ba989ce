"""Many threads on one estimator, how many a fit has, processes, Ctrl-C in a search."""

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import threadpoolctl
import torch
from joblib import Parallel, delayed, parallel_config

import sklearn_recvae
from sklearn_recvae import (
    BlendedRecommender,
    EASERecommender,
    RecVAERecommender,
    _hardware,
)
from sklearn_recvae._files import read_file
from sklearn_recvae._network import RecVAE
from sklearn_recvae._training.trainer import Trainer
from sklearn_recvae.datasets import make_interactions

PROJECT = Path(sklearn_recvae.__file__).parents[1]
X, _, _ = make_interactions(120, 40, random_state=0)


def recommender(**params):
    params = {"latent_dim": 8, "hidden_dim": 16, "max_iter": 2} | params
    return RecVAERecommender(**params, random_state=0)


def test_threads_fit_estimators_of_their_own():
    expected = recommender().fit(X).predict(X)
    with ThreadPoolExecutor(4) as executor:
        fits = executor.map(lambda _: recommender().fit(X), range(8))
        for model in fits:
            np.testing.assert_array_equal(model.predict(X), expected)


@pytest.fixture
def numbers_of_threads(monkeypatch):
    """Numbers in each iteration: of the fit's thread, an older and a new thread."""
    torch.set_num_threads(2)
    numbers = []
    run_iteration = Trainer.run_iteration
    with ThreadPoolExecutor(1) as older:
        older.submit(torch.get_num_threads).result()

        def observe(trainer, number):
            means = run_iteration(trainer, number)
            own = torch.get_num_threads()
            others = [older.submit(torch.get_num_threads).result()]
            with ThreadPoolExecutor(1) as new:
                others.append(new.submit(torch.get_num_threads).result())
            numbers.append((own, *others))
            return means

        monkeypatch.setattr(Trainer, "run_iteration", observe)
        yield numbers
    torch.set_num_threads(1)


def test_small_steps_have_one_thread_and_nobody_else_sees_it(numbers_of_threads):
    recommender().fit(X).partial_fit(X)
    assert numbers_of_threads == [(1, 2, 2)] * 3
    assert torch.get_num_threads() == 2
    with ThreadPoolExecutor(1) as new:  # in which torch has done nothing yet
        new.submit(recommender().fit, X).result()
        assert new.submit(torch.get_num_threads).result() == 2
    assert numbers_of_threads == [(1, 2, 2)] * 5


def test_large_steps_have_all_threads(numbers_of_threads, monkeypatch):
    _, n_dense = RecVAE.count_weights(40, 8, 16, 5, True)
    monkeypatch.setattr(_hardware, "SMALL_STEP", 50 * n_dense)
    recommender(batch_size=50).fit(X)
    assert numbers_of_threads == [(2, 2, 2)] * 2
    recommender(batch_size=49).fit(X)
    assert numbers_of_threads[2:] == [(1, 2, 2)] * 2


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
@pytest.mark.parametrize("iteration", [1, 2])
def test_number_of_threads_after_an_error(
    error, iteration, numbers_of_threads, monkeypatch
):
    observe = Trainer.run_iteration

    def fail(trainer, number):
        if len(numbers_of_threads) + 1 == iteration:
            raise error
        return observe(trainer, number)

    monkeypatch.setattr(Trainer, "run_iteration", fail)
    with pytest.raises(error):
        recommender().fit(X)
    assert torch.get_num_threads() == 2


def test_number_of_threads_after_ctrl_c_while_it_is_put_back(
    numbers_of_threads, monkeypatch
):
    set_num_threads = threadpoolctl.OpenMPController.set_num_threads
    interrupts = [KeyboardInterrupt]

    def set_or_interrupt(library, number):
        if number == 2 and interrupts:
            raise interrupts.pop()
        set_num_threads(library, number)

    monkeypatch.setattr(
        threadpoolctl.OpenMPController, "set_num_threads", set_or_interrupt
    )
    with pytest.raises(KeyboardInterrupt):
        recommender().fit(X)
    assert torch.get_num_threads() == 2


def test_checkpoints_name_the_number_of_threads_in_use(numbers_of_threads, tmp_path):
    recommender().fit(X, checkpoint=tmp_path)
    content, _ = read_file(tmp_path / "000002.checkpoint", "checkpoint")
    assert content["fingerprint"]["threads"] == "1"


def test_work_of_a_step_is_that_of_its_products():
    latent, hidden = 200, 600
    products = 4 * hidden**2 + 2 * latent * hidden + latent * 6298
    _, n_dense = RecVAE.count_weights(6298, latent, hidden, 5, True)
    assert n_dense == pytest.approx(products, rel=0.01)


def small():
    return recommender(max_iter=1, n_hidden_layers=1)


def blend():
    return BlendedRecommender(
        [("recvae", small()), ("ease", EASERecommender())], weights=None
    )


FAILING = {  # late, in the midst of things
    "fit": lambda model: model.fit(X, X_val=X, y_val=X),
    "partial_fit": lambda model: model.partial_fit(X[:, :39]),
    "add_items": lambda model: model.add_items(["a name"]),
    "EASE fit": lambda model: model.fit(0 * X),
    "blend fit": lambda model: model.fit(X, X_val=X, y_val=X),
}


@pytest.mark.parametrize("name", FAILING)
def test_failing_fits_beside_others(name):
    """Nobody sees an estimator that is not fitted, and a good fit stays."""
    makers = {"EASE fit": EASERecommender, "blend fit": blend}
    model = makers.get(name, small)()
    expected = {model.fit(data).recommend(X).tobytes() for data in (X[::2], X)}
    stop = threading.Event()

    def fail():
        n_failed = 0
        while not stop.is_set():
            with pytest.raises(ValueError):  # noqa: PT011
                FAILING[name](model)
            n_failed += 1
        return n_failed

    def recommend():
        found = set()
        while not stop.is_set():
            found.add(model.recommend(X).tobytes())
        return found

    with ThreadPoolExecutor(5) as executor:
        failed = executor.submit(fail)
        found = [executor.submit(recommend) for _ in range(4)]
        try:
            for data in (X[::2], X, X[::2]):
                good = model.fit(data).recommend(X)
        finally:
            stop.set()
    assert failed.result() > 0
    assert all(each.result() <= expected for each in found)
    np.testing.assert_array_equal(model.recommend(X), good)


def test_good_fit_during_one_that_fails(monkeypatch):
    """What finishes first stays, though the other one began earlier."""
    model, good = recommender().fit(X[:30]), recommender().fit(X)
    run_iteration = Trainer.run_iteration

    def fail(trainer, number):
        monkeypatch.setattr(Trainer, "run_iteration", run_iteration)
        thread = threading.Thread(target=model.fit, args=(X,))
        thread.start()
        thread.join()
        model.set_params(gamma=0.1)
        raise ValueError("diverged")

    monkeypatch.setattr(Trainer, "run_iteration", fail)
    with pytest.raises(ValueError, match="diverged"):
        model.fit(X[:, :20])
    assert model.n_features_in_ == 40
    assert model.gamma == 0.1
    np.testing.assert_array_equal(model.predict(X), good.predict(X))


def test_fits_beside_each_other_do_not_mix(monkeypatch):
    """The last to finish is all there is, also what it has in common with before."""
    model = recommender().fit(X)
    run_iteration = Trainer.run_iteration

    def run_later(trainer, number):
        monkeypatch.setattr(Trainer, "run_iteration", run_iteration)
        thread = threading.Thread(target=model.fit, args=(X[:, :20],))
        thread.start()
        thread.join()
        assert model.predict(X[:, :20]).shape == (120, 20)
        return run_iteration(trainer, number)

    expected = recommender().fit(X[:60])
    monkeypatch.setattr(Trainer, "run_iteration", run_later)
    model.fit(X[:60])
    np.testing.assert_array_equal(model.predict(X), expected.predict(X))


def fit_and_rank(model, X):
    return model.fit(X).recommend(X, k=5)


@pytest.mark.parametrize("backend", ["loky", "multiprocessing", "threading"])
def test_workers_of_joblib(backend):
    expected = fit_and_rank(recommender(), X)
    with parallel_config(backend, n_jobs=2):
        ranks = Parallel()(delayed(fit_and_rank)(recommender(), X) for _ in range(3))
    for found in ranks:
        np.testing.assert_array_equal(found, expected)


PROCESS = """
import multiprocessing
import sys
import torch
from sklearn_recvae import RecVAERecommender
from sklearn_recvae.datasets import make_interactions

X, _, _ = make_interactions(2000, 1000, random_state=0)
model = RecVAERecommender(16, hidden_dim=32, max_iter=1, random_state=0)

def answer(queue, again):
    queue.put(((model.fit(X) if again else model).recommend(X)).tolist())

if __name__ == "__main__":
    torch.set_num_threads(2)
    expected = model.fit(X).recommend(X)
    context = multiprocessing.get_context("fork")
    for again in (False, True):
        queue = context.Queue()
        process = context.Process(target=answer, args=(queue, again))
        process.start()
        found = queue.get(timeout=60)
        process.join()
        # A fit sums in another order with another number of threads.
        assert again or found == expected.tolist()
    assert torch.get_num_threads() == 2
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_forked_process_after_work_with_threads(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(PROCESS)
    done = start_python(script, stderr=subprocess.PIPE)
    _, errors = done.communicate(timeout=120)
    assert done.returncode == 0, errors


SEARCH = """
from sklearn.model_selection import GridSearchCV
from sklearn_recvae import RecVAERecommender
from sklearn_recvae.datasets import make_interactions
import torch

torch.set_num_threads(1)
X, _, _ = make_interactions(200, 50, random_state=0)
model = RecVAERecommender(8, hidden_dim=16, max_iter=100_000, random_state=0)
search = GridSearchCV(model, {"gamma": [0.01, 0.1]}, n_jobs=%d)
print("begins", flush=True)
search.fit(X)
"""


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_ctrl_c_ends_a_search(n_jobs, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SEARCH % n_jobs)
    process = start_python(
        script,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,  # a group of its own, as a terminal makes
    )
    try:
        assert process.stdout.readline() == "begins\n"
        time.sleep(3)  # the workers import
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=30)
        assert process.returncode != 0
        assert "KeyboardInterrupt" in errors
        for _ in range(100):
            if not is_alive(process.pid):
                break
            time.sleep(0.1)
        assert not is_alive(process.pid)
    finally:
        if is_alive(process.pid):
            os.killpg(process.pid, signal.SIGKILL)


def is_alive(group):
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def start_python(script, **options):
    return subprocess.Popen(
        [sys.executable, str(script)],
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        text=True,
        **options,
    )
