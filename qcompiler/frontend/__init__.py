"""From an untrusted ONNX file to the canonical quantized graph."""

from __future__ import annotations

import os
from collections.abc import Mapping

import onnx_ir as ir

from qcompiler.frontend import dialects
from qcompiler.frontend.load import load

__all__ = ["canonicalize", "load"]


def canonicalize(path: str | os.PathLike[str], shapes: Mapping[str, tuple[int, ...]] | None = None) -> ir.Model:
    """Load the ONNX file at `path` and rewrite what dialects write with standard operators, as signs."""
    model = load(path, shapes)
    dialects.recognize(model)
    return model
