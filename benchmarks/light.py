"""Float networks beside onnxruntime: the nine light models that the onnx package carries, with its own weights.

    python -m benchmarks.light [--threads 1] [--models squeezenet resnet50]

Both engines run in this process, one after the other in rounds; outputs are held against each other first.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from rich.console import Console
from rich.table import Table

import qcompiler
from benchmarks.timing import measure
from qcompiler.bundle.load import Bundle

FOLDER = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
PREFIX = "light_"
# relative to the largest output
TOLERANCE = 1e-3


@dataclass(frozen=True)
class Line:
    """Seconds of a run of both, each the median of the rounds' medians, and the largest relative difference."""

    name: str
    ours: float
    theirs: float
    difference: float


def models() -> dict[str, Path]:
    """The files by short name."""
    return {path.stem.removeprefix(PREFIX): path for path in sorted(FOLDER.glob(f"{PREFIX}*.onnx"))}


def compare(name: str, path: Path, threads: int, rounds: int, seconds: float) -> Line:
    """One network in both engines."""
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads, settings.log_severity_level = threads, 3
    session = onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    x = np.random.default_rng(0).random(given.shape).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        bundle = qcompiler.compile(path, output=Path(folder) / "out", mcpu=["native"], verify=False)
        ours, theirs = _outputs(bundle, session, x, threads)
        medians = [_round(bundle, session, x, threads, seconds) for _ in range(rounds)]
    difference = float(np.abs(ours - theirs).max() / np.abs(theirs).max())
    own, other = np.median(np.array(medians), axis=0)
    return Line(name, float(own), float(other), difference)


def _outputs(
    bundle: Bundle, session: onnxruntime.InferenceSession, x: npt.NDArray[np.float32], threads: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    (given,) = session.get_inputs()
    (ours,) = bundle.run({given.name: x}, threads=threads).values()
    return ours, session.run(None, {given.name: x})[0]


def _round(
    bundle: Bundle, session: onnxruntime.InferenceSession, x: npt.NDArray[np.float32], threads: int, seconds: float
) -> tuple[float, float]:
    (given,) = session.get_inputs()
    ours = bundle.benchmark({given.name: x}, threads=threads, seconds=seconds).median
    return ours, measure(lambda: session.run(None, {given.name: x}), seconds).median


def show(console: Console, lines: Sequence[Line], threads: int) -> None:
    """The table."""
    table = Table("model", "qcompiler ms", "onnxruntime ms", "times faster", "difference", title=f"{threads} threads")
    for line in lines:
        numbers = (f"{line.ours * 1e3:.2f}", f"{line.theirs * 1e3:.2f}", f"{line.theirs / line.ours:.2f}")
        table.add_row(line.name, *numbers, f"{line.difference:.1g}")
    console.print(table)


def main() -> int:
    """Compare; status 1 where outputs differ."""
    known = models()
    parser = argparse.ArgumentParser(prog="python -m benchmarks.light", description=__doc__.partition("\n")[0])
    parser.add_argument("--models", nargs="+", choices=list(known), default=list(known), metavar="NAME")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.3)
    options = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.threads])
    console = Console()
    lines = []
    for name in options.models:
        lines.append(compare(name, known[name], options.threads, options.rounds, options.seconds))
        console.print(f"{name}: {lines[-1].theirs / lines[-1].ours:.2f}")
    show(console, lines, options.threads)
    return 1 if any(not line.difference <= TOLERANCE for line in lines) else 0


if __name__ == "__main__":
    sys.exit(main())
