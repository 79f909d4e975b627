"""What quantization after training cost: the error of the outputs, and of the decisions where labels are given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Cost:
    """bits, layers: what was quantized. samples: on which it was measured.

    error: the root of the mean square of what the outputs lost, relative to that of the outputs. float_accuracy,
    accuracy: shares of samples whose largest output is the label, without and with quantization; None without labels.
    """

    bits: int
    layers: int
    samples: int
    error: float
    float_accuracy: float | None = None
    accuracy: float | None = None

    def as_json(self) -> dict[str, Any]:
        """Plain data for report.json."""
        return asdict(self)

    def __str__(self) -> str:
        """One line for the user."""
        text = (
            f"quantized after training: {self.layers} layers to {self.bits} bits; outputs differ by"
            f" {100 * self.error:.2g} % (root mean square, {self.samples} samples)"
        )
        if self.accuracy is None or self.float_accuracy is None:
            return text
        return f"{text}; accuracy {100 * self.float_accuracy:.2f} % in float, {100 * self.accuracy:.2f} % quantized"


def error_of(before: Sequence[Mapping[str, Array]], after: Sequence[Mapping[str, Array]]) -> float:
    """Root mean square difference of all float outputs, relative to the root mean square of `before`."""
    names = [name for name, array in before[0].items() if array.dtype.kind == "f"]
    squares = [
        (float(((a[name].astype(np.float64) - b[name]) ** 2).sum()), float((a[name].astype(np.float64) ** 2).sum()))
        for a, b in zip(before, after, strict=True)
        for name in names
    ]
    lost, held = (sum(column) for column in zip(*squares, strict=True)) if squares else (0.0, 0.0)
    return float(np.sqrt(lost / held)) if held else float(np.sqrt(lost))


def accuracy_of(outputs: Sequence[Mapping[str, Array]], labels: npt.NDArray[np.integer]) -> float:
    """The share of rows of the first output whose largest number is at the label; labels: [samples * batch]."""
    first = np.concatenate([next(iter(each.values())).reshape(_rows(each), -1) for each in outputs])
    return float((first.argmax(1) == labels).mean())


def _rows(outputs: Mapping[str, Array]) -> int:
    first = next(iter(outputs.values()))
    return first.shape[0] if first.ndim > 1 else 1
