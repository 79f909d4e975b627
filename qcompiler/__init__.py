"""qcompiler: from quantized ONNX networks to a bare native library.

    bundle = qcompiler.compile("model.onnx", target="x86", output="out")
    bundle = qcompiler.load("out")
    outputs = bundle.run({"input": array})

Names are imported on first use, so that loading and running a bundle needs numpy alone.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qcompiler import errors
    from qcompiler.bundle.load import Bundle, load
    from qcompiler.ir.pixels import Pixels
    from qcompiler.pipeline import compile

__all__ = ["Bundle", "Pixels", "compile", "errors", "load"]

_HOMES = {
    "Bundle": "qcompiler.bundle.load",
    "load": "qcompiler.bundle.load",
    "Pixels": "qcompiler.ir.pixels",
    "compile": "qcompiler.pipeline",
}


def __getattr__(name: str) -> Any:
    if name == "errors":
        return importlib.import_module("qcompiler.errors")
    if name not in _HOMES:
        raise AttributeError(f"module 'qcompiler' has no attribute '{name}'")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
