"""Train networks in float, quantize them after training, and write the table of accuracies.

    python -m benchmarks.posttraining [--data-dir DIR] [--runs DIR] [--bits N ...] [--networks NAME ...] [-o FILE.md]

A network is trained where --runs holds no finished run of it: LeNet on MNIST takes 3 minutes on two cores, ResNet-18
with 16 filters on CIFAR-10 half an hour. The first training images calibrate; accuracies are of all test images.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

import qcompiler
from benchmarks.posttraining_page import Entry, page
from qcompiler.bundle.load import Bundle
from qcompiler.errors import QCompilerError, UsageError
from qcompiler.nn.export import export_onnx
from qcompiler.place import REMEDY, check_file
from qcompiler.train.atomic import write_atomically
from qcompiler.train.config import load_config
from qcompiler.train.data import Data, load_data, to_input
from qcompiler.train.deploy import INPUT, OUTPUT
from qcompiler.train.evaluate import accuracy, bundle_accuracy, load_network
from qcompiler.train.loop import BEST, run_directory, train
from qcompiler.train.progress import Bars
from qcompiler.train.runlog import describe_hardware

FLOAT = ("w_bits=32", "a_bits=32", "clip_weights=false", "baseline=false")
CALIBRATION_IMAGES = 500


@dataclass(frozen=True)
class Recipe:
    """A shipped config, and what is trained in its place."""

    config: str
    overrides: tuple[str, ...]


RECIPES = {
    "lenet": Recipe("mnist_lenet_small", ("epochs=5",)),
    "resnet18": Recipe("cifar10_resnet18", ("width=16", "epochs=10", "lr=0.003")),
}
"""By label."""


def trained(label: str, runs: Path, settings: Sequence[str]) -> Path:
    """The best checkpoint of the float network of a recipe, trained where that was not done before."""
    recipe = RECIPES[label]
    named = (f"name={label}_float", f"output={runs}")
    config, network = load_config(recipe.config, [*FLOAT, *recipe.overrides, *named, *settings])
    if not train(config, network, resume=True, progress=Bars()).finished:
        raise KeyboardInterrupt
    return run_directory(config) / BEST


def entries(label: str, checkpoint: Path, data: Data, widths: Sequence[int]) -> list[Entry]:
    """The float network, and what it is in each width."""
    model, _ = load_network(checkpoint)
    real = accuracy(model, data.test)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "float.onnx"
        example = to_input(data.test.images[:1])
        export_onnx(model, example, file, inputs=[INPUT], outputs=[OUTPUT], dynamic_batch=True)
        bundles = {bits: _compiled(file, data, bits, Path(folder) / f"w{bits}") for bits in (None, *widths)}
        lines = [_entry(label, bits, bundle, data) for bits, bundle in bundles.items()]
    if abs(lines[0].accuracy - real) > 1e-3:
        raise QCompilerError(f"{label}: {lines[0].accuracy:.2%} compiled in float, {real:.2%} in torch")
    return lines


def _compiled(file: Path, data: Data, bits: int | None, output: Path) -> Bundle:
    """The network in some width, or in float32."""
    shapes = {INPUT: (1, *data.shape)}
    if bits is None:
        return qcompiler.compile(file, output=output, shapes=shapes)
    images = to_input(data.train.images[:CALIBRATION_IMAGES]).numpy()
    return qcompiler.compile(file, bits=bits, output=output, shapes=shapes, calibration={INPUT: images})


def _entry(label: str, bits: int | None, bundle: Bundle, data: Data) -> Entry:
    right = bundle_accuracy(bundle, data.test)
    line = Entry(label, bits, right, len(data.test), bundle.report["constant_bytes"])
    print(line, file=sys.stderr)
    return line


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.posttraining", description="Quantize after training.")
    parser.add_argument("--data-dir", default="", help="where MNIST and CIFAR-10 are (default: download them)")
    parser.add_argument("--runs", type=Path, default=Path("runs"), metavar="DIR", help="where float networks are kept")
    parser.add_argument("--bits", type=int, nargs="+", default=[8, 6, 4], metavar="N", help="widths")
    parser.add_argument("--networks", nargs="+", default=list(RECIPES), choices=list(RECIPES), metavar="NAME")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="other settings of all trainings")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE.md", help="where to write (default: print)")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, quantize, and write the table."""
    options = _options(arguments)
    lines: list[Entry] = []
    try:
        if options.output is not None:
            check_file(options.output)
        if any(not 1 <= bits <= 8 for bits in options.bits):
            raise UsageError(f"--bits {options.bits}: expected widths of 1 to 8")
        for label in options.networks:
            checkpoint = trained(label, options.runs, [f"data_dir={options.data_dir}", *options.set])
            config, _ = load_config(RECIPES[label].config)
            data = load_data(config.dataset, options.data_dir, validation=1)
            lines += entries(label, checkpoint, data, options.bits)
    except QCompilerError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    text = page(lines, describe_hardware(torch.device("cpu"), 1)["cpu"], CALIBRATION_IMAGES)
    if options.output is None:
        sys.stdout.write(text)
    else:
        write_atomically(options.output, lambda file: file.write(text.encode()), REMEDY)
    return 0


if __name__ == "__main__":
    sys.exit(main())
