"""What is left of a fit that was killed, or interrupted, at a random moment."""

import copy
import hashlib
import multiprocessing
import signal
import tempfile
import time
import warnings
from collections import Counter
from functools import partial
from pathlib import Path

import faults_counted
import numpy as np
from faults_counted import WRONG, in_processes

from sklearn_recvae import RecVAERecommender
from sklearn_recvae.datasets import load_movielens, make_interactions
from sklearn_recvae.model_selection import holdout_interactions

DAMAGED_SHARE = 0.3  # of the kills after which both checkpoints are emptied
FITS_PER_PROCESS = 20


def study_kills(args):
    """Kill a fit at random moments, until it has been killed that often."""
    if args.data is None:
        X, _, _ = make_interactions(600, 400, random_state=0)
    else:
        X = load_movielens(args.data).data
    with tempfile.TemporaryDirectory() as folder:
        start = time.monotonic()
        expected = run_fit(X, Path(folder, "uninterrupted"), kill_after=None)
        seconds = time.monotonic() - start
    outcomes, rng = Counter(), np.random.default_rng(0)
    while outcomes["killed"] < args.count:
        with tempfile.TemporaryDirectory() as folder:
            result = None
            while result is None:
                left = args.count - outcomes["killed"]
                # From while it imports to after the last iteration.
                kill_after = rng.uniform(0, 0.7 * seconds) if left > 0 else None
                result = run_fit(X, folder, kill_after)
                outcomes["killed"] += result is None
                if args.damage and result is None and rng.random() < DAMAGED_SHARE:
                    outcomes["both checkpoints emptied"] += empty_newest(folder)
            outcome = "came to its end with the same result"
            if result != expected:
                outcome = f"{WRONG}: came to its end with another result"
            outcomes[outcome] += 1
    return outcomes


def run_fit(X, folder, kill_after):
    """Give a digest of the fitted weights; None if it was killed."""
    context = multiprocessing.get_context(faults_counted.START_METHOD)
    connection, others_end = context.Pipe()
    process = context.Process(target=fit, args=(X, folder, others_end))
    process.start()
    others_end.close()
    if kill_after is not None and not connection.poll(kill_after):
        process.kill()
    process.join()
    if process.exitcode == -signal.SIGKILL:
        return None
    try:
        return connection.recv()
    except EOFError:
        return f"no result, exit status {process.exitcode}"


def fit(X, folder, connection):
    warnings.simplefilter("ignore")  # of damaged checkpoints
    model = RecVAERecommender(32, hidden_dim=64, max_iter=20, random_state=0)
    model.fit(X[60:], X_val=X[:60], checkpoint=folder)
    digest = hashlib.sha256()
    for weight in model.module_.state_dict().values():
        digest.update(weight.numpy())
    for name in ("likelihood", "kl", "validation_score"):
        digest.update(model.history_[name])
    connection.send((digest.hexdigest(), model.best_iteration_))


def empty_newest(folder):
    """Leave nothing in the two newest checkpoints; say whether there were two."""
    files = sorted(Path(folder).glob("*.checkpoint"))[-2:]
    for file in files:
        file.write_bytes(b"")
    return len(files) == 2


def study_interrupts(args):
    """Interrupt fits with validation data, and compare the model with its score."""
    count = partial(try_interrupts, args.data)
    return in_processes(count, args.count, FITS_PER_PROCESS)


def try_interrupts(data, seeds):
    warnings.simplefilter("ignore")
    # What Ctrl-C raises, at a moment that a timer chooses.
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    outcomes, cases = Counter(), {}
    for seed in seeds:
        rng = np.random.default_rng(seed)
        n_items = rng.choice([3_000, 6_000, 12_000])
        ema_decay = rng.choice([0, 0.8])
        if (n_items, ema_decay) not in cases:
            cases[n_items, ema_decay] = prepare(data, n_items, ema_decay)
        fitted, split, seconds = cases[n_items, ema_decay]
        model = copy.deepcopy(fitted)
        if rng.random() < 0.5:  # never fitted before
            model = RecVAERecommender(**fitted.get_params())
        model.set_params(random_state=seed)
        outcomes[interrupt(model, split, rng.uniform(0, 1.1 * seconds))] += 1
    return outcomes


def prepare(data, n_items, ema_decay):
    """Give a fitted model, its data, and the seconds that it took."""
    if data is None:
        X, _, _ = make_interactions(
            80, n_items, mean_interactions=40, random_state=int(n_items)
        )
    else:
        X = load_movielens(data).data[:80]
    fold_in, held_out = holdout_interactions(X[:40], 0.2, random_state=0)
    split = {"X": X[40:], "X_val": fold_in, "y_val": held_out}
    model = RecVAERecommender(
        64,
        hidden_dim=128,
        batch_size=20,
        max_iter=20,
        learning_rate=2e-3,
        ema_decay=ema_decay,
        random_state=0,
    )
    start = time.monotonic()
    model.fit(**split)
    return model, split, time.monotonic() - start


def interrupt(model, split, after):
    """Fit for so many seconds; say what is left."""
    outcome = "came to its end"
    try:
        signal.setitimer(signal.ITIMER_REAL, after)
        model.fit(**split)
        signal.setitimer(signal.ITIMER_REAL, 0)
    except KeyboardInterrupt:
        outcome = "interrupted"
    except Exception as error:
        return f"{WRONG}: {type(error).__name__} in place of the interrupt"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    if not hasattr(model, "module_"):
        return f"{outcome}, not fitted"
    if model.score(split["X_val"], split["y_val"]) != model.best_score_:
        return f"{WRONG}: {outcome}, best_score_ is that of other weights"
    return f"{outcome}, fitted, best_score_ is right"
