"""What the user sees of a compiled network: per step, what each node became, at which width, and why."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from qcompiler.ir.program import Program, StepInfo

BINARY_OPS = ("IntegerConv", "IntegerMatMul")
LAYERS = (*BINARY_OPS, "Conv", "MatMul")


@dataclass(frozen=True)
class Row:
    """One step: the ONNX nodes it covers and the kernel of the most demanding variant."""

    nodes: tuple[str, ...]
    op: str
    kernel: str
    w_bits: int
    a_bits: int
    macs: int
    bytes: int
    note: str


@dataclass(frozen=True)
class Report:
    """All steps, and the totals people ask for first."""

    rows: tuple[Row, ...]
    layers: int
    binary_layers: int
    binary_macs: int
    macs: int
    workspace_bytes: int
    constant_bytes: int

    def as_json(self) -> dict[str, Any]:
        """Plain data for report.json."""
        return asdict(self)

    def as_text(self) -> str:
        """The table as plain text, for report.txt."""
        console = Console(width=160, record=True, file=io.StringIO())
        console.print(table(self.rows))
        console.print(self.summary())
        return console.export_text()

    def summary(self) -> str:
        """One line: how much of the network is binary."""
        share = 100 * self.binary_macs / self.macs if self.macs else 0.0
        return (
            f"{self.binary_layers} of {self.layers} layers binary ({share:.1f} % of {self.macs / 1e6:.1f} M MACs), "
            f"{self.constant_bytes / 1024:.1f} KiB constants, {self.workspace_bytes / 1024:.1f} KiB workspace"
        )


def report(program: Program) -> Report:
    """The report of a program."""
    rows = tuple(_row(program, index, step) for index, step in enumerate(program.steps))
    layers = [step for step in program.steps if step.op in LAYERS]
    binary = [step for step in layers if step.op in BINARY_OPS]
    return Report(
        rows=rows,
        layers=len(layers),
        binary_layers=len(binary),
        binary_macs=sum(step.macs for step in binary),
        macs=sum(step.macs for step in layers),
        workspace_bytes=program.workspace_bytes,
        constant_bytes=len(program.constants),
    )


def _row(program: Program, index: int, step: StepInfo) -> Row:
    kernel = program.variants[0].calls[index].kernel
    return Row(step.nodes, step.op, kernel, step.w_bits, step.a_bits, step.macs, step.bytes, step.note)


def table(rows: Sequence[Row]) -> Table:
    """A table for the terminal; the last column says why a layer is not binary."""
    result = Table(title="What became of each node", title_justify="left")
    result.add_column("nodes", overflow="fold", ratio=3)
    result.add_column("kernel", overflow="fold", ratio=2)
    result.add_column("w/a bits", justify="right", no_wrap=True)
    result.add_column("M MACs", justify="right", no_wrap=True)
    result.add_column("KiB", justify="right", no_wrap=True)
    result.add_column("why not binary, and notes", overflow="fold", ratio=4)
    for row in rows:
        is_layer = row.op in LAYERS
        result.add_row(
            ", ".join(row.nodes) or row.op,
            row.kernel,
            f"{row.w_bits}/{row.a_bits}" if is_layer else "",
            f"{row.macs / 1e6:.2f}" if is_layer else "",
            f"{row.bytes / 1024:.1f}",
            row.note,
        )
    return result
