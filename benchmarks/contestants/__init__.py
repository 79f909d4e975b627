"""Who is measured: our compiler and the other engines, each behind the same small session."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Protocol

from benchmarks.models import Workload
from benchmarks.network import FloatArray
from benchmarks.timing import Round
from benchmarks.workloads import Precision


class Lacking(Exception):
    """An engine does not have what a row asks for, and is left out of it."""


class Session(Protocol):
    """A network made ready on a fixed number of threads, its input in place."""

    def run(self) -> None:
        """One inference."""
        ...

    def measure(self, seconds: float) -> Round:
        """Time inferences for about `seconds`."""
        ...

    def output(self) -> FloatArray:
        """The result of the last run, in the shape of the numpy evaluation."""
        ...

    def kernel_seconds(self) -> float | None:
        """Time inside binary kernels in one run, by the engine's own clock; None if it has none."""
        ...


@dataclass(frozen=True)
class Contestant:
    """An engine in one arithmetic.

    opener: "module:function", called with (workload, threads). ours: run by this Python, not by the peers' one.
    tolerance: largest accepted root-mean-square error relative to the numpy evaluation; 0 demands equality, and
    `network_tolerance` holds for whole networks, whose float parts are summed in another order.
    """

    name: str
    precision: Precision
    opener: str
    distribution: str
    ours: bool = False
    tolerance: float = 0.0
    network_tolerance: float = 1e-4

    def open(self, workload: Workload, threads: int) -> Session:
        """Import the engine and make `workload` ready."""
        module, _, function = self.opener.partition(":")
        session: Session = getattr(importlib.import_module(module), function)(workload, threads)
        return session


def _peer(engine: str, precision: Precision, tolerance: float, distribution: str) -> Contestant:
    opener = f"benchmarks.contestants.{engine.lower()}_peer:open_{precision}"
    return Contestant(f"{engine} {precision}", precision, opener, distribution, False, tolerance, max(tolerance, 1e-4))


def _few_bits(name: str, precision: Precision, opener: str, distribution: str, tolerance: float) -> Contestant:
    return Contestant(name, precision, f"benchmarks.contestants.{opener}", distribution, False, tolerance)


# 8 bits cost up to 3 % on these random networks
_INT8, _FLOAT = 0.05, 1e-4
# inputs rounded to 8 bits in blocks
_ROUNDED = 0.01

CONTESTANTS: tuple[Contestant, ...] = (
    Contestant("qcompiler binary", "binary", "benchmarks.contestants.own:open_binary", "qcompiler", ours=True),
    Contestant("qcompiler few bits", "few bits", "benchmarks.contestants.own:open_binary", "qcompiler", ours=True),
    Contestant("qcompiler int8", "int8", "benchmarks.contestants.own:open_int8", "qcompiler", True, _INT8, _INT8),
    Contestant("qcompiler float32", "float32", "benchmarks.contestants.own:open_binary", "qcompiler", True, _FLOAT),
    Contestant("qcompiler blocks", "blocks", "benchmarks.contestants.own:open_binary", "qcompiler", True, _ROUNDED),
    Contestant("qcompiler bytes", "bytes", "benchmarks.contestants.own:open_binary", "qcompiler", True, _FLOAT),
    _few_bits("onnxruntime blocks", "blocks", "onnxruntime_peer:open_float32", "onnxruntime", _ROUNDED),
    _few_bits("onnxruntime blocks, lookup", "blocks", "onnxruntime_peer:open_lookup", "onnxruntime", _ROUNDED),
    _few_bits("onnxruntime bytes", "bytes", "onnxruntime_peer:open_float32", "onnxruntime", _FLOAT),
    _few_bits("OpenVINO blocks", "blocks", "openvino_peer:open_float32", "openvino", _ROUNDED),
    _few_bits("ggml blocks", "blocks", "ggml_peer:open_blocks", "ggml", _ROUNDED),
    _peer("OpenVINO", "binary", 0.0, "openvino"),
    _peer("OpenVINO", "int8", _INT8, "openvino"),
    _peer("OpenVINO", "float32", _FLOAT, "openvino"),
    _peer("onnxruntime", "int8", _INT8, "onnxruntime"),
    _peer("onnxruntime", "float32", _FLOAT, "onnxruntime"),
    _peer("LiteRT", "int8", _INT8, "ai-edge-litert"),
    _peer("torch", "int8", _INT8, "torch"),
)
