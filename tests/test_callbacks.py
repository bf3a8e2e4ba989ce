"""Callbacks of scikit-learn: what they see, and how they stop a fit."""

import threading
from functools import partial

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Binarizer

import sklearn_recvae
from common import recommender as small
from sklearn_recvae import BlendedRecommender, EASERecommender
from sklearn_recvae.datasets import make_interactions
from sklearn_recvae.metrics import ranking_scorer

callback = pytest.importorskip(
    "sklearn.callback", reason="scikit-learn has callbacks from 1.9 on"
)


class Recorder:
    """Notes the hooks that were called, in order."""

    def __init__(self):
        self.events = []

    def setup(self, estimator, context):
        self.events.append(("setup", context.task_name))

    def teardown(self, estimator, context):
        self.events.append(("teardown", context.task_name))

    def on_fit_task_begin(self, estimator, context):
        self.events.append(("begin", context.task_name, context.task_id))

    def on_fit_task_end(self, estimator, context):
        self.events.append(("end", context.task_name, context.task_id))

    def kinds(self):
        return [event[0] for event in self.events]


class StopAt(Recorder):
    """Wants to stop at the end of an iteration."""

    def __init__(self, iteration):
        super().__init__()
        self.iteration = iteration

    def on_fit_task_end(self, estimator, context):
        super().on_fit_task_end(estimator, context)
        return context.task_name == "iteration" and context.task_id + 1 >= (
            self.iteration
        )


class KeepFitted(Recorder):
    """Keeps the estimator as if training had stopped after each iteration."""

    def __init__(self):
        super().__init__()
        self.fitted = []
        self.seen = []

    def on_fit_task_end(
        self, estimator, context, *, X=None, y=None, fitted_estimator=None
    ):
        self.fitted.append(fitted_estimator)
        self.seen.append((X, y))


class HandedOn(Recorder):
    """Goes to the parts of a blend too, as a progress bar does."""

    max_propagation_depth = None


class Failing(Recorder):
    def on_fit_task_end(self, estimator, context):
        raise RuntimeError("the callback does not like it")


recommender = partial(small, latent_dim=4, hidden_dim=8, max_iter=4)


@pytest.fixture(scope="module")
def X():
    return make_interactions(60, 20, mean_interactions=6, random_state=0)[0]


def test_recorders_are_callbacks():
    for recorder in (Recorder(), StopAt(1), KeepFitted(), Failing()):
        assert isinstance(recorder, callback.FitCallback)


def test_hooks_are_called_for_the_fit_and_each_iteration(X):
    recorder = Recorder()
    recommender().set_callbacks(recorder).fit(X)
    kinds = recorder.kinds()
    assert kinds[:2] == ["setup", "begin"]
    assert kinds[2:-2] == ["begin", "end"] * 4
    assert kinds[-2:] == ["end", "teardown"]
    iterations = [event[2] for event in recorder.events if "iteration" in event]
    assert iterations == [0, 0, 1, 1, 2, 2, 3, 3]


def test_hooks_of_partial_fit(X):
    recorder = Recorder()
    estimator = recommender().set_callbacks(recorder)
    for n_calls in (1, 2):
        estimator.partial_fit(X)
        assert recorder.kinds().count("setup") == n_calls
        assert recorder.kinds().count("begin") == 2 * n_calls
        assert recorder.kinds().count("end") == 2 * n_calls
        assert recorder.kinds().count("teardown") == n_calls


def test_hooks_change_nothing(X):
    watched = recommender().set_callbacks(Recorder(), KeepFitted()).fit(X)
    alone = recommender().fit(X)
    assert_array_equal(watched.predict(X), alone.predict(X))
    assert watched.__dict__.keys() - {"_skl_callbacks"} == alone.__dict__.keys()


@pytest.mark.parametrize("iteration", [1, 3, 4, 9])
def test_callback_can_stop_training(X, iteration):
    stopper = StopAt(iteration)
    estimator = recommender().set_callbacks(stopper).fit(X)
    n_iter = min(iteration, 4)
    assert estimator.n_iter_ == n_iter
    assert len(estimator.history_["likelihood"]) == n_iter
    expected = recommender(max_iter=n_iter).fit(X)
    assert_array_equal(estimator.predict(X), expected.predict(X))
    assert stopper.kinds()[-2:] == ["end", "teardown"]


def test_one_of_several_callbacks_can_stop(X):
    recorder = Recorder()
    estimator = recommender().set_callbacks(recorder, StopAt(3), Recorder()).fit(X)
    assert estimator.n_iter_ == 3
    assert recorder.kinds().count("begin") == recorder.kinds().count("end") == 4


def test_stopping_keeps_the_best_iteration(X):
    params = {"max_iter": 10, "learning_rate": 0.05}
    free = recommender(**params).fit(X[:40], X_val=X[40:])
    scores = free.history_["validation_score"]
    stopped = recommender(**params).set_callbacks(StopAt(6))
    stopped.fit(X[:40], X_val=X[40:])
    assert stopped.n_iter_ == 6
    assert stopped.best_score_ == scores[:6].max()
    assert stopped.score(X[40:]) == stopped.best_score_


def test_fitted_estimator_is_ready_and_stays_as_it_was(X):
    keeper = KeepFitted()
    estimator = recommender().set_callbacks(keeper).fit(X, np.arange(60))
    assert len(keeper.fitted) == 5
    for n_iter, fitted in enumerate(keeper.fitted[:4], start=1):
        expected = recommender(max_iter=n_iter).fit(X)
        assert_array_equal(fitted.recommend(X, 3), expected.recommend(X, 3))
        assert_array_equal(fitted.predict(X), expected.predict(X))
        assert fitted.score(X) == expected.score(X)
        assert fitted.n_features_in_ == 20
    # At the end of fit it is the fitted estimator.
    assert_array_equal(keeper.fitted[4].predict(X), estimator.predict(X))
    for seen, y in keeper.seen:
        assert_array_equal(seen.toarray(), X.toarray())
        assert_array_equal(y, np.arange(60))


def test_fitted_estimator_in_a_second_fit_is_the_second(X):
    keeper = KeepFitted()
    estimator = recommender().fit(X[:, :10]).set_callbacks(keeper)
    estimator.fit(X)
    assert keeper.fitted[0].predict(X).shape == X.shape
    assert keeper.fitted[0].get_feature_names_out().shape == (4,)


class Prune(Exception):
    pass


class Logger(Recorder):
    """Notes the validation score of each iteration; gives up on low ones."""

    def __init__(self, lowest=0, patience=99):
        super().__init__()
        self.lowest, self.patience = lowest, patience
        self.scores, self.estimators = [], []

    def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
        if context.task_name == "iteration":
            self.scores.append(fitted_estimator.history_["validation_score"][-1])
            self.estimators.append(fitted_estimator)
            if len(self.scores) == self.patience and max(self.scores) < self.lowest:
                raise Prune


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("ema_decay", [0, 0.5])
def test_fitted_estimator_is_as_if_training_had_stopped(X, ema_decay, again, tmp_path):
    params = {"learning_rate": 0.05, "ema_decay": ema_decay}
    logger = Logger()
    estimator = recommender(**params)
    if again:  # whose history must not be taken for the new one
        estimator.fit(X[:, :15], X_val=X[40:, :15])
    estimator.set_callbacks(logger).fit(X[:40], X_val=X[40:])
    assert logger.scores == estimator.history_["validation_score"].tolist()
    for n_iter, fitted in enumerate(logger.estimators, start=1):
        expected = recommender(**params, max_iter=n_iter).fit(X[:40], X_val=X[40:])
        assert fitted.n_iter_ == n_iter == len(fitted.history_["kl"])
        assert fitted.best_iteration_ == expected.best_iteration_
        assert fitted.score(X[40:]) == fitted.best_score_ == expected.best_score_
        assert_array_equal(fitted.recommend(X), expected.recommend(X))
        fitted.save(tmp_path / "file")
        loaded = sklearn_recvae.load(tmp_path / "file")
        assert_array_equal(loaded.predict(X), expected.predict(X))


def test_fitted_estimator_of_partial_fit(X):
    logger = Logger()
    estimator = recommender().fit(X).set_callbacks(logger).partial_fit(X)
    (fitted,) = logger.estimators
    assert fitted.n_iter_ == estimator.n_iter_ == 5
    assert_array_equal(fitted.history_["kl"], estimator.history_["kl"])
    assert_array_equal(fitted.predict(X), estimator.predict(X))


@pytest.mark.parametrize("fitted", [False, True])
def test_pruning_by_an_exception(X, fitted):
    estimator = recommender()
    if fitted:
        estimator.fit(X)
    logger = Logger(lowest=2, patience=3)
    estimator.set_callbacks(logger)
    before = estimator.__dict__.copy()
    with pytest.raises(Prune):
        estimator.fit(X[:40], X_val=X[40:])
    assert len(logger.scores) == 3
    assert logger.kinds()[-1] == "teardown"
    assert estimator.__dict__ == before


def blend(*callbacks):
    part = recommender(max_iter=2).set_callbacks(*callbacks)
    return BlendedRecommender(
        [("recvae", part), ("ease", EASERecommender())], weights=None
    )


def names_of_tasks(recorder, kind):
    return [event[1] for event in recorder.events if event[0] == kind]


def test_hooks_of_a_blend(X):
    alone = blend().fit(X)
    recorder, of_part, keeper = Recorder(), Recorder(), KeepFitted()
    estimator = blend(of_part).set_callbacks(recorder, keeper).fit(X)
    assert_array_equal(estimator.predict(X), alone.predict(X))
    tasks = ["fit-recvae", "fit-ease", "fit"]
    assert names_of_tasks(recorder, "end") == tasks
    assert names_of_tasks(recorder, "begin") == [tasks[-1], *tasks[:-1]]
    assert recorder.kinds()[0] == "setup"
    assert recorder.kinds()[-1] == "teardown"
    assert names_of_tasks(of_part, "end") == ["iteration", "iteration", "fit"]
    assert_array_equal(keeper.fitted[-1].predict(X), alone.predict(X))


def test_callbacks_that_are_handed_on_to_parts(X):
    recorder = HandedOn()
    blend().set_callbacks(recorder).fit(X)
    assert recorder.kinds().count("setup") == recorder.kinds().count("teardown") == 1
    ends = names_of_tasks(recorder, "end")
    assert ends == ["iteration", "iteration", "fit", "fit", "fit"]
    # A part may have one of its own, unless the blend has one too.
    recorder = HandedOn()
    blend(recorder).fit(X)
    assert recorder.kinds().count("teardown") == 1
    with pytest.raises(TypeError, match="can't have auto-propagated callbacks"):
        blend(HandedOn()).set_callbacks(HandedOn()).fit(X)


def test_callbacks_through_a_pipeline_to_the_parts_of_a_blend(X):
    recorder = HandedOn()
    pipeline = make_pipeline("passthrough", blend())
    pipeline.set_callbacks(recorder).fit(X)
    assert "iteration" in names_of_tasks(recorder, "end")
    assert recorder.kinds().count("teardown") == 1
    assert "_parent_callback_ctx" not in pipeline[-1].__dict__


def test_blend_of_fitted_parts_takes_callbacks(X):
    recorder = HandedOn()
    parts = [("ease", FrozenEstimator(EASERecommender().fit(X)))]
    BlendedRecommender(parts, weights=None).set_callbacks(recorder).fit(X)
    assert names_of_tasks(recorder, "end") == ["fit-ease", "fit"]


def test_blend_whose_callback_fails_is_as_it_was(X):
    estimator = blend(Failing())
    recorder = Recorder()
    estimator.set_callbacks(recorder)
    with pytest.raises(RuntimeError, match="does not like it"):
        estimator.fit(X)
    assert not hasattr(estimator, "estimators_")
    assert recorder.kinds()[-1] == "teardown"


def test_hooks_of_ease(X):
    recorder, keeper = Recorder(), KeepFitted()
    estimator = EASERecommender().set_callbacks(recorder, keeper).fit(X)
    assert recorder.kinds() == ["setup", "begin", "end", "teardown"]
    assert_array_equal(keeper.fitted[0].predict(X), estimator.predict(X))


def test_progress_bar_of_a_blend(X, capsys):
    pytest.importorskip("rich")
    bar = callback.ProgressBar(max_propagation_depth=None)
    blend().set_callbacks(bar).fit(X)
    output = capsys.readouterr().out
    assert "BlendedRecommender" in output
    assert "RecVAERecommender" in output
    assert drawing_threads() == []


def test_callbacks_are_torn_down_when_training_fails(X):
    recorder = Recorder()
    estimator = recommender(learning_rate=1e6).set_callbacks(recorder)
    with pytest.raises(ValueError, match="diverged"):
        estimator.fit(X)
    assert recorder.kinds().count("setup") == 1
    assert recorder.kinds().count("teardown") == 1
    # And the estimator can be fitted after that.
    estimator.set_params(learning_rate=1e-3).fit(X)
    assert recorder.kinds().count("teardown") == 2


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_failing_callback_leaves_the_estimator_as_it_was(X, method):
    estimator = recommender().fit(X)
    predictions = estimator.predict(X)
    failing, recorder = Failing(), Recorder()
    estimator.set_callbacks(failing, recorder)
    before = estimator.__dict__.copy()
    with pytest.raises(RuntimeError, match="does not like it"):
        getattr(estimator, method)(X)
    assert estimator.__dict__.keys() == before.keys()
    assert_array_equal(estimator.predict(X), predictions)
    assert failing.kinds()[-1] == recorder.kinds()[-1] == "teardown"


def test_input_is_refused_before_any_hook(X):
    recorder = Recorder()
    estimator = recommender(gamma=None).set_callbacks(recorder)
    with pytest.raises(ValueError, match="gamma and beta"):
        estimator.fit(X)
    assert recorder.kinds().count("setup") == recorder.kinds().count("teardown")


def drawing_threads():
    """Threads that draw progress bars; one that is left hanging keeps drawing."""
    return [
        thread
        for thread in threading.enumerate()
        if type(thread).__name__ == "RichProgressMonitor"
    ]


def test_progress_bar(X, capsys):
    pytest.importorskip("rich")
    estimator = recommender().set_callbacks(callback.ProgressBar()).fit(X)
    assert estimator.n_iter_ == 4
    output = capsys.readouterr().out
    assert "RecVAERecommender" in output
    assert "100%" in output
    assert drawing_threads() == []


def test_progress_bar_ends_when_training_fails(X):
    pytest.importorskip("rich")
    estimator = recommender(learning_rate=1e6).set_callbacks(callback.ProgressBar())
    with pytest.raises(ValueError, match="diverged"):
        estimator.fit(X)
    left = drawing_threads()
    for thread in left:  # or the process would wait for them for ever
        thread.queue.put(None)
        thread.join()
    assert left == []


def test_clone_keeps_callbacks(X):
    recorder = Recorder()
    clone(recommender().set_callbacks(recorder)).fit(X)
    assert recorder.kinds().count("setup") == 1


def test_callbacks_under_a_grid_search(X):
    recorder = Recorder()
    search = GridSearchCV(
        recommender(max_iter=2).set_callbacks(recorder),
        {"gamma": [0.001, 0.1]},
        cv=KFold(2, shuffle=True, random_state=0),
        error_score="raise",
    ).fit(X)
    # Two candidates in two folds, and the refit.
    assert recorder.kinds().count("setup") == 5
    assert recorder.kinds().count("teardown") == 5
    assert recorder.kinds().count("begin") == recorder.kinds().count("end") == 5 * 3
    alone = GridSearchCV(recommender(max_iter=2), search.param_grid, cv=search.cv)
    assert_array_equal(
        search.cv_results_["mean_test_score"],
        alone.fit(X).cv_results_["mean_test_score"],
    )


def test_stopping_under_a_grid_search(X):
    search = GridSearchCV(
        make_pipeline(Binarizer(), recommender().set_callbacks(StopAt(2))),
        {"recvaerecommender__gamma": [0.001, 0.1]},
        cv=2,
        error_score="raise",
    ).fit(X)
    assert search.best_estimator_[-1].n_iter_ == 2


def test_progress_bar_of_a_grid_search_in_processes(X, capsys):
    pytest.importorskip("rich")
    if not hasattr(GridSearchCV, "set_callbacks"):
        pytest.skip("GridSearchCV has no callbacks in this scikit-learn")
    search = GridSearchCV(
        recommender(max_iter=2), {"gamma": [0.001, 0.1]}, cv=2, error_score="raise"
    )
    search.set_callbacks(callback.ProgressBar(max_propagation_depth=None)).fit(X)
    assert "RecVAERecommender" in capsys.readouterr().out


def test_scoring_monitor(X):
    monitor = callback.ScoringMonitor(scoring={"ndcg": ranking_scorer()})
    held_out = make_interactions(60, 20, mean_interactions=6, random_state=1)[0]
    # The monitor scores on what fit was given: fold-in rows and their held-out part.
    held_out = held_out - held_out.multiply(X > 0)
    held_out.eliminate_zeros()
    recommender().set_callbacks(monitor).fit(X, held_out)
    frame = monitor.get_logs().data_as_pandas
    scores = [recommender(max_iter=n).fit(X).score(X, held_out) for n in (1, 2, 3, 4)]
    # Once for each iteration, and once for the whole fit.
    logged = frame["ndcg"].dropna()
    assert_array_equal(np.sort(logged), np.sort([*scores, scores[-1]]))
