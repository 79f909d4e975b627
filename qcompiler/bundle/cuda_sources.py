"""The C++ of one network for CUDA: fixed files from c/cuda/, a file of kernels and launches per variant, and tables.

The same sources become a library for devices with nvcc, and one in which the processor stands for them with the headers
of c/cuda/shim/.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from qcompiler.bundle import glue
from qcompiler.bundle.contract import ALIGNMENT
from qcompiler.ir.program import Argument, Call, Copy, LaunchGrid, Program, VariantCode

FIXED = {"all-internals.h": "internal.h", "instructions.h": "instructions.h", "runtime.cpp": "runtime.cpp"}
"""Files that are the same for all networks, and their templates."""

_CAPABILITY = re.compile(r"sm_(\d+)(\d)(a?)")


def with_faults(program: Program) -> Program:
    """The program with room for its faults at the end of the workspace."""
    return replace(program, workspace_bytes=glue.workspace_size(program) + _fault_bytes(program))


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


def _kernels(program: Program, variant: VariantCode) -> str:
    """The kernels of a variant, and a function per step that launches its own."""
    parts = ['#include "all-internals.h"\n', *(code.decode() for code in variant.objects)]
    slots = {step: slot for slot, step in enumerate(_fault_steps(program))}
    for index, call in enumerate(variant.calls):
        parts += _step(index, call, slots.get(index, 0))
    rows = "".join(f"    step_{index},\n" for index in range(len(variant.calls)))
    parts.append(f"extern step_function *const {_steps_of(variant)}[];")
    parts.append(f"step_function *const {_steps_of(variant)}[] = {{\n{rows}}};")
    return "\n".join(parts) + "\n"


def _steps_of(variant: VariantCode) -> str:
    return f"API(internal_{variant.name}_steps)"


def _step(index: int, call: Call, slot: int) -> Iterator[str]:
    yield f"static cudaError_t step_{index}(const struct memory *memory, cudaStream_t stream) {{"
    arguments = [_pointer(argument, slot) for argument in call.arguments]
    if isinstance(call.launch, Copy):
        source, target = arguments
        nbytes = call.launch.nbytes
        yield f"    return cudaMemcpyAsync({target}, {source}, {nbytes}, cudaMemcpyDefault, stream);\n}}"
        return
    assert isinstance(call.launch, LaunchGrid)
    grid = f"{call.launch.blocks[0]}, {call.launch.threads[0]}, {call.launch.shared_bytes}, stream"
    given = ", ".join(f"pointer{{{argument}}}" for argument in arguments)
    for phase in range(call.launch.phases):
        kernel = f"{call.symbol}_{phase}" if phase else call.symbol
        yield f"    QC_LAUNCH({kernel}, {grid}, {given});"
    yield "    return cudaGetLastError();\n}"


def _pointer(argument: Argument, slot: int) -> str:
    return {
        "input": f"memory->inputs[{argument.position}]",
        "output": f"memory->outputs[{argument.position}]",
        "workspace": f"memory->workspace + {argument.position}",
        "constant": f"memory->constants + {argument.position}",
        "fault": f"memory->faults + {slot}",
    }[argument.kind]


def _tables(program: Program) -> str:
    steps = _fault_steps(program)
    parts = [
        *glue.known_tables(program),
        f"const int API(internal_fault_count) = {len(steps)};",
        f"const int API(internal_fault_steps)[] = {{{', '.join(map(str, steps)) or '0'}}};",
        f"const size_t API(internal_faults_at) = {glue.workspace_size(program) - _fault_bytes(program)};\n",
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
