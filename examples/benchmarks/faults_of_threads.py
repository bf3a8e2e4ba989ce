"""What threads see of an estimator while fits of other threads fail, or go well."""

import threading
import time
from collections import Counter

import numpy as np
from faults_counted import WRONG, in_process
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator

from sklearn_recvae import BlendedRecommender, EASERecommender, RecVAERecommender
from sklearn_recvae.datasets import make_interactions

N_READERS = 4


def study_threads(args):
    """Read in four threads, beside fits that fail, that succeed, of another width."""
    outcomes = in_process(try_threads, args.seconds, args.seconds + 120)
    return outcomes + in_process(try_widths, args.seconds, 4 * args.seconds + 120)


def try_threads(seconds):
    X, _, _ = make_interactions(60, 40, random_state=0)
    model = RecVAERecommender(4, hidden_dim=8, max_iter=1, random_state=0)
    parts = [X[:50], X[10:]]
    expected = [clone(model).fit(part) for part in parts]
    lists = [fitted.recommend(X) for fitted in expected]
    scores = [fitted.predict(X) for fitted in expected]
    model.fit(parts[0])
    last_good = [0]

    def recommend(number):
        try:
            recommended = model.recommend(X)
        except Exception as error:
            return f"{WRONG}: recommend, {type(error).__name__}"
        if any(np.array_equal(recommended, each) for each in lists):
            return "recommend, the right list"
        return f"{WRONG}: recommend, another list"

    def fail(number):
        bad = X.toarray()
        bad[0, 0] = np.nan
        calls = [
            lambda: model.partial_fit(bad),
            lambda: model.fit(bad),
            lambda: model.fit(X, X_val=X[:5] * 0),
        ]
        try:
            calls[number % len(calls)]()
        except ValueError:
            return "a bad fit, ValueError"
        except Exception as error:
            return f"{WRONG}: a bad fit, {type(error).__name__}"
        return f"{WRONG}: a bad fit, no error"

    def fit_well(number):
        number = (number + 1) % len(parts)  # begins with what is not there yet
        try:
            model.fit(parts[number])
            last_good[0] = number
            stays = np.array_equal(model.predict(X), scores[number])
        except Exception as error:
            return f"{WRONG}: a good fit, {type(error).__name__}"
        return "a good fit, it stays" if stays else f"{WRONG}: a good fit is lost"

    steps = [recommend] * N_READERS + [fail, fit_well]
    outcomes = repeat_in_threads(steps, seconds)
    stays = np.array_equal(model.predict(X), scores[last_good[0]])
    good, bad = "at the end the last good fit", f"{WRONG}: at the end another fit"
    outcomes[good if stays else bad] += 1
    return outcomes


def try_widths(seconds):
    """Fit each model, and what is frozen in a blend, to more columns and to fewer."""
    recvae = RecVAERecommender(4, hidden_dim=8, max_iter=1, random_state=0)
    ease = EASERecommender(20)
    blend = BlendedRecommender([("recvae", recvae), ("ease", ease)], random_state=0)
    owned = EASERecommender(20)
    frozen = BlendedRecommender([("ease", FrozenEstimator(owned))])
    outcomes = Counter()
    for name, model, fitted_again in [
        ("RecVAE", recvae, recvae),
        ("linear", ease, ease),
        ("blend", blend, blend),
        ("blend with a frozen part", frozen, owned),
    ]:
        outcomes += try_widths_of(name, model, fitted_again, seconds)
    return outcomes


def try_widths_of(name, model, fitted_again, seconds):
    wide, _, _ = make_interactions(60, 40, random_state=0)
    matrices = [wide, wide[:, :25]]
    readers = {
        "recommend": lambda model, X: model.recommend(X, X.shape[1]),
        "predict": lambda model, X: model.predict(X),
        "explain": lambda model, X: model.explain(X, np.full(60, X.shape[1] - 1)),
    }
    right = {}
    for which in (1, 0):
        fitted_again.fit(matrices[which])
        alone = clone(model).fit(matrices[which])
        for reader, read in readers.items():
            right[reader, which] = read(alone, matrices[which])
    model.fit(wide)

    def read(number):
        reader = list(readers)[number % len(readers)]
        which = number // len(readers) % 2
        try:
            found = readers[reader](model, matrices[which])
        except ValueError as error:
            honest = "features, but" in str(error) or "is fitted already" in str(error)
            kind = "of columns" if honest else f"{WRONG}: {error}"
            return f"{name}: {reader}, ValueError {kind}"
        except Exception as error:
            return f"{name}: {WRONG}: {reader}, {type(error).__name__}"
        if reader == "recommend" and found.max() >= matrices[which].shape[1]:
            return f"{name}: {WRONG}: recommend, a column out of range"
        if np.array_equal(found, right[reader, which]):
            return f"{name}: {reader}, what is right"
        return f"{name}: {WRONG}: {reader}, something else"

    def fit(number):
        try:
            fitted_again.fit(matrices[(number + 1) % 2])
        except Exception as error:
            return f"{name}: {WRONG}: fit, {type(error).__name__}"
        return f"{name}: fit"

    return repeat_in_threads([read] * N_READERS + [fit], seconds)


def repeat_in_threads(steps, seconds):
    """Call each step, with a number, in a thread of its own; count the outcomes."""
    end, counters = time.monotonic() + seconds, []

    def repeat(step):
        counters.append(counter := Counter())

        def run():
            number = 0
            while time.monotonic() < end or not number:
                counter[step(number)] += 1
                number += 1

        return threading.Thread(target=run)

    threads = [repeat(step) for step in steps]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counters, Counter())
