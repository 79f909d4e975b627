"""Write a benchmark network as a LiteRT flatbuffer of 8 bits, float32 at both ends, images as [1, H, W, C]."""

from __future__ import annotations

from typing import Any

import flatbuffers
import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

from benchmarks.graphs import Range, quantized_ranges, quantized_weights
from benchmarks.network import Add, Conv, Dense, FloatArray, GlobalAverage, Network, Node, Pool, evaluate

_OPS = schema.BuiltinOperator
_RELU = schema.ActivationFunctionType.RELU
_TYPES = {"int8": schema.TensorType.INT8, "int32": schema.TensorType.INT32, "float32": schema.TensorType.FLOAT32}
# int8 codes are the unsigned ones of the ranges less this
_OFFSET = 128


def channels_last(x: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """[N, C, H, W] to [N, H, W, C]; other ranks as they are."""
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1)) if x.ndim == 4 else x


class _Writer:
    """Tensors, buffers and operators of the one subgraph."""

    def __init__(self, network: Network, x: FloatArray) -> None:
        self.values = evaluate(network, x)
        self.ranges = quantized_ranges(network, self.values)
        self.model = schema.ModelT()
        self.model.version = 3
        self.model.buffers = [schema.BufferT()]
        self.model.operatorCodes = []
        self.graph = schema.SubGraphT()
        self.graph.tensors, self.graph.operators = [], []
        self.index: dict[str, int] = {}

    def tensor(
        self, name: str, shape: tuple[int, ...], dtype: str,
        scales: FloatArray | None = None, zero: int = 0, axis: int = 0, data: npt.NDArray[Any] | None = None,
    ) -> int:  # fmt: skip
        """Index of a new tensor; constant if it has data."""
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type, tensor.buffer = name, list(shape), _TYPES[dtype], 0
        if scales is not None:
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale = [float(scale) for scale in scales]
            tensor.quantization.zeroPoint = [zero] * len(scales)
            tensor.quantization.quantizedDimension = axis
        if data is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(data).tobytes(), np.uint8)
            tensor.buffer = len(self.model.buffers)
            self.model.buffers.append(buffer)
        self.graph.tensors.append(tensor)
        self.index[name] = len(self.graph.tensors) - 1
        return self.index[name]

    def activation(self, name: str, shape: tuple[int, ...], quantized: Range) -> int:
        scales = np.array([quantized.scale], np.float32)
        return self.tensor(name, shape, "int8", scales, quantized.zero - _OFFSET)

    def constant(self, name: str, data: npt.NDArray[Any]) -> int:
        return self.tensor(name, data.shape, data.dtype.name, data=data)

    def operator(self, op: int, inputs: list[int], output: int, options: Any = None) -> None:
        code = schema.OperatorCodeT()
        code.builtinCode, code.deprecatedBuiltinCode, code.version = op, min(op, 127), 1
        operator = schema.OperatorT()
        operator.opcodeIndex = len(self.model.operatorCodes)
        self.model.operatorCodes.append(code)
        operator.inputs, operator.outputs = inputs, [output]
        if options is not None:
            kind = type(options).__name__.removesuffix("T")
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, kind)
            operator.builtinOptions = options
        self.graph.operators.append(operator)

    def node_output(self, node: Node) -> int:
        shape = channels_last(self.values[node.output]).shape
        return self.activation(node.output, shape, self.ranges[node.output])

    def padded(self, source: str, pad: int, output: str) -> int:
        """Index of `source` with `pad` explicit border pixels of real 0."""
        _, height, width, channels = self.graph.tensors[self.index[source]].shape
        amounts = self.constant(f"{output}_pads", np.array([[0, 0], [pad, pad], [pad, pad], [0, 0]], np.int32))
        shape = (1, height + 2 * pad, width + 2 * pad, channels)
        result = self.activation(f"{output}_padded", shape, self.ranges[source])
        self.operator(_OPS.PAD, [self.index[source], amounts], result, schema.PadOptionsT())
        return result

    def weights(self, node: Conv | Dense) -> list[int]:
        """Indices of weights (OHWI, 1HWO where they are depthwise, or [O, K]) and bias."""
        codes, scales = quantized_weights(node.weights)
        if isinstance(node, Dense):
            scales = np.full(1, scales.max(), np.float32)
            codes = np.round(node.weights / scales[0]).astype(np.int8)
        codes = channels_last(codes)
        depthwise = isinstance(node, Conv) and node.groups > 1
        if depthwise:
            codes = codes.transpose(3, 1, 2, 0)
        axis = 3 if depthwise else 0
        weights = self.tensor(f"{node.output}_w", codes.shape, "int8", scales, axis=axis, data=codes)
        outputs = len(node.weights)
        scale = np.broadcast_to(scales * np.float32(self.ranges[node.source].scale), outputs)
        real = node.bias if isinstance(node, Conv) and node.bias is not None else np.zeros(outputs, np.float32)
        bias = np.round(real / scale).astype(np.int32)
        stated = scale if len(scales) > 1 else scale[:1]
        return [weights, self.tensor(f"{node.output}_b", bias.shape, "int32", stated, data=bias)]

    def conv(self, node: Conv) -> None:
        depthwise = node.groups > 1
        options = schema.DepthwiseConv2DOptionsT() if depthwise else schema.Conv2DOptionsT()
        if depthwise:
            options.depthMultiplier = 1
        options.strideW = options.strideH = node.stride
        options.dilationWFactor = options.dilationHFactor = 1
        options.fusedActivationFunction = _RELU if node.relu else 0
        same = node.stride == 1
        options.padding = schema.Padding.SAME if same else schema.Padding.VALID
        explicit = node.pad > 0 and not same
        x = self.padded(node.source, node.pad, node.output) if explicit else self.index[node.source]
        op = _OPS.DEPTHWISE_CONV_2D if depthwise else _OPS.CONV_2D
        self.operator(op, [x, *self.weights(node)], self.node_output(node), options)

    def max_pool(self, node: Pool) -> None:
        options = schema.Pool2DOptionsT()
        options.strideW = options.strideH = node.stride
        options.filterWidth = options.filterHeight = node.size
        options.padding = schema.Padding.VALID
        x = self.padded(node.source, node.pad, node.output) if node.pad else self.index[node.source]
        self.operator(_OPS.MAX_POOL_2D, [x], self.node_output(node), options)

    def node(self, node: Node) -> None:
        match node:
            case Conv():
                self.conv(node)
            case Dense():
                inputs = [self.index[node.source], *self.weights(node)]
                options = schema.FullyConnectedOptionsT()
                self.operator(_OPS.FULLY_CONNECTED, inputs, self.node_output(node), options)
            case Add():
                options = schema.AddOptionsT()
                options.fusedActivationFunction = _RELU if node.relu else 0
                inputs = [self.index[node.left], self.index[node.right]]
                self.operator(_OPS.ADD, inputs, self.node_output(node), options)
            case Pool(kind="max"):
                self.max_pool(node)
            case GlobalAverage():
                axes = self.constant(f"{node.output}_axes", np.array([1, 2], np.int32))
                inputs = [self.index[node.source], axes]
                self.operator(_OPS.MEAN, inputs, self.node_output(node), schema.ReducerOptionsT())
            case _:
                raise ValueError(f"{type(node).__name__} is not written for LiteRT")


def tflite_model(network: Network, x: FloatArray) -> bytes:
    """The network with int8 activations and weights (per output channel in convolutions), calibrated on x."""
    writer = _Writer(network, x)
    shape = channels_last(x).shape
    start = writer.tensor("start", shape, "float32")
    codes = writer.activation("input", shape, writer.ranges["input"])
    writer.operator(_OPS.QUANTIZE, [start], codes, schema.QuantizeOptionsT())
    for node in network.nodes:
        writer.node(node)
    end = writer.tensor("end", channels_last(writer.values[network.output]).shape, "float32")
    writer.operator(_OPS.DEQUANTIZE, [writer.index[network.output]], end, schema.DequantizeOptionsT())
    writer.graph.inputs, writer.graph.outputs = [start], [end]
    writer.model.subgraphs = [writer.graph]
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(writer.model.Pack(builder), b"TFL3")
    return bytes(builder.Output())
