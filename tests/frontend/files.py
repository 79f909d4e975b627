"""Small models as files: textual ONNX written to disk, and the real models beside the repository."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnx.parser
import pytest

MODELS = Path(__file__).resolve().parents[3] / "shared" / "models"

needs_models = pytest.mark.skipif(
    not (MODELS / "manifest.json").is_file(), reason="the model collection (../shared/models) is not there"
)


def save(folder: Path, text: str, name: str = "model.onnx") -> Path:
    """Write textual ONNX as a file."""
    return write(folder, onnx.parser.parse_model(text), name)


def write(folder: Path, model: onnx.ModelProto, name: str = "model.onnx") -> Path:
    """Write a model as a file."""
    path = folder / name
    path.write_bytes(model.SerializeToString())
    return path


def graph_text(body: str, signature: str = "float[8] x", result: str = "float[8] y", opset: int = 21) -> str:
    """A whole model around the nodes `body`."""
    return f'<ir_version: 8, opset_import: ["": {opset}]>\ng ({signature}) => ({result}) {{\n{body}\n}}'
