"""Train a binary network on MNIST and export it to ONNX.

    python -m examples.mnist.train lenet --data-dir MNIST --output lenet.onnx

`--data-dir` holds the four gzipped IDX files. The last 5,000 training images are the validation set: the epoch that
is best on them is kept, and the test set is looked at once, at the end. A JSON log stands beside the model.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from examples.augment import shifted
from examples.binary_layers import clip_latent_weights, export
from examples.mnist.idx import ByteArray, read_split
from examples.mnist.networks import NETWORKS

VALIDATION = 5000
BATCH = 128
SHIFT = 2


def to_input(images: ByteArray) -> Tensor:
    """uint8 [N, 28, 28] to float32 [N, 1, 28, 28] = k / 128 - 1."""
    return torch.from_numpy(images.astype(np.float32) / 128 - 1).unsqueeze(1)


def accuracy(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Share of `images` that `network` classifies right."""
    network.eval()
    with torch.no_grad():
        right = sum(
            int((network(x).argmax(1) == y).sum()) for x, y in zip(images.split(500), labels.split(500), strict=True)
        )
    return right / len(images)


def train_epoch(
    network: nn.Module,
    data: tuple[Tensor, Tensor],
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
) -> None:
    """One pass over `data` (images, labels) in random order."""
    network.train()
    images, labels = data
    for chosen in torch.randperm(len(images)).split(BATCH):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(network(shifted(images[chosen], SHIFT, -1.0)), labels[chosen])
        loss.backward()
        optimizer.step()
        schedule.step()
        clip_latent_weights(network)


def fit(network: nn.Module, images: Tensor, labels: Tensor, epochs: int, lr: float) -> list[float]:
    """Train in place and keep the epoch that is best on the validation set; returns accuracy per epoch."""
    held = (images[-VALIDATION:], labels[-VALIDATION:])
    data = (images[:-VALIDATION], labels[:-VALIDATION])
    optimizer = torch.optim.Adam(network.parameters(), lr)
    steps = epochs * -(-len(data[0]) // BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    history: list[float] = []
    best: dict[str, Tensor] = {}
    for epoch in range(epochs):
        train_epoch(network, data, optimizer, schedule)
        history.append(accuracy(network, *held))
        print(f"epoch {epoch + 1}: validation accuracy {history[-1]:.4f}", flush=True)
        if history[-1] == max(history):
            best = {name: value.clone() for name, value in network.state_dict().items()}
    network.load_state_dict(best)
    return history


def main() -> None:
    """Parse the options, train, test once, export."""
    parser = argparse.ArgumentParser(description="Train a binary network on MNIST.")
    parser.add_argument("network", choices=NETWORKS)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    torch.set_num_threads(options.threads)
    started = time.monotonic()
    images, labels = read_split(options.data_dir, "train")
    network = NETWORKS[options.network]()
    history = fit(network, to_input(images), torch.from_numpy(labels.astype(np.int64)), options.epochs, options.lr)
    seconds = time.monotonic() - started
    images, labels = read_split(options.data_dir, "t10k")
    tested = accuracy(network, to_input(images), torch.from_numpy(labels.astype(np.int64)))
    print(f"{options.network}: test accuracy {tested:.4f} after {seconds:.0f} s of training")
    export(network, torch.zeros(1, 1, 28, 28), options.output)
    log = {name: value for name, value in vars(options).items() if name not in ("data_dir", "output")}
    log |= {"validation": history, "test": tested, "seconds": round(seconds)}
    options.output.with_suffix(".json").write_text(json.dumps(log, indent=1) + "\n")


if __name__ == "__main__":
    main()
