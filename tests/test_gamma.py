"""The weight of the KL term that follows from the length of histories."""

import pickle

import numpy as np
import pytest

from sklearn_recvae import RecVAERecommender, load
from sklearn_recvae._training.trainer import Trainer
from sklearn_recvae.datasets import make_interactions

X, _, _ = make_interactions(60, 20, mean_interactions=5, random_state=0)
X = (X * np.random.default_rng(0).choice([0.5, 1, 2], size=(60, 1))).tocsr()
FEW = X[:10] * 3
GAMMA = 0.45 / X.toarray().sum(axis=1).mean()


def make(**params):
    return RecVAERecommender(
        4, hidden_dim=8, **{"gamma": "auto", "max_iter": 2, "random_state": 0, **params}
    )


def test_auto_is_divided_by_the_mean_feedback_of_training_users():
    model = make().fit(X)
    assert model.gamma_ == pytest.approx(GAMMA, rel=1e-12)
    same = make(gamma=model.gamma_).fit(X)
    np.testing.assert_array_equal(model.predict(X), same.predict(X))
    assert (model.predict(X) != make(gamma=0.005).fit(X).predict(X)).any()


def test_users_held_out_do_not_count():
    model = make(early_stopping=True, validation_fraction=0.5).fit(X)
    order = np.random.RandomState(0).permutation(60)
    assert model.gamma_ == pytest.approx(0.45 / X.toarray()[order[30:]].sum(1).mean())


def test_what_trains_on_keeps_it(tmp_path):
    model = make().fit(X)
    assert model.partial_fit(FEW).gamma_ == pytest.approx(GAMMA)
    assert model.add_items(3).gamma_ == pytest.approx(GAMMA)
    model.save(tmp_path / "model.safetensors")
    wider = np.pad(FEW.toarray(), [(0, 0), (0, 3)])
    for copy in (
        load(tmp_path / "model.safetensors"),
        pickle.loads(pickle.dumps(model)),
    ):
        assert copy.gamma_ == model.gamma_
        assert copy.partial_fit(wider).gamma_ == model.gamma_
    assert make(warm_start=True).fit(X).fit(FEW).gamma_ == pytest.approx(GAMMA)
    assert make().fit(X).fit(FEW).gamma_ == pytest.approx(0.45 / FEW.sum() * 10)
    assert make().partial_fit(FEW).gamma_ == pytest.approx(0.45 / FEW.sum() * 10)


def test_numbers_are_taken_as_they_are(tmp_path):
    model = make(gamma=1).fit(X)
    assert model.gamma_ == 1
    assert type(model.gamma_) is float
    assert model.set_params(gamma=0.25).partial_fit(X).gamma_ == 0.25
    model = make(gamma=None, beta=0.2).fit(X)
    assert model.gamma_ is None
    model.save(tmp_path / "model.safetensors")
    assert load(tmp_path / "model.safetensors").gamma_ is None
    # There is nothing to keep.
    assert model.set_params(gamma="auto", beta=None).partial_fit(X).gamma_ > 0


def test_a_checkpoint_goes_on_with_it(tmp_path, monkeypatch):
    expected, run = make(max_iter=3).fit(X), Trainer.run_iteration

    def stop(trainer, number):
        if number == 3:
            raise RuntimeError("stopped")
        return run(trainer, number)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "run_iteration", stop)
        with pytest.raises(RuntimeError, match="stopped"):
            make(max_iter=3).fit(X, checkpoint=tmp_path)
    model = make(max_iter=3).fit(X, checkpoint=tmp_path)
    assert model.gamma_ == expected.gamma_
    np.testing.assert_array_equal(model.predict(X), expected.predict(X))


def test_errors(tmp_path):
    with pytest.raises(ValueError, match="'gamma' parameter of RecVAERecommender"):
        make(gamma="Auto").fit(X)
    with pytest.raises(ValueError, match="together with gamma='auto'"):
        make(beta=0.2).fit(X)
    model = make().fit(X)
    model.gamma_ = -1.0
    with pytest.raises(ValueError, match=r"gamma_ is -1\.0, expected a number from 0"):
        model.save(tmp_path / "model.safetensors")
