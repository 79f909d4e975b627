"""Random chains of ops over values of rank 1 to 4, with dyadic constants on any axis, for tests with Hypothesis."""

import math

import numpy as np
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

DYADIC = st.sampled_from([-2.0, -1.0, -0.75, -0.5, 0.25, 0.5, 1.0, 2.0])


ANY_GRID = st.sampled_from([0.75, -1.5, 3.0, -0.6, 0.1, 0.3, 1 / 3, 0.7, 5.0])
"""Most of them are no binary fractions, and nor are quotients by any of them."""


class Chain:
    """A chain of random ops under construction; `shape` is that of the last value, `value` its name."""

    def __init__(self, data, shape):
        self.data, self.shape, self.value, self.first = data, shape, "x", shape
        self.nodes, self.constants = [], []

    def constant(self, shape, numbers=DYADIC):
        size = math.prod(shape)
        drawn = self.data.draw(st.lists(numbers, min_size=size, max_size=size))
        return self.stored(np.asarray(drawn, np.float32).reshape(shape))

    def stored(self, array):
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def add(self, op, inputs, shape=None, **attributes):
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], **attributes))
        self.value, self.shape = name, tuple(self.shape if shape is None else shape)

    def broadcast(self):
        """A shape that broadcasts against the last value; with more axes than it, of extent 1, if there is room."""
        sizes = [self.data.draw(st.sampled_from([1, extent])) for extent in self.shape]
        kept = self.data.draw(st.integers(0, len(sizes)))
        extra = self.data.draw(st.integers(0, 4 - len(sizes))) if kept == len(sizes) else 0
        return (*(1,) * extra, *sizes[len(sizes) - kept :])

    def arithmetic(self):
        op = self.data.draw(st.sampled_from(["Add", "Sub", "Mul", "Div", "Max", "Min"]))
        constant = self.constant(shape := self.broadcast())
        inputs = [self.value, constant] if op == "Div" or self.data.draw(st.booleans()) else [constant, self.value]
        self.add(op, inputs, np.broadcast_shapes(shape, self.shape))

    def scaling(self):
        """One number for all, or one per place along some axes."""
        op = self.data.draw(st.sampled_from(["Mul", "Div", "Add", "Sub"]))
        self.add(op, [self.value, self.constant(self.broadcast()[-len(self.shape) :], ANY_GRID)])

    def scale(self):
        self.add("Div", [self.value, self.constant((), ANY_GRID)])

    def prelu(self):
        self.add("PRelu", [self.value, self.constant(self.broadcast()[-len(self.shape) :])])

    def clip(self):
        self.add("Clip", [self.value, self.stored(np.float32(-1)), self.stored(np.float32(2))])

    def relu(self):
        self.add("Relu", [self.value])

    def codes(self):
        """Integers 0 to 3, or a finer grid."""
        self.add("Clip", [self.value, self.stored(np.float32(0)), self.stored(np.float32(3))])
        self.add("Round", [self.value])

    def pixels(self):
        """A quantizer of the standard, per tensor."""
        scale = self.constant((), st.one_of(st.just(0.5), ANY_GRID.map(abs)))
        zero = self.stored(np.uint8(self.data.draw(st.integers(0, 3))))
        self.add("QuantizeLinear", [self.value, scale, zero])
        self.add("DequantizeLinear", [self.value, scale, zero])

    def residual(self):
        self.add("Add", [self.value, self.value])

    def mean(self):
        if len(self.shape) == 4:
            self.add("GlobalAveragePool", [self.value], (*self.shape[:2], 1, 1))

    def pool(self):
        if len(self.shape) == 4 and min(self.shape[2:]) > 1:
            shape = (*self.shape[:2], self.shape[2] - 1, self.shape[3] - 1)
            op = self.data.draw(st.sampled_from(["MaxPool", "AveragePool"]))
            self.add(op, [self.value], shape, kernel_shape=[2, 2])

    def pad(self):
        """Zeros around any axes, that of the channels too."""
        ends = [self.data.draw(st.integers(0, 1)) for _ in range(2 * len(self.shape))]
        before, after = ends[: len(self.shape)], ends[len(self.shape) :]
        shape = [size + first + last for size, first, last in zip(self.shape, before, after, strict=True)]
        self.add("Pad", [self.value, self.stored(np.asarray(ends))], shape)

    def sign(self):
        self.add("Sign", [self.value])

    def reshape(self):
        flat = math.prod(self.shape)
        shapes = [(flat,), (1, flat), (flat, 1), (1, 1, flat), (1, flat, 1, 1)]
        if len(self.shape) < 4:
            shapes += [(*self.shape, 1), (1, *self.shape)]
        shape = self.data.draw(st.sampled_from(shapes))
        self.add("Reshape", [self.value, self.stored(np.asarray(shape))], shape)

    def transpose(self):
        perm = self.data.draw(st.permutations(range(len(self.shape))))
        self.add("Transpose", [self.value], [self.shape[axis] for axis in perm], perm=list(perm))

    def norm(self):
        if len(self.shape) < 2:
            return
        channels = (self.shape[1],)
        four = self.stored(np.full(channels, 4, np.float32))
        inputs = [self.value, *(self.constant(channels) for _ in range(3)), four]
        self.add("BatchNormalization", inputs, epsilon=0.0)

    def matmul(self):
        width = self.data.draw(st.integers(1, 4))
        self.add("MatMul", [self.value, self.constant((self.shape[-1], width))], (*self.shape[:-1], width))

    def gemm(self):
        if len(self.shape) != 2:
            return
        width = self.data.draw(st.integers(1, 4))
        weights = self.constant((self.shape[1], width))
        shape = (self.shape[0], width)
        terms = self.data.draw(st.sampled_from([(), (1,), (width,), (1, width), (shape[0], 1), (1, 1), shape]))
        self.add("Gemm", [self.value, weights, self.constant(terms)], shape, beta=2.0)

    def conv(self):
        if len(self.shape) != 4:
            return
        weights = self.constant((2, self.shape[1], 1, 1))
        self.add("Conv", [self.value, weights, self.constant((2,))], (self.shape[0], 2, *self.shape[2:]))

    def padded_conv(self):
        if len(self.shape) != 4:
            return
        weights = self.constant((2, self.shape[1], 3, 3))
        self.add("Conv", [self.value, weights], (self.shape[0], 2, *self.shape[2:]), pads=[1, 1, 1, 1])

    def coarse(self, shape):
        """Weights of few bits over one scale."""
        whole = self.data.draw(st.lists(st.integers(-2, 3), min_size=math.prod(shape), max_size=math.prod(shape)))
        scale = self.data.draw(st.one_of(st.just(1.0), ANY_GRID))
        return self.stored((np.asarray(whole).reshape(shape) * np.float32(scale)).astype(np.float32))

    def coarse_layer(self):
        if len(self.shape) != 4:
            self.add("MatMul", [self.value, self.coarse((self.shape[-1], 3))], (*self.shape[:-1], 3))
            return
        size = self.data.draw(st.sampled_from([1, 3]))
        weights = self.coarse((2, self.shape[1], size, size))
        pads = [size // 2] * 4
        self.add("Conv", [self.value, weights], (self.shape[0], 2, *self.shape[2:]), pads=pads)

    def model(self):
        if not self.nodes:
            self.add("Neg", [self.value])
        signature = helper.make_tensor_value_info("x", TensorProto.FLOAT, self.first)
        result = helper.make_tensor_value_info(self.value, TensorProto.FLOAT, self.shape)
        graph = helper.make_graph(self.nodes, "g", [signature], [result], self.constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
