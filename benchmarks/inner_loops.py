"""The innermost loops of compiled kernels: their text, their spills, and their cycles in llvm-mca's static models."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from qcompiler.targets.target import Kernel, Variant

ITERATIONS = 200
_LABEL = re.compile(r"(\.L\w+):")
_BRANCH = re.compile(r"(?:b[.a-z]*|cbn?z|tbn?z)\s.*?(\.L\w+)$")
_CYCLES = re.compile(r"Total Cycles:\s+(\d+)")


@dataclass(frozen=True)
class InnerLoop:
    """A block of instructions that ends with a jump to its own start."""

    instructions: tuple[str, ...]

    @property
    def spills(self) -> int:
        """Accesses to the stack."""
        return sum("[sp" in instruction for instruction in self.instructions)

    def count(self, mnemonic: str) -> int:
        """How often an instruction occurs."""
        return sum(instruction.split()[0] == mnemonic for instruction in self.instructions)

    def cycles(self, triple: str, mcpu: str, tool: str = "llvm-mca") -> float:
        """Cycles per iteration in llvm-mca's model of a core; caches and branch prediction are taken as perfect."""
        command = [
            tool,
            f"-mtriple={triple}",
            f"-mcpu={mcpu}",
            f"-iterations={ITERATIONS}",
            "-mattr=+dotprod,+i8mm",
        ]
        text = "\n".join(_BRANCH.sub("nop", instruction) for instruction in self.instructions)
        done = subprocess.run(command, input=text + "\n", capture_output=True, text=True, check=True)
        found = _CYCLES.search(done.stdout)
        assert found is not None, done.stdout
        return int(found[1]) / ITERATIONS


def assembly(kernel: Kernel, variant: Variant) -> str:
    """The assembly of one kernel."""
    (text,) = assemblies([kernel], variant)
    return text


def assemblies(kernels: Sequence[Kernel], variant: Variant) -> Sequence[str]:
    """The assembly of each of the kernels, which are compiled together."""
    named = {f"kernel_{place}": kernel.build(f"kernel_{place}") for place, kernel in enumerate(kernels)}
    _, *parts = re.split(r"^(kernel_\d+):", variant.platform.assembly(named, variant.tvm_target), flags=re.MULTILINE)
    texts = dict(zip(parts[::2], parts[1::2], strict=True))
    return [texts[name] for name in named]


def inner_loops(text: str) -> Sequence[InnerLoop]:
    """All blocks of `text` that jump to their own start."""
    found: list[InnerLoop] = []
    label, block = "", list[str]()
    for line in (raw.split("//")[0].strip() for raw in text.splitlines()):
        if start := _LABEL.match(line):
            if not start[1].startswith(".Ltmp"):
                label, block = start[1], []
        elif line and not line.startswith((".", "#")):
            block.append(line)
            jump = _BRANCH.match(line)
            if jump and jump[1] == label:
                found.append(InnerLoop(tuple(block)))
            if jump:
                label, block = "", []
    return found
