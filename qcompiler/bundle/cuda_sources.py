"""The C++ of one network for CUDA: fixed files from c/cuda/, a file of kernels and launches per variant, and tables.

The same sources become a library for devices with nvcc, and one in which the processor stands for them with the headers
of c/cuda/shim/.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from qcompiler.bundle import glue
from qcompiler.bundle.contract import ALIGNMENT
from qcompiler.ir.program import Argument, Call, Copy, LaunchGrid, Program, VariantCode

FIXED = {"all-internals.h": "internal.h", "instructions.h": "instructions.h", "runtime.cpp": "runtime.cpp"}
"""Files that are the same for all networks, and their templates."""

MOST_RUNS = 2**16 - 1
"""Runs that are launched at once: rows of a grid."""

MOST_BYTES = 2**31 - 1
"""Of a value of all runs, where a kernel takes their rows together: it counts in int32."""

_CAPABILITY = re.compile(r"sm_(\d+)(\d)(a?)")


def with_faults(program: Program) -> Program:
    """The program with room for its faults where the workspace begins; the rest may be there for several runs."""
    room = _fault_bytes(program)

    def moved(argument: Argument) -> Argument:
        inside = argument.kind == "workspace"
        return replace(argument, position=argument.position + room) if inside else argument

    steps = tuple(
        replace(step, values=tuple(replace(value, argument=moved(value.argument)) for value in step.values))
        for step in program.steps
    )
    variants = tuple(
        replace(each, calls=tuple(replace(c, arguments=tuple(map(moved, c.arguments))) for c in each.calls))
        for each in program.variants
    )
    held = tuple(replace(each, offset=each.offset + room) for each in program.allocations)
    size = glue.workspace_size(program) + room
    return replace(program, workspace_bytes=size, steps=steps, variants=variants, allocations=held)


def kernel_file(name: str, variant: str) -> str:
    """The file of kernels and launches of a variant."""
    return f"{name}.{variant}.cu"


def table_file(name: str) -> str:
    """The file of tables."""
    return f"{name}.tables.cpp"


def shipped(program: Program) -> dict[str, str]:
    """The sources that belong to this network alone, by file name: a bundle holds them, to be read and tested.

    program: as `with_faults` makes it.
    """
    kernels = {kernel_file(program.name, each.name): _kernels(program, each) for each in program.variants}
    header = glue.filled_text(program, glue.header_text("cuda/header.h"))
    return {f"{program.name}.h": header, table_file(program.name): _tables(program), **kernels}


def fixed(name: str) -> dict[str, str]:
    """All other sources, by file name, of a network of this name; constants.S includes constants.bin."""
    files = {file: glue.template_text(f"cuda/{template}") for file, template in FIXED.items()}
    files["all-names.h"] = glue.template_text("names.h")
    constants = glue.named("cuda/constants.S", name)
    return {**files, "this-network.h": glue.network_header(name), "constants.S": constants}


def _fault_steps(program: Program) -> list[int]:
    return [index for index, step in enumerate(program.steps) if step.faults]


def _fault_bytes(program: Program) -> int:
    return -(-4 * len(_fault_steps(program)) // ALIGNMENT) * ALIGNMENT


def _most_runs(program: Program) -> int:
    launches = [call.launch for variant in program.variants for call in variant.calls]
    if not any(isinstance(launch, LaunchGrid) and launch.rows is not None for launch in launches):
        return MOST_RUNS
    largest = max((held.nbytes for held in program.allocations), default=1)
    return min(MOST_RUNS, max(1, MOST_BYTES // largest))


def _kernels(program: Program, variant: VariantCode) -> str:
    """The kernels of a variant, and a function per step that launches its own."""
    parts = ['#include "all-internals.h"\n', *(code.decode() for code in variant.objects)]
    slots = {step: slot for slot, step in enumerate(_fault_steps(program))}
    for index, call in enumerate(variant.calls):
        pointers = [_pointer(argument, slots.get(index, 0), _fault_bytes(program)) for argument in call.arguments]
        parts += _step(index, call, pointers)
    rows = "".join(f"    step_{index},\n" for index in range(len(variant.calls)))
    parts.append(f"extern step_function *const {_steps_of(variant)}[];")
    parts.append(f"step_function *const {_steps_of(variant)}[] = {{\n{rows}}};")
    return "\n".join(parts) + "\n"


def _steps_of(variant: VariantCode) -> str:
    return f"API(internal_{variant.name}_steps)"


def _step(index: int, call: Call, arguments: Sequence[str]) -> Iterator[str]:
    yield f"static cudaError_t step_{index}(const struct memory *memory, cudaStream_t stream) {{"
    if isinstance(call.launch, Copy):
        source, target = arguments
        size = f"{call.launch.nbytes} * memory->runs"
        yield f"    return cudaMemcpyAsync({target}, {source}, {size}, cudaMemcpyDefault, stream);\n}}"
        return
    assert isinstance(call.launch, LaunchGrid)
    rows, threads = call.launch.rows, call.launch.threads[0]
    given = ", ".join(f"pointer{{{argument}}}" for argument in arguments)
    blocks = f"{call.launch.blocks[0]}, memory->runs"
    if rows is not None:
        blocks = f"blocks_of(memory->runs * {rows.count}, {rows.tile}, {rows.columns}, {rows.share}), 1"
        given += ", (int)memory->runs"
    grid = f"{blocks}, {threads}, {call.launch.shared_bytes}, stream"
    for phase in range(call.launch.phases):
        kernel = f"{call.symbol}_{phase}" if phase else call.symbol
        yield f"    QC_LAUNCH({kernel}, {grid}, {given});"
    yield "    return cudaGetLastError();\n}"


def _pointer(argument: Argument, slot: int, room: int) -> str:
    """What an argument of a call points to; slot: of its faults, room: bytes of all of them, before the runs' own."""
    return {
        "input": f"memory->inputs[{argument.position}]",
        "output": f"memory->outputs[{argument.position}]",
        "workspace": f"memory->workspace + {argument.position - room} * memory->runs",
        "constant": f"memory->constants + {argument.position}",
        "fault": f"memory->faults + {slot}",
    }[argument.kind]


def _tables(program: Program) -> str:
    steps = _fault_steps(program)
    parts = [
        *glue.known_tables(program),
        f"const int API(internal_fault_count) = {len(steps)};",
        f"const int API(internal_fault_steps)[] = {{{', '.join(map(str, steps)) or '0'}}};",
        f"const size_t API(internal_fault_bytes) = {_fault_bytes(program)};",
        f"const size_t API(internal_most_runs) = {_most_runs(program)};\n",
        *(f"extern step_function *const {_steps_of(variant)}[];" for variant in program.variants),
        "const struct variant API(internal_variants)[LIMIT(VARIANTS)] = {",
        *(f"    {{{_row(variant)}}}," for variant in program.variants),
        "};",
    ]
    return "\n".join(parts) + "\n"


def _row(variant: VariantCode) -> str:
    capability = _CAPABILITY.fullmatch(variant.name)
    assert capability is not None, variant.name
    exact = int(capability[3] == "a")
    return f"{glue.c_string(variant.name)}, {capability[1]}, {capability[2]}, {exact}, {_steps_of(variant)}"
