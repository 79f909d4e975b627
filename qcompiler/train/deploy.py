"""A trained network as an ONNX file and as a compiled bundle: sizes, speeds, and the same class on every test image."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import torch
from torch import nn

import qcompiler
from qcompiler.analysis.weights import WIDEST
from qcompiler.bundle.load import Bundle
from qcompiler.bundle.timing import measure
from qcompiler.errors import UnsupportedModel
from qcompiler.ir import oracle
from qcompiler.ir.ops import INTEGER_LAYERS
from qcompiler.nn.export import export_onnx
from qcompiler.nn.freeze import freeze
from qcompiler.train.data import Data, Split, pixels_of, to_input
from qcompiler.train.evaluate import EVALUATION_BATCH, bundle_classes
from qcompiler.train.workload import LayerWork, traced_work

ONNX_FILE = "model.onnx"
BUNDLE = "model.qc"
VERIFIED_IMAGES = 8
EXPLAINED_IMAGES = 64
SECONDS = 1.0
MICROSECONDS = 1e6
INPUT, OUTPUT = "image", "scores"

Classes = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Deployment:
    """What became of a trained network; the fields of a bundle are None where it was not compiled.

    images: of the test set. same_class_onnxruntime, same_class_bundle: how many of them have torch's class. differing:
    how many have another class in one of the two, through signs and roundings that float rounding errors decide.
    quantized_layers: layers whose weights and input have at most 8 bits. exact: all of them run on integers; the
    verification of the bundle holds their results equal to onnxruntime's. us_per_image: median on one thread, batch 1,
    beside onnxruntime's with its optimisations. lacks: the widths that the compiler has no kernels for, or why it
    refused; None if nothing.
    """

    onnx_bytes: int
    images: int
    same_class_onnxruntime: int
    onnxruntime_us_per_image: float
    quantized_layers: int
    same_class_bundle: int | None = None
    differing: int | None = None
    library_bytes: int | None = None
    weight_bytes: int | None = None
    exact: bool | None = None
    us_per_image: float | None = None
    lacks: str | None = None


def deploy(model: nn.Module, data: Data, directory: str | Path, *, mcpu: Sequence[str] = ()) -> dict[str, Any]:
    """Export `model` into `directory`, compile it for this machine, and compare both with torch on the test set.

    mcpu: as for `qcompiler.compile`. The result holds the fields of `Deployment`. Raises VerificationFailed where
    onnxruntime or the bundle computes something else than torch beyond float rounding.
    """
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    frozen, example = freeze(model).cpu(), to_input(data.test.images[:1])
    exported = export_onnx(frozen, example, folder / ONNX_FILE, inputs=[INPUT], outputs=[OUTPUT], dynamic_batch=True)
    classes = _classes(data.test, lambda images: _torch_scores(frozen, images))
    session = oracle.Session(onnx.load(exported.path))
    in_onnxruntime = _classes(data.test, lambda images: session.run({INPUT: images.numpy()})[OUTPUT])
    layers = traced_work(frozen, example)
    deployment = Deployment(
        onnx_bytes=exported.bytes,
        images=len(classes),
        same_class_onnxruntime=int((in_onnxruntime == classes).sum()),
        onnxruntime_us_per_image=_onnxruntime_time(exported.path, example),
        quantized_layers=sum(_is_quantized(layer) for layer in layers),
    )
    compiled: dict[str, Any]
    try:
        bundle = _compiled(exported.path, folder / BUNDLE, data.test.images[:VERIFIED_IMAGES], mcpu)
        in_bundle = bundle_classes(bundle, data.test)
        differing = data.test.images[(in_bundle != classes) | (in_onnxruntime != classes)]
        if len(differing):
            _check_rounding(frozen, exported.path, differing[:EXPLAINED_IMAGES], mcpu)
        compiled = {
            "same_class_bundle": int((in_bundle == classes).sum()),
            "differing": len(differing),
            **_figures(bundle, data.test, layers),
        }
    except UnsupportedModel as error:
        compiled = {"lacks": str(error)}
    return {**asdict(deployment), **compiled}


def deployment_lines(result: Mapping[str, Any]) -> list[str]:
    """The fields of a `Deployment` for a reader: a line each, what was not measured as '-'."""
    return [f"{_LABELS.get(key, key.replace('_', ' '))}: {_readable(key, value)}" for key, value in result.items()]


_LABELS = {
    "onnx_bytes": "ONNX file",
    "images": "test images",
    "same_class_onnxruntime": "same class in onnxruntime",
    "onnxruntime_us_per_image": "time of onnxruntime",
    "same_class_bundle": "same class in the bundle",
    "differing": "images of another class",
    "library_bytes": "library",
    "weight_bytes": "weights",
    "exact": "all quantized layers on integers",
    "us_per_image": "time of the bundle",
}


def _readable(key: str, value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if key.endswith("us_per_image"):
        return f"{value:.5g} us per image"
    return f"{value / 1024:.1f} KiB" if key.endswith("bytes") else str(value)


def _compiled(path: Path, output: Path, images: torch.Tensor, mcpu: Sequence[str]) -> Bundle:
    """The bundle, verified on `images`, uint8 [n, C, H, W]."""
    inputs = {INPUT: to_input(images).numpy()}
    shapes = {INPUT: (1, *images.shape[1:])}
    pixels = pixels_of(images.shape[1])
    return qcompiler.compile(path, mcpu=mcpu, output=output, shapes=shapes, inputs=inputs, pixels=pixels, force=True)


def _check_rounding(frozen: nn.Module, path: Path, images: torch.Tensor, mcpu: Sequence[str]) -> None:
    """Raise VerificationFailed unless float rounding alone accounts for other classes of `images`, uint8 [n, C, H, W].

    The checks of export and compilation compare every quantizer, and every step, on equal inputs.
    """
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / ONNX_FILE
        export_onnx(frozen, to_input(images), copy, inputs=[INPUT], outputs=[OUTPUT], dynamic_batch=True)
        _compiled(path, Path(folder) / BUNDLE, images, mcpu)


def _figures(bundle: Bundle, split: Split, layers: Sequence[LayerWork]) -> dict[str, Any]:
    """The fields of the bundle that are not about classes."""
    missing = missing_widths(layers, bundle.report["rows"])
    quantized = any(map(_is_quantized, layers))
    return {
        "library_bytes": bundle.manifest.files[bundle.manifest.library].bytes,
        "weight_bytes": bundle.report["constant_bytes"],
        "exact": not missing if quantized else None,
        "us_per_image": _bundle_time(bundle, to_input(split.images[:1]).numpy()),
        "lacks": ", ".join(missing) or None,
    }


def missing_widths(layers: Sequence[LayerWork], rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Text wNaM (L layers) for every pair of widths whose layers round as real ones do.

    layers: of the network, in order of execution; the first reads pixels, which are exact in float32. rows: of the
    compiler's report.
    """
    binary = {name for row in rows if row["op"] in INTEGER_LAYERS for name in _modules(row["nodes"])}
    real = [layer for layer in layers[1:] if _is_quantized(layer) and layer.name not in binary]
    widths = [(layer.w_bits, layer.a_bits) for layer in real]
    return [
        f"w{w_bits}a{a_bits} ({count} layer{'s' if count > 1 else ''})"
        for w_bits, a_bits in sorted(set(widths))
        if (count := widths.count((w_bits, a_bits)))
    ]


def _modules(nodes: Sequence[str]) -> Iterator[str]:
    """The modules that the nodes of a row came from; an exported node is named MODULE/OPERATOR."""
    return (name.rpartition("/")[0] for name in nodes)


def _is_quantized(layer: LayerWork) -> bool:
    return max(layer.w_bits, layer.a_bits) <= WIDEST


def _classes(split: Split, scores: Callable[[torch.Tensor], npt.NDArray[np.float32]]) -> Classes:
    """Class of every image; `scores` takes float32 [n, C, H, W] and gives [n, classes]."""
    batches = torch.split(split.images, EVALUATION_BATCH)
    return np.concatenate([scores(to_input(images)).argmax(1) for images in batches])


@torch.no_grad()
def _torch_scores(frozen: nn.Module, images: torch.Tensor) -> npt.NDArray[np.float32]:
    scores: npt.NDArray[np.float32] = frozen(images).numpy()
    return scores


def _bundle_time(bundle: Bundle, example: npt.NDArray[np.float32]) -> float:
    return bundle.benchmark({INPUT: example}, threads=1, seconds=SECONDS).median * MICROSECONDS


def _onnxruntime_time(path: Path, example: torch.Tensor) -> float:
    """Microseconds for one image as a user would run the file: on one thread, optimised."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    image = {INPUT: example.numpy()}
    return measure(lambda: session.run(None, image), SECONDS, 1).median * MICROSECONDS
