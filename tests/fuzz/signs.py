"""Signs and quantizers in the spellings that exporters leave in a file."""

from __future__ import annotations

import numpy as np

from tests.fuzz.draws import Draw, a_value, chance, choice
from tests.fuzz.grid import SIGNS, Grid, checked, of_array, product, total
from tests.fuzz.net import Net, Rejected, Value

_SPELLINGS = ("Sign", "where", "greater", "less", "cast", "larq", "straight through", "clipped", "shifted", "scaled")
_ABOUT_ZERO = _SPELLINGS[:6]


def sign(draw: Draw, net: Net, source: Value | None = None) -> Value:
    """A sign of a value whose sign rounding cannot change."""
    x = source or a_value(draw, net, lambda value: value.has_sign)
    if not x.has_sign:
        raise Rejected
    spelling = choice(draw, _SPELLINGS if x.grid else _ABOUT_ZERO)
    if spelling == "shifted":
        x = _shifted(draw, net, x)
    if spelling == "clipped":
        x = net.add("Clip", x, np.float32(-1), np.float32(1), grid=x.grid and checked(min(1.0, x.grid.step), 1.0))
    if spelling in ("where", "greater", "less"):
        return _selected(draw, net, x, spelling)
    if spelling == "cast":
        return _cast(net, x)
    signs = net.add("Sign", x, grid=SIGNS)
    if spelling == "larq":
        moved = net.add("Add", signs, np.float32(0.5), grid=Grid(0.5, 1.5))
        return net.add("Sign", moved, grid=SIGNS)
    if spelling == "straight through":
        difference = net.add("Sub", signs, x, grid=total(SIGNS, x.grid))
        return net.add("Add", x, difference, grid=SIGNS if difference.grid else None, clear=True)
    if spelling == "scaled":
        return net.add("Mul", signs, np.float32(0.5), grid=Grid(0.5, 0.5))
    return signs


def quantize(draw: Draw, net: Net) -> Value:
    """A quantizer to a few bits with a scale that is a power of two."""
    x = a_value(draw, net, lambda value: value.grid is not None)
    return choice(draw, (_rounded, _qdq, _floored))(draw, net, x)


def _selected(draw: Draw, net: Net, x: Value, spelling: str) -> Value:
    op = {"where": "GreaterOrEqual", "greater": "Greater", "less": choice(draw, ("Less", "LessOrEqual"))}[spelling]
    (chosen,) = net.node(op, x, np.float32(0))
    plus, minus = np.float32(1), np.float32(-1)
    if chance(draw, 4):
        plus, minus = np.full(x.shape, 1, np.float32), np.full(x.shape, -1, np.float32)
    first, second = (minus, plus) if spelling == "less" else (plus, minus)
    (name,) = net.node("Where", chosen, first, second)
    return net.keep(name, SIGNS)


def _cast(net: Net, x: Value) -> Value:
    (positive,) = net.node("Greater", x, np.float32(0))
    (number,) = net.node("Cast", positive, to=1)
    (doubled,) = net.node("Mul", number, np.float32(2))
    (name,) = net.node("Sub", doubled, np.float32(1))
    return net.keep(name, SIGNS)


def _shifted(draw: Draw, net: Net, x: Value) -> Value:
    """Moved by a constant per channel, as in ReActNet."""
    shape = choice(draw, [(), *([(x.shape[1], *[1] * (x.rank - 2))] if x.rank > 1 else [])])
    shift = net.random(*shape).integers(-3, 4, shape).astype(np.float32)
    return net.add(choice(draw, ("Add", "Sub")), x, shift, grid=total(x.grid, of_array(shift)))


def _rounded(draw: Draw, net: Net, x: Value) -> Value:
    """Clip and Round around a scale; the order is drawn."""
    step = np.float32(choice(draw, (1.0, 0.5, 0.25, 2.0)))
    low, high = choice(draw, ((-1, 1), (0, 3), (-2, 1), (0, 1), (-4, 3), (0, 15)))
    grid = x.grid and Grid(x.grid.step / float(step), x.grid.peak / float(step))
    scaled = net.add("Div", x, step, grid=grid) if chance(draw) else net.add("Mul", x, 1 / step, grid=grid)
    peak = float(max(-low, high))
    fine = scaled.grid and checked(min(1.0, scaled.grid.step), peak)
    if chance(draw):
        whole = net.add("Round", scaled, grid=scaled.grid and checked(1.0, scaled.grid.peak + 1))
        codes = net.add("Clip", whole, np.float32(low), np.float32(high), grid=Grid(1.0, peak))
    else:
        inside = net.add("Clip", scaled, np.float32(low), np.float32(high), grid=fine)
        codes = net.add("Round", inside, grid=Grid(1.0, peak))
    if step == 1 and chance(draw):
        return codes
    return net.add("Mul", codes, step, grid=product(codes.grid, Grid(float(step), float(step))))


def _qdq(draw: Draw, net: Net, x: Value) -> Value:
    """QuantizeLinear and DequantizeLinear, with an integer Clip or moved elements between them."""
    dtype = choice(draw, (np.int8, np.uint8))
    scale = np.float32(choice(draw, (1.0, 0.5, 0.125)))
    zero = dtype(choice(draw, (0, 1, 3, 100)))
    (codes,) = net.node("QuantizeLinear", x, scale, zero)
    if chance(draw, 3):
        low, high = (0, 3) if dtype is np.uint8 else (-2, 1)
        (codes,) = net.node("Clip", codes, dtype(low), dtype(high))
    moved = choice(draw, ("none", "none", "Identity", "Flatten", "Transpose", "Reshape"))
    if moved == "Reshape":
        (codes,) = net.node("Reshape", codes, np.int64([0, -1]) if x.rank > 1 else np.int64([1, -1]))
    elif moved != "none":
        (codes,) = net.node(moved, codes)
    (name,) = net.node("DequantizeLinear", codes, scale, zero)
    return net.keep(name, Grid(float(scale), 256 * float(scale)))


def _floored(draw: Draw, net: Net, x: Value) -> Value:
    """Round half up, spelt with Floor or Ceil."""
    moved = net.add("Add", x, np.float32(0.5), grid=total(x.grid, Grid(0.5, 0.5)))
    if moved.grid is None:
        raise Rejected
    whole = net.add(choice(draw, ("Floor", "Ceil")), moved, grid=checked(1.0, moved.grid.peak + 1))
    if chance(draw):
        return whole
    low, high = choice(draw, ((-1, 1), (0, 3), (-8, 7)))
    return net.add("Clip", whole, np.float32(low), np.float32(high), grid=Grid(1.0, float(max(-low, high))))
