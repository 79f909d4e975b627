"""Train a small binary network on scikit-learn's 8x8 digits; writes model.onnx and heldout.npz beside this file.

    python -m examples.digits.train

Everything the network computes is exact in float32, so its predictions can be reproduced bit for bit: pixels are
k / 16 for k = 0 .. 16, all weights are -1 and +1, and every sum is an integer (times 1/16 in the first layer) far
below 2**24. Floating point decides only in BatchNorm, whose input takes finitely many known values.

The split is fixed: the digits whose index is 4 modulo 5 are held out and never trained on or chosen by.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from qcompiler.nn import QActivation, QConv2d, QLinear, clip_weights_, export_onnx
from qcompiler.train.augment import augment

EPOCHS = 100
BATCH = 32


def network() -> nn.Sequential:
    """Two 3x3 convolutions and two products; input float32 [N, 1, 8, 8], output scores [N, 10]."""
    return nn.Sequential(
        started(QConv2d(1, 32, 3, padding=1, bias=False)), nn.BatchNorm2d(32), QActivation(),
        started(QConv2d(32, 32, 3, bias=False)), nn.MaxPool2d(2), nn.BatchNorm2d(32), QActivation(), nn.Flatten(),
        started(QLinear(288, 64, bias=False)), nn.BatchNorm1d(64), QActivation(),
        started(QLinear(64, 10, bias=False)), nn.BatchNorm1d(10),
    )  # fmt: skip


def started(layer: QConv2d | QLinear) -> nn.Module:
    """The layer with latent weights in [-0.1, 0.1], a tenth of their range, so that signs change early."""
    nn.init.uniform_(layer.weight, -0.1, 0.1)
    return layer


def load() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Training images and labels, held-out images and labels; images float32 [N, 1, 8, 8] = k / 16."""
    digits = load_digits()
    images = torch.from_numpy((digits.images / 16).astype(np.float32)).unsqueeze(1)
    labels = torch.from_numpy(digits.target.astype(np.int64))
    held = torch.arange(len(labels)) % 5 == 4
    return images[~held], labels[~held], images[held], labels[held]


def fit(net: nn.Module, images: Tensor, labels: Tensor, epochs: int = EPOCHS) -> None:
    """Train in place, with random shifts by up to one pixel."""
    optimizer = torch.optim.Adam(net.parameters(), 5e-3)
    steps = epochs * -(-len(labels) // BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    net.train()
    for _ in range(epochs):
        for chosen in torch.randperm(len(labels)).split(BATCH):
            optimizer.zero_grad()
            shifted = augment(images[chosen], "shift", 1).clone(memory_format=torch.contiguous_format)
            nn.functional.cross_entropy(net(shifted), labels[chosen]).backward()
            optimizer.step()
            schedule.step()
            clip_weights_(net)


@torch.no_grad()
def accuracy(net: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Share of `images` that `net` classifies rightly."""
    share: float = (net.eval()(images).argmax(1) == labels).float().mean().item()
    return share


def main() -> None:
    """Train, test on the held-out digits, and write the two files."""
    parser = argparse.ArgumentParser(description="Train a small binary network on 8x8 digits.")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    torch.set_num_threads(1)
    images, labels, held_images, held_labels = load()
    net = network()
    fit(net, images, labels)
    print(f"held-out accuracy {accuracy(net, held_images, held_labels):.4f} on {len(held_labels)} digits")
    export_onnx(net, held_images[:1], options.output / "model.onnx")
    pixels = (held_images * 16).to(torch.uint8).numpy()
    np.savez_compressed(options.output / "heldout.npz", pixels=pixels, labels=held_labels.to(torch.uint8).numpy())


if __name__ == "__main__":
    main()
