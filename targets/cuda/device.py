"""The platform of CUDA: kernels over a row of blocks of threads, as C++ source of one architecture that nvcc compiles.

TVM makes the source from TIR. Its own prologue is left out: what the source calls is in
`qcompiler/bundle/cuda/instructions.h`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import tvm
import tvm_ffi
from tvm import s_tir, tirx
from tvm.backend import loader
from tvm.ir.expr import Call, Var
from tvm.script.ir_builder import tirx as T

from qcompiler.errors import InternalError
from qcompiler.ir.program import RUN_BYTES, LaunchGrid
from qcompiler.targets.cuda.emit import kernel_function
from qcompiler.targets.cuda.scalars import scalarized
from qcompiler.targets.cuda.tensor_function import THREADS, Phases, scheduled
from qcompiler.targets.standard_op import ItemLoop, Scheduled, StandardOp

FORMAT = "cuda"
_KERNEL = re.compile(r'extern "C" __global__ void ')
_SIGNATURE = re.compile(r"(?:__launch_bounds__\(\d+\) )?(\w+)\(([^)]*)\) \{\n")
_BOUNDS = re.compile(r"\b__launch_bounds__\b")
_SHARED = re.compile(r"extern __shared__ __align__\(\d+\) int (\w+)\[\];")
# TVM takes less exact functions of CUDA for these
_FAST = re.compile(r"\b__(exp|exp10|log|log2|log10|pow|sin|cos|tan)f\b")
# LLVM's intrinsics that bodies of standard operators use, and what they are in C++
_FUNCTIONS = {
    "llvm.arithmetic.fence": "qc_fence",
    "llvm.rint": "rintf",
    "llvm.sqrt": "sqrtf",
    "llvm.fma": "fmaf",
    "llvm.floor": "floorf",
    "llvm.ceil": "ceilf",
    "llvm.trunc": "truncf",
    "llvm.fabs": "fabsf",
}


class Device:
    """See `qcompiler.targets.target.Platform`."""

    own_memory = True
    code_format = FORMAT

    def schedule(self, op: StandardOp) -> Scheduled:
        """A thread for each item of ours, elements where these are, and for each element of what TVM made."""
        return _items(op) if isinstance(op, ItemLoop) else scheduled(op.function)

    def source(self, function: Any) -> str:
        """TVM script."""
        return str(function.script())

    def compile(self, functions: Mapping[str, Any], tvm_target: Mapping[str, Any]) -> bytes:
        """The source of all kernels; those of a function of several phases have its symbol with their number."""
        return self.assembly(functions, tvm_target).encode()

    def assembly(self, functions: Mapping[str, Any], tvm_target: Mapping[str, Any]) -> str:
        """The source: what nvcc makes of it is read with cuobjdump."""
        parts: dict[str, Any] = {}
        for symbol, function in functions.items():
            kernels = function.kernels if isinstance(function, Phases) else (function,)
            for number, kernel in enumerate(kernels):
                parts[kernel_symbol(symbol, number)] = kernel
        return _source(parts, tvm_target) if parts else ""


DEVICE = Device()
"""The platform of all architectures."""


def kernel_symbol(symbol: str, phase: int) -> str:
    """The name of the kernel of a phase."""
    return f"{symbol}_{phase}" if phase else symbol


def _items(op: ItemLoop) -> Scheduled:
    items, emit = (op.apart.elements, op.apart.body) if op.apart is not None else (op.items, op.body)
    launch = LaunchGrid((-(-items // THREADS), 1, 1), (THREADS, 1, 1))

    def body(buffers: list[Any], place: Any) -> None:
        item = T.bind(T.Cast("int64", place.block * THREADS + place.thread))
        with T.If(item < items), T.Then():
            emit(buffers, item)

    return Scheduled(kernel_function("kernel", op.parameters, launch, body), launch)


def _source(kernels: Mapping[str, Any], tvm_target: Mapping[str, Any]) -> str:
    """C++ of kernels by symbol, without a prologue."""
    loader.load("cuda")
    target = tvm.target.Target(dict(tvm_target), host="llvm")
    module = tvm.IRModule({name: _legal(kernel).with_attr("global_symbol", name) for name, kernel in kernels.items()})
    with target:
        module = _lowering()(tirx.transform.BindTarget(target)(module))
        text = tvm.get_global_func("target.build.cuda")(module, target).inspect_source("cuda")
    parts = _KERNEL.split(_FAST.sub(r"\1f", text))[1:]
    bodies = {found[1] for part in parts if (found := _SIGNATURE.search(part)) is not None}
    if bodies != set(kernels):
        raise InternalError(f"TVM's source has the kernels {sorted(bodies)}, expected {sorted(kernels)}")
    parts = [_of_run(_with_shared_memory(part), kernels) for part in parts]
    return "".join(_BOUNDS.sub("QC_LAUNCH_BOUNDS", part) for part in parts)


def _lowering() -> Any:
    """TVM's passes from blocks and buffers to what its CUDA code generator takes.

    Barriers are the kernels' own: none is added, and threads are bound by the kernels. Nothing is simplified: TVM would
    put what a variable stands for in place of each of its uses, which doubles chains of operations at every step, and
    nvcc simplifies indices by itself.
    """
    s, t = s_tir.transform, tirx.transform
    blocks = [
        s.LowerInitBlock(), s.PlanAndUpdateBufferAllocationLocation(), s.ConvertBlocksToOpaque(),
        s.UnifyThreadBinding(), s.LowerMatchBuffer(), s.LowerOpaqueBlock(),
    ]  # fmt: skip
    statements = [
        t.FlattenBuffer(), t.BF16ComputeLegalize(), t.NarrowDataType(32), t.VectorizeLoop(True), t.UnrollLoop(),
        t.LowerIntrin(),
    ]  # fmt: skip
    return tvm.transform.Sequential([*blocks, *statements])


def _legal(kernel: Any) -> Any:
    """A kernel without LLVM's intrinsics, whose variables belong to a thread."""
    local: dict[Any, Any] = {}

    def allocated(statement: Any) -> None:
        buffer = statement.buffer
        if buffer.scope() == "global":
            local[buffer] = tirx.decl_buffer(buffer.shape, str(buffer.dtype), buffer.name, scope="local")

    tvm_ffi.structural_walk(kernel.body, [(tirx.AllocBuffer, allocated)])
    changes = [(Call, _renamed), (Var, lambda variable: local.get(variable, variable))]
    return kernel.with_body(tvm_ffi.structural_map(scalarized(kernel.body), changes, order="post"))


def _renamed(call: Any) -> Any:
    if "call_llvm" not in getattr(call.op, "name", ""):
        return call
    name = tvm.target.codegen.llvm_get_intrinsic_name(int(call.args[0])) if hasattr(call.args[0], "value") else ""
    known = next((function for prefix, function in _FUNCTIONS.items() if name.startswith(prefix)), None)
    if known is None:
        raise ValueError(f"the intrinsic {name or call} is LLVM's alone")
    return tirx.call_pure_extern(str(call.ty).removeprefix("T."), known, *call.args[1:])


def _with_shared_memory(kernel: str) -> str:
    """A kernel's source, in which the memory of the block has the name that all of them share."""
    found = _SHARED.search(kernel)
    if found is not None:
        kernel = _SHARED.sub("extern __shared__ __align__(64) int qc_shared[];", kernel)
        kernel = re.sub(rf"\b{found.group(1)}\b", "qc_shared", kernel)
    return f'extern "C" __global__ void {kernel}'


def _of_run(text: str, kernels: Mapping[str, Any]) -> str:
    """A kernel's source, in which pointers to what a run has of its own begin at that of the run of the block."""
    found = _SIGNATURE.search(text)
    sizes = None if found is None else (kernels[found[1]].attrs or {}).get(RUN_BYTES)
    if found is None or sizes is None:
        return text
    names = [parameter.split()[-1] for parameter in found[2].split(",")]
    own = [(name, int(nbytes)) for name, nbytes in zip(names, sizes, strict=True) if int(nbytes)]
    lines = "".join(f"  QC_OF_RUN({name}, {nbytes});\n" for name, nbytes in own)
    return text[: found.end()] + lines + text[found.end() :]
