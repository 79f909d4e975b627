"""The table of networks quantized after training, in Markdown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.markdown import table

HEAD = """# Quantization after training

Networks trained in float here, then quantized by `qcompile --bits N --calibrate` with {calibration} training images
and compiled; made by `python -m benchmarks.posttraining` on {machine}. Accuracies are those of the compiled bundle on
all test images, which neither training nor calibration saw; "change" is in points, against the same network in float.
"""


@dataclass(frozen=True)
class Entry:
    """A compiled network. bits: its width, None for float. accuracy: the share of `images` with the right class."""

    label: str
    bits: int | None
    accuracy: float
    images: int
    constant_bytes: int


def page(lines: Sequence[Entry], machine: str, calibration: int) -> str:
    """The page; the float network of each label is among the lines."""
    real = {line.label: line.accuracy for line in lines if line.bits is None}
    columns: dict[str, Callable[[Entry], str]] = {
        "network": lambda line: line.label,
        "bits": lambda line: "float32" if line.bits is None else str(line.bits),
        "test images": lambda line: f"{line.images:,}",
        "accuracy %": lambda line: f"{100 * line.accuracy:.2f}",
        "change": lambda line: "-" if line.bits is None else f"{100 * (line.accuracy - real[line.label]):+.2f}",
        "weights kB": lambda line: f"{line.constant_bytes / 1000:,.1f}",
    }
    return HEAD.format(machine=machine, calibration=calibration) + "\n" + table(columns, lines)
