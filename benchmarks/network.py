"""A network as plain data, from which every contestant's model is written, and its evaluation in numpy.

Tensors are float32 [1, C, H, W], or [M, K] around a matrix product. The numpy evaluation is the truth that every
contestant's output is held against.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Conv:
    """Square convolution, zero padded; weights [O, C / groups, k, k], bias [O] or none, then ReLU if `relu`.

    groups: 1, or as many as channels. `binary` says that weights and inputs are -1 and +1.
    """

    source: str
    output: str
    weights: FloatArray
    bias: FloatArray | None = None
    stride: int = 1
    pad: int = 0
    relu: bool = False
    binary: bool = False
    groups: int = 1


@dataclass(frozen=True, eq=False)
class Dense:
    """[M, K] times weights [O, K] transposed; `binary` as in `Conv`."""

    source: str
    output: str
    weights: FloatArray
    binary: bool = False


@dataclass(frozen=True, eq=False)
class FewBitDense:
    """[M, K] times weights of few bits, (codes - zero) * scales: uint8 [O, K], float32 [O, blocks of K].

    `in_bytes` says that the inputs are rounded to bytes first, as DynamicQuantizeLinear does.
    """

    source: str
    output: str
    codes: npt.NDArray[np.uint8]
    scales: FloatArray
    bits: int
    in_bytes: bool = False

    @property
    def zero(self) -> int:
        """The code that stands for 0."""
        return 1 if self.bits == 1 else 2 << (self.bits - 2)

    @property
    def size(self) -> int:
        """Inputs of a block."""
        return int(self.codes.shape[1]) // int(self.scales.shape[1])

    @property
    def weights(self) -> FloatArray:
        """float32 [O, K]."""
        found: FloatArray = (self.codes.astype(np.float32) - self.zero) * np.repeat(self.scales, self.size, axis=1)
        return found


@dataclass(frozen=True)
class Sign:
    """+1 where x >= 0, else -1."""

    source: str
    output: str


@dataclass(frozen=True)
class Quantize:
    """scale * clip(round(x / scale), 0, levels - 1)."""

    source: str
    output: str
    scale: float
    levels: int


@dataclass(frozen=True, eq=False)
class BatchNorm:
    """Per-channel normalization with stored statistics, each float32 [C]."""

    source: str
    output: str
    gamma: FloatArray
    beta: FloatArray
    mean: FloatArray
    variance: FloatArray
    epsilon: float = 1e-5

    @property
    def scale(self) -> FloatArray:
        """float32 [C]: the factor on x."""
        scale: FloatArray = self.gamma / np.sqrt(self.variance + np.float32(self.epsilon))
        return scale.astype(np.float32)

    @property
    def shift(self) -> FloatArray:
        """float32 [C]: what is added to scale * x."""
        return (self.beta - self.mean * self.scale).astype(np.float32)


@dataclass(frozen=True)
class Add:
    """left + right, then ReLU if `relu`."""

    left: str
    right: str
    output: str
    relu: bool = False


@dataclass(frozen=True)
class Pool:
    """Square pooling, "max" or "average"; padding does not count."""

    kind: str
    source: str
    output: str
    size: int
    stride: int
    pad: int = 0


@dataclass(frozen=True)
class GlobalAverage:
    """[1, C, H, W] to [1, C]."""

    source: str
    output: str


Node = Conv | Dense | FewBitDense | Sign | Quantize | BatchNorm | Add | Pool | GlobalAverage


@dataclass(frozen=True)
class Network:
    """Nodes in execution order, from the tensor "input" to the output of the last node."""

    name: str
    input_shape: tuple[int, ...]
    nodes: tuple[Node, ...]

    @property
    def output(self) -> str:
        """Name of the network's output."""
        return self.nodes[-1].output


def windows(x: FloatArray, size: int, stride: int, pad: int, fill: float) -> npt.NDArray[Any]:
    """View [1, C, H', W', size, size] of all windows of x [1, C, H, W]."""
    padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)), constant_values=fill)
    view: npt.NDArray[Any] = np.lib.stride_tricks.sliding_window_view(padded, (size, size), (2, 3))
    return view[:, :, ::stride, ::stride]


def _conv(node: Conv, x: FloatArray) -> FloatArray:
    kernel = node.weights.shape[2]
    view = windows(x, kernel, node.stride, node.pad, 0.0)
    height, width = view.shape[2:4]
    y: FloatArray
    if node.groups > 1:
        y = np.einsum("chwij,cij->chw", view[0], node.weights[:, 0], optimize=True)[None].astype(np.float32)
    else:
        columns = view[0].transpose(0, 3, 4, 1, 2).reshape(-1, height * width)
        y = (node.weights.reshape(len(node.weights), -1) @ columns).reshape(1, -1, height, width)
    if node.bias is not None:
        y = y + node.bias[:, None, None]
    return np.maximum(y, 0) if node.relu else y


def _pool(node: Pool, x: FloatArray) -> FloatArray:
    y: FloatArray
    if node.kind == "max":
        y = windows(x, node.size, node.stride, node.pad, -np.inf).max((4, 5))
    else:
        y = windows(x, node.size, node.stride, 0, 0.0).mean((4, 5), dtype=np.float32)
    return y


def rounded_to_bytes(x: FloatArray) -> FloatArray:
    """The numbers that DynamicQuantizeLinear makes of x."""
    low, high = min(np.float32(0), x.min()), max(np.float32(0), x.max())
    scale = (high - low) / np.float32(255)
    zero = np.clip(np.rint(-low / scale), 0, 255)
    y: FloatArray = (np.clip(np.rint(x / scale) + zero, 0, 255) - zero) * scale
    return y


def evaluate_node(node: Node, values: dict[str, FloatArray]) -> FloatArray:
    """The output of `node` given the values of the tensors before it."""
    y: FloatArray
    match node:
        case Conv():
            return _conv(node, values[node.source])
        case Dense():
            return values[node.source] @ node.weights.T
        case FewBitDense():
            x = values[node.source]
            return (rounded_to_bytes(x) if node.in_bytes else x) @ node.weights.T
        case Sign():
            return np.where(values[node.source] >= 0, np.float32(1), np.float32(-1))
        case Quantize():
            scale = np.float32(node.scale)
            y = np.clip(np.rint(values[node.source] / scale), 0, node.levels - 1) * scale
            return y
        case BatchNorm():
            return values[node.source] * node.scale[:, None, None] + node.shift[:, None, None]
        case Add():
            y = values[node.left] + values[node.right]
            return np.maximum(y, 0) if node.relu else y
        case Pool():
            return _pool(node, values[node.source])
        case GlobalAverage():
            y = values[node.source].mean((2, 3), dtype=np.float32)
            return y


def evaluate(network: Network, x: FloatArray) -> dict[str, FloatArray]:
    """Every tensor of `network` for the input x, by name."""
    values = {"input": x}
    for node in network.nodes:
        values[node.output] = evaluate_node(node, values)
    return values
