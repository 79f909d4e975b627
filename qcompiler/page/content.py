"""What the page shows, bounded whatever the network holds: names of a file are as long and as many as it likes."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from qcompiler.bundle.manifest import MAX_COUNT, MAX_VARIANTS, REPORT_JSON, Manifest, Step
from qcompiler.errors import InvalidBundle
from qcompiler.ir.program import StoredValue, TensorInfo
from qcompiler.page.measured import Measured

# what a page holds; chosen: a browser draws that many nodes in a few seconds
MAX_STEPS = 3000
MAX_STEPS_BYTES = 4 * 2**20
_NAMES, _VALUES, _READS, _TENSORS, _CHECKS, _ALLOCATIONS = 12, 8, 32, 16, 32, 3000
_NAME, _NOTE = 120, 800

_FORMS = {
    "bit-nhwc": "codes {0.low} to {0.high} in bit planes, channels last",
    "bit-nchw": "codes {0.low} to {0.high} in bit planes, word after word of all pixels",
    "byte-nhwc": "codes {0.low} to {0.high} in bytes, channels last",
    "table-nhwc": "codes {0.low} to {0.high} in tables of sums of four, flipped or not, channels last",
    "subset-nhwc": "codes {0.low} to {0.high} in tables of sums of up to four, channels last",
    "float-nhwc": "{1}, channels last",
    "float-nchw": "{1}, as in ONNX",
    "dense": "{1}, as in ONNX",
}
_MEMORY = ("flash", "code", "constants", "ram", "static", "workspace", "inputs", "outputs", "stack")
_TOTALS = ("layers", "integer_layers", "macs", "integer_macs", "workspace_bytes", "constant_bytes")


def content(manifest: Manifest, report: Mapping[str, Any], measured: Measured | None = None) -> dict[str, Any]:
    """Plain data for the template. Raises InvalidBundle where the report is not one of these steps."""
    told = _Told(report)
    rows = told.items("rows", len(manifest.steps), len(manifest.steps))
    steps = _steps(manifest, rows)
    return {
        "name": manifest.name,
        "target": manifest.target,
        "architecture": manifest.architecture,
        "versions": {key: _short(text, _NAME) for key, text in manifest.versions.items()},
        "variants": [variant.name for variant in manifest.variants],
        "inputs": [_tensor(tensor) for tensor in manifest.inputs[:_TENSORS]],
        "outputs": [_tensor(tensor) for tensor in manifest.outputs[:_TENSORS]],
        "steps": steps,
        "steps_in_all": len(manifest.steps),
        "totals": {name: told.integer(name) for name in _TOTALS},
        "library_bytes": manifest.files[manifest.library].bytes,
        "weights": told.part("constants").integer("weights"),
        "other_constants": told.part("constants").integer("others"),
        "allocations": _allocations(told, len(steps)),
        "after_training": _short(told.text("after_training"), _NOTE),
        "checks": [_check(check) for check in told.items("checks", 0, MAX_COUNT)[:_CHECKS]],
        # bundles that were made before it was written have none
        "footprints": [_footprint(each) for each in told.items("footprints", 0, MAX_VARIANTS)]
        if "footprints" in report
        else [],
        "measured": None if measured is None else {**asdict(measured), "seconds": measured.seconds[: len(steps)]},
    }


def _steps(manifest: Manifest, rows: Sequence[_Told]) -> list[dict[str, Any]]:
    """The first steps, as many as fit."""
    shown: list[dict[str, Any]] = []
    room = MAX_STEPS_BYTES
    for step, row in zip(manifest.steps[:MAX_STEPS], rows, strict=False):
        entry = _step(step, row, len(manifest.inputs), len(shown))
        room -= len(json.dumps(entry))
        if room < 0:
            break
        shown.append(entry)
    return shown


def _step(step: Step, row: _Told, inputs: int, index: int) -> dict[str, Any]:
    names = list(dict.fromkeys(step.nodes))
    return {
        "nodes": [_short(name, _NAME) for name in names[:_NAMES]],
        "nodes_in_all": len(names),
        "op": _short(step.op, _NAME),
        "kernels": [_short(kernel, _NAME) for kernel in step.kernels],
        "nanoseconds": row.numbers("nanoseconds", len(step.kernels)),
        "w_bits": step.w_bits,
        "a_bits": step.a_bits,
        "integers": step.integers,
        "macs": step.macs,
        "write_bytes": step.bytes,
        "read_bytes": row.integer("read_bytes"),
        "constant_bytes": row.integer("constant_bytes"),
        "note": _short(step.note, _NOTE),
        "steps": row.indices("reads_steps", index)[:_READS],
        "inputs": [position for position in row.indices("reads_inputs", inputs) if position < _TENSORS][:_READS],
        "values": [_value(value) for value in step.values[:_VALUES]],
        "outputs": [value.argument.position for value in step.values[:_VALUES] if value.argument.kind == "output"],
    }


def _value(value: StoredValue) -> dict[str, Any]:
    form = _FORMS[value.layout].format(value.codes, value.dtype)
    return {"name": _short(value.name, _NAME), "shape": list(value.shape), "form": form}


def _tensor(tensor: TensorInfo) -> dict[str, Any]:
    return {"name": _short(tensor.name, _NAME), "shape": list(tensor.shape), "dtype": tensor.dtype}


def _allocations(told: _Told, steps: int) -> list[list[int]]:
    """Offset, size, first and last step of the largest pieces of the workspace that the first steps use."""
    pieces = [
        [piece.integer(name) for name in ("offset", "nbytes", "first", "last")]
        for piece in told.items("allocations", 0, MAX_COUNT)
    ]
    return sorted((piece for piece in pieces if piece[2] < steps), key=lambda each: -each[1])[:_ALLOCATIONS]


def _check(check: _Told) -> dict[str, Any]:
    return {
        "variant": _short(check.text("variant"), _NAME),
        **{name: check.integer(name) for name in ("samples", "codes", "ties")},
        "largest": check.number("largest"),
        "text": _short(check.text("text"), _NOTE),
    }


def _footprint(told: _Told) -> dict[str, Any]:
    return {"variant": _short(told.text("variant"), _NAME), **{name: told.integer(name) for name in _MEMORY}}


def _short(text: str, limit: int) -> str:
    """The ends of a text, which tell names apart."""
    half = limit // 2
    return text if len(text) <= limit else f"{text[:half]}…{text[-half:]}"


@dataclass(frozen=True)
class _Told:
    """An object of the report, read with distrust."""

    value: Any

    def _field(self, name: str, kind: type | tuple[type, ...]) -> Any:
        found = self.value.get(name) if isinstance(self.value, Mapping) else None
        if not isinstance(found, kind) or isinstance(found, bool):
            raise InvalidBundle(f"{REPORT_JSON} has no '{name}' as it should", remedy="compile the model again")
        return found

    def part(self, name: str) -> _Told:
        return _Told(self._field(name, Mapping))

    def text(self, name: str) -> str:
        return str(self._field(name, str))

    def integer(self, name: str) -> int:
        return int(self._field(name, int))

    def number(self, name: str) -> float:
        found = float(self._field(name, (int, float)))
        if not math.isfinite(found):
            raise InvalidBundle(f"{REPORT_JSON}: '{name}' is {found}", remedy="compile the model again")
        return found

    def items(self, name: str, low: int, high: int) -> list[_Told]:
        return [_Told(each) for each in self._list(name, low, high)]

    def numbers(self, name: str, count: int) -> list[float]:
        return [_Told({name: each}).number(name) for each in self._list(name, count, count)]

    def indices(self, name: str, end: int) -> list[int]:
        """Integers from 0 to below `end`."""
        found = [_Told({name: each}).integer(name) for each in self._list(name, 0, MAX_COUNT)]
        if not all(0 <= each < end for each in found):
            raise InvalidBundle(f"{REPORT_JSON}: '{name}' names what is not there", remedy="compile the model again")
        return found

    def _list(self, name: str, low: int, high: int) -> list[Any]:
        found: list[Any] = self._field(name, list)
        if not low <= len(found) <= high:
            raise InvalidBundle(f"{REPORT_JSON}: '{name}' has {len(found)} entries", remedy="compile the model again")
        return found
