"""qcompiler: the network exported to ONNX, compiled for this machine, run from its bundle."""

from __future__ import annotations

import tempfile
from pathlib import Path

import onnx

import qcompiler
from benchmarks.graphs import float_model, qdq_model
from benchmarks.models import Workload
from benchmarks.network import FloatArray
from benchmarks.timing import Round, median_sample

PROFILED_RUNS = 5


class BundleSession:
    """A loaded bundle and the inputs of one run."""

    def __init__(self, workload: Workload, threads: int, int8: bool = False) -> None:
        self._folder = tempfile.TemporaryDirectory()
        model = Path(self._folder.name) / "model.onnx"
        write = qdq_model if int8 else float_model
        onnx.save(write(workload.network, workload.x), model)
        self._bundle = qcompiler.compile(model, target="x86", output=Path(self._folder.name) / "out")
        self._inputs = {"input": workload.x}
        self._threads = threads
        self._outputs: dict[str, FloatArray] = {}

    def run(self) -> None:
        """One inference."""
        self._outputs = self._bundle.run(self._inputs, threads=self._threads)

    def measure(self, seconds: float) -> Round:
        """Time inferences for about `seconds`, through the bundle's own loop, which keeps its threads alive."""
        timed = self._bundle.benchmark(self._inputs, threads=self._threads, seconds=seconds)
        return Round(timed.median, timed.minimum, timed.runs)

    def output(self) -> FloatArray:
        """The result of the last run."""
        (result,) = self._outputs.values()
        return result

    def kernel_seconds(self) -> float | None:
        """Median time of the binary steps, None if there are none."""
        return median_sample(self._binary_steps) or None

    def _binary_steps(self) -> float:
        profile = self._bundle.profile(self._inputs, repeats=PROFILED_RUNS, threads=self._threads)
        return sum(step.seconds for step in profile.steps if self._bundle.steps[step.index].integers)


def open_binary(workload: Workload, threads: int) -> BundleSession:
    """A session on `threads` threads."""
    return BundleSession(workload, threads)


def open_int8(workload: Workload, threads: int) -> BundleSession:
    """The same file of 8 bits as the other engines read, on `threads` threads."""
    return BundleSession(workload, threads, int8=True)
