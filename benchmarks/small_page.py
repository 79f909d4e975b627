"""The page of networks in WebAssembly, on microcontrollers and on RISC-V, in Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from benchmarks.markdown import table

Row = Mapping[str, Any]
Column = Callable[[Row], str]

HEAD = """# Browsers, boards, RISC-V

Made by `python -m benchmarks.small`. Every line was verified on its machine, in node or under QEMU: "codes" counts
those of all steps that were compared with onnxruntime's and found equal. "Same bits" counts the inputs, of {inputs},
whose outputs have the bits of the bundle's for x86 with SSE2 alone; of the others it gives the largest difference,
relative to the largest output: where multiply and add fuse, layers on floats round once.
"""

WEB = """
## WebAssembly

µs of a run in node, with copies of inputs and outputs, beside native bundles for one level each: the least of four
medians, taken in turns on {cpu}. KiB are those of a module, or of a native library with threads and tables.

"""

BOARDS = """
## Microcontrollers

KiB, and instructions of an inference, which QEMU counts; they do not see wait states of flash, caches or dual issue.

"""

RISCV = """
## 64-bit RISC-V

Instructions of an inference, which QEMU counts; KiB are those of the library with all variants.

"""


def _number(key: str, unit: float = 1, digits: int = 0) -> Column:
    return lambda row: f"{row[key] / unit:,.{digits}f}" if row[key] else "-"


def _same(inputs: int) -> Column:
    def cell(row: Row) -> str:
        if not row["codes"]:
            return "-"
        off = f", {row['largest']:.0e}" if row["same"] < inputs else ""
        return f"{row['same']}{off}"

    return cell


def _columns(inputs: int, more: Mapping[str, Column]) -> dict[str, Column]:
    return {
        "network": lambda row: row["network"],
        "variant": lambda row: row["variant"].replace("_", "-") or row["failure"],
        "codes": _number("codes"),
        "same bits": _same(inputs),
        **more,
    }


def page(rows: Sequence[Row], cpu: str, inputs: int) -> str:
    """The page; rows: `benchmarks.small.Row` as data; inputs: how many were compared."""
    return HEAD.format(inputs=inputs) + "".join(_tables(rows, cpu, inputs))


def _tables(rows: Sequence[Row], cpu: str, inputs: int) -> Iterator[str]:
    size, instructions = {"KiB": _number("nbytes", 1024, 1)}, {"instructions": _number("instructions")}
    memory = {"flash": _number("flash", 1024, 1), "RAM": _number("ram", 1024, 1)}
    for targets, head, more in (
        (("wasm", "x86"), WEB.format(cpu=cpu), {**size, "µs": _number("microseconds", digits=1)}),
        (("cortex-m",), BOARDS, {**memory, **instructions}),
        (("rv64",), RISCV, {**size, **instructions}),
    ):
        shown = [row for row in rows if row["target"] in targets]
        if shown:
            yield head + table(_columns(inputs, more), shown)
