"""The shipped recipes: which updates they scale, and that wider layers train at least as well as binary ones."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from qcompiler.nn import quantized_weights, scaled_parameter_groups
from qcompiler.nn.grid import FLOAT_BITS
from qcompiler.train.config import load_config, shipped_configs
from qcompiler.train.data import Data, Split, load_data
from qcompiler.train.loop import train
from qcompiler.train.networks import Network

NARROW = {"hidden": 24, "width": 6, "filters": 4, "nfa": 4, "nfb": 4, "nfc": 4}
SHAPE = (3, 64, 64)


def narrow(name: str, *overrides: str) -> tuple[Any, Network]:
    """A recipe with a narrow network."""
    config, network = load_config(name, overrides)
    fields = {field.name for field in dataclasses.fields(network)}
    return config, dataclasses.replace(network, **{key: value for key, value in NARROW.items() if key in fields})


@pytest.mark.parametrize("name", shipped_configs())
def test_weights_that_start_all_over_their_range_have_scaled_updates(name: str) -> None:
    """A hundred weights drawn from the range reach beyond nine tenths of it; Glorot's start stays far below."""
    torch.manual_seed(0)
    config, network = narrow(name)
    model = network.build(SHAPE, 10)
    groups = scaled_parameter_groups(model, config.lr)
    factors = {id(each): group["lr_factor"] for group in groups for each in group["params"]}
    for weight_name, weight, quantizer in quantized_weights(model):
        if quantizer.clip is None or weight.numel() < 100 or weight.abs().max() < 0.9 * quantizer.clip[1]:
            continue
        fans = (weight.shape[0] + weight.shape[1]) * math.prod(weight.shape[2:])
        assert factors[id(weight)] == pytest.approx(math.sqrt(fans / 1.5)), weight_name
        assert config.scale_updates, f"{name} draws {weight_name} from its range and does not scale its updates"


@pytest.mark.parametrize("name", shipped_configs())
def test_recipes_with_dropout_and_activations_of_several_levels_take_statistics_anew(name: str) -> None:
    """4 bits on MNIST with half of the activations left out: 88.8 % of validation as trained, 97.9 % with them."""
    config, network = narrow(name)
    drops = any(isinstance(layer, torch.nn.Dropout) and layer.p > 0 for layer in network.build(SHAPE, 10).modules())
    if drops and 1 < getattr(network, "a_bits", 1) < FLOAT_BITS:
        assert config.recalibrate


def enlarged(data: Data) -> Data:
    """Images of twice as many rows and columns, for networks that pool much."""

    def twice(split: Split) -> Split:
        return Split(split.images.repeat_interleave(2, 2).repeat_interleave(2, 3), split.labels)

    splits = {part: twice(getattr(data, part)) for part in ("train", "validation", "test")}
    return dataclasses.replace(data, shape=(1, 16, 16), **splits)


def mean_accuracy(output: Path, recipe: str, overrides: tuple[str, ...], seeds: int, large: bool) -> tuple[float, int]:
    """The mean over `seeds` runs on the digits of the test accuracy, and the images that it is of."""
    data = load_data("digits", "", 200)
    data = enlarged(data) if large else data
    shares = []
    for seed in range(seeds):
        here = [f"seed={seed}", f"output={output}/{'_'.join(overrides)}", "baseline=false", "threads=1", "device=cpu"]
        config, network = load_config(recipe, ["dataset=digits", "batch_size=50", *here, *overrides])
        log = train(config, network, data=data)
        assert log.test is not None
        shares.append(log.test["accuracy"])
    return sum(shares) / seeds, seeds * len(data.test)


def assert_at_least(output: Path, recipe: str, shared: str, wide: str, binary: str, seeds: int, large: bool) -> None:
    """The accuracy with the settings `wide` is at least that with `binary`, within two standard errors.

    The standard error is that of the difference between two shares of as many images, right with the found shares.
    """
    wider, count = mean_accuracy(output, recipe, (*shared.split(), *wide.split()), seeds, large)
    twin, _ = mean_accuracy(output, recipe, (*shared.split(), *binary.split()), seeds, large)
    error = math.sqrt((wider * (1 - wider) + twin * (1 - twin)) / count)
    assert wider >= twin - 2 * error, f"{recipe} with {wide}: {wider:.2%}, its twin with {binary}: {twin:.2%}"


MLP = "epochs=15 hidden=256 dropout_in=0 dropout_hidden=0.1"
CONV = "epochs=6 nla=1 nfa=8 nlb=1 nfb=16 nlc=1 nfc=32"
FAST = [
    ("mnist_keras_nbit_small", MLP, "weights=nbit wbits=2 abits=2", "weights=binary"),
    ("mnist_keras_nbit_small", MLP, "weights=nbit wbits=4 abits=4", "weights=binary"),
    ("mnist_moons_4bit", CONV, "", "network_type=full-bnn"),
]
SWEEP = [
    *(
        (recipe, MLP, f"weights=nbit wbits={bits} abits={bits}", "weights=binary")
        for recipe in ("mnist_keras_mlp", "mnist_keras_nbit_small")
        for bits in (2, 3, 8)
    ),
    *(
        ("mnist_keras_cnn", "epochs=8 width=16 hidden=64", f"weights=nbit wbits={bits} abits={bits}", "weights=binary")
        for bits in (2, 4, 8)
    ),
    *(
        (recipe, CONV.replace("epochs=6", "epochs=15"), wide, binary)
        for recipe in ("mnist_moons", "cifar10_moons", "mnist_moons_2bit", "mnist_moons_4bit", "cifar10_moons_small")
        for wide, binary in (
            ("network_type=full-qnn wbits=2 abits=2", "network_type=full-bnn"),
            ("network_type=full-qnn wbits=4 abits=4", "network_type=full-bnn"),
            ("network_type=qnn wbits=2", "network_type=bnn"),
            ("network_type=qnn wbits=4", "network_type=bnn"),
        )
    ),
]
LARGE = [
    *(("mnist_lenet", "epochs=8 filters=8 hidden=64", f"w_bits={b} a_bits={b}", "w_bits=1 a_bits=1") for b in (2, 4)),
    ("cifar10_resnet18", "epochs=12 width=8 augment=none", "w_bits=4 a_bits=4", "w_bits=1 a_bits=1"),
]


@pytest.mark.parametrize(
    ("recipe", "shared", "wide", "binary", "seeds", "large"),
    [
        *(pytest.param(*each, 1, False) for each in FAST),
        *(pytest.param(*each, 2, False, marks=pytest.mark.slow) for each in SWEEP),
        *(pytest.param(*each, 2, True, marks=pytest.mark.slow) for each in LARGE),
    ],
)
def test_wider_layers_reach_at_least_their_binary_twin(
    tmp_path: Path, recipe: str, shared: str, wide: str, binary: str, seeds: int, large: bool
) -> None:
    assert_at_least(tmp_path, recipe, shared, wide, binary, seeds=seeds, large=large)
