"""The platform of all processors: functions over pointers into the caller's memory, in one relocatable object."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tvm

from qcompiler.ir.program import OBJECTS, Items
from qcompiler.targets.standard_op import ItemLoop, Scheduled, StandardOp
from qcompiler.targets.vector.aligned_stack import on_aligned_stack
from qcompiler.targets.vector.emit import prim_func
from qcompiler.targets.vector.schedule import scheduled

# passes of TVM that change no code for processors and take a fifth of its time, or half where kernels hold many
# thresholds: those for devices, the one that makes buffers smaller, of which no kernel has one that is too large, and
# those that simplify what LLVM simplifies, too
_IDLE_PASSES = (
    "s_tir.CompactBufferAllocation",
    "s_tir.HoistIfThenElse",
    "s_tir.InjectDoubleBuffer",
    "s_tir.InjectPermutedLayout",
    "s_tir.InjectSoftwarePipeline",
    "s_tir.InjectVirtualThread",
    "s_tir.RenormalizeSplitPattern",
    "tirx.RemoveNoOp",
)


class Host:
    """See `qcompiler.targets.target.Platform`."""

    own_memory = False
    code_format = OBJECTS

    def schedule(self, op: StandardOp) -> Scheduled:
        """Items in a loop; vectors in TVM's loops."""
        if isinstance(op, ItemLoop):
            return Scheduled(prim_func("kernel", op.parameters, op.body), Items(op.items))
        return scheduled(op.function)

    def compile(self, functions: Mapping[str, Any], tvm_target: Mapping[str, Any]) -> bytes:
        """A relocatable object of all functions."""
        return object_of(functions, tvm_target)

    def source(self, function: Any) -> str:
        """TVM script."""
        return str(function.script())

    def assembly(self, functions: Mapping[str, Any], tvm_target: Mapping[str, Any]) -> str:
        """Assembly by LLVM."""
        return assembly_of(functions, tvm_target)


def object_of(functions: Mapping[str, Any], tvm_target: Mapping[str, Any]) -> bytes:
    """A relocatable object of PrimFuncs by LLVM."""
    built = _built(functions, tvm_target)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "kernels.o"
        built.write_to_file(str(path), "o")
        return path.read_bytes()


def assembly_of(functions: Mapping[str, Any], tvm_target: Mapping[str, Any]) -> str:
    """What `object_of` makes, to read; empty for no functions."""
    return str(_built(functions, tvm_target).inspect_source("asm")) if functions else ""


def _built(functions: Mapping[str, Any], tvm_target: Mapping[str, Any]) -> Any:
    register = int(tvm_target.get("vector-width", 0)) // 8
    aligned = {name: on_aligned_stack(function, register) for name, function in functions.items()}
    with tvm.transform.PassContext(disabled_pass=list(_IDLE_PASSES)):
        return tvm.tirx.build(tvm.IRModule(aligned), target=tvm.target.Target(dict(tvm_target)))


HOST = Host()
