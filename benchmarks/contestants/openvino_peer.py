"""OpenVINO on the CPU: binary through opset1 IntegerConvolution, float32, int8 and weights of few bits from ONNX.

IntegerConvolution wants activations of 0 and 1 from a FakeQuantize with two levels, and u1 weights, row-major OIHW,
least significant bit first, 1 for +1. FakeQuantize gives 1 where x > threshold: between integers -0.5 makes sign(0)
+1 as elsewhere; on a float stream 0 itself is taken for -1, which no measured value is.
"""

from __future__ import annotations

import numpy as np
import openvino
import openvino.opset1 as ops
from openvino import Shape, Tensor, Type

from benchmarks.contestants import Lacking
from benchmarks.graphs import float_model, qdq_model
from benchmarks.models import BLOCK, Workload
from benchmarks.network import Add, BatchNorm, Conv, Dense, FloatArray, GlobalAverage, Network, Node, Pool, Sign
from benchmarks.timing import Round, measure, median_sample

BINARY_KERNEL = "IntegerConvolution"


class _BinaryGraph:
    """Builds the graph node by node; holds the packed weights, which OpenVINO does not copy."""

    def __init__(self, network: Network, integer_input: bool) -> None:
        self.buffers: list[object] = []
        self.integers = {"input"} if integer_input else set()
        self.parameter = ops.parameter(list(network.input_shape), np.float32, name="input")
        self.tensors: dict[str, openvino.Node] = {"input": self.parameter}
        for node in network.nodes:
            self.tensors[node.output] = self.node(node)
            if isinstance(node, Conv | Dense) and node.binary:
                self.integers.add(node.output)
        self.model = openvino.Model([ops.result(self.tensors[network.output])], [self.parameter])

    def bits(self, weights: FloatArray) -> openvino.Node:
        packed = np.packbits((weights > 0).astype(np.uint8).ravel(), bitorder="little")
        tensor = Tensor(packed, Shape(list(weights.shape)), Type.u1)
        self.buffers += [packed, tensor]
        return openvino.op.Constant(tensor)

    def sign(self, node: Sign) -> openvino.Node:
        threshold = np.full((1, 1, 1, 1), -0.5 if node.source in self.integers else 0.0, np.float32)
        low, high = np.zeros((1, 1, 1, 1), np.float32), np.ones((1, 1, 1, 1), np.float32)
        return ops.fake_quantize(self.tensors[node.source], threshold, threshold, low, high, 2)

    def conv(self, node: Conv) -> openvino.Node:
        x = self.tensors[node.source]
        strides, pads = [node.stride] * 2, [node.pad] * 2
        if node.binary:
            if node.groups > 1:
                raise Lacking("a binary convolution of several groups")
            weights = self.bits(node.weights)
            return ops.binary_convolution(x, weights, strides, pads, pads, [1, 1], "xnor-popcount", 0.0)
        y = ops.convolution(x, node.weights, strides, pads, pads, [1, 1])
        if node.bias is not None:
            y = ops.add(y, node.bias.reshape(1, -1, 1, 1))
        return ops.relu(y) if node.relu else y

    def dense(self, node: Dense) -> openvino.Node:
        """A binary product as a 1x1 convolution: x [K, M] seen as [1, K, 1, M]."""
        x = self.tensors[node.source]
        if not node.binary:
            return ops.matmul(x, node.weights, False, True)
        weights = self.bits(node.weights[:, :, None, None])
        y = ops.binary_convolution(x, weights, [1, 1], [0, 0], [0, 0], [1, 1], "xnor-popcount", 0.0)
        return ops.transpose(y, np.array([0, 2, 3, 1]))

    def node(self, node: Node) -> openvino.Node:
        match node:
            case Sign():
                return self.sign(node)
            case Conv():
                return self.conv(node)
            case Dense():
                return self.dense(node)
            case BatchNorm():
                scaled = ops.multiply(self.tensors[node.source], node.scale.reshape(1, -1, 1, 1))
                return ops.add(scaled, node.shift.reshape(1, -1, 1, 1))
            case Add():
                return ops.add(self.tensors[node.left], self.tensors[node.right])
            case Pool():
                return self.pool(node)
            case GlobalAverage():
                return ops.reduce_mean(self.tensors[node.source], np.array([2, 3]), keep_dims=False)

    def pool(self, node: Pool) -> openvino.Node:
        strides, pads, kernel = [node.stride] * 2, [node.pad] * 2, [node.size] * 2
        if node.kind == "max":
            return ops.max_pool(self.tensors[node.source], strides, pads, pads, kernel, "floor", "explicit")
        return ops.avg_pool(self.tensors[node.source], strides, pads, pads, kernel, True, "floor", "explicit")


class OpenVinoSession:
    """A compiled model with one infer request; `profile` switches its per-node clock on.

    Float parts are computed in float32, as by everyone else here: bfloat16, which OpenVINO can choose by itself,
    would change the results.
    """

    def __init__(self, workload: Workload, threads: int, precision: str, profile: bool = False) -> None:
        self._workload, self._threads, self._precision = workload, threads, precision
        self._profiled: OpenVinoSession | None = None
        x = np.ascontiguousarray(workload.x)
        self._as_map = precision == "binary" and x.ndim == 2
        if self._as_map:
            x = np.ascontiguousarray(x.T)[None, :, None, :]
        self._model = self._read(workload, precision, x)
        settings = {
            "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32", "PERF_COUNT": profile,
            # only products with weights of few bits read it
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": BLOCK,
        }  # fmt: skip
        self._request = openvino.Core().compile_model(self._model, "CPU", settings).create_infer_request()
        self._request.set_input_tensor(Tensor(x))

    def _read(self, workload: Workload, precision: str, x: FloatArray) -> openvino.Model:
        network = workload.network
        if precision == "binary":
            mapped = Network(network.name, x.shape, network.nodes)
            self._graph = _BinaryGraph(mapped, integer_input=bool(np.all(x == np.round(x))))
            return self._graph.model
        write = qdq_model if precision == "int8" else float_model
        return openvino.Core().read_model(write(network, workload.x).SerializeToString())

    def run(self) -> None:
        """One inference."""
        self._request.infer()

    def measure(self, seconds: float) -> Round:
        """Time inferences for about `seconds`."""
        return measure(self.run, seconds)

    def output(self) -> FloatArray:
        """The result of the last run."""
        y: FloatArray = np.array(self._request.get_output_tensor().data)
        return y.reshape(-1, y.shape[-1]) if self._as_map else y

    def kernel_seconds(self) -> float | None:
        """Median time inside binary convolutions, with the engine's clock (of 1 µs) switched on."""
        if self._precision != "binary":
            return None
        if self._profiled is None:
            self._profiled = OpenVinoSession(self._workload, self._threads, self._precision, profile=True)
        return median_sample(self._profiled.binary_nodes)

    def binary_nodes(self) -> float:
        """Run once; seconds inside binary convolutions."""
        self.run()
        nodes = self._request.profiling_info
        return float(sum(node.real_time.total_seconds() for node in nodes if node.node_type == BINARY_KERNEL))


def open_binary(workload: Workload, threads: int) -> OpenVinoSession:
    """A session with binary convolutions on `threads` threads."""
    return OpenVinoSession(workload, threads, "binary")


def open_int8(workload: Workload, threads: int) -> OpenVinoSession:
    """A session in 8 bits on `threads` threads."""
    return OpenVinoSession(workload, threads, "int8")


def open_float32(workload: Workload, threads: int) -> OpenVinoSession:
    """A session in float32 on `threads` threads."""
    return OpenVinoSession(workload, threads, "float32")
