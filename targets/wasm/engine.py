"""The platform of WebAssembly: that of processors, with masks of comparisons made by i32x4.bitmask.

LLVM 22 makes sixteen extractions of the sixteen bits of a comparison (`emit.mask_bits`). It also does not come to an
end with some comparisons of which it knows some lanes, as of blocks of fewer than sixteen channels: where these end is
a number that it does not know.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tvm_ffi
from tvm import tirx
from tvm.ir.expr import Call

from qcompiler.targets.vector.emit import LANES
from qcompiler.targets.vector.host import Host
from qcompiler.targets.wasm import llvm
from qcompiler.targets.wasm.machine import SIMD

_QUAD = 4


class Engine(Host):
    """See `qcompiler.targets.vector.host.Host`."""

    def compile(self, functions: Mapping[str, Any], tvm_target: Mapping[str, Any]) -> bytes:
        """See `Host`; raises QCompilerError where LLVM does not come to an end."""
        return llvm.object_of(_legal(functions, tvm_target), tvm_target)

    def assembly(self, functions: Mapping[str, Any], tvm_target: Mapping[str, Any]) -> str:
        """See `compile`."""
        return llvm.assembly_of(_legal(functions, tvm_target), tvm_target)


def _legal(functions: Mapping[str, Any], tvm_target: Mapping[str, Any]) -> Mapping[str, Any]:
    """The functions as LLVM takes them: masks by instructions, where there are vectors."""
    if f"+{SIMD}" not in tvm_target["mattr"]:
        return functions
    changes = [(Call, _mask), (tirx.Select, _select)]
    return {
        name: function.with_body(tvm_ffi.structural_map(function.body, changes, order="post"))
        for name, function in functions.items()
    }


def _mask(call: Any) -> Any:
    """uint16 of a comparison's lanes, from four bits each of four registers."""
    condition = _condition(call)
    if condition is None:
        return call
    ones, zeros = (tirx.Broadcast(tirx.const(value, "int32"), LANES) for value in (-1, 0))
    lanes = tirx.Select(condition, ones, zeros)
    bits = tirx.const(0, "int32")
    for first in range(0, LANES, _QUAD):
        quad = tirx.Shuffle([lanes], [tirx.const(first + lane, "int32") for lane in range(_QUAD)])
        found = tirx.call_llvm_pure_intrin("int32", "llvm.wasm.bitmask", quad)
        bits = bits | (found << tirx.const(first, "int32"))
    return tirx.Cast("uint16", bits)


def _select(select: Any) -> Any:
    """A choice of the first lanes, by a number that LLVM does not know."""
    test = select.condition
    if not (isinstance(test, tirx.LT) and isinstance(test.a, tirx.Ramp) and isinstance(test.b, tirx.Broadcast)):
        return select
    first, stride, count = test.a.base, test.a.stride, test.b.value
    if not all(isinstance(each, tirx.IntImm) for each in (first, stride, count)) or int(test.a.lanes) != LANES:
        return select
    lanes = tirx.Ramp(tirx.const(first.value, "int32"), tirx.const(stride.value, "int32"), LANES)
    hidden = tirx.call_llvm_pure_intrin("float32", "llvm.arithmetic.fence", tirx.const(float(count.value), "float32"))
    test = tirx.LT(lanes, tirx.Broadcast(tirx.Cast("int32", hidden), LANES))
    return tirx.Select(test, select.true_value, select.false_value)


def _condition(call: Any) -> Any:
    """The comparison of which a call makes a mask; None for other calls."""
    if getattr(call.op, "name", "") != "tirx.reinterpret" or str(call.ty).removeprefix("T.") != "uint16":
        return None
    (operand,) = call.args
    is_mask = isinstance(operand, tirx.Cast) and str(operand.ty).removeprefix("T.") == f"uint1x{LANES}"
    return operand.value if is_mask else None


ENGINE = Engine()
"""The platform of all variants."""
