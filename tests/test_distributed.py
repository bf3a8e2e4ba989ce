"""Several processes, each with some of the items, compute what one computes."""

from threading import Barrier, Thread

import numpy as np
import pytest
import torch

from sklearn_recvae import RecVAERecommender
from sklearn_recvae._batches import InteractionTensors
from sklearn_recvae._interactions import as_csr
from sklearn_recvae._network import RecVAE
from sklearn_recvae._training.distributed import OneProcess
from sklearn_recvae._training.fit import TrainingOptions
from sklearn_recvae._training.objective import (
    CompositePrior,
    MultinomialLikelihood,
    Objective,
    RescaledKL,
)
from sklearn_recvae._training.state import new_training_state
from sklearn_recvae._training.trainer import Trainer

N_USERS, N_ITEMS, CUT = 12, 20, 8
CPU = torch.device("cpu")


class Threads:
    """Stands for processes: each thread has a communicator with the same board."""

    def __init__(self, rank, board, barrier):
        self.rank, self.board, self.barrier = rank, board, barrier

    def exchange(self, tensor):
        self.board[self.rank] = tensor.detach().clone()
        self.barrier.wait()
        parts = torch.stack(list(self.board))
        self.barrier.wait()
        return parts

    def sum_(self, tensor):
        return tensor.copy_(self.exchange(tensor).sum(0))

    def logsumexp(self, tensor):
        return self.exchange(tensor).logsumexp(0)


def make_trainer(X, columns, communicator):
    """A trainer of some of the columns, that begins like one of all of them."""
    module = RecVAE.build(N_ITEMS, 3, 5, 2, True, seed=0).double()
    for name in module.item_tables:
        weight = module.get_parameter(name)
        weight.data = weight.data[columns].clone()
    objective = Objective(
        MultinomialLikelihood(communicator),
        CompositePrior((0.15, 0.75, 0.1)),
        RescaledKL(0.05),
    )
    part = InteractionTensors(X[:, columns], CPU)
    whole = InteractionTensors(X, CPU)
    part._scales, part._totals = whole._scales, whole._totals  # of whole rows
    estimator = RecVAERecommender(batch_size=5, noise_rate=0, learning_rate=0.01)
    options = TrainingOptions.of(estimator)
    return Trainer(
        new_training_state(module, 0), part, objective, options, communicator
    )


@pytest.fixture(scope="module")
def X():
    rng = np.random.default_rng(0)
    return as_csr(rng.uniform(size=(N_USERS, N_ITEMS)) < 0.4)


def test_a_step_of_two_has_the_gradients_of_one(X):
    users = torch.arange(7)

    def step(columns, communicator):
        trainer = make_trainer(X, columns, communicator)
        trainer.matmul_dtype = torch.float64
        batch = trainer.X.batch(users)
        encoder, terms = trainer._encoder_step(users, batch, output=None)
        decoder = trainer._decoder_step(users, batch)
        return trainer, encoder, terms, decoder

    _, expected, expected_terms, expected_decoder = step(slice(None), OneProcess())
    board, barrier, got = [None, None], Barrier(2, timeout=60), [None, None]

    def work(rank):
        columns = slice(None, CUT) if rank == 0 else slice(CUT, None)
        got[rank] = step(columns, Threads(rank, board, barrier))

    threads = [Thread(target=work, args=(rank,)) for rank in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for rank, (_, encoder, terms, decoder) in enumerate(got):
        rows = slice(None, CUT) if rank == 0 else slice(CUT, None)
        torch.testing.assert_close(terms, expected_terms, rtol=1e-6, atol=0)
        # The middle of the network is the same everywhere ...
        for one, other in zip(
            encoder.dense["encoder"], expected.dense["encoder"], strict=True
        ):
            torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-9)
        of_sums, expected_of_sums = encoder.first_layer[1], expected.first_layer[1]
        torch.testing.assert_close(of_sums, expected_of_sums, rtol=1e-6, atol=1e-9)
        # ... and each has its rows of the tables.
        for some, of_all in ((encoder, expected), (decoder, expected_decoder)):
            for name, gradient in some.tables.items():
                torch.testing.assert_close(
                    gradient, of_all.tables[name][rows], rtol=1e-6, atol=1e-9
                )
