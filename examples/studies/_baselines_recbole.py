"""Train Mult-VAE, Mult-DAE, CDAE and RaCT of RecBole, for ``compare_baselines.py``.

They train by RecBole's own ``Trainer``. Its own validation would hold out items of the
training users; here they are validated as all other models are, on users who are not
trained on, whose rows go through the network.

RecBole 1.2 runs with numpy 1 and pandas 2 only, so it has an environment of its own:

    python -m pip install -c constraints.txt ".[examples,recbole]"
"""

import copy
import logging
import tempfile
from contextlib import chdir
from pathlib import Path

import numpy as np
import pandas as pd
import torch

if np.lib.NumpyVersion(np.__version__) >= "2.0.0":
    raise ImportError(f"RecBole 1.2 needs numpy 1, got {np.__version__}")

from _runs import N_RANKS, auto_batch_size, rank_by_scores, stack_all_users
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.trainer import Trainer
from recbole.utils import get_model, init_seed

from sklearn_recvae.metrics import ndcg_at_k

MAX_EPOCHS = 100
N_CRITIC_EPOCHS = 20  # of RaCT's critic alone, between the other two stages


def fit_recbole(name, split, setting, seed, patience, max_epochs=MAX_EPOCHS):
    """Train until validation has not improved for so many epochs; keep the best."""
    logging.disable(logging.WARNING)  # it warns of its own progress
    X, start = stack_all_users(split)
    if name != "CDAE":  # which has a factor for each user, and so has to know them all
        X = X[: start["X_val"]]
    settings = {
        "epochs": max_epochs,
        "stopping_step": patience,
        "train_batch_size": auto_batch_size(split.X_train.shape[0]),
    }
    # It writes logs into the folder that it is run in.
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        config, data = load_rows(name, X, settings | setting, seed)
        model = get_model(name)(config, data.dataset)
        rank = rank_by_scores(split, make_scorer(model, data.dataset, split, start))

        def validate():
            model.eval()
            return ndcg_at_k(split.y_val, rank("X_val"), N_RANKS)

        if name == "RaCT":
            train_actor_and_critic(config, model, data, validate)
        else:
            train(config, model, data, validate, best={})
    return rank


def load_rows(name, X, settings, seed):
    """Write the rows to a file, from which alone RecBole reads."""
    Path("rows").mkdir()
    users, items = X.nonzero()
    frame = pd.DataFrame({"user_id:token": users, "item_id:token": items})
    frame.to_csv("rows/rows.inter", sep="\t", index=False)
    config = Config(
        model=name,
        dataset="rows",
        config_dict={
            "data_path": ".",
            "checkpoint_dir": ".",
            "load_col": {"inter": ["user_id", "item_id"]},
            "train_neg_sample_args": None,
            "eval_args": {"split": {"RS": [1, 0, 0]}},
            "use_gpu": False,
            "seed": seed,
            **settings,
        },
    )
    init_seed(seed, reproducibility=True)
    train_data, _, _ = data_preparation(config, create_dataset(config))
    return config, train_data


def make_scorer(model, dataset, split, start):
    """Make the function that scores rows; RecBole numbers users and items anew."""
    columns = dataset.field2id_token["item_id"][1:].astype(int)  # 0 is no item

    @torch.no_grad()
    def score(part, rows):
        X = split[part][rows].toarray()
        inputs = torch.zeros(X.shape[0], len(columns) + 1)
        inputs[:, 1:] = torch.tensor(X[:, columns])
        if isinstance(model, get_model("CDAE")):
            tokens = map(str, range(start[part] + rows.start, start[part] + rows.stop))
            users = [dataset.token2id("user_id", token) for token in tokens]
            outputs = model(inputs, torch.tensor(users))
        else:
            outputs = model(inputs)
        if isinstance(outputs, tuple):  # with the mean and the log-variance
            outputs = outputs[0]
        scores = np.empty_like(X, dtype=np.float32)
        scores[:, columns] = outputs[:, 1:].numpy()
        return scores

    return score


def train(config, model, data, validate, best):
    """Train until validation stops it, and give the model the best weights so far.

    They are kept in the dict `best`, and may be those of an earlier call.
    """

    class ValidatedTrainer(Trainer):
        def _valid_epoch(self, valid_data, show_progress=False):
            score = validate()
            if score > best.get("score", -np.inf):
                best.update(score=score, weights=copy.deepcopy(model.state_dict()))
            return score, {}

    trainer = ValidatedTrainer(config, model)
    trainer.fit(data, valid_data=True, verbose=False, saved=False)
    model.load_state_dict(best["weights"])


def train_actor_and_critic(config, model, data, validate):
    """Train the actor, then the critic, then the actor by the critic's judgement."""
    best = {}
    for stage in ["actor_pretrain", "critic_pretrain", "finetune"]:
        model.train_stage = stage
        learns = stage == "critic_pretrain"
        for parameter in model.parameters():
            parameter.requires_grad = not learns
        for parameter in model.critic_net.parameters():
            parameter.requires_grad = learns
        if stage == "critic_pretrain":
            trainer = Trainer(config, model)
            trainer.epochs = N_CRITIC_EPOCHS
            trainer.fit(data, verbose=False, saved=False)
        else:
            train(config, model, data, validate, best)
