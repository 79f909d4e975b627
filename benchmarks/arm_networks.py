"""Instructions per inference of whole networks on ARM: exact counts, of random weights, which do not change them.

    python -m benchmarks.arm_networks COUNTS.json

writes the counts, by network and instruction-set level, for `python -m benchmarks.arm --before COUNTS.json`.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
import torch

import qcompiler
from benchmarks.graphs import qdq_model
from benchmarks.instructions import count
from benchmarks.models import resnet18
from qcompiler.nn import export_onnx, freeze, recalibrate_batchnorm
from qcompiler.nn.updates import BATCH_NORMS
from qcompiler.train.networks.bmxnet import ResNet18

Counts = dict[str, dict[str, int]]
"""Instructions by network and level, and under "M MACs" the multiply-adds in millions."""

MACS = "M MACs"
LEVELS = ("i8mm", "dotprod", "cortex-a72", "generic")
_IMAGE = (3, 32, 32)
_STATISTICS = 16


def few_bits(bits: int, folder: Path) -> Path:
    """ResNet-18 for images of 32x32 with weights and activations of so many bits."""
    random = torch.manual_seed(0)
    model = ResNet18(w_bits=bits, a_bits=bits).build(_IMAGE, 10)
    for layer in model.modules():
        if isinstance(layer, BATCH_NORMS) and layer.affine:
            with torch.no_grad():
                layer.weight.uniform_(0.5, 1.5)
                layer.bias.normal_(std=0.3)
    images = torch.rand((_STATISTICS, *_IMAGE), generator=random)
    recalibrate_batchnorm(model, [images])
    path = folder / f"w{bits}a{bits}.onnx"
    export_onnx(freeze(model.eval()), images[:1], path, inputs=["x"], outputs=["y"])
    return path


def eight_bits(folder: Path) -> Path:
    """ResNet-18 of 8 bits, by pairs of quantizers, for images of 64x64."""
    workload = resnet18(64)
    path = folder / "int8.onnx"
    onnx.save(qdq_model(workload.network, np.asarray(workload.x, np.float32)), path)
    return path


MODELS: Mapping[str, Callable[[Path], Path]] = {
    "ResNet-18 w1a1, 32x32": lambda folder: few_bits(1, folder),
    "ResNet-18 w2a2, 32x32": lambda folder: few_bits(2, folder),
    "ResNet-18 w4a4, 32x32": lambda folder: few_bits(4, folder),
    "ResNet-18 w8a8, 64x64": eight_bits,
}


def counts(folder: Path) -> Counts:
    """Compile and count every network at every level; `folder` is for files that are made on the way."""
    found: Counts = {}
    for label, make in MODELS.items():
        path, found[label] = make(folder), {}
        for level in LEVELS:
            bundle = qcompiler.compile(path, "arm", mcpu=(level,), output=folder / level, verify=False, force=True)
            found[label][level] = sum(count(bundle, folder)[0])
            found[label][MACS] = round(sum(step.macs for step in bundle.steps) / 1e6)
    return found


def main() -> int:
    """Count and write."""
    with tempfile.TemporaryDirectory() as folder:
        Path(sys.argv[1]).write_text(json.dumps(counts(Path(folder)), indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
