"""From a path to a ModelProto, without trusting a byte of the file.

The protobuf parsers bound nesting at 100 messages (33 graphs inside each other), so no later recursion over a parsed
model can exhaust the stack.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import defs

from qcompiler.errors import InvalidModel, UnsupportedModel, UsageError

# what protobuf reads
MAX_FILE_BYTES = 2**31 - 1
# chosen
MAX_NODES = 50_000
MIN_OPSET, MAX_OPSET = 7, min(28, defs.onnx_opset_version())
MIN_IR, MAX_IR = 3, 14

_REEXPORT = "export the model to ONNX again"


def read(path: str | os.PathLike[str]) -> onnx.ModelProto:
    """The parsed file, external data not yet read.

    Raises UsageError for a missing or unreadable file, InvalidModel for anything that is not an ONNX model, and
    UnsupportedModel for versions outside the supported range.
    """
    model = _parse(path, _content(path))
    _check_text(path, model)
    _check_header(path, model)
    return model


def check_file(path: str | os.PathLike[str]) -> None:
    """Raise what `read` would for a file that is missing, empty, too large or no file, without reading it."""
    with _explained(path):
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            raise InvalidModel(f"'{path}' is a directory, expected an ONNX file", remedy="name the .onnx file in it")
        if not stat.S_ISREG(status.st_mode):
            raise InvalidModel(f"'{path}' is not a regular file", remedy="name an .onnx file")
        if status.st_size > MAX_FILE_BYTES:
            raise InvalidModel(
                f"'{path}' has {status.st_size} bytes, expected less than 2 GiB",
                remedy="store weights as external data",
            )
        if not status.st_size:
            raise InvalidModel(f"'{path}' is empty", remedy=_REEXPORT)


def _content(path: str | os.PathLike[str]) -> bytes:
    check_file(path)
    with _explained(path):
        return Path(path).read_bytes()


@contextmanager
def _explained(path: str | os.PathLike[str]) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise UsageError(f"there is no file '{path}'", remedy="check the path of the model") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"'{path}' cannot be read: {error}", remedy="check the path and its permissions") from error


def _parse(path: str | os.PathLike[str], content: bytes) -> onnx.ModelProto:
    model = onnx.ModelProto()
    try:
        model.ParseFromString(content)
    except DecodeError as error:
        raise InvalidModel(f"'{path}' is not an ONNX file, or it is truncated: {error}", remedy=_REEXPORT) from error
    return model


def _check_text(path: str | os.PathLike[str], model: onnx.ModelProto) -> None:
    """Refuse names and text attributes that are not UTF-8; the parser hands such names out as bytes."""
    pending = [model]
    while pending:
        for field, value in pending.pop().ListFields():
            if field.type == field.TYPE_MESSAGE:
                pending.extend([value] if hasattr(value, "ListFields") else value)
            elif field.name == "s" or (field.type == field.TYPE_STRING and field.name != "doc_string"):
                texts = [value] if isinstance(value, (str, bytes)) else value
                if not all(_is_text(text) for text in texts):
                    raise InvalidModel(f"'{path}' has text in a {field.name} that is not UTF-8", remedy=_REEXPORT)


def _is_text(text: str | bytes) -> bool:
    try:
        return isinstance(text, str) or bool(text.decode() or True)
    except UnicodeDecodeError:
        return False


def _check_header(path: str | os.PathLike[str], model: onnx.ModelProto) -> None:
    if not model.HasField("graph") or not model.graph.output:
        raise InvalidModel(f"'{path}' holds no graph with outputs", remedy=_REEXPORT)
    if not model.HasField("ir_version"):
        raise InvalidModel(f"'{path}' has no IR version, so it is no ONNX model", remedy=_REEXPORT)
    if not MIN_IR <= model.ir_version <= MAX_IR:
        _refuse(f"IR version {model.ir_version}", MIN_IR, MAX_IR)
    for opset in (entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")):
        if not MIN_OPSET <= opset <= MAX_OPSET:
            _refuse(f"opset {opset}", MIN_OPSET, MAX_OPSET)
    total = len(model.graph.node) + sum(len(function.node) for function in model.functions)
    if total > MAX_NODES:
        raise InvalidModel(f"the model has {total} nodes, expected at most {MAX_NODES}", remedy="split the model")


def _refuse(found: str, low: int, high: int) -> None:
    raise UnsupportedModel(
        f"the file uses {found}, expected {low} to {high}", remedy=f"export with a version in {low}..{high}"
    )
