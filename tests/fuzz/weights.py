"""Weights as training leaves them: signs, scaled signs, ternary and few-bit codes, constant or computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tests.fuzz import qonnx
from tests.fuzz.draws import Draw, chance, choice
from tests.fuzz.grid import Grid, of_array, product
from tests.fuzz.net import Array, Net

KINDS = (
    "signs", "scaled signs", "ternary", "codes", "halves", "live signs", "live selected", "dequantized", "Quant",
    "BipolarQuant",
)  # fmt: skip
_LIVE = ("live signs", "live selected", "BipolarQuant")


@dataclass(frozen=True)
class Weights:
    """A constant operand: its name in the graph and its numbers."""

    name: str
    array: Array

    def sums(self, axes: Sequence[int], x: Grid | None) -> Grid | None:
        """The grid of products with values on the grid `x`, summed over `axes`."""
        own = of_array(self.array)
        if own is None or x is None:
            return None
        largest = float(np.abs(self.array).sum(axis=tuple(axes)).max(initial=0))
        return product(Grid(own.step, max(largest, own.step)), x)


def weights(draw: Draw, net: Net, shape: Sequence[int], out_axis: int) -> Weights:
    """Weights of `shape` whose output channels lie along `out_axis`."""
    kind = choice(draw, KINDS)
    array = _array(net, kind, shape, out_axis)
    if chance(draw, 6):
        array[(slice(None),) * out_axis + (0,)] = 0 if kind not in _LIVE else array.max()
    if kind == "BipolarQuant":
        return Weights(*qonnx.bipolar_weights(draw, net, array, out_axis))
    if kind == "Quant":
        return Weights(*qonnx.quantized(draw, net, array, out_axis))
    if kind in _LIVE:
        return _computed(net, kind, array)
    if kind == "dequantized":
        return _dequantized(draw, net, array, out_axis)
    return Weights(net.constant(array), array)


def _array(net: Net, kind: str, shape: Sequence[int], out_axis: int) -> Array:
    random = net.random(*shape)
    if kind in ("signs", *_LIVE):
        return random.choice(np.float32([-1, 1]), tuple(shape))
    if kind == "scaled signs":
        scales = random.choice(np.float32([0.25, 0.5, 1, 2]), shape[out_axis])
        spread = scales.reshape([-1 if axis == out_axis else 1 for axis in range(len(shape))])
        return random.choice(np.float32([-1, 1]), tuple(shape)) * spread
    limit = 1 if kind == "ternary" else 3
    codes = random.integers(-limit, limit + 1, tuple(shape)).astype(np.float32)
    return codes / 2 if kind == "halves" else codes


def _computed(net: Net, kind: str, signs: Array) -> Weights:
    """Signs of latent weights, as they stay in the graph where an exporter does not fold constants."""
    latent = signs * np.float32(0.375)
    if kind == "live signs":
        (name,) = net.node("Sign", latent)
    else:
        (positive,) = net.node("GreaterOrEqual", latent, np.float32(0))
        (name,) = net.node("Where", positive, np.float32(1), np.float32(-1))
    return Weights(name, signs)


def _dequantized(draw: Draw, net: Net, codes: Array, out_axis: int) -> Weights:
    """int8 codes with a scale for the tensor or for each output channel."""
    if chance(draw):
        scale = net.random(codes.shape[out_axis]).choice(np.float32([0.25, 0.5, 1]), codes.shape[out_axis])
        spread = scale.reshape([-1 if axis == out_axis else 1 for axis in range(codes.ndim)])
        zeros = np.zeros(len(scale), np.int8)
        (name,) = net.node("DequantizeLinear", codes.astype(np.int8), scale, zeros, axis=out_axis)
        return Weights(name, codes * spread)
    (name,) = net.node("DequantizeLinear", codes.astype(np.int8), np.float32(0.5), np.int8(0))
    return Weights(name, codes / 2)
