"""How code runs on the toy: functions that compute one phase of one thread, in a module that the device loads.

int32 f(*pointers, shared, x, y, z, thread, phase): a thread of block (x, y, z). A barrier of the block stands between
phases: no thread begins one before all threads have ended the one before. `shared` is memory of the block.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tvm
from tvm import tirx
from tvm.ir import PrimType
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from qcompiler.ir.program import Items, LaunchGrid
from qcompiler.targets.standard_op import Expr, ItemLoop, Parameter, Scheduled, StandardOp
from qcompiler.targets.vector.emit import i64
from qcompiler.targets.vector.host import HOST
from qcompiler.targets.vector.schedule import scheduled

FORMAT = "toy"
THREADS = 32
PHASES = "toy.phases"
_PLACE = ("x", "y", "z", "thread", "phase")


@dataclass(frozen=True)
class Place:
    """Where a thread is, int64: its block, its number in the block, and the phase that it computes."""

    x: Expr
    y: Expr
    z: Expr
    thread: Expr
    phase: Expr


def device_function(
    name: str,
    parameters: Sequence[Parameter],
    body: Callable[[list[Expr], Expr, Place], None],
    *,
    shared_floats: int = 0,
    phases: int = 1,
) -> Any:
    """A function of the device that runs body(buffers, shared floats of the block, place)."""
    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_name(name)
        T.func_attr({"calling_conv": 2, "global_symbol": name, PHASES: phases})
        pointers = [T.arg(p.name, T.handle(p.dtype)) for p in parameters]
        shared = T.arg("shared", T.handle("float32"))
        place = [T.arg(what, T.int32()) for what in _PLACE]
        T.func_ret(PrimType("int32"))
        buffers = [
            T.decl_buffer((max(p.elements, 1),), p.dtype, data=pointer, align=4)
            for p, pointer in zip(parameters, pointers, strict=True)
        ]
        floats = T.decl_buffer((max(shared_floats, 1),), "float32", data=shared, align=4)
        body(buffers, floats, Place(*(T.bind(i64(value)) for value in place)))
        T.Return(T.int32(0))
    return builder.get()


class ToyPlatform:
    """See `qcompiler.targets.target.Platform`."""

    own_memory = True
    code_format = FORMAT

    def schedule(self, op: StandardOp) -> Scheduled:
        """A thread for each item of ours; what TVM made runs as it would on a processor, an item per block."""
        if isinstance(op, ItemLoop):
            return _threads(op)
        made = scheduled(op.function)
        assert isinstance(made.launch, Items)
        return Scheduled(_blocks(made.function), LaunchGrid((made.launch.count, 1, 1), (1, 1, 1)), made.temporaries)

    def source(self, function: Any) -> str:
        """TVM script."""
        return str(function.script())

    def assembly(self, functions: Mapping[str, Any], tvm_target: Mapping[str, Any]) -> str:
        """The simulator runs the code of the host."""
        return HOST.assembly(functions, tvm_target)

    def compile(self, functions: Mapping[str, Any], tvm_target: Mapping[str, Any]) -> bytes:
        """The number of phases of every function in a line of JSON, then a library."""
        phases = {symbol: int(dict(function.attrs).get(PHASES, 1)) for symbol, function in functions.items()}
        built = tvm.tirx.build(tvm.IRModule(dict(functions)), target=tvm.target.Target(dict(tvm_target)))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder)
            built.write_to_file(str(path / "m.o"), "o")
            subprocess.run(["cc", "-shared", "-o", path / "m.so", path / "m.o", "-lm"], check=True)
            return json.dumps(phases).encode() + b"\n" + (path / "m.so").read_bytes()


TOY = ToyPlatform()


def _threads(op: ItemLoop) -> Scheduled:
    def body(buffers: list[Expr], shared: Expr, place: Place) -> None:
        item = T.bind(place.x * THREADS + place.thread)
        with T.If(item < op.items), T.Then():
            op.body(buffers, item)

    blocks = -(-op.items // THREADS)
    return Scheduled(device_function("kernel", op.parameters, body), LaunchGrid((blocks, 1, 1), (THREADS, 1, 1)))


def _blocks(function: Any) -> Any:
    """A function over items [begin, end) as one over blocks of a single item."""
    *pointers, begin, end = function.params
    shared = tirx.Var("shared", tvm.ir.PointerType(PrimType("float32"), "global"))
    place = [tirx.Var(what, "int32") for what in _PLACE]
    body = tirx.SeqStmt([tirx.Bind(begin, place[0]), tirx.Bind(end, place[0] + 1), function.body])
    return tirx.PrimFunc([*pointers, shared, *place], body, ret_type=PrimType("int32")).with_attr({"calling_conv": 2})
