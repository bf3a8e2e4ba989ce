"""The network, by a plain computation in float64."""

import math

import numpy as np
import pytest
import torch
from scipy.special import expit

from sklearn_recvae._batches import InteractionTensors
from sklearn_recvae._interactions import as_csr
from sklearn_recvae._network import RecVAE

N_ITEMS, HIDDEN, LATENT = 30, 8, 5


def encode_with_numpy(encoder, X, dense_connections):
    """The encoder's formula on dense rows in float64."""
    weights = {
        name: p.detach().double().numpy() for name, p in encoder.named_parameters()
    }
    norms = np.linalg.norm(X, axis=1, keepdims=True)
    h = np.divide(X, norms, out=np.zeros_like(X), where=norms > 0)
    matrices = [weights["input.weight"]] + [
        weights[f"hidden.{i}.weight"].T for i in range(len(encoder.hidden))
    ]
    biases = [weights["input.bias"]] + [
        weights[f"hidden.{i}.bias"] for i in range(len(encoder.hidden))
    ]
    outputs = []
    for layer, (matrix, bias) in enumerate(zip(matrices, biases, strict=True)):
        pre = h @ matrix + bias
        if dense_connections:
            pre = pre + sum(outputs)
        swish = pre * expit(pre)
        mean = swish.mean(axis=1, keepdims=True)
        variance = swish.var(axis=1, keepdims=True)
        h = (swish - mean) / np.sqrt(variance + 0.1)
        h = h * weights[f"norms.{layer}.weight"] + weights[f"norms.{layer}.bias"]
        outputs.append(h)
    posterior = h @ weights["posterior.weight"].T + weights["posterior.bias"]
    return np.split(posterior, 2, axis=1)


def make_rows(seed=0):
    rng = np.random.default_rng(seed)
    X = rng.uniform(size=(7, N_ITEMS)) * (rng.uniform(size=(7, N_ITEMS)) < 0.3)
    X[3] = 0
    return as_csr(X)


@pytest.mark.parametrize("dense_connections", [True, False])
@pytest.mark.parametrize("n_hidden_layers", [1, 2, 5])
def test_encoder_equals_the_dense_formula(n_hidden_layers, dense_connections):
    module = RecVAE.build(
        N_ITEMS, LATENT, HIDDEN, n_hidden_layers, dense_connections, seed=0
    ).double()
    # Far from the initial values, so that scale and shift of the norms count too.
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += torch.randn(
                parameter.shape, generator=generator, dtype=torch.float64
            )
    X = make_rows()
    batch = InteractionTensors(X, torch.device("cpu")).batch(torch.arange(7))
    with torch.no_grad():
        got = module.encoder(batch)
    expected = encode_with_numpy(module.encoder, X.toarray(), dense_connections)
    for a, b in zip(got, expected, strict=True):
        # The rows are float32 when they come in: 1e-6, not 1e-15.
        np.testing.assert_allclose(a.numpy(), b, rtol=1e-5, atol=1e-5)


def test_initial_weights_are_those_of_linear_layers():
    module = RecVAE.build(N_ITEMS, LATENT, HIDDEN, 3, True, seed=0)
    encoder, decoder = module.encoder, module.decoder
    assert encoder.input.weight.shape == (N_ITEMS, HIDDEN)
    for layer, fan_in in [
        (encoder.input, N_ITEMS),
        (encoder.hidden[0], HIDDEN),
        (encoder.hidden[1], HIDDEN),
        (encoder.posterior, HIDDEN),
        (decoder, LATENT),
    ]:
        bound = 1 / math.sqrt(fan_in)
        for parameter in (layer.weight, layer.bias):
            assert parameter.abs().max() <= bound
        assert layer.weight.abs().max() > 0.8 * bound
        assert abs(layer.weight.mean()) < 0.35 * bound
    for norm in encoder.norms:
        assert norm.eps == 0.1
        assert (norm.weight == 1).all()
        assert (norm.bias == 0).all()
    assert all(p.dtype == torch.float32 for p in module.parameters())


def test_initial_weights_depend_on_the_seed_alone():
    before = torch.random.get_rng_state()
    first, second, other = (
        RecVAE.build(N_ITEMS, LATENT, HIDDEN, 2, True, seed=s) for s in (0, 0, 1)
    )
    assert torch.equal(torch.random.get_rng_state(), before)
    for a, b, c in zip(*(m.parameters() for m in (first, second, other)), strict=True):
        assert torch.equal(a, b)
        assert a.std() == 0 or not torch.equal(a, c)


def test_mixed_precision_keeps_float32_outside_the_products():
    module = RecVAE.build(N_ITEMS, LATENT, HIDDEN, 5, True, seed=0)
    batch = InteractionTensors(make_rows(), torch.device("cpu")).batch(torch.arange(7))
    mean, log_variance = module.encoder(batch)
    low_mean, low_log_variance = module.encoder(batch, torch.bfloat16)
    for exact, low in ((mean, low_mean), (log_variance, low_log_variance)):
        assert low.dtype == torch.float32
        assert not torch.equal(exact, low)
        torch.testing.assert_close(exact, low, rtol=0.05, atol=0.02)


def test_weights_are_those_that_are_declared():
    sizes = (LATENT, HIDDEN, 3, True)
    network = RecVAE.build(N_ITEMS, *sizes, seed=0)
    shapes = dict(RecVAE.weight_shapes(N_ITEMS, *sizes))
    weights = {name: w.numpy() for name, w in network.state_dict().items()}
    assert {name: w.shape for name, w in weights.items()} == shapes
    first, others = RecVAE.count_weights(N_ITEMS, *sizes)
    assert first == N_ITEMS * HIDDEN
    assert first + others == sum(w.size for w in weights.values())
    for name in network.item_tables:
        assert len(weights[name]) == N_ITEMS
    # What has a row for each item, and only that, grows with the catalogue.
    larger = dict(RecVAE.weight_shapes(N_ITEMS + 1, *sizes))
    grown = {name for name, shape in larger.items() if shape != shapes[name]}
    assert grown == set(network.item_tables)


def test_rebuilt_network_shares_the_memory():
    sizes = (LATENT, HIDDEN, 2, False)
    network = RecVAE.build(N_ITEMS, *sizes, seed=0)
    weights = {name: w.numpy() for name, w in network.state_dict().items()}
    again = RecVAE.rebuild(N_ITEMS, *sizes, weights=weights)
    for name, weight in again.state_dict().items():
        assert np.shares_memory(weight.numpy(), weights[name])


@pytest.mark.parametrize(
    "sizes",
    [(LATENT, HIDDEN, 10**9, True), (LATENT, HIDDEN, 1, 1), (0, HIDDEN, 2, True), ()],
    ids=str,
)
def test_sizes_that_are_wrong_are_refused(sizes):
    network = RecVAE.build(N_ITEMS, LATENT, HIDDEN, 2, True, seed=0)
    weights = {name: w.numpy() for name, w in network.state_dict().items()}
    with pytest.raises(ValueError, match=r"the sizes are|there is no array"):
        RecVAE.rebuild(N_ITEMS, *sizes, weights=weights)
