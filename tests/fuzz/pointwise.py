"""Activations, and arithmetic between values and with constants of any shape."""

from __future__ import annotations

import numpy as np

from tests.fuzz.draws import Draw, a_value, chance, choice
from tests.fuzz.grid import Grid, checked, joined, of_array, product, total
from tests.fuzz.net import Net, Rejected, Value

_ROUNDED = ("Sigmoid", "HardSwish", "Tanh", "Softplus", "Elu", "Erf", "Exp")


def activation(draw: Draw, net: Net) -> Value:
    """An activation whose results are exact."""
    x = a_value(draw, net)
    kind = choice(draw, ("Relu", "Clip", "LeakyRelu", "PRelu", "HardSigmoid", "Abs", "Neg", "Relu6"))
    if kind == "Relu":
        return net.add("Relu", x, grid=x.grid, clear=x.clear)
    if kind in ("Abs", "Neg"):
        return net.add(kind, x, grid=x.grid, clear=x.clear)
    if kind == "Relu6":
        return net.add("Clip", x, np.float32(0), np.float32(6), grid=x.grid and checked(x.grid.step, 6.0))
    if kind == "Clip":
        return net.add(
            "Clip", x, np.float32(-1), np.float32(1), grid=x.grid and checked(x.grid.step, 1.0), clear=x.clear
        )
    if kind == "HardSigmoid":
        grid = x.grid and checked(min(x.grid.step * 0.25, 0.5), 1.0)
        return net.add("HardSigmoid", x, grid=grid, alpha=0.25, beta=0.5)
    if kind == "LeakyRelu":
        return net.add("LeakyRelu", x, grid=product(x.grid, Grid(0.25, 1.0)), clear=x.clear, alpha=0.25)
    return _prelu(draw, net, x)


def rounded_activation(draw: Draw, net: Net) -> Value:
    """An activation whose results are rounded; large inputs are cut first."""
    x = a_value(draw, net)
    kind = choice(draw, _ROUNDED)
    if kind == "HardSwish" and net.opset < 14:
        raise Rejected
    if x.grid is None or x.grid.peak > 64:
        x = net.add("Clip", x, np.float32(-4), np.float32(4), grid=None)
    return net.add(kind, x, grid=None)


def swish(draw: Draw, net: Net) -> Value:
    """A value times its own sigmoid or hard sigmoid: read twice."""
    x = a_value(draw, net)
    gate = net.add("HardSigmoid", x, grid=None, alpha=1 / 6) if chance(draw) else net.add("Sigmoid", x, grid=None)
    return net.add("Mul", x, gate, grid=None)


def two_values(draw: Draw, net: Net) -> Value:
    """Arithmetic between two values of one shape or of shapes that broadcast."""
    left = a_value(draw, net)
    right = a_value(draw, net, lambda value: _broadcasts(left.shape, value.shape))
    op = choice(draw, ("Add", "Mul", "Sub", "Max", "Min"))
    if op == "Mul":
        return net.add(op, left, right, grid=product(left.grid, right.grid))
    if op in ("Max", "Min"):
        return net.add(op, left, right, grid=joined(left.grid, right.grid))
    return net.add(op, left, right, grid=total(left.grid, right.grid))


def residual(draw: Draw, net: Net) -> Value:
    """A sum with an older value of the same shape."""
    left = net.values[-1]
    right = a_value(draw, net, lambda value: value.shape == left.shape and value is not left)
    return net.add("Add", left, right, grid=total(left.grid, right.grid))


def constant_operand(draw: Draw, net: Net) -> Value:
    """Arithmetic with a constant: 0-d, of one element, along any axis, or of the full shape."""
    x = a_value(draw, net)
    options = [(), (1,), (1,) * x.rank, x.shape]
    options += [(x.shape[axis], *[1] * (x.rank - axis - 1)) for axis in range(x.rank)]
    options += [tuple(n if a == axis else 1 for a, n in enumerate(x.shape)) for axis in range(x.rank)]
    shape = choice(draw, options)
    op = choice(draw, ("Add", "Mul", "Sub", "Div"))
    random = net.random(*shape)
    if op in ("Add", "Sub"):
        array = random.integers(-4, 5, shape).astype(np.float32) / 2
        grid = total(x.grid, of_array(array))
    else:
        array = random.choice(np.float32([1, -1, 0.5, 2, 0.25]), shape)
        grid = product(x.grid, of_array(1 / array if op == "Div" else array))
    operands = (array, x) if op != "Div" and chance(draw, 4) else (x, array)
    return net.add(op, *operands, grid=grid)


def select(draw: Draw, net: Net) -> Value:
    """Where between two values or a constant, by the sign of a third that is exact."""
    x = a_value(draw, net, lambda value: value.grid is not None)
    other = a_value(draw, net, lambda value: value.shape == x.shape)
    (condition,) = net.node(choice(draw, ("Greater", "Less")), x, np.float32(0.5))
    if chance(draw):
        return net.add("Where", condition, other, np.float32(0), grid=other.grid)
    return net.add("Where", condition, x, other, grid=joined(x.grid, other.grid))


def power(draw: Draw, net: Net) -> Value:
    """The square of a value: by Pow, or as a product with itself."""
    x = a_value(draw, net)
    if chance(draw):
        return net.add("Pow", x, np.float32(2), grid=product(x.grid, x.grid))
    return net.add("Mul", x, x, grid=product(x.grid, x.grid))


def whole_numbers(draw: Draw, net: Net) -> Value:
    """A detour through integers, which truncate towards zero."""
    x = a_value(draw, net, lambda value: value.grid is not None and value.grid.peak < 2**20)
    assert x.grid is not None
    dtype, kind = choice(draw, ((np.int32, 6), (np.int64, 7)))
    (cast,) = net.node("Cast", x, to=kind)
    (moved,) = net.node(choice(draw, ("Add", "Mul", "Sub")), cast, dtype(2))
    grid = total(checked(1.0, 2 * x.grid.peak), Grid(1.0, 2.0))
    return net.add("Cast", moved, grid=grid, to=1)


def comparison(draw: Draw, net: Net) -> Value:
    """A comparison whose truth values end a network."""
    x = a_value(draw, net, lambda value: value.grid is not None)
    other = choice(draw, (np.float32(0), np.float32(0.5)))
    (name,) = net.node(choice(draw, ("Greater", "LessOrEqual", "Equal")), x, other)
    return net.end(name, net.shape(name), Grid(1.0, 1.0))


def _prelu(draw: Draw, net: Net, x: Value) -> Value:
    shapes = [(1,), ()] if x.rank < 2 else [(x.shape[1], *[1] * (x.rank - 2)), (1,), ()]
    shape = choice(draw, shapes)
    slope = net.random(*shape).choice(np.float32([0.25, 0.5, 0.125, -0.5]), shape)
    clear = x.clear and bool(np.all(slope > 0))
    return net.add("PRelu", x, np.asarray(slope, np.float32), grid=product(x.grid, Grid(0.125, 1.0)), clear=clear)


def _broadcasts(left: tuple[int, ...], right: tuple[int, ...]) -> bool:
    return all(a == b or 1 in (a, b) for a, b in zip(left[::-1], right[::-1], strict=False))
