"""Times of layers against what the machine can do: the rate of its memory, and the best rate of layers of a kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from qcompiler.bundle.staging import new_file
from qcompiler.errors import QCompilerError

_COLOURS = ("#d9713c", "#1b5e8c", "#6aa84f", "#8e7cc3", "#5a9bd4", "#999999", "#b8860b", "#444444")


@dataclass(frozen=True)
class Point:
    """A layer: its kind, such as "w2a2", multiply-adds, bytes read and written, and seconds."""

    label: str
    kind: str
    macs: int
    nbytes: int
    seconds: float

    @property
    def rate(self) -> float:
        """Multiply-adds per second."""
        return self.macs / self.seconds


def limits(points: Sequence[Point], copies: Sequence[tuple[str, float]]) -> list[float]:
    """The seconds that each point takes at least: to move its bytes, or at the best rate of its kind.

    copies: bytes per second of copying, by name; the fastest counts.
    """
    memory = max((rate for _, rate in copies), default=0.0)
    best: dict[str, float] = {}
    for each in points:
        best[each.kind] = max(best.get(each.kind, 0.0), each.rate)
    return [
        max(each.nbytes / memory if memory else 0.0, each.macs / best[each.kind] if each.macs else 0.0)
        for each in points
    ]


def shares(points: Sequence[Point], copies: Sequence[tuple[str, float]]) -> list[str]:
    """How near each point is to its limit, for people: as "83 %"; a cache may beat a copy."""
    found = zip(points, limits(points, copies), strict=True)
    return [f"{min(100.0, 100 * limit / each.seconds):.0f} %" if limit else "" for each, limit in found]


def draw(points: Sequence[Point], copies: Sequence[tuple[str, float]], title: str, path: Path) -> None:
    """Write the roofline of layers with multiply-adds as a PNG file.

    Raises QCompilerError where matplotlib is missing, UsageError where the file cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise QCompilerError("plots need the package matplotlib", remedy="pip install 'qcompiler[plots]'") from error
    shown = [each for each in points if each.macs and each.nbytes]
    # inches
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    axes.set_xscale("log")
    axes.set_yscale("log")
    for colour, kind in enumerate(dict.fromkeys(each.kind for each in shown)):
        of_kind = [each for each in shown if each.kind == kind]
        drawn = _COLOURS[colour % len(_COLOURS)]
        at = [each.macs / each.nbytes for each in of_kind]
        axes.plot(at, [each.rate * 1e-9 for each in of_kind], "o", color=drawn, label=kind)
        axes.axhline(max(each.rate for each in of_kind) * 1e-9, color=drawn, linestyle="--", linewidth=1)
    if shown:
        ends = [min(each.macs / each.nbytes for each in shown) / 2, max(each.macs / each.nbytes for each in shown) * 2]
        low, high = min(each.rate for each in shown) * 0.5e-9, max(each.rate for each in shown) * 2e-9
        for (name, rate), style in zip(copies, ("-", ":", "-."), strict=False):
            label = f"memory, {name}: {rate * 1e-9:.0f} GB/s"
            axes.plot(ends, [end * rate * 1e-9 for end in ends], style, color="#5b6676", label=label)
        axes.set_ylim(low, high)
        axes.legend(fontsize=8)
    axes.set_xlabel("multiply-adds per byte")
    axes.set_ylabel("GMAC/s")
    axes.set_title(title, fontsize=10)
    with new_file(path) as staged:
        figure.savefig(staged, format="png", dpi=120, metadata={"Software": None})
