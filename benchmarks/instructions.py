"""Executed instructions of a bundle for ARM, Cortex-M or RISC-V, step by step, counted by a plugin of the emulator.

    qcompile model.onnx --target arm -o net && python -m benchmarks.instructions net
    qcompile model.onnx --target cortex-m -o net && python -m benchmarks.instructions net

Instruction counts do not see latency or caches; read them beside `python -m benchmarks.arm`.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from qcompiler.bundle.isolated import IsolatedBundle
from qcompiler.bundle.load import Bundle, describe
from qcompiler.bundle.toolchain import emulator_for
from qcompiler.targets.architecture import named

PLUGIN = Path(__file__).with_name("count_instructions.c")
REPEATS = 2
NOT_COUNTED = "the emulator lacks it"


@dataclass(frozen=True)
class Counter:
    """Counts instructions of ranges of steps of one variant."""

    command: tuple[str, ...]
    variant: int

    def steps(self, first: int, last: int) -> int:
        """Instructions of the steps first .. last - 1: of runs less those of as many runs of no step."""
        ran, idle = (self._executed(f"{self.variant} 1 {first} {end} 0 0\n" * REPEATS) for end in (last, first))
        return (ran - idle) // REPEATS

    def _executed(self, requests: str) -> int:
        done = subprocess.run(self.command, input=requests, capture_output=True, text=True, check=True)
        assert set(done.stdout.splitlines()) == {"status 0 ok"}, done.stdout
        return int(done.stderr)


def count(bundle: Bundle, folder: Path) -> list[list[int]]:
    """Instructions of every step, by variant, none of one that the emulator lacks; folder: for files on the way."""
    emulator = emulator_for(bundle.manifest.architecture)
    if emulator is None:
        package = named(bundle.manifest.architecture).emulator_package
        raise SystemExit(f"error: no emulator for {bundle.manifest.architecture}; install the package {package}")
    plugin, memory = folder / "count.so", folder / "memory"
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", str(plugin), str(PLUGIN)], check=True)
    steps = range(len(bundle.steps))
    with IsolatedBundle(bundle.directory, bundle.manifest, emulator) as emulated:
        memory.write_bytes(bytes(emulated.memory_bytes))
        counters = [
            Counter(tuple(emulated.command(memory, "-plugin", str(plugin), variant=variant)), variant)
            for variant in range(len(bundle.variants))
        ]
        usable = [emulated.supports(counter.variant) for counter in counters]
        return [
            [counter.steps(index, index + 1) for index in steps] if runs else []
            for counter, runs in zip(counters, usable, strict=True)
        ]


def main() -> None:
    """Count and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.instructions", description=__doc__)
    parser.add_argument("bundle", type=Path)
    bundle = describe(parser.parse_args().bundle)
    with tempfile.TemporaryDirectory() as folder:
        counts = count(bundle, Path(folder))
    table = Table(title=f"instructions of {bundle.name} per inference")
    for heading in ("step", "kernel", "M MACs", *(f"{v.name}, per 128 MACs" for v in bundle.variants)):
        table.add_column(heading, justify="left" if heading in ("step", "kernel") else "right")
    for index, step in enumerate(bundle.steps):
        cells = [_cell(column[index], step.macs) if column else NOT_COUNTED for column in counts]
        table.add_row(f"{step.op} {' '.join(step.nodes[:1])}", step.kernels[0], f"{step.macs / 1e6:.2f}", *cells)
    total = sum(step.macs for step in bundle.steps)
    table.add_row(
        "all", "", f"{total / 1e6:.2f}", *(_cell(sum(each), total) if each else NOT_COUNTED for each in counts)
    )
    Console(width=150).print(table)


def _cell(instructions: int, macs: int) -> str:
    return f"{instructions:,}" + (f", {128 * instructions / macs:.2f}" if macs else "")


if __name__ == "__main__":
    main()
