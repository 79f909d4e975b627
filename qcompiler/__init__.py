"""qcompiler: from quantized ONNX networks to a bare native library.

    bundle = qcompiler.compile("model.onnx", target="x86", output="out")
    bundle = qcompiler.load("out")
    outputs = bundle.run({"input": array})

Names are imported on first use, so that loading and running a bundle needs numpy alone.
"""

from __future__ import annotations

import importlib
import sys
import types
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qcompiler import errors
    from qcompiler.bundle.load import Bundle, load
    from qcompiler.compile import compile

__all__ = ["Bundle", "compile", "errors", "load"]

_HOMES = {"Bundle": "qcompiler.bundle.load", "load": "qcompiler.bundle.load"}


class _Package(types.ModuleType):
    """The package, whose `compile` is the function even after its module of the same name was imported.

    The import system sets a submodule as an attribute of its package; the setter below lets it have no effect.
    """

    @property
    def compile(self) -> Any:
        return importlib.import_module("qcompiler.compile").compile

    @compile.setter
    def compile(self, module: types.ModuleType) -> None:
        pass


sys.modules[__name__].__class__ = _Package


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
