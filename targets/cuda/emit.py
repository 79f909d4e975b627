"""TIR for one kernel on a device: its frame over blocks of threads, and the instructions that C++ has no operator for.

Indices are int32: no buffer of a network has 2^31 elements. The functions named `qc_...` are those of
`qcompiler/bundle/cuda/instructions.h`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from qcompiler.ir.program import LaunchGrid
from qcompiler.targets.standard_op import Expr, Parameter

WARP = 32
"""Threads that run in step, and channels in a word of a bit plane."""


@dataclass(frozen=True)
class Place:
    """Where a thread is, int32: its block and its number in the block.

    shared: int32 words that the block shares. runs: how many the launch is for, where their rows are taken together.
    """

    block: Expr
    thread: Expr
    runs: Expr
    shared: Expr | None = None


def kernel_function(
    name: str, parameters: Sequence[Parameter], launch: LaunchGrid, body: Callable[[list[Expr], Place], None]
) -> Any:
    """A kernel over a row of blocks, in every thread of which body(buffers, place) runs.

    `body` gets one flat buffer per parameter; parameters must not alias one another.
    """
    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_name(name)
        T.func_attr({"calling_conv": 2, "tirx.noalias": True, "global_symbol": name, "tirx.is_global_func": True})
        pointers = [T.arg(p.name, T.handle(p.dtype)) for p in parameters]
        runs = T.int32(1) if launch.rows is None else T.arg("runs", T.int32())
        buffers = [
            T.decl_buffer((max(p.elements, 1),), p.dtype, data=pointer, align=p.align)
            for p, pointer in zip(parameters, pointers, strict=True)
        ]
        row, threads = launch.blocks[0], launch.threads[0]
        if launch.rows is not None:
            # TVM must not take a row of one block for all that there is
            row = row * runs
        with T.launch_thread("blockIdx.x", row) as block, T.launch_thread("threadIdx.x", threads) as thread:
            shared = None
            if launch.shared_bytes:
                shared = T.alloc_buffer((launch.shared_bytes // 4,), "int32", scope="shared.dyn")
            body(buffers, Place(block, thread, runs, shared))
    return builder.get()


def registers(dtype: str, count: int, value: Expr | None = None) -> Expr:
    """An array that becomes registers, as its indices are constant; its elements start as `value`, if there is one."""
    found = T.alloc_buffer((count,), dtype, scope="local")
    if value is not None:
        for index in range(count):
            write(found, value, index)
    return found


def write(target: Expr, value: Expr, index: Expr) -> None:
    """target[index] = value."""
    T.buffer_store(target, value, [index])


def barrier() -> None:
    """All threads of the block wait for one another, and see what the others wrote."""
    instruction("qc_barrier")


def ballot(condition: Expr) -> Expr:
    """uint32: bit i says whether the condition holds in thread i of the warp, all of which must come here."""
    return T.bind(T.call_extern("uint32", "qc_ballot", T.Cast("int32", condition)))


def fenced(value: Expr) -> Expr:
    """A float32 that TVM's simplifier cannot see through: it would make 0 of a product with 0."""
    return T.call_pure_extern("float32", "qc_fence", value)


def popcount(word: Expr) -> Expr:
    """int32: how many bits of a uint32 are set."""
    return T.Cast("int32", T.popcount(word))


def dot(inputs: Expr, weights: Expr) -> Expr:
    """int32: the sum of products of the four bytes of two uint32, all without a sign."""
    return T.Cast("int32", T.call_pure_extern("uint32", "__dp4a", inputs, weights, T.uint32(0)))


def mixed_dot(inputs: Expr, weights: Expr, total: Expr) -> Expr:
    """int32: `total`, int32, and the sum of products of the bytes of int32 inputs, with signs, and uint32 weights."""
    return T.bind(T.call_extern("int32", "qc_mixed_dot", inputs, weights, total))


def fma(a: Expr, b: Expr, c: Expr) -> Expr:
    """float32: a * b + c, rounded once."""
    return T.call_pure_extern("float32", "fmaf", a, b, c)


def instruction(name: str, *operands: Expr) -> None:
    """An instruction without a result."""
    T.evaluate(T.call_extern("void", name, *operands))


def exchange(value: Expr, mask: int) -> Expr:
    """int32: what the thread of the warp holds whose number differs in the bits of `mask`."""
    return T.bind(T.call_extern("int32", "qc_exchange", value, T.int32(mask)))


def taken_from(value: Expr, lane: Expr) -> Expr:
    """What another thread of the warp, the same for all or not, holds: int32 or float32."""
    kind = "float32" if str(value.ty).endswith("float32") else "int32"
    return T.bind(T.call_extern(kind, f"qc_from_{kind}", value, lane))
