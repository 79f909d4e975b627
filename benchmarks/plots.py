"""Plots of speeds beside other engines, from what `python -m benchmarks --json` wrote.

python -m benchmarks.plots results.json [later.json ...] -o docs/pictures/

Writes speed.svg, one layer by width beside whole networks, and speed_layers.svg, every layer by width. Rows of a later
file replace those of the same name; the same results give the same bytes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.arena import Result
from benchmarks.machine import Machine
from benchmarks.performance_page import latest, read
from benchmarks.table import widths
from benchmarks.workloads import FEW_BITS, is_network, title

SUMMARY, BY_LAYER = "speed.svg", "speed_layers.svg"
OURS = "#d9713c"
PEERS: Mapping[str, tuple[str, str]] = {
    "OpenVINO binary": ("#1b5e8c", "D"),
    "OpenVINO int8": ("#5a9bd4", "o"),
    "onnxruntime int8": ("#6aa84f", "^"),
    "LiteRT int8": ("#8e7cc3", "s"),
    "torch int8": ("#999999", "v"),
}
"""Colour and marker of each peer in the arithmetic that it is compared in."""
STYLE = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": "qcompiler"}
COLUMNS = 3


def timed(results: Sequence[Result], threads: int) -> list[Result]:
    """What has a time on so many threads, of qcompiler and of the peers that are shown."""
    return [
        each for each in results
        if each.threads == threads and each.median and not each.failure
        and ((each.ours and each.precision != "float32") or each.contestant in PEERS)
    ]  # fmt: skip


def shape_of(row: str) -> str:
    """The layer of a row, whatever its widths."""
    return FEW_BITS[row][0] if row in FEW_BITS else row


def layers(results: Sequence[Result]) -> dict[str, list[Result]]:
    """The results of each layer that was measured in few bits, the one of most widths first."""
    found: dict[str, list[Result]] = {}
    for each in results:
        if not is_network(each.row):
            found.setdefault(shape_of(each.row), []).append(each)
    few = {shape: each for shape, each in found.items() if any(result.row in FEW_BITS for result in each)}
    return dict(sorted(few.items(), key=lambda item: -len(_by_width(item[1]))))


def _by_width(results: Sequence[Result]) -> dict[str, Result]:
    """Ours by width as in "w2a4", in the order of the rows; a row of few bits before the int8 twin of the layer."""
    ours: dict[str, Result] = {}
    for precision in ("binary", "few bits", "int8"):
        for each in results:
            if each.ours and each.precision == precision and (precision != "int8" or each.row not in FEW_BITS):
                ours.setdefault(widths(each), each)
    return ours


def _layer(axes: Axes, shape: str, results: Sequence[Result]) -> None:
    """Bars of ours by width, and the peers' times in the same rows as markers."""
    ours = _by_width(results)
    positions = range(len(ours))
    axes.bar(positions, [_micros(each) for each in ours.values()], color=OURS, width=0.7, label="qcompiler")
    for peer, (colour, marker) in PEERS.items():
        found = [
            (position, _micros(each))
            for position, of_width in zip(positions, ours.values(), strict=True)
            for each in results
            if each.contestant == peer and each.row == of_width.row
            and (each.precision == "int8" or of_width.precision == "binary")
        ]  # fmt: skip
        if found:
            at, times = zip(*found, strict=True)
            axes.plot(at, times, marker, color=colour, markersize=5, label=peer)
    axes.set_xticks(positions, list(ours))
    axes.set_title(title(shape), fontsize=9)
    axes.set_ylabel("µs a layer")
    axes.set_ylim(bottom=0)


def _networks(axes: Axes, results: Sequence[Result]) -> None:
    """A bar for each engine and arithmetic of each network, the first on top."""
    ticks, place = {}, 0.0
    for row in dict.fromkeys(each.row for each in results if is_network(each.row)):
        of_row = sorted((each for each in results if each.row == row), key=lambda each: each.median or 0)
        ticks[place - (len(of_row) - 1) / 2] = title(row)
        for each in of_row:
            colour = OURS if each.ours else PEERS[each.contestant][0]
            axes.barh(place, _micros(each) / 1000, color=colour, height=0.85)
            name = f"  {each.contestant}" if each.precision != "few bits" else "  qcompiler"
            axes.text(_micros(each) / 1000, place, name, va="center", fontsize=6.5)
            place -= 1
        place -= 0.7
    axes.set_yticks(list(ticks), [text.replace(" at ", "\nat ") for text in ticks.values()])
    axes.set_xlim(right=1.3 * max(_micros(each) for each in results if is_network(each.row)) / 1000)
    axes.set_xlabel("ms a picture")
    axes.set_title("networks", fontsize=9)


def _micros(result: Result) -> float:
    assert result.median is not None
    return result.median * 1e6


def summary(results: Sequence[Result], machine: Machine) -> Figure:
    """The layer of most widths, beside whole networks where there are any; on as few threads as were measured."""
    chosen, threads = _fewest_threads(results)
    networks = sum(is_network(each.row) for each in chosen)
    # inches; a bar has its text beside it
    height = max(4.4, 1.6 + 0.14 * networks)
    figure = Figure(figsize=(10 if networks else 6, height), layout="constrained")
    panels = figure.subplots(1, 2 if networks else 1, squeeze=False)[0]
    shape, of_shape = next(iter(layers(chosen).items()))
    _layer(panels[0], shape, of_shape)
    _legend(figure, panels[:1])
    if networks:
        _networks(panels[1], chosen)
    figure.suptitle(_heading(machine, threads), fontsize=9)
    return figure


def by_layer(results: Sequence[Result], machine: Machine) -> Figure:
    """A panel for each layer that was measured in few bits."""
    chosen, threads = _fewest_threads(results)
    found = layers(chosen)
    columns = min(COLUMNS, len(found))
    rows = -(-len(found) // columns)
    figure = Figure(figsize=(max(6, 4 * columns), 3.2 * rows + 0.6), layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes, (shape, of_shape) in zip(panels, found.items(), strict=False):
        _layer(axes, shape, of_shape)
        axes.tick_params(axis="x", labelrotation=45)
    for axes in panels[len(found) :]:
        axes.remove()
    _legend(figure, panels)
    figure.suptitle(_heading(machine, threads), fontsize=9)
    return figure


def _legend(figure: Figure, panels: Sequence[Axes]) -> None:
    """Every engine of the panels once, qcompiler first, below them."""
    found = {text: handle for axes in panels for handle, text in zip(*axes.get_legend_handles_labels(), strict=True)}
    names = sorted(found, key=["qcompiler", *PEERS].index)
    handles = [found[name] for name in names]
    figure.legend(handles, names, loc="outside lower center", ncols=3, frameon=False)


def _fewest_threads(results: Sequence[Result]) -> tuple[list[Result], int]:
    threads = min(each.threads for each in results)
    return timed(results, threads), threads


def _heading(machine: Machine, threads: int) -> str:
    return f"{machine.cpu}, {machine.ghz:.2f} GHz, {threads} thread{'s' if threads > 1 else ''}; less is faster"


def write(results: Sequence[Result], machine: Machine, directory: Path) -> None:
    """Write both plots into a directory, which is made where there is none; ValueError without layers of few bits."""
    if not results or not layers(_fewest_threads(results)[0]):
        raise ValueError("no layer was measured in few bits: measure rows such as conv128 and conv128-w2a2")
    directory.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context(STYLE):
        for name, draw in ((SUMMARY, summary), (BY_LAYER, by_layer)):
            draw(results, machine).savefig(directory / name, metadata={"Date": None})


def main() -> int:
    """Write the plots."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plots", description=__doc__)
    parser.add_argument("results", nargs="+", type=Path, metavar="RESULTS.json")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR")
    options = parser.parse_args()
    runs = [read(path) for path in options.results]
    try:
        write(latest([results for results, _ in runs]), runs[-1][1], options.output)
    except ValueError as error:
        parser.error(str(error))
    return 0


if __name__ == "__main__":
    sys.exit(main())
