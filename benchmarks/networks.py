"""Deploy every network that can be trained, and write the table of sizes, speeds and equal classes.

    python -m benchmarks.networks [--data-dir DIR] [--images N] [--runs DIR] [--networks NAME ...] -o docs/networks.md

A network is that of a run in --runs where one of its kind was trained there, else one of the published size (times
--width-scale) with random weights, whose BatchNorm is calibrated on training images.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from benchmarks.networks_page import Entry, page
from benchmarks.zoo import ROWS, Row, scaled
from qcompiler.errors import QCompilerError, UsageError
from qcompiler.nn import recalibrate_batchnorm
from qcompiler.nn.updates import BATCH_NORMS
from qcompiler.place import REMEDY, check_file
from qcompiler.train.atomic import write_atomically
from qcompiler.train.checkpoint import load_checkpoint
from qcompiler.train.data import Data, Split, load_data, to_input
from qcompiler.train.deploy import VERIFIED_IMAGES, deploy
from qcompiler.train.evaluate import load_network
from qcompiler.train.loop import BEST
from qcompiler.train.networks import Network, Shape
from qcompiler.train.runlog import describe_hardware

CALIBRATION_IMAGES = 500
SEED = 0


def trained(row: Row, shape: Shape, runs: Path) -> Path | None:
    """The best checkpoint under `runs` of the largest network of the row's kind for images of `shape`.

    The first by path among equals.
    """
    found: list[tuple[int, str, Path]] = []
    for path in runs.rglob(BEST):
        checkpoint = load_checkpoint(path)
        expected = {"network": row.name, "dataset": row.data, **row.kind}
        if checkpoint.shape == shape and all(checkpoint.config.get(key) == value for key, value in expected.items()):
            found.append((-path.stat().st_size, str(path), path))
    return min(found)[2] if found else None


def images_of(row: Row, data: Data, count: int | None) -> Data:
    """The data of a row: the first `count` test images, and those that calibrate, enlarged."""

    def some(split: Split, most: int | None) -> Split:
        images = split.images[:most].repeat_interleave(row.enlarge, 2).repeat_interleave(row.enlarge, 3)
        return Split(images, split.labels[:most])

    most = row.images if count is None else count
    training = some(data.train, CALIBRATION_IMAGES)
    channels, height, width = data.shape
    shape = (channels, height * row.enlarge, width * row.enlarge)
    test = some(data.test, most)
    return replace(data, train=training, validation=training, test=test, shape=shape, classes=row.classes)


def calibrated(network: Network, data: Data) -> nn.Module:
    """The network with random weights and BatchNorm parameters, and the statistics of `data`'s training images.

    With its initial parameters BatchNorm subtracts a mean, which an integer sum may equal; then rounding alone, which
    depends on the order of a sum, decides the sign. Training leaves no such parameters.
    """
    torch.manual_seed(SEED)
    model: nn.Module = network.build(data.shape, data.classes)
    for layer in model.modules():
        if isinstance(layer, BATCH_NORMS) and layer.affine:
            with torch.no_grad():
                layer.weight.uniform_(0.5, 1.5).mul_(torch.randint(0, 2, layer.weight.shape) * 2 - 1)
                layer.bias.normal_(std=0.3)
    recalibrate_batchnorm(model, [to_input(data.train.images)])
    return model.eval()


def entry(label: str, row: Row, data: Data, runs: Path | None, factor: float) -> Entry:
    """Deploy one network."""
    path = trained(row, data.shape, runs) if runs else None
    if path is None:
        model, weights = calibrated(scaled(row.network, factor), data), "random"
    else:
        model, checkpoint = load_network(path)
        weights = f"{checkpoint.config['name']}, seed {checkpoint.config['seed']}"
    widths = f"w{row.network.w_bits}a{row.network.a_bits}"
    parameters = sum(parameter.numel() for parameter in model.parameters())
    size = "x".join(map(str, data.shape))
    try:
        with tempfile.TemporaryDirectory() as folder:
            return Entry(label, widths, weights, parameters, size, deploy(model, data, folder))
    except QCompilerError as error:
        return Entry(label, widths, weights, parameters, size, None, str(error))


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.networks", description="Table of deployed networks.")
    parser.add_argument("--data-dir", default="", help="where MNIST and CIFAR-10 are (default: download them)")
    parser.add_argument("--images", type=int, metavar="N", help="test images to compare (default: each network's)")
    parser.add_argument("--runs", type=Path, metavar="DIR", help="runs of qtrain to take trained networks from")
    parser.add_argument("--networks", nargs="+", default=[], metavar="NAME", help="only labels that start with one of")
    parser.add_argument("--width-scale", type=float, default=1.0, metavar="F", help="times the published widths")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE.md", help="where to write (default: print)")
    return parser.parse_args(arguments)


def chosen(names: Sequence[str]) -> dict[str, Row]:
    """The rows whose labels start with one of `names`, all of them for none; raises UsageError for an unknown name."""
    for name in names:
        if not any(label.startswith(name) for label in ROWS):
            raise UsageError(f"no network '{name}'", remedy=f"choose of {', '.join(ROWS)}")
    return {label: row for label, row in ROWS.items() if not names or label.startswith(tuple(names))}


def main(arguments: Sequence[str] | None = None) -> int:
    """Deploy, telling of each network; status 1 if one failed."""
    options = _options(arguments)
    sources: dict[str, Data] = {}
    lines: list[Entry] = []
    try:
        if options.output is not None:
            check_file(options.output)
        for label, row in chosen(options.networks).items():
            if row.data not in sources:
                sources[row.data] = load_data(row.data, options.data_dir, validation=1)
            data = images_of(row, sources[row.data], options.images)
            lines.append(entry(label, row, data, options.runs, options.width_scale))
            print(f"{label}: {lines[-1].failure or lines[-1].deployment}", file=sys.stderr)
    except QCompilerError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    text = page(lines, describe_hardware(torch.device("cpu"), 1)["cpu"], options.width_scale, VERIFIED_IMAGES)
    if options.output is None:
        sys.stdout.write(text)
    else:
        write_atomically(options.output, lambda file: file.write(text.encode()), REMEDY)
    return 1 if any(line.failure for line in lines) else 0


if __name__ == "__main__":
    sys.exit(main())
