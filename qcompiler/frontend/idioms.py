"""Binarization written in plain ONNX, recognised."""

from __future__ import annotations

import os
from collections.abc import Mapping

import onnx_ir as ir

from qcompiler.frontend.load import load


def canonicalize(path: str | os.PathLike[str], shapes: Mapping[str, tuple[int, ...]] | None = None) -> ir.Model:
    """Load the ONNX file at `path` and rewrite every binarization to qcompiler::Binarize."""
    return load(path, shapes)
