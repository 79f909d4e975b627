"""Quantization after training: float networks to integers of N bits, by the ranges that calibration data show."""

from __future__ import annotations

from qcompiler.posttraining.cost import Cost
from qcompiler.posttraining.quantize import checked_labels, quantize

__all__ = ["Cost", "checked_labels", "quantize"]
