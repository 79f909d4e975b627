"""LiteRT on the CPU: int8 through its XNNPACK delegate, which the interpreter applies by itself."""

from __future__ import annotations

from ai_edge_litert.interpreter import Interpreter

from benchmarks.models import Workload
from benchmarks.network import FloatArray
from benchmarks.tflite import channels_last, tflite_model
from benchmarks.timing import Round, measure


class LiteRtSession:
    """An interpreter whose input is set once."""

    def __init__(self, workload: Workload, threads: int) -> None:
        content = tflite_model(workload.network, workload.x)
        self._interpreter = Interpreter(model_content=content, num_threads=threads)
        self._interpreter.allocate_tensors()
        self._interpreter.set_tensor(self._interpreter.get_input_details()[0]["index"], channels_last(workload.x))

    def run(self) -> None:
        """One inference."""
        self._interpreter.invoke()

    def measure(self, seconds: float) -> Round:
        """Time inferences for about `seconds`."""
        return measure(self.run, seconds)

    def output(self) -> FloatArray:
        """The result of the last run, [N, C, H, W]."""
        y = self._interpreter.get_tensor(self._interpreter.get_output_details()[0]["index"])
        result: FloatArray = y.transpose(0, 3, 1, 2) if y.ndim == 4 else y
        return result

    def kernel_seconds(self) -> float | None:
        """Not measured."""
        return None


def open_int8(workload: Workload, threads: int) -> LiteRtSession:
    """A session on `threads` threads."""
    return LiteRtSession(workload, threads)
