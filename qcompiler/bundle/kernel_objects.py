"""Objects of kernels as a library takes them: with names of their own, and nothing of TVM's runtime."""

from __future__ import annotations

from pathlib import Path

from qcompiler.bundle import glue, toolchain
from qcompiler.bundle.toolchain import Command, Toolchain
from qcompiler.ir.program import Program


def kernel_objects(program: Program, chain: Toolchain, build: Path) -> list[str]:
    """The objects of the variants, in files."""
    renamings: dict[str, Command] = {}
    for variant in program.variants:
        prefix = glue.kernel_symbol(program, variant, "")
        for code in variant.objects:
            path = f"kernels{len(renamings)}.o"
            (build / path).write_bytes(code)
            symbols = chain.symbols(path, build)
            toolchain.reject_runtime_calls(symbols, variant.name)
            renamings[path] = chain.renaming(path, symbols, prefix, build)
    chain.run_all(list(renamings.values()), build)
    return list(renamings)
