"""What the user sees of a compiled network: per step, what each node became, at which width, and why."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from qcompiler.analysis.layers import Layer
from qcompiler.analysis.sizes import Constants
from qcompiler.bundle.footprint import Footprint
from qcompiler.bundle.load import Bundle
from qcompiler.bundle.manifest import REPORT_JSON, REPORT_PAGE, REPORT_TEXT
from qcompiler.bundle.write import add_reports
from qcompiler.ir.program import Allocation, Program, StepInfo
from qcompiler.page import page

# of what one level needs, below which all levels together have it, too; chosen
_SHARED = 1.25


@dataclass(frozen=True)
class Row:
    """One step: the ONNX nodes it covers and the kernel of the most demanding variant.

    w_bits, a_bits: of a layer, 32 for real numbers, else 0. integers: whether the kernel multiplies integers.
    bytes, read_bytes, constant_bytes: what it writes, reads at run time, and has as constants. reads_steps,
    reads_inputs: see `StepInfo`. nanoseconds: what the kernel of each variant is expected to take, 0 if unknown.
    """

    nodes: tuple[str, ...]
    op: str
    kernel: str
    w_bits: int
    a_bits: int
    macs: int
    bytes: int
    note: str
    integers: bool
    reads_steps: tuple[int, ...] = ()
    reads_inputs: tuple[int, ...] = ()
    read_bytes: int = 0
    constant_bytes: int = 0
    nanoseconds: tuple[float, ...] = ()

    @property
    def is_layer(self) -> bool:
        """Whether it multiplies and adds."""
        return self.macs > 0

    @property
    def widths(self) -> str:
        """Such as w2a4; 32 stands for real numbers."""
        return Layer(self.w_bits, self.a_bits).label

    @property
    def is_binary(self) -> bool:
        """Whether weights and inputs are single bits, and multiplied as such."""
        return self.integers and self.w_bits == self.a_bits == 1


@dataclass(frozen=True)
class Check:
    """How verification of one variant came out; `largest` and `text`: see `qcompiler.verify.Verification`."""

    variant: str
    samples: int
    codes: int
    ties: int
    largest: float
    text: str


@dataclass(frozen=True)
class Report:
    """All steps, and the totals people ask for first. Binary layers are layers on integers, too.

    constants: of the network as the file has it. allocations: of the workspace. checks: none if it was not verified.
    level_bytes: of the constants, what the CPU level reads that needs most. footprints: on microcontrollers, of every
    variant.
    """

    rows: tuple[Row, ...]
    layers: int
    integer_layers: int
    integer_macs: int
    binary_layers: int
    binary_macs: int
    macs: int
    workspace_bytes: int
    constant_bytes: int
    level_bytes: int
    constants: Constants
    allocations: tuple[Allocation, ...]
    after_training: str = ""
    checks: tuple[Check, ...] = ()
    footprints: tuple[Footprint, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Plain data for report.json."""
        return {**asdict(self), "footprints": [each.as_json() for each in self.footprints]}

    def as_text(self) -> str:
        """The table as plain text, for report.txt."""
        console = Console(width=160, record=True, file=io.StringIO())
        console.print(table(self.rows))
        if self.after_training:
            console.print(self.after_training)
        if self.footprints:
            console.print(memory_table([each.as_json() for each in self.footprints]))
        console.print(self.summary())
        return console.export_text()

    def summary(self) -> str:
        """One line: how much of the network is on integers, and of which widths."""
        share = 100 * self.integer_macs / self.macs if self.macs else 0.0
        widths = Counter(row.widths for row in self.rows if row.integers)
        kinds = "".join(f"{count} {name}, " for name, count in widths.most_common())
        return (
            f"{self.integer_layers} of {self.layers} layers on integers ({kinds}{share:.1f} % of "
            f"{self.macs / 1e6:.1f} M MACs), {self.constant_bytes / 1024:.1f} KiB constants{self._of_one_level()}, "
            f"{self.workspace_bytes / 1024:.1f} KiB workspace"
        )

    def _of_one_level(self) -> str:
        """What a library for a single CPU level would have, where levels do not share most of their constants."""
        if self.constant_bytes <= _SHARED * self.level_bytes:
            return ""
        return f" (at most {self.level_bytes / 1024:.1f} for one CPU level alone, see --mcpu)"


def report(program: Program, constants: Constants, after_training: str = "") -> Report:
    """The report of a program; after_training: what quantization after training cost, if there was any."""
    rows = tuple(_row(program, index, step) for index, step in enumerate(program.steps))
    layers = [row for row in rows if row.is_layer]
    integer, binary = [row for row in layers if row.integers], [row for row in layers if row.is_binary]
    return Report(
        rows=rows,
        layers=len(layers),
        integer_layers=len(integer),
        integer_macs=sum(row.macs for row in integer),
        binary_layers=len(binary),
        binary_macs=sum(row.macs for row in binary),
        macs=sum(row.macs for row in layers),
        workspace_bytes=program.workspace_bytes,
        constant_bytes=len(program.constants),
        level_bytes=max(sum(call.constant_bytes for call in variant.calls) for variant in program.variants),
        constants=constants,
        allocations=program.allocations,
        after_training=after_training,
    )


def add_to(bundle: Bundle, summary: Report) -> Bundle:
    """Write the report into a bundle as data, as text and as a page; the bundle with it."""
    data = json.dumps(summary.as_json(), indent=1, ensure_ascii=False) + "\n"
    reports = {
        REPORT_JSON: data.encode(),
        REPORT_TEXT: (summary.as_text().rstrip("\n") + "\n").encode(),
        REPORT_PAGE: page(bundle.manifest, json.loads(data)),
    }
    return bundle.with_reports(add_reports(bundle.directory, bundle.manifest, reports), reports)


def _row(program: Program, index: int, step: StepInfo) -> Row:
    calls = [variant.calls[index] for variant in program.variants]
    return Row(
        nodes=step.nodes,
        op=step.op,
        kernel=calls[0].kernel,
        w_bits=step.w_bits,
        a_bits=step.a_bits,
        macs=step.macs,
        bytes=step.bytes,
        note=step.note,
        integers=step.integers,
        reads_steps=step.reads_steps,
        reads_inputs=step.reads_inputs,
        read_bytes=step.read_bytes,
        constant_bytes=calls[0].constant_bytes,
        nanoseconds=tuple(call.nanoseconds for call in calls),
    )


def table(rows: Sequence[Row]) -> Table:
    """A table for the terminal; the last column says why a layer is not on integers."""
    result = Table(title="What became of each node", title_justify="left")
    result.add_column("nodes", overflow="fold", ratio=3)
    result.add_column("kernel", overflow="fold", ratio=2)
    result.add_column("w/a bits", justify="right", no_wrap=True)
    result.add_column("M MACs", justify="right", no_wrap=True)
    result.add_column("KiB", justify="right", no_wrap=True)
    result.add_column("why not on integers, and notes", overflow="fold", ratio=4)
    for row in rows:
        result.add_row(
            ", ".join(row.nodes) or row.op,
            row.kernel,
            f"{row.w_bits or 32}/{row.a_bits or 32}" if row.is_layer else "",
            f"{row.macs / 1e6:.2f}" if row.is_layer else "",
            f"{row.bytes / 1024:.1f}",
            row.note,
        )
    return result


def memory_table(footprints: Sequence[Mapping[str, Any]]) -> Table:
    """Flash and RAM of each variant, in KiB, from what report.json says; `Footprint` says what the columns mean."""
    result = Table(title="Flash and RAM in KiB", title_justify="left")
    result.add_column("core", no_wrap=True)
    columns = ("flash", "code", "constants", "ram", "static", "workspace", "inputs", "outputs", "stack")
    for column in columns:
        result.add_column(column, justify="right", no_wrap=True)
    for row in footprints:
        unknown = {"stack": "?"} if not row["stack"] else {}
        cells = (unknown.get(column, f"{row[column] / 1024:.1f}") for column in columns)
        result.add_row(row["variant"].replace("_", "-"), *cells)
    return result
