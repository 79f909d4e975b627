"""What tuning takes on this machine, and what it gains over kernels that are chosen untuned.

    python -m benchmarks.tuning [-o FILE] [--networks NAME...] [--shapes N]

Tunes whole networks from nothing, then runs each untuned and tuned in turns; then searches the kernels of layers that
the table of measurements was made of, and of layers that it has nothing of. One thread. Seconds of processors are those
of all processes that tuning starts: what it takes on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import geometric_mean

import onnx
from rich.console import Console
from rich.progress import track

from benchmarks.graphs import float_model, qdq_model
from benchmarks.layers import CHECKED, OTHERS, Shape, label_of, random_constants
from benchmarks.machine import inspect
from benchmarks.markdown import table
from benchmarks.models import Workload, birealnet18, quantized_resnet18, resnet18
from qcompiler import targets
from qcompiler.ir.codes import Codes
from qcompiler.ir.storage import Packing
from qcompiler.options import Options
from qcompiler.pipeline import identifier, rewritten
from qcompiler.targets.target import Variant
from qcompiler.targets.tuned import UNTUNED
from qcompiler.tuning.builder import Builder
from qcompiler.tuning.fleet import Fleet
from qcompiler.tuning.here import Here
from qcompiler.tuning.machine import here
from qcompiler.tuning.network import Standing, standings
from qcompiler.tuning.record import ALL, DEFAULTS, KernelRecord
from qcompiler.tuning.search import Candidate, Search
from qcompiler.tuning.session import Network, Tuner, applied, here_variant
from qcompiler.tuning.task import Task
from qcompiler.tuning.trial import Timed

TRIALS = 16
TARGET = "x86"
NETWORKS: Mapping[str, Callable[[], onnx.ModelProto]] = {
    "birealnet18": lambda: _model(birealnet18(), float_model),
    "resnet18-w2a2": lambda: _model(quantized_resnet18(2, 2), float_model),
    "resnet18-int8": lambda: _model(resnet18(), qdq_model),
}
BENCHMARKED = (
    Shape(64, (56, 56), 64, 3), Shape(128, (28, 28), 128, 3), Shape(256, (14, 14), 256, 3), Shape(512, (7, 7), 512, 3),
    Shape(256, (14, 14), 256), Shape(4096, (1, 1), 4096), Shape(1024, (1, 1024), 1024),
)  # fmt: skip
UNKNOWN = (
    *OTHERS,
    Shape(80, (28, 28), 80, 3), Shape(112, (14, 14), 224, 3, 2), Shape(224, (7, 7), 224, 3), Shape(24, (64, 64), 48, 3),
    Shape(320, (10, 10), 1280), Shape(96, (28, 28), 576), Shape(1536, (1, 1), 384), Shape(512, (1, 197), 768),
)  # fmt: skip
"""Twenty layers that the table of measurements has nothing of."""
WIDTHS_EACH = 3
"""Pairs of widths of each unknown layer, another three for the next one."""


def _model(workload: Workload, write: Callable[..., onnx.ModelProto]) -> onnx.ModelProto:
    return write(workload.network, workload.x)


class Counting:
    """Counts what was measured; see `fleet.Watch`."""

    def __init__(self) -> None:
        self.count = 0

    def measured(self, candidate: Candidate, timed: Timed, place: str) -> None:
        """One more."""
        self.count += 1

    def dropped(self, candidate: Candidate, reason: str) -> None:
        """A kernel that cannot be tried shows an error of ours."""
        print(f"{candidate.kernel.name} is left out: {reason}", file=sys.stderr)

    def lost(self, place: str, reason: str) -> None:
        """Tried again."""
        print(f"{place}: {reason}", file=sys.stderr)


@dataclass(frozen=True)
class TunedNetwork:
    """What tuning of a network took, in seconds, and its times afterwards."""

    name: str
    kernels: int
    wall: float
    processors: float
    untuned: Standing
    tuned: Standing

    @property
    def gain(self) -> str:
        """The untuned time over the tuned one."""
        return f"{self.untuned.seconds / self.tuned.seconds:.3f}" if self.tuned is not self.untuned else "same kernels"


def _processor_seconds() -> float:
    """Of this process and of those that it has waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def tune(name: str, folder: Path) -> TunedNetwork:
    """Tune a network from nothing, as qtune does, then time it untuned and tuned in turns."""
    path, file = folder / f"{name}.onnx", folder / f"{name}.jsonl"
    onnx.save(NETWORKS[name](), path)
    wall, used = time.perf_counter(), _processor_seconds()
    variants = targets.get(TARGET).variants(())
    network = Network(rewritten(path, Options(TARGET)), TARGET, variants, identifier(name))
    variant, watch = here_variant(variants), Counting()
    tuner = Tuner(network, variant, file, TRIALS, watch, lambda fleet: None)
    tuner.kernels(lambda: [Here()], here())
    tuner.whole(here())
    wall, used = time.perf_counter() - wall, _processor_seconds() - used
    found = applied(network, file).tuned
    programs = {DEFAULTS: network.program(UNTUNED, variant)}
    if found:
        programs[ALL] = network.program(found, variant)
    times = {each.choice: each for each in standings(programs, variant.name, threads=False)}
    return TunedNetwork(name, watch.count, wall, used, times[DEFAULTS], times.get(ALL, times[DEFAULTS]))


@dataclass(frozen=True)
class Searched:
    """A layer, its widths, and the kernels by default and by search with their nanoseconds."""

    layer: str
    widths: str
    default: Candidate
    best: Candidate
    ratio: float


def tasks(variant: Variant, shape: Shape, widths: tuple[Codes, Codes]) -> Iterator[Task]:
    """A layer in every storage of its input."""
    activations = widths[1]
    constants = random_constants(shape.problem(*widths, "planes", "floats"))
    packings: tuple[Packing, ...] = ("planes", "bytes", "flips", "subsets")
    for packing in packings:
        if packing in ("planes", "bytes") or activations.levels <= 64:
            yield Task(variant, shape.problem(*widths, packing, "floats"), constants, activations, "", 1)


def search(variant: Variant, asked: Sequence[tuple[Shape, tuple[Codes, Codes]]], console: Console) -> list[Searched]:
    """Search the kernels of layers; the default of each is tried, too."""
    found = []
    watch, kept = Counting(), list[KernelRecord]()
    with Builder() as builder:
        for shape, widths in track(asked, "layers", console=console):
            done = Search(tuple(tasks(variant, shape, widths)), TRIALS, {})
            default = min(done.waiting, key=lambda each: each.expected)
            Fleet([done], [Here()], builder, kept.append, watch).run()
            assert done.best is not None
            ratio = _ratio(builder, default, done.best)
            found.append(Searched(label_of(shape), default.task.widths, default, done.best, ratio))
    return found


def _ratio(builder: Builder, default: Candidate, best: Candidate) -> float:
    """How much longer the default takes, timed beside the best."""
    if default is best:
        return 1.0
    place = Here()
    try:
        one, other = place.run(builder.trial([default, best], 25))
    finally:
        place.close()
    assert isinstance(one, Timed) and isinstance(other, Timed)
    return one.nanoseconds / other.nanoseconds


def _networks_page(found: Sequence[TunedNetwork]) -> str:
    columns: Mapping[str, Callable[[TunedNetwork], str]] = {
        "network": lambda each: each.name,
        "kernels timed": lambda each: str(each.kernels),
        "s of processors": lambda each: f"{each.processors:.0f}",
        "s by the clock": lambda each: f"{each.wall:.0f}",
        "untuned ms": lambda each: f"{1e3 * each.untuned.seconds:.2f}",
        "tuned ms": lambda each: f"{1e3 * each.tuned.seconds:.2f}",
        "noise": lambda each: f"{100 * max(each.untuned.noise, each.tuned.noise):.0f} %",
        "gain": lambda each: each.gain,
    }
    return table(columns, found)


def _layers_page(title: str, found: Sequence[Searched]) -> str:
    ratios = [each.ratio for each in found]
    within = sum(ratio <= 1.1 for ratio in ratios)
    head = f"{title}: defaults take {geometric_mean(ratios):.3f} of the tuned time on average, {within} of {len(found)}"
    columns: Mapping[str, Callable[[Searched], str]] = {
        "layer": lambda each: each.layer,
        "widths": lambda each: each.widths,
        "default": lambda each: f"{each.default.kernel.name}, {each.default.task.problem.x.packing}",
        "tuned": lambda each: f"{each.best.kernel.name}, {each.best.task.problem.x.packing}",
        "ratio": lambda each: f"{each.ratio:.2f}",
    }
    beyond = sorted((each for each in found if each.ratio > 1.1), key=lambda each: -each.ratio)
    rest = f"\nBeyond:\n\n{table(columns, beyond)}" if beyond else ""
    return f"{head} within 10 %, {max(ratios):.2f} at most.\n{rest}"


def main() -> int:
    """Measure, and print or write what was found."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tuning", description=__doc__.partition("\n")[0])
    parser.add_argument("--networks", nargs="*", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--shapes", type=int, default=len(UNKNOWN), metavar="N", help="so many layers of each kind")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="write the text there, too")
    options = parser.parse_args()
    console = Console(stderr=True)
    variant = here_variant(targets.get(TARGET).variants(()))
    parts = [f"{inspect().cpu}, {variant.name}, load {os.getloadavg()[0]:.1f} at the start.\n"]
    with tempfile.TemporaryDirectory() as folder:
        parts.append(_networks_page([tune(name, Path(folder)) for name in options.networks]))
    console.print(parts[-1])
    known = [(shape, widths) for shape in BENCHMARKED[: options.shapes] for widths in CHECKED]
    other = [
        (shape, CHECKED[(WIDTHS_EACH * number + step) % len(CHECKED)])
        for number, shape in enumerate(UNKNOWN[: options.shapes]) for step in range(WIDTHS_EACH)
    ]  # fmt: skip
    run = partial(search, variant, console=console)
    for title, asked in (("Benchmark shapes", known), (f"{len(UNKNOWN)} shapes of no table", other)):
        if asked:
            parts.append(_layers_page(title, run(asked)))
            console.print(parts[-1])
    text = "\n".join((*parts, f"load {os.getloadavg()[0]:.1f} at the end.\n"))
    print(text)
    if options.output is not None:
        options.output.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
