"""The results as tables and as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.arena import Result, Settings
from benchmarks.machine import Machine
from benchmarks.workloads import is_network, label_of, title

# nothing is cut off when the output goes to a file
TABLE_WIDTH = 100

LEGEND = (
    "Layers: µs per layer of a chain of eight (products: one), signs and changes of layout included; 'kernel' is the"
    " time in binary kernels by the engine's own clock. Spread: extremes of the rounds' medians."
    " 'MAC/cycle': multiply-adds per cycle, and their share of what the instructions can reach, padded taps counted as"
    " work, so that an engine that skips them can pass 100 %. 'ratio': time over that of qcompiler."
)


def micros(seconds: float | None) -> str:
    """Microseconds with three digits or more, or a dash."""
    if seconds is None:
        return "-"
    value = seconds * 1e6
    return f"{value:.1f}" if value < 1000 else f"{value:,.0f}"


def widths(result: Result) -> str:
    """In what a contestant computes, as "w2a4"; empty for floats."""
    if result.precision == "few bits":
        return label_of(result.row)
    return {"binary": "w1a1", "int8": "w8a8"}.get(result.precision, "")


def per_cycle(result: Result, machine: Machine) -> float | None:
    """Multiply-adds per cycle of a thread, inside the engine's kernels where it tells."""
    seconds = result.kernel or result.median
    if not seconds or not result.macs:
        return None
    return result.macs / (seconds * machine.ghz * 1e9 * result.threads)


def share(result: Result, machine: Machine) -> float | None:
    """Of what the instructions can reach."""
    reached, limit = per_cycle(result, machine), machine.macs_per_cycle.get(widths(result))
    return None if reached is None or limit is None else reached / limit


def _of_limit(result: Result, machine: Machine) -> str:
    reached, part = per_cycle(result, machine), share(result, machine)
    return "-" if reached is None or part is None else f"{reached:.0f} {part:4.0%}"


def _ratio(result: Result, ours: Result | None) -> str:
    if ours is None or not ours.median or not result.median:
        return "-"
    return f"{result.median / ours.median:.2f}"


def row_table(results: Sequence[Result], machine: Machine) -> Table:
    """All contestants of one row."""
    first = results[0]
    heading = f"{title(first.row)}, {first.threads} thread{'s' if first.threads > 1 else ''}"
    table = Table(title=heading, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("engine", "median µs", "spread", "kernel µs", "MAC/cycle", "ratio", "error"):
        table.add_column(column, justify="left" if column == "engine" else "right", no_wrap=True)
    ours = next((result for result in results if result.ours), None)
    for result in results:
        if result.failure:
            table.add_row(result.contestant, "failed")
            table.caption = f"{table.caption or ''}{result.contestant}: {result.failure}\n"
            continue
        spread = f"{micros(result.low)} .. {micros(result.high)}"
        limit = "-" if is_network(first.row) else _of_limit(result, machine)
        table.add_row(
            result.contestant, micros(result.median), spread, micros(result.kernel), limit,
            _ratio(result, ours), f"{result.error:.1g}",
        )  # fmt: skip
    return table


def show_versions(console: Console, results: Sequence[Result]) -> None:
    """One line with the versions of the engines."""
    versions = {result.contestant.split()[0]: result.version for result in results}
    console.print(", ".join(f"{name} {version}" for name, version in versions.items()))


def show_machine(console: Console, machine: Machine) -> None:
    """What the numbers were measured on."""
    console.print(f"{machine.cpu}, {machine.processors} processors at {machine.ghz:.2f} GHz")
    console.print(LEGEND)


def write_json(path: Path, machine: Machine, settings: Settings, results: Sequence[Result]) -> None:
    """Everything measured, times in seconds."""
    chosen = {"rounds": settings.rounds, "seconds": settings.seconds}
    content = {"machine": asdict(machine), "settings": chosen, "results": [asdict(result) for result in results]}
    path.write_text(json.dumps(content, indent=1) + "\n")
