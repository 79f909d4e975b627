"""onnxruntime on the CPU: float32, int8 from quantize/dequantize pairs, and products with weights of few bits."""

from __future__ import annotations

import numpy as np
import onnxruntime

from benchmarks.graphs import float_model, qdq_model
from benchmarks.models import Workload
from benchmarks.network import FloatArray
from benchmarks.timing import Round, measure


class OnnxRuntimeSession:
    """A session with inputs and outputs bound once, so that a run copies nothing in Python."""

    def __init__(self, workload: Workload, threads: int, int8: bool, lookup: bool = False) -> None:
        write = qdq_model if int8 else float_model
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = threads
        settings.inter_op_num_threads = 1
        settings.log_severity_level = 3
        if lookup:
            settings.add_session_config_entry("mlas.use_lut_gemm", "1")
        content = write(workload.network, workload.x).SerializeToString()
        self._session = onnxruntime.InferenceSession(content, settings, providers=["CPUExecutionProvider"])
        self._binding = self._session.io_binding()
        self._binding.bind_cpu_input("input", np.ascontiguousarray(workload.x))
        self._binding.bind_output(workload.network.output)

    def run(self) -> None:
        """One inference."""
        self._session.run_with_iobinding(self._binding)

    def measure(self, seconds: float) -> Round:
        """Time inferences for about `seconds`."""
        return measure(self.run, seconds)

    def output(self) -> FloatArray:
        """The result of the last run."""
        result: FloatArray = self._binding.copy_outputs_to_cpu()[0]
        return result

    def kernel_seconds(self) -> float | None:
        """Not measured."""
        return None


def open_int8(workload: Workload, threads: int) -> OnnxRuntimeSession:
    """A session in 8 bits on `threads` threads."""
    return OnnxRuntimeSession(workload, threads, int8=True)


def open_lookup(workload: Workload, threads: int) -> OnnxRuntimeSession:
    """A session whose products with weights of few bits are by lookups, where it has them."""
    return OnnxRuntimeSession(workload, threads, int8=False, lookup=True)


def open_float32(workload: Workload, threads: int) -> OnnxRuntimeSession:
    """A session in float32 on `threads` threads."""
    return OnnxRuntimeSession(workload, threads, int8=False)
