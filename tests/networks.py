"""Small networks as ONNX files for tests of the whole pipeline."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.parser

BINARY_CNN = """<ir_version: 10, opset_import: ["" : 18]>
g (float[1,3,8,8] image) => (float[1,5] scores) {
    first = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (image, w0)
    normal = BatchNormalization (first, gamma, beta, mean, variance)
    positive = GreaterOrEqual (normal, zero)
    codes = Where (positive, plus, minus)
    sums = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (codes, w1)
    normal1 = BatchNormalization (sums, gamma, beta, mean, variance)
    signs = Sign (normal1)
    pooled = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (signs)
    flat = Flatten (pooled)
    scores = Gemm <transB = 1> (flat, w2, bias)
}"""

LENET = """<ir_version: 10, opset_import: ["" : 18]>
g (float[1,1,28,28] image) => (float[1,10] scores) {
    first = Conv <kernel_shape = [5, 5], pads = [2, 2, 2, 2]> (image, w0)
    normal0 = BatchNormalization (first, gamma0, beta0, mean0, variance0)
    signs0 = Sign (normal0)
    pooled0 = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (signs0)
    sums1 = Conv <kernel_shape = [5, 5]> (pooled0, w1)
    normal1 = BatchNormalization (sums1, gamma1, beta1, mean1, variance1)
    signs1 = Sign (normal1)
    pooled1 = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (signs1)
    flat = Flatten (pooled1)
    sums2 = MatMul (flat, w2)
    normal2 = BatchNormalization (sums2, gamma2, beta2, mean2, variance2)
    signs2 = Sign (normal2)
    scores = Gemm (signs2, w3, bias)
}"""

TRANSPOSE = """<ir_version: 10, opset_import: ["": 21]>
g (float[3, 5] x) => (float[5, 3] y) { y = Transpose (x) }"""

FLOAT_MLP = """<ir_version: 10, opset_import: ["" : 18]>
g (float[1,6] x) => (float[1,3] y) {
    h = Gemm (x, w0, b0)
    r = Relu (h)
    y = Gemm (r, w1, b1)
}"""


def signs(random: np.random.Generator, *shape: int) -> np.ndarray:
    return np.where(random.random(shape) < 0.5, -1, 1).astype(np.float32)


def normal(random: np.random.Generator, *shape: int) -> np.ndarray:
    return random.standard_normal(shape).astype(np.float32)


def binary_cnn(path: Path, seed: int = 0) -> Path:
    """A real first layer, a binary convolution and a binary classifier; 16 channels, some gammas negative."""
    random = np.random.default_rng(seed)
    return _save(
        path,
        BINARY_CNN,
        {
            "w0": normal(random, 16, 3, 3, 3),
            "gamma": normal(random, 16),
            "beta": normal(random, 16),
            "mean": normal(random, 16),
            "variance": random.random(16).astype(np.float32) + np.float32(0.5),
            "zero": np.float32(0).reshape(()),
            "plus": np.float32(1).reshape(()),
            "minus": np.float32(-1).reshape(()),
            "w1": signs(random, 16, 16, 3, 3),
            "w2": signs(random, 5, 256),
            "bias": normal(random, 5),
        },
    )


def lenet(path: Path, seed: int = 0) -> Path:
    """LeNet-5 with binary layers: 5x5 convolutions to 20 and 50 channels, a hidden layer of 500, ten classes."""
    random = np.random.default_rng(seed)
    constants = {
        "w0": normal(random, 20, 1, 5, 5),
        "w1": signs(random, 50, 20, 5, 5),
        "w2": signs(random, 1250, 500),
        "w3": signs(random, 500, 10),
        "bias": normal(random, 10),
    }
    for index, channels in enumerate((20, 50, 500)):
        constants |= {f"{name}{index}": normal(random, channels) for name in ("gamma", "beta", "mean")}
        constants[f"variance{index}"] = random.random(channels).astype(np.float32) + np.float32(0.5)
    return _save(path, LENET, constants)


def float_mlp(path: Path, seed: int = 0) -> Path:
    """Two real layers."""
    random = np.random.default_rng(seed)
    shapes = {"w0": (6, 7), "b0": (7,), "w1": (7, 3), "b1": (3,)}
    return _save(path, FLOAT_MLP, {name: normal(random, *shape) for name, shape in shapes.items()})


def transpose(path: Path) -> Path:
    """One op without weights."""
    return _save(path, TRANSPOSE, {})


def _save(path: Path, text: str, constants: dict[str, np.ndarray]) -> Path:
    model = onnx.parser.parse_model(text)
    model.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in constants.items())
    onnx.save(model, path)
    return path
