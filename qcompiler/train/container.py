"""A file of named tensors and one JSON object: a safetensors file, read without trust and without pickle.

Layout (https://github.com/huggingface/safetensors): uint64 little-endian, the length of the header; the header, a JSON
object {name: {"dtype", "shape", "data_offsets": [begin, end]}}, padded with spaces to 8 bytes; the tensors, without
gaps. The key "__metadata__" holds texts: here "qcompiler", a JSON object of the caller, and "sha256" of all tensors
followed by that text.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from qcompiler.errors import InvalidData, UsageError
from qcompiler.place import REMEDY
from qcompiler.train.atomic import write_atomically

MAX_HEADER_BYTES = 1 << 24
MAX_FILE_BYTES = 1 << 32
_DTYPES: dict[str, np.dtype[Any]] = {
    "F32": np.dtype("<f4"),
    "I64": np.dtype("<i8"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}

Array = npt.NDArray[Any]


def write_container(path: Path, tensors: Mapping[str, Array], description: Mapping[str, Any]) -> int:
    """Write the file whole or not at all; result: its bytes. Tensors are float32, int64, uint8 or bool, any shape."""
    header: dict[str, Any] = {}
    chunks: list[bytes] = []
    end = 0
    # widest first, so that every tensor is aligned to its element
    for name, array in sorted(tensors.items(), key=lambda item: (-item[1].itemsize, item[0])):
        if array.dtype not in _NAMES:
            raise UsageError(f"'{name}' is {array.dtype}, a packed network holds {', '.join(map(str, _NAMES))}")
        chunk = np.ascontiguousarray(array).tobytes()
        header[name] = {
            "dtype": _NAMES[array.dtype],
            "shape": list(array.shape),
            "data_offsets": [end, end := end + len(chunk)],
        }
        chunks.append(chunk)
    text = json.dumps(description, sort_keys=True)
    body = b"".join(chunks)
    header["__metadata__"] = {"qcompiler": text, "sha256": _checksum(body, text)}
    encoded = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    content = struct.pack("<Q", len(encoded)) + encoded + body
    write_atomically(path, lambda file: file.write(content), REMEDY)
    return len(content)


def is_container(path: Path) -> bool:
    """Whether a file begins as those of `write_container` do: a length, and the brace of the header."""
    try:
        with path.open("rb") as file:
            start = file.read(9)
    except OSError:
        return False
    return len(start) == 9 and start[8:] == b"{" and struct.unpack("<Q", start[:8])[0] <= MAX_HEADER_BYTES


def read_container(path: Path) -> tuple[dict[str, Array], dict[str, Any]]:
    """The tensors and the description; InvalidData for anything but a whole, undamaged file of `write_container`."""
    content = _content(path)
    header, body = _header(path, content)
    metadata = header.pop("__metadata__", None)
    if not isinstance(metadata, dict) or not all(isinstance(metadata.get(key), str) for key in ("qcompiler", "sha256")):
        raise _invalid(path, "its header is not of qcompiler")
    if _checksum(body, metadata["qcompiler"]) != metadata["sha256"]:
        raise _invalid(path, "its checksum is wrong")
    description = _json(path, metadata["qcompiler"])
    return _tensors(path, header, body), description


def _content(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise _invalid(path, f"it is larger than {MAX_FILE_BYTES} bytes")
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read '{path}': {error.strerror or error}") from error


def _header(path: Path, content: bytes) -> tuple[dict[str, Any], memoryview]:
    if len(content) < 8:
        raise _invalid(path, f"it has {len(content)} bytes")
    (length,) = struct.unpack_from("<Q", content)
    if length > min(MAX_HEADER_BYTES, len(content) - 8):
        raise _invalid(path, f"its header would have {length} bytes")
    return _json(path, content[8 : 8 + length]), memoryview(content)[8 + length :]


def _tensors(path: Path, header: Mapping[str, Any], body: memoryview) -> dict[str, Array]:
    tensors: dict[str, Array] = {}
    reached = 0
    try:
        for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
            begin, end = entry["data_offsets"]
            dtype, shape = _DTYPES[entry["dtype"]], tuple(entry["shape"])
            if not all(type(size) is int and size >= 0 for size in (begin, end, *shape)) or begin != reached:
                raise ValueError(f"'{name}' has no plain shape and offsets")
            if end - begin != math.prod(shape) * dtype.itemsize or end > len(body):
                raise ValueError(f"'{name}' of shape {list(shape)} does not fit its {end - begin} bytes")
            tensors[name] = np.frombuffer(body[begin:end], dtype).reshape(shape)
            reached = end
    except (KeyError, TypeError, ValueError) as error:
        raise _invalid(path, f"{type(error).__name__} {error}") from error
    if reached != len(body):
        raise _invalid(path, f"{len(body) - reached} bytes follow its tensors")
    return tensors


def _json(path: Path, text: str | bytes) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _invalid(path, f"no JSON: {error}") from error
    if not isinstance(found, dict):
        raise _invalid(path, "no JSON object")
    return found


def _checksum(body: bytes | memoryview, text: str) -> str:
    digest = hashlib.sha256(body)
    digest.update(text.encode())
    return digest.hexdigest()


def _invalid(path: Path, why: str) -> InvalidData:
    return InvalidData(f"'{path}' is no whole packed network: {why}", remedy="pack the checkpoint again")
