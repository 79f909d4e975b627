"""LLVM in processes of their own, which end where it does not come to an end.

It never did with some vectors for WebAssembly (`engine.py` works around those that are known), and what runs in this
process cannot be stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from qcompiler.child import ChildLost, Children
from qcompiler.errors import QCompilerError
from qcompiler.targets.import_tvm import tvm
from qcompiler.targets.vector import host

T = TypeVar("T")
Functions = Mapping[str, tvm.tirx.PrimFunc]

# seconds for a module, and for each of its functions; of these LLVM takes a hundredth. Chosen
PATIENCE, EACH = 30.0, 10.0
_children = Children()


def object_of(functions: Functions, tvm_target: Mapping[str, Any]) -> bytes:
    """See `host.object_of`. Raises QCompilerError where LLVM takes longer than such functions do, or dies."""
    return _asked(_object_of, functions, tvm_target)


def assembly_of(functions: Functions, tvm_target: Mapping[str, Any]) -> str:
    """See `host.assembly_of`, and `object_of`."""
    return _asked(_assembly_of, functions, tvm_target)


def _asked(function: Callable[..., T], functions: Functions, tvm_target: Mapping[str, Any]) -> T:
    try:
        return _children.ask(function, dict(functions), dict(tvm_target), seconds=PATIENCE + EACH * len(functions))
    except ChildLost as lost:
        raise QCompilerError(f"LLVM does not come to an end: {lost}") from None


# by names of this module, which imports TVM as it should be, a process finds them
def _object_of(functions: Functions, tvm_target: Mapping[str, Any]) -> bytes:
    return host.object_of(functions, tvm_target)


def _assembly_of(functions: Functions, tvm_target: Mapping[str, Any]) -> str:
    return host.assembly_of(functions, tvm_target)
