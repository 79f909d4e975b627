"""What the user sees of a compiled network: per step, what each node became, at which width, and why."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from qcompiler.analysis.layers import Layer
from qcompiler.ir.program import Program, StepInfo


@dataclass(frozen=True)
class Row:
    """One step: the ONNX nodes it covers and the kernel of the most demanding variant.

    w_bits, a_bits: of a layer, 32 for real numbers, else 0. integers: whether the kernel multiplies integers.
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
class Report:
    """All steps, and the totals people ask for first. Binary layers are layers on integers, too."""

    rows: tuple[Row, ...]
    layers: int
    integer_layers: int
    integer_macs: int
    binary_layers: int
    binary_macs: int
    macs: int
    workspace_bytes: int
    constant_bytes: int
    after_training: str = ""

    def as_json(self) -> dict[str, Any]:
        """Plain data for report.json."""
        return asdict(self)

    def as_text(self) -> str:
        """The table as plain text, for report.txt."""
        console = Console(width=160, record=True, file=io.StringIO())
        console.print(table(self.rows))
        if self.after_training:
            console.print(self.after_training)
        console.print(self.summary())
        return console.export_text()

    def summary(self) -> str:
        """One line: how much of the network is on integers, and of which widths."""
        share = 100 * self.integer_macs / self.macs if self.macs else 0.0
        widths = Counter(row.widths for row in self.rows if row.integers)
        kinds = "".join(f"{count} {name}, " for name, count in widths.most_common())
        return (
            f"{self.integer_layers} of {self.layers} layers on integers ({kinds}{share:.1f} % of "
            f"{self.macs / 1e6:.1f} M MACs), {self.constant_bytes / 1024:.1f} KiB constants, "
            f"{self.workspace_bytes / 1024:.1f} KiB workspace"
        )


def report(program: Program, after_training: str = "") -> Report:
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
        after_training=after_training,
    )


def _row(program: Program, index: int, step: StepInfo) -> Row:
    kernel = program.variants[0].calls[index].kernel
    return Row(step.nodes, step.op, kernel, step.w_bits, step.a_bits, step.macs, step.bytes, step.note, step.integers)


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
