"""What threads see of an estimator while fits of other threads fail, or go well."""

import threading
import time
from collections import Counter

import numpy as np
from faults_counted import WRONG, in_process
from sklearn.base import clone

from sklearn_recvae import RecVAERecommender
from sklearn_recvae.datasets import make_interactions

N_READERS = 4


def study_threads(args):
    """Recommend in four threads, beside one whose fits fail, and one that fits."""
    return in_process(try_threads, args.seconds, args.seconds + 120)


def try_threads(seconds):
    X, _, _ = make_interactions(60, 40, random_state=0)
    model = RecVAERecommender(4, hidden_dim=8, max_iter=1, random_state=0)
    parts = [X[:50], X[10:]]
    expected = [clone(model).fit(part) for part in parts]
    lists = [fitted.recommend(X) for fitted in expected]
    scores = [fitted.predict(X) for fitted in expected]
    model.fit(parts[0])
    end, counters, last_good = time.monotonic() + seconds, [], [0]

    def repeat(step):
        counters.append(counter := Counter())

        def run():
            number = 0
            while time.monotonic() < end or not number:
                counter[step(number)] += 1
                number += 1

        return threading.Thread(target=run)

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
    threads = [repeat(step) for step in steps]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    outcomes = sum(counters, Counter())
    stays = np.array_equal(model.predict(X), scores[last_good[0]])
    good, bad = "at the end the last good fit", f"{WRONG}: at the end another fit"
    outcomes[good if stays else bad] += 1
    return outcomes
