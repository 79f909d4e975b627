"""torch in 8 bits: its quantized operators (x86 engine), images channels-last."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from benchmarks.contestants import Lacking
from benchmarks.graphs import Range, quantized_ranges, quantized_weights
from benchmarks.models import Workload
from benchmarks.network import Add, Conv, Dense, FloatArray, GlobalAverage, Node, Pool, evaluate
from benchmarks.timing import Round, measure

ENGINE = "x86"
Step = Callable[[dict[str, Any]], Any]


class TorchSession:
    """Operators with packed weights, called in the order of the network."""

    def __init__(self, workload: Workload, threads: int) -> None:
        torch.set_num_threads(threads)
        torch.backends.quantized.engine = ENGINE
        network = workload.network
        self._ranges = quantized_ranges(network, evaluate(network, workload.x))
        self._output = network.output
        self._steps = [(node.output, self._step(node)) for node in network.nodes]
        x = torch.from_numpy(np.ascontiguousarray(workload.x))
        self._x = x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x
        self._y: Any = None

    def _step(self, node: Node) -> Step:
        made = self._ranges[node.output]
        match node:
            case Conv():
                return self._conv(node, made)
            case Dense():
                packed = torch.ops.quantized.linear_prepack(_weights(node.weights), None)
                return lambda v: torch.ops.quantized.linear(v[node.source], packed, made.scale, made.zero)
            case Add():
                add = torch.ops.quantized.add_relu if node.relu else torch.ops.quantized.add
                return lambda v: add(v[node.left], v[node.right], made.scale, made.zero)
            case Pool(kind="max"):
                square, strides, pads = [node.size] * 2, [node.stride] * 2, [node.pad] * 2
                return lambda v: torch.max_pool2d(v[node.source], square, strides, pads)
            case GlobalAverage():
                return lambda v: torch.nn.functional.adaptive_avg_pool2d(v[node.source], 1).flatten(1)
        raise Lacking(f"{type(node).__name__} is not run by torch in 8 bits")

    def _conv(self, node: Conv, made: Range) -> Step:
        bias = None if node.bias is None else torch.from_numpy(node.bias)
        strides, pads = [node.stride] * 2, [node.pad] * 2
        packed = torch.ops.quantized.conv2d_prepack(_weights(node.weights), bias, strides, pads, [1, 1], node.groups)
        conv = torch.ops.quantized.conv2d_relu if node.relu else torch.ops.quantized.conv2d
        return lambda v: conv(v[node.source], packed, made.scale, made.zero)

    def run(self) -> None:
        """One inference."""
        given = self._ranges["input"]
        with torch.inference_mode():
            values = {"input": torch.quantize_per_tensor(self._x, given.scale, given.zero, torch.quint8)}
            for name, step in self._steps:
                values[name] = step(values)
            self._y = values[self._output].dequantize()

    def measure(self, seconds: float) -> Round:
        """Time inferences for about `seconds`."""
        return measure(self.run, seconds)

    def output(self) -> FloatArray:
        """The result of the last run."""
        result: FloatArray = self._y.contiguous().numpy()
        return result

    def kernel_seconds(self) -> float | None:
        """Not measured."""
        return None


def _weights(weights: FloatArray) -> Any:
    """Signed 8 bits, a scale for every output channel."""
    codes, scales = quantized_weights(weights)
    zeros = torch.zeros(len(scales), dtype=torch.int64)
    scale = torch.from_numpy(scales).double()
    # there is no other way from codes
    return torch._make_per_channel_quantized_tensor(torch.from_numpy(codes), scale, zeros, 0)  # noqa: SLF001


def open_int8(workload: Workload, threads: int) -> TorchSession:
    """A session in 8 bits on `threads` threads."""
    return TorchSession(workload, threads)
