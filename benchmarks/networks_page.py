"""The table of deployed networks, in Markdown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.markdown import table

NONE = "-"

HEAD = """# Networks

Every network of `qcompiler.train.networks`, exported to ONNX, run unmodified in onnxruntime, and compiled. Made by
`python -m benchmarks.networks` on {machine}.

Under "weights" is the training run that they are from; "random" is an untrained network of the published size{scale},
with random BatchNorm parameters and statistics of training images: sizes, speeds and exactness do not depend on the
training. Images are MNIST's or CIFAR-10's test images; enlarged seven times, CIFAR-10's stand for ImageNet's.

"Same class" counts the images that torch puts into the same class as onnxruntime, and as the compiled bundle. Where one
of them differs, a sign or a rounding of a real number was decided by float rounding errors: every step was checked to
be equal given the same side of it. Random weights decide narrowly, so that this can change a class; exact integer
layers are not concerned. The library holds the code of every instruction-set level, and the weights; "ratio" is 32-bit
parameters over those weights and thresholds. Times are of one image on one thread, onnxruntime's with its
optimisations. "Exact": every quantized layer runs on integers, with results equal to onnxruntime's
on {verified} images.
"""


@dataclass(frozen=True)
class Entry:
    """A line of the table: the network, where its weights are from, and its deployment, or why that failed."""

    label: str
    widths: str
    weights: str
    parameters: int
    size: str
    deployment: Mapping[str, Any] | None
    failure: str = ""


def _number(key: str, digits: int = 0, unit: float = 1) -> Callable[[Entry], str]:
    def cell(line: Entry) -> str:
        value = (line.deployment or {}).get(key)
        return NONE if value is None else f"{value / unit:,.{digits}f}"

    return cell


def _ratio(line: Entry) -> str:
    held = (line.deployment or {}).get("weight_bytes")
    return f"{4 * line.parameters / held:.1f}" if held else NONE


def _exact(line: Entry) -> str:
    exact = (line.deployment or {}).get("exact")
    return NONE if exact is None else "yes" if exact else "no"


def _lacks(line: Entry) -> str:
    return f"failed: {line.failure}" if line.failure else (line.deployment or {}).get("lacks") or NONE


COLUMNS: dict[str, Callable[[Entry], str]] = {
    "network": lambda line: line.label,
    "widths": lambda line: line.widths,
    "image": lambda line: line.size,
    "weights": lambda line: line.weights,
    "parameters": lambda line: f"{line.parameters:,}",
    "ONNX kB": _number("onnx_bytes", 1, 1000),
    "library kB": _number("library_bytes", 1, 1000),
    "weights kB": _number("weight_bytes", 1, 1000),
    "ratio": _ratio,
    "µs": _number("us_per_image", 1),
    "onnxruntime µs": _number("onnxruntime_us_per_image", 1),
    "images": _number("images"),
    "same class, onnxruntime": _number("same_class_onnxruntime"),
    "same class, bundle": _number("same_class_bundle"),
    "differing": _number("differing"),
    "quantized layers": _number("quantized_layers"),
    "exact": _exact,
    "lacks": _lacks,
}


def page(lines: Sequence[Entry], machine: str, factor: float, verified: int) -> str:
    """The page, in Markdown."""
    scale = "" if factor == 1 else f" times {factor:g}"
    return HEAD.format(machine=machine, scale=scale, verified=verified) + "\n" + table(COLUMNS, lines)
