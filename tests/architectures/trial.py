"""One block: exported by one of torch's exporters, compiled and verified, compared with onnxruntime and with torch."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

import qcompiler
from qcompiler.ir import oracle
from qcompiler.verify import Verification, relative_difference
from tests.architectures.catalogue import BLOCKS
from tests.architectures.layers import Layers

EXPORTERS = ("dynamo", "torchscript")
OPSET = 18


@dataclass(frozen=True)
class Trial:
    """The largest differences of an output, relative to its largest magnitude, and what the verification saw."""

    from_onnxruntime: float
    from_torch: float
    verification: Verification


def run(name: str, binary: bool, exporter: str, folder: Path) -> Trial:
    """Export, compile for one variant with verification, run, compare."""
    make, shape = BLOCKS[name]
    torch.manual_seed(zlib.crc32(name.encode()))
    module = _settled(make(Layers(binary)))
    example = torch.randn(*shape)
    path = folder / f"{name}.onnx"
    _export(module, example, path, exporter)
    seen: list[Verification] = []
    inputs = {"x": example.numpy()}
    bundle = qcompiler.compile(path, mcpu=("avx2",), output=folder / "out", inputs=inputs, verified=seen.append)
    found = list(bundle.run(inputs).values())
    reference = list(oracle.run(onnx.load(path), inputs).values())
    with torch.no_grad():
        results = module(example)
    expected = [results] if isinstance(results, Tensor) else list(results)
    assert len(found) == len(reference) == len(expected)
    return Trial(
        max(relative_difference(a, b) for a, b in zip(found, reference, strict=True)),
        max(relative_difference(a, b.numpy()) for a, b in zip(found, expected, strict=True)),
        seen[-1],
    )


def _settled(module: nn.Module) -> nn.Module:
    """The module as after training: statistics of BatchNormalization in use, some of its factors negative."""
    for part in module.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            part.running_mean = torch.randn_like(part.running_mean)
            part.running_var = torch.rand_like(part.running_var) * 4 + 0.5
            part.weight.data = torch.randn_like(part.weight)
            part.bias.data = torch.randn_like(part.bias)
    return module.eval()


def _export(module: nn.Module, example: Tensor, path: Path, exporter: str) -> None:
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        torch.onnx.export(
            module,
            (example,),
            str(path),
            input_names=["x"],
            opset_version=OPSET,
            dynamo=exporter == "dynamo",
            **({"external_data": False, "verbose": False} if exporter == "dynamo" else {}),
        )
