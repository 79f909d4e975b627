"""What qrun prints: outputs, times and profiles of a bundle, as tables for people and plain data for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from rich.markup import escape
from rich.table import Table

from qcompiler.bundle.timing import Benchmark, Profile, StepTime

Array = npt.NDArray[Any]
# longer arrays are no scores of a classifier; chosen
MAX_CLASSES = 100_000
SHOWN_ROWS = 8


@dataclass(frozen=True)
class Guess:
    """A class, its name if it has one, and its score."""

    index: int
    name: str
    score: float


class Timed(Protocol):
    """A bundle, wherever it runs."""

    @property
    def name(self) -> str:
        """For people."""

    @property
    def variant(self) -> str:
        """The instruction set in use."""


def classes_of(array: Array) -> list[int] | None:
    """Index of the largest element of every row, where the array looks like scores [C] or [N, C] of classes."""
    if array.dtype.kind not in "fiu" or array.ndim not in (1, 2) or not 2 <= array.shape[-1] <= MAX_CLASSES:
        return None
    return [int(index) for index in np.atleast_1d(array.argmax(axis=-1))]


def _statistics(values: Array) -> dict[str, float]:
    """Of no numbers: NaN."""
    if not values.size:
        return dict.fromkeys(("min", "max", "mean"), float("nan"))
    return {"min": values.min(), "max": values.max(), "mean": values.mean()}


def outputs_data(outputs: Mapping[str, Array]) -> dict[str, Any]:
    """Shape, dtype, range and classes of every output."""
    data: dict[str, Any] = {}
    for name, array in outputs.items():
        values = array.astype(np.float64)
        data[name] = {
            "shape": list(array.shape),
            "dtype": str(array.dtype),
            **{name: _finite(number) for name, number in _statistics(values).items()},
            "classes": classes_of(array),
        }
    return data


def outputs_table(outputs: Mapping[str, Array]) -> Table:
    """One line per output."""
    table = Table(title="Outputs", title_justify="left")
    for column in ("output", "type", "min", "max", "mean", "largest at"):
        table.add_column(column, overflow="fold")
    for name, array in outputs.items():
        values = array.astype(np.float64)
        classes = classes_of(array)
        shown = ", ".join(map(str, classes[:SHOWN_ROWS])) if classes else ""
        more = ", ..." if classes and len(classes) > SHOWN_ROWS else ""
        row = (f"{array.dtype} {list(array.shape)}", *(f"{v:.6g}" for v in _statistics(values).values()))
        table.add_row(escape(name), *map(escape, row), shown + more)
    return table


def guesses_data(found: Mapping[str, Sequence[Sequence[Guess]]]) -> dict[str, Any]:
    """Per output, per row, the likeliest classes."""
    return {
        output: [[{**asdict(guess), "score": _finite(guess.score)} for guess in row] for row in rows]
        for output, rows in found.items()
    }


def guesses_table(found: Mapping[str, Sequence[Sequence[Guess]]]) -> Table:
    """One line per class of the first rows of each output."""
    table = Table(title="Likeliest classes", title_justify="left")
    for column in ("output", "row", "class", "name", "score"):
        table.add_column(column, overflow="fold", justify="right" if column in ("row", "class", "score") else "left")
    for output, rows in found.items():
        for number, row in enumerate(rows[:SHOWN_ROWS]):
            for guess in row:
                cells = (str(number), str(guess.index), escape(guess.name), f"{guess.score:.6g}")
                table.add_row(escape(output), *cells)
            table.add_section()
    return table


def benchmark_data(benchmark: Benchmark, bundle: Timed) -> dict[str, Any]:
    """Times in seconds, throughput in runs per second."""
    return {**asdict(benchmark), "variant": bundle.variant}


def benchmark_text(benchmark: Benchmark, bundle: Timed) -> str:
    """One line."""
    threads = f"{benchmark.threads} thread{'s' if benchmark.threads > 1 else ''}"
    return (
        f"{bundle.name}: median {duration(benchmark.median)}, 90 % within {duration(benchmark.p90)}, "
        f"best {duration(benchmark.minimum)}, {benchmark.throughput:,.0f} runs/s "
        f"({benchmark.runs} runs, {threads}, variant {bundle.variant})"
    )


def profile_data(profile: Profile) -> dict[str, Any]:
    """Times in seconds."""
    return {**asdict(profile), "seconds": profile.seconds}


def profile_table(profile: Profile, limits: Sequence[str] = ()) -> Table:
    """One line per step: its nodes, kernel, time, share of the whole, rate, and how near it is to its limit."""
    table = Table(title=f"Median of {profile.repeats} runs, {profile.threads} thread(s)", title_justify="left")
    table.add_column("step", justify="right")
    table.add_column("nodes", overflow="fold", ratio=3)
    table.add_column("kernel", overflow="fold", ratio=2)
    for column in ("time", "share", "GMAC/s", *(["of limit"] if limits else [])):
        table.add_column(column, justify="right", no_wrap=True)
    total = profile.seconds or 1.0
    for step in profile.steps:
        rate = f"{step.macs / step.seconds * 1e-9:.1f}" if step.macs and step.seconds else ""
        share = f"{100 * step.seconds / total:.1f} %"
        cells = (str(step.index), escape(_nodes(step)), escape(step.kernel), duration(step.seconds), share, rate)
        table.add_row(*cells, *limits[step.index : step.index + 1])
    table.add_section()
    table.add_row("", "all steps", "", duration(profile.seconds), "", "")
    return table


def _nodes(step: StepTime) -> str:
    """The first node of a step, which is the layer, and how many were fused into it."""
    nodes = list(dict.fromkeys(step.nodes)) or [step.op]
    return nodes[0] + (f" +{len(nodes) - 1}" if len(nodes) > 1 else "")


def duration(seconds: float) -> str:
    """In the unit that reads best."""
    for limit, factor, unit in ((1e-6, 1e9, "ns"), (1e-3, 1e6, "µs"), (1.0, 1e3, "ms")):
        if seconds < limit:
            return f"{seconds * factor:.3g} {unit}" if seconds * factor < 100 else f"{seconds * factor:.0f} {unit}"
    return f"{seconds:.3g} s"


def _finite(value: Any) -> float | None:
    """JSON has no NaN or infinity."""
    return float(value) if np.isfinite(value) else None
