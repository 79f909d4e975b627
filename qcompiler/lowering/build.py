"""From functions to an object file; what the code generator refuses is named by the node it is for."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tvm

from qcompiler.errors import InternalError, QCompilerError, UnsupportedModel
from qcompiler.lowering.importer import REMEDY
from qcompiler.lowering.work import KernelWork, Work


def object_code(functions: Mapping[str, Any], works: Mapping[str, Work], tvm_target: Mapping[str, Any]) -> bytes:
    """A relocatable object of all functions, by symbol; works: what each of them is for.

    Raises UnsupportedModel where the code generator refuses a function that TVM made, InternalError for one of ours.
    """
    target = tvm.target.Target(dict(tvm_target))
    try:
        return _built(functions, target)
    except Exception as error:
        raise _named(functions, works, target, error) from error


def _built(functions: Mapping[str, Any], target: Any) -> bytes:
    built = tvm.tirx.build(tvm.IRModule(dict(functions)), target=target)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "kernels.o"
        built.write_to_file(str(path), "o")
        return path.read_bytes()


def _named(functions: Mapping[str, Any], works: Mapping[str, Work], target: Any, error: Exception) -> QCompilerError:
    """The error for the first function that cannot be built alone."""
    for symbol, function in functions.items():
        try:
            _built({symbol: function}, target)
        except Exception as reason:
            work = works[symbol]
            node = (work.nodes[0].name or "") if work.nodes else ""
            text = next((line for line in str(reason).splitlines() if line.strip()), type(reason).__name__)
            if isinstance(work, KernelWork):
                return InternalError(f"no code for kernel {work.op} ({text})", node=node)
            return UnsupportedModel(f"no kernel for {work.op} (no code: {text})", node=node, remedy=REMEDY)
    return InternalError(f"the kernels cannot be built together ({error})")
