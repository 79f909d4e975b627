"""From a float PyTorch network of your own to a compiled binary one: convert, train, export, compile, run.

    python -m examples.custom_model --output digits.qc

Everything is public: `DigitsNet` stands for your network, `widths` for your choice of bits. Needs the extra `train`,
and a few seconds.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import qcompiler
from qcompiler.nn import (
    LayerBits,
    clip_weights_,
    export_onnx,
    quantize_model,
    recalibrate_batchnorm,
    scaled_parameter_groups,
)
from qcompiler.train.data import load_data, to_input

BATCH = 64
EPOCHS = 10


class DigitsNet(nn.Module):
    """A float network as one writes it; activations are modules, and follow BatchNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3, padding=1, bias=False)
        self.norm1, self.act1 = nn.BatchNorm2d(32), nn.ReLU()
        self.conv2 = nn.Conv2d(32, 64, 3, bias=False)
        self.pool = nn.MaxPool2d(2)
        self.norm2, self.act2 = nn.BatchNorm2d(64), nn.ReLU()
        self.hidden = nn.Linear(64 * 3 * 3, 128, bias=False)
        self.norm3, self.act3 = nn.BatchNorm1d(128), nn.ReLU()
        self.head = nn.Linear(128, 10)

    def forward(self, x: Tensor) -> Tensor:
        """x: float32 [N, 1, 8, 8]; result: scores float32 [N, 10]."""
        x = self.act1(self.norm1(self.conv1(x)))
        x = self.act2(self.norm2(self.pool(self.conv2(x))))
        x = self.act3(self.norm3(self.hidden(x.flatten(1))))
        return self.head(x)


def widths(name: str, module: nn.Module) -> LayerBits | None:
    """Binary weights and signs, but two bits for what the first convolution hands on; None would leave it float.

    Not asked for the first and the last layer, which `quantize_model` leaves float by default.
    """
    if isinstance(module, nn.ReLU):
        return LayerBits(act_bit=2 if name == "act1" else 1)
    return LayerBits(w_bits=1)


def train(model: nn.Module, images: Tensor, labels: Tensor, epochs: int) -> None:
    """Train in place as any torch model, with scaled updates, clipped latent weights and fresh BN statistics."""
    optimizer = torch.optim.Adam(scaled_parameter_groups(model, lr=1e-3))
    steps = epochs * -(-len(labels) // BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    model.train()
    for _ in range(epochs):
        for chosen in torch.randperm(len(labels)).split(BATCH):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images[chosen]), labels[chosen]).backward()
            optimizer.step()
            schedule.step()
            clip_weights_(model)
    recalibrate_batchnorm(model, images.split(BATCH))
    model.eval()


@dataclass(frozen=True)
class Result:
    """Share of test images that the compiled network classifies rightly, and as torch does; and the network."""

    accuracy: float
    agreement: float
    bundle: qcompiler.Bundle


def run(output: Path, epochs: int = EPOCHS) -> Result:
    """The whole way; `output` is the bundle's new directory, and the ONNX file stands beside it."""
    torch.manual_seed(0)
    data = load_data("digits", "", validation=200)
    model = quantize_model(DigitsNet(), rule=widths)
    train(model, to_input(data.train.images), data.train.labels, epochs)
    images = to_input(data.test.images)
    exported = export_onnx(model, images[:1], output.with_suffix(".onnx"))
    bundle = qcompiler.compile(exported.path, output=output)
    with torch.no_grad():
        expected = model(images).argmax(1).numpy()
    classes = np.array([bundle.run({"image": image[None]})["scores"].argmax() for image in images.numpy()])
    return Result(float((classes == data.test.labels.numpy()).mean()), float((classes == expected).mean()), bundle)


def main() -> None:
    """Run it and say what came out."""
    parser = argparse.ArgumentParser(description="Convert, train, export, compile and run a network of one's own.")
    parser.add_argument("--output", type=Path, required=True, help="new directory for the compiled network")
    result = run(parser.parse_args().output)
    report = result.bundle.report
    size = report["constant_bytes"]
    print(f"{report['binary_layers']} of {report['layers']} layers binary, {size} bytes of constants")
    print(f"accuracy {result.accuracy:.1%}, the same class as torch for {result.agreement:.1%} of the test images")


if __name__ == "__main__":
    main()
