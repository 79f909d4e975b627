"""What networks cost away from desktops: in WebAssembly, on microcontrollers, on RISC-V.

    python -m benchmarks.small tfc.onnx cnv.onnx -o docs/performance_small.md [--json small.json]
    python -m benchmarks.small tfc.onnx --targets rv64

What the file of --json holds of these networks is not measured again.

Every network is compiled for every target and verified there step by step, in node or under QEMU; then it runs on a few
inputs, and its outputs are compared with those of its bundle for x86, bit by bit. Emulators count instructions; times
are those of node and of this machine, taken in turns, and mean little while the machine does other work.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy.typing as npt

import qcompiler
from benchmarks.instructions import count
from benchmarks.machine import cpu_name
from benchmarks.small_page import page
from qcompiler.bundle.isolated import IsolatedBundle
from qcompiler.bundle.load import Bundle
from qcompiler.bundle.manifest import bare_library_name, module_name
from qcompiler.bundle.tensors import random_inputs
from qcompiler.bundle.toolchain import emulator_for
from qcompiler.errors import QCompilerError
from qcompiler.targets.architecture import named
from qcompiler.ties import relative_difference

Outputs = Mapping[str, npt.NDArray[Any]]

CORES = {"cortex-m": ("m4", "m7", "m55")}
TARGETS = ("wasm", "cortex-m", "rv64")
# what runs here: the best of this machine, and what every x86-64 has
NATIVE = ("native", "baseline")
INPUTS = 8
ROUNDS = 4
SECONDS = 0.5
_TIME = re.compile(r"([\d.]+) µs a run")


@dataclass(frozen=True)
class Row:
    """A network in one variant of a target.

    codes: how many verification found equal. same: of how many inputs the outputs have the bits of x86's; largest: how
    far others are from these, relative to the largest output. nbytes: of the file with its code. flash, ram: bytes,
    where there is no operating system. instructions: of an inference. microseconds: median of a run. failure: why there
    are no figures. What is not known is 0.
    """

    network: str
    target: str
    variant: str = ""
    codes: int = 0
    same: int = 0
    largest: float = 0.0
    nbytes: int = 0
    flash: int = 0
    ram: int = 0
    instructions: int = 0
    microseconds: float = 0.0
    failure: str = ""


@dataclass
class Subject:
    """A network, and its bundles and outputs on this machine; folder: an existing empty directory for its bundles."""

    path: Path
    folder: Path
    native: dict[str, Bundle] = field(init=False)

    def __post_init__(self) -> None:
        self.native = {level: self.compiled("x86", (level,)) for level in NATIVE}
        one = self.native["baseline"]
        self.inputs = [random_inputs(one.inputs, seed) for seed in range(INPUTS)]
        self.expected: list[Outputs] = [one.run(inputs) for inputs in self.inputs]

    def compiled(self, target: str, mcpu: Sequence[str]) -> Bundle:
        """Its verified bundle for a target."""
        return qcompiler.compile(self.path, target, mcpu=mcpu, output=self.folder / "-".join((target, *mcpu)))

    def rows(self, target: str) -> list[Row]:
        """A row for each variant of a target that its emulator runs; one with the reason where there is none."""
        try:
            bundle = self.compiled(target, CORES.get(target, ()))
        except QCompilerError as error:
            return [Row(self.path.stem, target, failure=str(error))]
        found = list(self._rows(bundle, target))
        return list(self._timed(bundle, found)) if target == "wasm" else found

    def _rows(self, bundle: Bundle, target: str) -> Iterator[Row]:
        checked = {each["variant"].split(" under ")[0]: each["codes"] for each in bundle.report["checks"]}
        needed = {each["variant"]: each for each in bundle.report["footprints"]}
        counts = self._instructions(bundle)
        with IsolatedBundle(bundle.directory, bundle.manifest, _emulator(bundle)) as isolated:
            for index, variant in enumerate(bundle.variants):
                if variant.name not in checked:
                    continue
                outputs = [isolated.at(index).run(inputs) for inputs in self.inputs]
                memory = needed.get(variant.name, {"flash": 0, "ram": 0})
                yield Row(
                    self.path.stem,
                    target,
                    variant.name,
                    codes=checked[variant.name],
                    same=sum(map(_same_bits, outputs, self.expected)),
                    largest=max(map(_difference, outputs, self.expected)),
                    nbytes=(bundle.directory / _file(bundle, variant.name)).stat().st_size,
                    flash=memory["flash"],
                    ram=memory["ram"],
                    instructions=counts[index],
                )

    def _instructions(self, bundle: Bundle) -> list[int]:
        """Of an inference, by variant; zeros for engines, whose instructions nobody counts."""
        if named(bundle.manifest.architecture).file_format == "wasm":
            return [0] * len(bundle.variants)
        with tempfile.TemporaryDirectory() as folder:
            return [sum(steps) for steps in count(bundle, Path(folder))]

    def _timed(self, bundle: Bundle, rows: Sequence[Row]) -> Iterator[Row]:
        """The rows of modules with the least of a few medians, and those of this machine."""
        modules: dict[str, list[float]] = {row.variant: [] for row in rows}
        here: dict[str, list[float]] = {level: [] for level in self.native}
        for _ in range(ROUNDS):
            for variant, times in modules.items():
                times.append(_microseconds_in_node(bundle.directory, variant))
            for level, native in self.native.items():
                here[level].append(1e6 * native.benchmark(self.inputs[0], seconds=SECONDS).median)
        yield from (replace(row, microseconds=min(modules[row.variant])) for row in rows)
        for level, native in self.native.items():
            size = (native.directory / native.manifest.library).stat().st_size
            name = native.variants[0].name
            yield Row(self.path.stem, "x86", name, nbytes=size, microseconds=min(here[level]))


def _microseconds_in_node(package: Path, variant: str) -> float:
    """The median of a run, by the package's own example."""
    command = ["node", "example.mjs", "--variant", variant]
    said = subprocess.run(command, cwd=package, capture_output=True, text=True, check=True).stdout
    (shown,) = _TIME.findall(said)
    return float(shown)


def _emulator(bundle: Bundle) -> str:
    found = emulator_for(bundle.manifest.architecture)
    assert found is not None, "counting and verifying needed it"
    return found


def _same_bits(found: Outputs, expected: Outputs) -> bool:
    return all(found[name].tobytes() == array.tobytes() for name, array in expected.items())


def _difference(found: Outputs, expected: Outputs) -> float:
    return max(relative_difference(found[name], array) for name, array in expected.items())


def _file(bundle: Bundle, variant: str) -> str:
    """The file of a bundle that holds the code of a variant."""
    machine = named(bundle.manifest.architecture)
    if machine.file_format == "wasm":
        return module_name(bundle.name, variant)
    return bare_library_name(bundle.name, variant) if machine.bare else bundle.manifest.library


def measured(path: Path, targets: Sequence[str]) -> Iterator[Row]:
    """The rows of a network for targets."""
    with tempfile.TemporaryDirectory() as folder:
        subject = Subject(path, Path(folder))
        for target in targets:
            yield from subject.rows(target)


def missing(network: str, targets: Sequence[str], rows: Sequence[Row]) -> list[str]:
    """The targets for which a network has no row."""
    return [target for target in targets if not any((row.network, row.target) == (network, target) for row in rows)]


def _known(path: Path | None) -> list[Row]:
    """The rows of an earlier run; none where there is no file."""
    return [Row(**row) for row in json.loads(path.read_text())] if path is not None and path.exists() else []


def main() -> int:
    """Measure and write; status 1 where a network could not be compiled."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.small", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("models", nargs="+", type=Path, metavar="MODEL.onnx")
    parser.add_argument("--targets", nargs="+", choices=TARGETS, default=TARGETS)
    parser.add_argument("--json", type=Path, metavar="FILE", help="the rows as data")
    parser.add_argument("-o", "--output", type=Path, metavar="PAGE.md", help="where to write (default: print)")
    options = parser.parse_args()
    names = [path.stem for path in options.models]
    rows = [row for row in _known(options.json) if row.network in names]
    for path in options.models:
        if targets := missing(path.stem, options.targets, rows):
            for row in measured(path, targets):
                rows.append(row)
                print(f"{row.network}, {row.target} {row.variant}: {row.failure or 'done'}", file=sys.stderr)
    if options.json is not None:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    data = [asdict(row) for row in sorted(rows, key=lambda row: names.index(row.network))]
    text = page(data, cpu_name(), INPUTS)
    if options.output is None:
        sys.stdout.write(text)
    else:
        options.output.write_text(text)
    return 1 if any(row.failure for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
