"""Small float networks, and the files that onnxruntime's quantizers make of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

Shape = tuple[int, ...]


class Builder:
    """A float network under construction."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._stored: list[onnx.TensorProto] = []
        self._generator = np.random.default_rng(0)

    def constant(self, array: Any) -> str:
        """A stored array; its name."""
        name = f"c{len(self._stored)}"
        self._stored.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def weights(self, *shape: int, fan_in: int = 100) -> str:
        """Random weights for sums of `fan_in` products."""
        return self.constant((self._generator.normal(size=shape) * 1.4 / np.sqrt(fan_in)).astype(np.float32))

    def op(self, op: str, *inputs: str, **attributes: Any) -> str:
        """A node; its result."""
        name = f"v{len(self._nodes)}"
        self._nodes.append(helper.make_node(op, inputs, [name], name=f"{op}_{name}", **attributes))
        return name

    def conv(self, x: str, inputs: int, outputs: int, size: int = 3, group: int = 1) -> str:
        """A convolution with a bias."""
        fan_in = inputs // group * size * size
        w = self.weights(outputs, inputs // group, size, size, fan_in=fan_in)
        return self.op("Conv", x, w, self.weights(outputs), kernel_shape=[size] * 2, pads=[size // 2] * 4, group=group)

    def dense(self, x: str, inputs: int, outputs: int) -> str:
        """A product with weights."""
        return self.op("MatMul", x, self.weights(inputs, outputs, fan_in=inputs))

    def gemm(self, x: str, inputs: int, outputs: int) -> str:
        """A fully connected layer."""
        return self.op("Gemm", x, self.weights(outputs, inputs, fan_in=inputs), self.weights(outputs), transB=1)

    def save(self, y: str, shape: Shape, path: Path) -> None:
        """Write the network from x to y."""
        x = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
        outputs = [helper.make_tensor_value_info(y, TensorProto.FLOAT, None)]
        graph = helper.make_graph(self._nodes, "network", x, outputs, self._stored)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.save(onnx.shape_inference.infer_shapes(model), path)


def convnet(net: Builder) -> str:
    x = net.op("MaxPool", net.op("Relu", net.conv("x", 3, 8)), kernel_shape=[2, 2], strides=[2, 2])
    x = net.op("AveragePool", net.op("Relu", net.conv(x, 8, 16)), kernel_shape=[2, 2], strides=[2, 2])
    return net.gemm(net.op("Flatten", x), 256, 10)


def resnet(net: Builder) -> str:
    x = net.op("Relu", net.conv("x", 3, 16))
    for _ in range(2):
        x = net.op("Relu", net.op("Add", x, net.conv(net.op("Relu", net.conv(x, 16, 16)), 16, 16)))
    return net.gemm(net.op("Flatten", net.op("GlobalAveragePool", x)), 16, 10)


def depthwise(net: Builder) -> str:
    bounds = net.constant(np.float32(0)), net.constant(np.float32(6))
    x = net.op("Clip", net.conv("x", 3, 16), *bounds)
    x = net.conv(net.op("Clip", net.conv(x, 16, 16, group=16), *bounds), 16, 24, size=1)
    x = net.op("Mul", x, net.op("Sigmoid", net.op("LeakyRelu", x, alpha=0.1)))
    return net.gemm(net.op("Flatten", net.op("GlobalAveragePool", x)), 24, 10)


def densenet(net: Builder) -> str:
    x = net.op("Relu", net.conv("x", 3, 8))
    x = net.op("Concat", x, net.op("Relu", net.conv(x, 8, 8)), axis=1)
    x = net.op("Concat", x, net.op("Relu", net.conv(x, 16, 8)), axis=1)
    x = net.op("MaxPool", x, kernel_shape=[4, 4], strides=[4, 4])
    return net.gemm(net.op("Reshape", x, net.constant(np.int64([1, -1]))), 384, 10)


def mlp(net: Builder) -> str:
    x = net.op("Relu", net.gemm("x", 64, 96))
    return net.gemm(net.op("Relu", net.dense(x, 96, 70)), 70, 10)


def attention(net: Builder) -> str:
    heads = net.constant(np.int64([1, 10, 4, 8]))
    orders = [0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]
    q, k, v = (net.op("Transpose", net.op("Reshape", net.dense("x", 32, 32), heads), perm=order) for order in orders)
    scores = net.op("Mul", net.op("MatMul", q, k), net.constant(np.float32(8**-0.5)))
    mixed = net.op("Transpose", net.op("MatMul", net.op("Softmax", scores, axis=-1), v), perm=[0, 2, 1, 3])
    rows = net.op("Reshape", mixed, net.constant(np.int64([1, 10, 32])))
    x = net.op("Add", net.dense(rows, 32, 32), "x")
    return net.op("Add", net.dense(net.op("Relu", net.dense(x, 32, 64)), 64, 32), x)


IMAGE = (1, 3, 16, 16)
NETS: dict[str, tuple[Callable[[Builder], str], Shape]] = {
    "convnet": (convnet, IMAGE),
    "resnet": (resnet, IMAGE),
    "depthwise": (depthwise, IMAGE),
    "densenet": (densenet, IMAGE),
    "mlp": (mlp, (4, 64)),
    "attention": (attention, (1, 10, 32)),
}


class _Samples(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, shape: Shape) -> None:
        generator = np.random.default_rng(1)
        self._samples = iter([{"x": generator.normal(size=shape).astype(np.float32)} for _ in range(8)])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._samples, None)


def _static(form: QuantFormat, activations: QuantType, weights: QuantType, **settings: Any) -> Callable[..., None]:
    def quantize(source: Path, target: Path, shape: Shape) -> None:
        kinds = {"activation_type": activations, "weight_type": weights}
        quantize_static(source, target, _Samples(shape), quant_format=form, **kinds, **settings)

    return quantize


def _dynamic(weights: QuantType, per_channel: bool) -> Callable[..., None]:
    def quantize(source: Path, target: Path, shape: Shape) -> None:
        quantize_dynamic(source, target, weight_type=weights, per_channel=per_channel)

    return quantize


def _blocks(bits: int, symmetric: bool, level: int | None = None) -> Callable[..., None]:
    def quantize(source: Path, target: Path, shape: Shape) -> None:
        model, settings = onnx.load(source), {"block_size": 32, "is_symmetric": symmetric, "bits": bits}
        quantizer = MatMulNBitsQuantizer(model, accuracy_level=level, **settings)
        quantizer.process()
        quantizer.model.save_model_to_file(str(target))

    return quantize


_Q, _D, _T = QuantFormat.QOperator, QuantFormat.QDQ, QuantType
QUANTIZERS: dict[str, Callable[..., None]] = {
    "qoperator_u8s8": _static(_Q, _T.QUInt8, _T.QInt8),
    "qoperator_s8s8_channels": _static(_Q, _T.QInt8, _T.QInt8, per_channel=True),
    "qoperator_u8u8_reduced": _static(_Q, _T.QUInt8, _T.QUInt8, reduce_range=True),
    "qoperator_s8s8_symmetric": _static(_Q, _T.QInt8, _T.QInt8, extra_options={"ActivationSymmetric": True}),
    "qdq_u8s8": _static(_D, _T.QUInt8, _T.QInt8),
    "qdq_s8s8_channels": _static(_D, _T.QInt8, _T.QInt8, per_channel=True),
    "qdq_u8u8_reduced": _static(_D, _T.QUInt8, _T.QUInt8, reduce_range=True),
    "qdq_u8s4_channels": _static(_D, _T.QUInt8, _T.QInt4, per_channel=True),
    "qdq_u16u4": _static(_D, _T.QUInt16, _T.QUInt4),
    "dynamic_s8": _dynamic(_T.QInt8, per_channel=False),
    "dynamic_u8_channels": _dynamic(_T.QUInt8, per_channel=True),
}
BLOCKS = {
    "blocks_4_symmetric": _blocks(4, True),
    "blocks_4": _blocks(4, False),
    "blocks_4_level": _blocks(4, False, 4),
    "blocks_8_symmetric": _blocks(8, True),
    "blocks_8": _blocks(8, False),
}


def made(folder: Path, net: str, quantizer: str) -> Path:
    """The file of one network by one quantizer."""
    build, shape = NETS[net]
    builder, source, target = Builder(), folder / "float.onnx", folder / f"{net}_{quantizer}.onnx"
    builder.save(build(builder), shape, source)
    (QUANTIZERS | BLOCKS)[quantizer](source, target, shape)
    return target
