"""What the bundle writer demands of a program: checked once, so that the generated C can be trusted."""

from __future__ import annotations

import re
from collections.abc import Iterator

from qcompiler.bundle.manifest import DTYPES, MAX_NAME, tensor_bytes
from qcompiler.errors import QCompilerError
from qcompiler.ir.program import MAX_TENSORS, OBJECTS, Argument, Call, Copy, Items, LaunchGrid, Program

ALIGNMENT = 64
# items are counted in int32
MAX_ITEMS = 2**31 - 1
# characters; chosen
MAX_SYMBOL = 1024
# threads of a block, and bytes that they share without being asked for, on every device of CUDA
MAX_BLOCK_THREADS, MAX_SHARED_BYTES = 1024, 48 * 1024
CUDA = "cuda"
CODE_FORMATS = (OBJECTS, CUDA)
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def check(program: Program) -> None:
    """Raise QCompilerError where `program` breaks the promises of `qcompiler.ir.program`."""
    for complaint in _complaints(program):
        raise QCompilerError(f"internal error: program '{program.name}': {complaint}")


def is_identifier(name: str) -> bool:
    """Whether `name` can be (the start of) a C name."""
    return len(name) <= MAX_NAME and _IDENTIFIER.fullmatch(name) is not None


def _complaints(program: Program) -> Iterator[str]:
    if not is_identifier(program.name):
        yield f"the name is not a C identifier of at most {MAX_NAME} characters"
    if program.workspace_bytes < 0:
        yield f"workspace of {program.workspace_bytes} bytes"
    if not program.steps:
        yield "no steps"
    yield from _tensor_complaints(program)
    yield from _variant_complaints(program)


def _tensor_complaints(program: Program) -> Iterator[str]:
    for kind, tensors in (("inputs", program.inputs), ("outputs", program.outputs)):
        if not 1 <= len(tensors) <= MAX_TENSORS:
            yield f"{len(tensors)} {kind}, expected 1 to {MAX_TENSORS}"
        if len({tensor.name for tensor in tensors}) != len(tensors):
            yield f"two {kind} of the same name"
        for tensor in tensors:
            if tensor.dtype not in DTYPES:
                yield f"'{tensor.name}' has dtype {tensor.dtype}, expected one of {', '.join(DTYPES)}"
            elif tensor_bytes(tensor) <= 0:
                yield f"'{tensor.name}' has the empty shape {tensor.shape}"


def _variant_complaints(program: Program) -> Iterator[str]:
    names = [variant.name for variant in program.variants]
    if not names or len(set(names)) != len(names):
        yield f"variants {names}: expected at least one, and all different"
    for variant in program.variants:
        if variant.code_format not in CODE_FORMATS:
            yield f"variant {variant.name} is {variant.code_format} code for a device, which no library launches yet"
            continue
        if not is_identifier(variant.name):
            yield f"variant '{variant.name}' is not a C identifier"
        if len(variant.calls) != len(program.steps):
            yield f"variant {variant.name} has {len(variant.calls)} calls for {len(program.steps)} steps"
        arity: dict[str, int] = {}
        for call in variant.calls:
            if arity.setdefault(call.symbol, len(call.arguments)) != len(call.arguments):
                yield f"{call.symbol} is called with {len(call.arguments)} and {arity[call.symbol]} pointers"
            yield from _call_complaints(program, call, on_device=variant.code_format != OBJECTS)


def _call_complaints(program: Program, call: Call, *, on_device: bool) -> Iterator[str]:
    copies = on_device and isinstance(call.launch, Copy)
    if not copies and (len(call.symbol) > MAX_SYMBOL or not _IDENTIFIER.fullmatch(call.symbol)):
        yield f"symbol '{call.symbol}' is not a C identifier"
    if on_device:
        yield from _launch_complaints(call)
    elif not isinstance(call.launch, Items):
        yield f"step {call.kernel} is no range of items but {call.launch}"
    elif not 0 <= call.items <= MAX_ITEMS:
        yield f"{call.symbol} has {call.items} items"
    for argument in call.arguments:
        if not _in_bounds(program, argument):
            yield f"{call.symbol}: {argument.kind} {argument.position} is out of bounds or not {ALIGNMENT}-byte aligned"


def _launch_complaints(call: Call) -> Iterator[str]:
    if isinstance(call.launch, LaunchGrid):
        (blocks, *rows), (threads, *layers) = call.launch.blocks, call.launch.threads
        if {*rows, *layers} != {1} or not 1 <= blocks <= MAX_ITEMS or not 1 <= threads <= MAX_BLOCK_THREADS:
            yield f"{call.symbol} is launched on {call.launch}, expected a row of blocks of a row of threads"
        elif call.launch.shared_bytes > MAX_SHARED_BYTES or call.launch.phases < 1:
            yield f"{call.symbol} is launched on {call.launch}"
    elif not isinstance(call.launch, Copy) or len(call.arguments) != 2:
        yield f"step {call.kernel} is no launch on a device but {call.launch}"


def _in_bounds(program: Program, argument: Argument) -> bool:
    sizes = {
        "input": len(program.inputs),
        "output": len(program.outputs),
        "workspace": program.workspace_bytes,
        "constant": len(program.constants),
        "fault": 1,
    }
    aligned = argument.kind in ("input", "output") or argument.position % ALIGNMENT == 0
    return aligned and 0 <= argument.position < sizes[argument.kind]
