"""Write a benchmark network as ONNX, in float32 or as quantize/dequantize pairs of 8 bits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from benchmarks.network import (
    Add,
    BatchNorm,
    Conv,
    Dense,
    FewBitDense,
    FloatArray,
    GlobalAverage,
    Network,
    Node,
    Pool,
    Quantize,
    Sign,
    evaluate,
)

OPSET = 18
IR_VERSION = 10


class _Writer:
    """ONNX nodes and initializers under construction."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, name: str, value: npt.NDArray[np.generic] | np.generic) -> str:
        self.constants.append(numpy_helper.from_array(np.array(value, order="C"), name))
        return name

    def node(self, op: str, inputs: list[str], output: str, **attributes: object) -> None:
        self.nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))

    def model(self, network: Network, output_shape: tuple[int, ...]) -> onnx.ModelProto:
        x = helper.make_tensor_value_info("input", TensorProto.FLOAT, network.input_shape)
        y = helper.make_tensor_value_info(network.output, TensorProto.FLOAT, output_shape)
        graph = helper.make_graph(self.nodes, "network", [x], [y], self.constants)
        domains = sorted({"", *(node.domain for node in self.nodes)})
        opsets = [helper.make_opsetid(domain, 1 if domain else OPSET) for domain in domains]
        return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)


def _activated(writer: _Writer, op: str, inputs: list[str], node: Conv | Add, **attributes: object) -> None:
    raw = f"{node.output}_raw" if node.relu else node.output
    writer.node(op, inputs, raw, **attributes)
    if node.relu:
        writer.node("Relu", [raw], node.output)


def _conv_attributes(node: Conv) -> dict[str, object]:
    kernel = node.weights.shape[2]
    return {"kernel_shape": [kernel] * 2, "strides": [node.stride] * 2, "pads": [node.pad] * 4,
            "group": node.groups}  # fmt: skip


def _write_unweighted(writer: _Writer, node: Node, source: str, output: str) -> None:
    """A node that looks the same in both arithmetics, between the given tensors."""
    match node:
        case Sign():
            zero, plus, minus = (writer.constant(f"{output}_{v}", np.float32(v)) for v in (0, 1, -1))
            writer.node("GreaterOrEqual", [source, zero], f"{output}_positive")
            writer.node("Where", [f"{output}_positive", plus, minus], output)
        case Quantize():
            scale, low, high = (
                writer.constant(f"{output}_{i}", np.float32(v)) for i, v in enumerate((node.scale, 0, node.levels - 1))
            )
            writer.node("Div", [source, scale], f"{output}_scaled")
            writer.node("Round", [f"{output}_scaled"], f"{output}_whole")
            writer.node("Clip", [f"{output}_whole", low, high], f"{output}_codes")
            writer.node("Mul", [f"{output}_codes", scale], output)
        case BatchNorm():
            parameters = (node.gamma, node.beta, node.mean, node.variance)
            names = [writer.constant(f"{output}_{i}", p) for i, p in enumerate(parameters)]
            writer.node("BatchNormalization", [source, *names], output, epsilon=node.epsilon)
        case Pool():
            op = "MaxPool" if node.kind == "max" else "AveragePool"
            shape = {"kernel_shape": [node.size] * 2, "strides": [node.stride] * 2, "pads": [node.pad] * 4}
            writer.node(op, [source], output, **shape)
        case GlobalAverage():
            writer.node("GlobalAveragePool", [source], f"{output}_map")
            writer.node("Flatten", [f"{output}_map"], output)


def _write_block_product(writer: _Writer, node: FewBitDense) -> None:
    """As onnxruntime's quantizer writes it, with leave to round the inputs of each block to bytes."""
    outputs, inputs = node.codes.shape
    in_byte = 8 // node.bits
    places = np.arange(in_byte, dtype=np.uint8) * np.uint8(node.bits)
    packed = np.bitwise_or.reduce(node.codes.reshape(outputs, -1, node.size // in_byte, in_byte) << places, axis=-1)
    names = [writer.constant(f"{node.output}_codes", packed), writer.constant(f"{node.output}_scales", node.scales)]
    writer.node("MatMulNBits", [node.source, *names], node.output, domain="com.microsoft", K=inputs, N=outputs,
                bits=node.bits, block_size=node.size, accuracy_level=4)  # fmt: skip


def _write_byte_product(writer: _Writer, node: FewBitDense) -> None:
    """As onnxruntime's dynamic quantization writes it; one block, weights in bytes."""
    name = node.output
    weights = writer.constant(f"{name}_w", (node.codes.astype(np.int16) - node.zero).astype(np.int8).T)
    outputs = [f"{name}_x", f"{name}_scale", f"{name}_zero"]
    writer.nodes.append(helper.make_node("DynamicQuantizeLinear", [node.source], outputs, name=outputs[0]))
    writer.node("MatMulInteger", [outputs[0], weights, outputs[2]], f"{name}_sums")
    writer.node("Cast", [f"{name}_sums"], f"{name}_numbers", to=TensorProto.FLOAT)
    scales = writer.constant(f"{name}_ws", node.scales[:, 0])
    writer.node("Mul", [outputs[1], scales], f"{name}_scales")
    writer.node("Mul", [f"{name}_numbers", f"{name}_scales"], name)


def float_model(network: Network, x: FloatArray) -> onnx.ModelProto:
    """The network in float32, as a training framework would export it."""
    writer = _Writer()
    for node in network.nodes:
        if isinstance(node, Conv | Dense):
            weights = node.weights if isinstance(node, Conv) else node.weights.T
            inputs = [node.source, writer.constant(f"{node.output}_w", weights)]
            if isinstance(node, Conv):
                if node.bias is not None:
                    inputs.append(writer.constant(f"{node.output}_b", node.bias))
                _activated(writer, "Conv", inputs, node, **_conv_attributes(node))
            else:
                writer.node("MatMul", inputs, node.output)
        elif isinstance(node, FewBitDense):
            (_write_byte_product if node.in_bytes else _write_block_product)(writer, node)
        elif isinstance(node, Add):
            _activated(writer, "Add", [node.left, node.right], node)
        else:
            _write_unweighted(writer, node, node.source, node.output)
    return writer.model(network, evaluate(network, x)[network.output].shape)


@dataclass(frozen=True)
class Range:
    """Quantization of one tensor to 8 bits, asymmetric: real = scale * (code - zero), codes 0 to 255."""

    scale: float
    zero: int


def quantized_range(value: FloatArray) -> Range:
    """The range that covers all of `value` and represents 0 exactly."""
    low, high = min(0.0, float(value.min())), max(0.0, float(value.max()))
    scale = (high - low) / 255
    return Range(scale, round(-low / scale))


def quantized_weights(weights: FloatArray) -> tuple[npt.NDArray[np.int8], FloatArray]:
    """Symmetric int8 codes and one float32 scale per output channel (axis 0)."""
    axes = tuple(range(1, weights.ndim))
    scales = (np.abs(weights).max(axes) / 127).astype(np.float32)
    codes = np.round(weights / scales.reshape(-1, *[1] * (weights.ndim - 1)))
    return codes.astype(np.int8), scales


def quantized_ranges(network: Network, values: dict[str, FloatArray]) -> dict[str, Range]:
    """The range of every tensor; max pooling keeps the range of its input."""
    ranges = {name: quantized_range(value) for name, value in values.items()}
    for node in network.nodes:
        if isinstance(node, Pool) and node.kind == "max":
            ranges[node.output] = ranges[node.source]
    return ranges


class _QdqWriter(_Writer):
    """Writes every tensor as dequantize(quantize(tensor)) under its own name."""

    def __init__(self, ranges: dict[str, Range]) -> None:
        super().__init__()
        self.ranges = ranges

    def pair(self, raw: str, name: str, output: str) -> None:
        quantized = self.ranges[name]
        scale = self.constant(f"{name}_scale", np.float32(quantized.scale))
        zero = self.constant(f"{name}_zero", np.uint8(quantized.zero))
        self.node("QuantizeLinear", [raw, scale, zero], f"{name}_codes")
        self.node("DequantizeLinear", [f"{name}_codes", scale, zero], output)

    def weights(self, node: Conv | Dense) -> list[str]:
        """Names of the dequantized weights and, if there is one, of the int32 bias in the accumulator's scale."""
        name = node.output
        codes, scales = quantized_weights(node.weights)
        axis = 0 if isinstance(node, Conv) else 1
        self.constant(f"{name}_w", codes if axis == 0 else codes.T)
        self.constant(f"{name}_ws", scales)
        self.constant(f"{name}_wz", np.zeros(len(scales), np.int8))
        self.node("DequantizeLinear", [f"{name}_w", f"{name}_ws", f"{name}_wz"], f"{name}_wf", axis=axis)
        if isinstance(node, Dense) or node.bias is None:
            return [f"{name}_wf"]
        scale = scales * np.float32(self.ranges[node.source].scale)
        self.constant(f"{name}_b", np.round(node.bias / scale).astype(np.int32))
        self.constant(f"{name}_bs", scale)
        self.node("DequantizeLinear", [f"{name}_b", f"{name}_bs"], f"{name}_bf", axis=0)
        return [f"{name}_wf", f"{name}_bf"]


def qdq_model(network: Network, x: FloatArray) -> onnx.ModelProto:
    """The network with 8-bit unsigned activations and per-channel signed weights, calibrated on x."""
    values = evaluate(network, x)
    writer = _QdqWriter(quantized_ranges(network, values))
    writer.pair("input", "input", "input_q")
    for node in network.nodes:
        raw = f"{node.output}_float"
        last = node.output == network.output
        if isinstance(node, Conv | Dense):
            inputs = [f"{node.source}_q", *writer.weights(node)]
            op, attributes = ("Conv", _conv_attributes(node)) if isinstance(node, Conv) else ("MatMul", {})
            writer.node(op, inputs, raw, **attributes)
        elif isinstance(node, Add):
            writer.node("Add", [f"{node.left}_q", f"{node.right}_q"], raw)
        else:
            _write_unweighted(writer, node, f"{node.source}_q", raw)
        if isinstance(node, Conv | Add) and node.relu:
            writer.node("Relu", [raw], f"{node.output}_relu")
            raw = f"{node.output}_relu"
        writer.pair(raw, node.output, node.output if last else f"{node.output}_q")
    return writer.model(network, values[network.output].shape)
