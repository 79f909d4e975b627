"""A frozen model computes what the model computes in evaluation mode, bit for bit."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from qcompiler import nn as q
from qcompiler.errors import UnsupportedModel
from qcompiler.nn.updates import clip_weights_


def convolutional(weight: Callable[[], nn.Module], activation: Callable[[], nn.Module]) -> nn.Sequential:
    """[N, 3, 6, 6] -> [N, 5]; takes a few training steps, so that no quantity is at its initial value."""
    model = nn.Sequential(
        q.QConv2d(3, 6, 3, weight_quantizer=weight(), input_quantizer=q.input_quantizer()),
        nn.BatchNorm2d(6),
        activation(),
        nn.MaxPool2d(2),
        q.QConv2d(6, 4, 3, padding=1, groups=2, weight_quantizer=weight()),
        nn.BatchNorm2d(4),
        activation(),
        nn.Flatten(),
        q.QLinear(16, 5, weight_quantizer=weight()),
    )
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(3):
        optimizer.zero_grad()
        model(images(8)).square().mean().backward()
        optimizer.step()
        clip_weights_(model)
    return model


def images(count: int = 4) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, 6, 6)).float() / 128 - 1


def assert_frozen_equals(model: nn.Module, x: torch.Tensor) -> nn.Module:
    """The frozen model, after its comparison; `model` must stay as it was."""
    state, mode = copy.deepcopy(model.state_dict()), model.training
    frozen = q.freeze(model)
    assert model.training is mode
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert not any(isinstance(module, q.Quantizer) for module in frozen.modules())
    assert not frozen.training
    with torch.no_grad():
        assert torch.equal(frozen(x), copy.deepcopy(model).eval()(x))
    return frozen


WEIGHTS: dict[str, Callable[[], nn.Module]] = {
    "binary": q.Binarize,
    "stochastic": lambda: q.Binarize(stochastic=True),
    "alpha": lambda: q.Binarize(scale="channel", centre=True),
    "ternary": q.Ternarize,
    "ternary_scaled": lambda: q.Ternarize(threshold="mean", scale="channel"),
    "moons": lambda: q.MoonsWeight(4),
    "dorefa": lambda: q.DoReFaWeight(4),
    "lsq": lambda: q.LSQ(3),
}
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "binary": lambda: q.QActivation(1),
    "moons": lambda: q.QActivation(quantizer=q.MoonsReLU(3)),
    "dorefa": lambda: q.QActivation(4),
    "lsq": lambda: q.LSQ(4, signed=False),
    "pact": lambda: q.PACT(4),
}


@pytest.mark.parametrize("weight", WEIGHTS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_pair_of_quantizers(weight: str, activation: str) -> None:
    model = convolutional(WEIGHTS[weight], ACTIVATIONS[activation])
    frozen = assert_frozen_equals(model, images())
    x = images()
    assert torch.equal(q.freeze(frozen)(x), frozen(x))
    first = model[0]
    expected, _ = first.weight_quantizer.eval().freeze(first.weight)
    assert torch.equal(frozen[0].weight, expected)


@pytest.mark.parametrize("k_map", [True, False])
def test_xnor_layers(k_map: bool) -> None:
    model = nn.Sequential(
        q.XnorConv2d(3, 8, 3, padding=1, k_map=k_map), nn.Flatten(), q.XnorLinear(8 * 36, 5, k_map=k_map)
    )
    assert_frozen_equals(model, torch.randn(2, 3, 6, 6))


@pytest.mark.parametrize("quantizer", [lambda: q.Binarize(scale="channel"), lambda: q.DoReFaWeight(3)])
def test_parametrized_layers(quantizer: Callable[[], nn.Module]) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(64, 2))
    for layer in (model[0], model[2]):
        parametrize.register_parametrization(layer, "weight", quantizer())
    frozen = assert_frozen_equals(model, images())
    assert torch.equal(frozen[0].weight, model[0].weight)


def test_a_quantizer_used_twice_is_frozen_in_both_places() -> None:
    shared = q.DoReFaActivation(2)
    model = nn.Sequential(shared, q.QLinear(4, 4, w_bits=1), shared)
    frozen = assert_frozen_equals(model, torch.randn(3, 4))
    assert isinstance(frozen[0], q.Fixed) and isinstance(frozen[2], q.Fixed)


@pytest.mark.parametrize("quantizer", [lambda: q.DoReFaWeight(2), lambda: q.Binarize(scale="tensor")])
def test_layers_that_share_a_latent_weight(quantizer: Callable[[], nn.Module]) -> None:
    """One is quantized, one float, one quantized again: freezing one must not change what the others read."""
    model = nn.Sequential(
        q.QLinear(4, 4, weight_quantizer=quantizer()), nn.Linear(4, 4), q.QLinear(4, 4, weight_quantizer=quantizer())
    )
    model[1].weight = model[2].weight = model[0].weight
    assert_frozen_equals(model, torch.randn(3, 4))


def test_a_lone_quantizer() -> None:
    assert isinstance(assert_frozen_equals(q.DoReFaActivation(3), torch.randn(9)), q.Fixed)


def test_refusals_name_the_module() -> None:
    model = nn.Sequential(nn.Sequential(nn.Linear(2, 2), q.QActivation(quantizer=q.DoReFaWeight(2))))
    with pytest.raises(UnsupportedModel, match=r"node '0\.1\.quantizer'.*DoReFaActivation"):
        q.freeze(model)
