"""Quantizers of QONNX, of activations and of weights."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tests.fuzz.bodies import DOMAIN
from tests.fuzz.draws import Draw, a_value, chance, choice
from tests.fuzz.grid import Grid
from tests.fuzz.net import Array, Net, Value


def quant(draw: Draw, net: Net) -> Value:
    """Quant of an activation: signed or not, narrow or not, with a zero point in some cases."""
    x = a_value(draw, net, lambda value: value.grid is not None)
    bits, signed, narrow = choice(draw, (2, 3, 4, 8)), choice(draw, (1, 0)), choice(draw, (0, 1))
    scale, zero = choice(draw, (1.0, 0.5, 0.25, 2.0)), choice(draw, (0, 0, 1))
    largest = 2**bits * scale + zero * scale
    (name,) = _quant(net, x, np.float32(scale), zero, bits, signed, narrow)
    return net.keep(name, Grid(scale, largest))


def bipolar(draw: Draw, net: Net) -> Value:
    """BipolarQuant of an activation whose sign rounding cannot change."""
    x = a_value(draw, net, lambda value: value.has_sign)
    scale = choice(draw, (1.0, 0.5, 2.0))
    (name,) = net.node("BipolarQuant", x, np.float32(scale), shape=x.shape, domain=DOMAIN)
    return net.keep(name, Grid(scale, scale))


def quantized(draw: Draw, net: Net, codes: Array, out_axis: int) -> tuple[str, Array]:
    """Latent weights behind Quant, with a scale for the tensor or for each output channel; and their numbers."""
    scale = _scales(draw, net, codes.shape, out_axis)
    bits = 3 if np.abs(codes).max() < 4 else 4
    # latent weights lie between the codes
    latent = (codes + np.float32(0.25) * np.sign(codes)) * scale
    (name,) = _quant(net, latent.astype(np.float32), scale, 0, bits, 1, choice(draw, (0, 1)))
    return name, codes * scale


def bipolar_weights(draw: Draw, net: Net, signs: Array, out_axis: int) -> tuple[str, Array]:
    """Latent weights behind BipolarQuant, and their numbers."""
    scale = _scales(draw, net, signs.shape, out_axis)
    (name,) = net.node("BipolarQuant", signs * np.float32(0.375), scale, shape=signs.shape, domain=DOMAIN)
    return name, signs * scale


def _quant(net: Net, x: Value | Array, scale: Array, zero: int, bits: int, signed: int, narrow: int) -> list[str]:
    operands = (x, np.asarray(scale), np.float32(zero), np.float32(bits))
    kind = {"signed": signed, "narrow": narrow, "rounding_mode": "ROUND"}
    return net.node("Quant", *operands, shape=x.shape, domain=DOMAIN, **kind)


def _scales(draw: Draw, net: Net, shape: Sequence[int], out_axis: int) -> Array:
    if not chance(draw):
        return np.asarray(choice(draw, (1.0, 0.5, 0.25)), np.float32)
    scales = net.random(shape[out_axis]).choice(np.float32([0.25, 0.5, 1]), shape[out_axis])
    return np.asarray(scales.reshape([-1 if axis == out_axis else 1 for axis in range(len(shape))]))
