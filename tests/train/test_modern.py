"""Two stages and a teacher; ReActNet trained so a little, exported, and compiled to integers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from qcompiler.nn import MoonsWeight, QConv2d, real_weights
from qcompiler.nn import compile as compile_module
from qcompiler.train.config import load_config
from qcompiler.train.data import to_input
from qcompiler.train.evaluate import load_network
from qcompiler.train.loop import BEST, run_directory, train
from qcompiler.train.runlog import RunLog
from tests.train.tiny import config, conv, data, mlp

RECIPES = ("cifar10_reactnet_small", "cifar10_lsq_2bit_small", "cifar10_lsq_4bit_small")


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
def test_modern_recipes_compile_to_integers(recipe: str, tmp_path: Path) -> None:
    """Export compares with onnxruntime; between the first and the last layer everything that multiplies is on codes."""
    overrides = [
        "epochs=2",
        "width=8",
        "batch_size=32",
        "augment=none",
        f"output={tmp_path}",
        "device=cpu",
        "threads=1",
    ]
    chosen, network = load_config(recipe, [*overrides, "dataset=digits"])
    log = train(chosen, network, data=data(64))
    assert log.test is not None
    model, _ = load_network(run_directory(chosen) / BEST)
    images = to_input(data(64).test.images)
    bundle = compile_module(model, images[:1], output=tmp_path / "net.qc", dynamic_batch=True)
    with torch.no_grad():
        expected = model(images)
    # the stem is real: its sums round, and a sign may fall to either side
    same = np.isclose(bundle(images).numpy(), expected.numpy(), rtol=1e-4, atol=1e-4).all(1).mean()
    assert same >= 0.9
    layers = [row for row in bundle.bundle.report["rows"] if row["macs"]]
    widths = [(row["w_bits"], row["a_bits"]) for row in layers]
    inner = sum(isinstance(layer, QConv2d) for layer in model.modules())
    assert widths[0] == widths[-1] == (32, 32) and len(widths) == inner + 2
    # weights that training leaves on fewer levels take fewer bits
    assert all(w <= network.w_bits and a == network.a_bits for w, a in widths[1:-1])


def test_two_stages_train_real_weights_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The weights' quantizer is asked for in the second half of the epochs, and whenever the network is validated."""
    trained: list[bool] = []
    forward = MoonsWeight.forward
    chosen = config(tmp_path, conv(), epochs=5, stages=2)

    def watched(self: MoonsWeight, x: torch.Tensor) -> torch.Tensor:
        trained.append(self.training)
        result: torch.Tensor = forward(self, x)
        return result

    monkeypatch.setattr(MoonsWeight, "forward", watched)
    train(chosen, conv(network_type="full-qnn"), data=data())
    steps = 5  # of 160 images
    assert sum(trained) == 3 * steps * 3
    assert trained[:3] == [False] * 3


def test_real_weights_are_the_latent_ones() -> None:
    layer = QConv2d(3, 4, 3, act_bit=1)
    x = torch.randn(1, 3, 5, 5)
    with real_weights(layer):
        assert torch.equal(layer(x), torch.conv2d(layer.input_quantizer(x), layer.weight, layer.bias))
    assert torch.equal(layer.quantized_weight(), layer.weight_quantizer(layer.weight))


def test_the_twin_teaches(tmp_path: Path) -> None:
    """It is trained first, by the labels alone and in one stage; what it teaches changes the weights."""
    chosen = config(tmp_path, epochs=2, distill=1.0)
    log = train(chosen, mlp(), data=data())
    twin = RunLog.read(run_directory(chosen) / "baseline")
    assert twin.config["distill"] == 0 and twin.test is not None
    assert log.baseline is not None and log.baseline["test_accuracy"] == twin.test["accuracy"]
    plain = train(config(tmp_path / "plain", epochs=2), mlp(), data=data())
    assert [each.loss for each in plain.epochs] != [each.loss for each in log.epochs]
    assert twin.test["accuracy"] > 0.5
