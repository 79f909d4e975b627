"""Runs a WebAssembly kernel in node, on memory that is copied from and to a file."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence

from qcompiler.bundle.toolchain import emulator_for
from qcompiler.bundle.wasm_link import c_library, link
from qcompiler.errors import QCompilerError
from qcompiler.targets.architecture import WASM32
from tests.targets.emulated import EmulatedRunner

_MAIN = """
import { readFileSync, writeFileSync } from "node:fs";
const [path, begin, end] = process.argv.slice(2);
const content = readFileSync(path);
const module = new WebAssembly.Module(readFileSync(new URL("module.wasm", import.meta.url)));
const { memory, kernel, __heap_base } = new WebAssembly.Instance(module).exports;
const base = Math.ceil(__heap_base.value / 65536) * 65536;
memory.grow(Math.ceil((base + content.length - memory.buffer.byteLength) / 65536));
const here = new Uint8Array(memory.buffer, base, content.length);
here.set(content);
const status = kernel(...[OFFSETS].map((offset) => base + offset), Number(begin), Number(end));
writeFileSync(path, here);
process.exit(status);
"""


def missing() -> str:
    """What is not installed of what makes and runs WebAssembly; empty if nothing."""
    try:
        c_library()
    except QCompilerError as error:
        return str(error)
    return "" if emulator_for(WASM32.name) else f"missing Debian package: {WASM32.emulator_package}"


class NodeRunner(EmulatedRunner):
    """Like `EmulatedRunner`."""

    def _build(self, offsets: Sequence[int], size: int) -> list[str]:
        (self._path / "main.mjs").write_text(_MAIN.replace("OFFSETS", ", ".join(map(str, offsets))))
        subprocess.run(link(["kernel.o"], ["kernel"], c_library()), cwd=self._path, check=True)
        return [str(shutil.which(WASM32.emulator)), str(self._path / "main.mjs")]
