"""RNN, GRU and LSTM on short sequences; an RNN with Relu is exact, the others are rounded."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.fuzz.draws import Draw, a_value, chance, choice
from tests.fuzz.grid import Grid, of_array, product, total
from tests.fuzz.net import Array, Net, Value

_GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
_MOST_STEPS = 6


def recurrent(draw: Draw, net: Net) -> Value:
    """A recurrent layer [length, batch, channels]; its whole output or the last state goes on."""
    x = a_value(draw, net, lambda value: value.rank == 3 and value.shape[0] <= _MOST_STEPS and value.shape[2] <= 64)
    op, hidden = choice(draw, ("RNN", "GRU", "LSTM")), choice(draw, (2, 1, 3, 5, 8))
    direction = choice(draw, ("forward", "reverse", "bidirectional"))
    ways, gates = (2 if direction == "bidirectional" else 1), _GATES[op] * hidden
    w, r = _coarse(net, ways, gates, x.shape[2]), _coarse(net, ways, gates, hidden)
    b = _coarse(net, ways, 2 * gates) if chance(draw) else None
    attributes: dict[str, Any] = {"hidden_size": hidden} | (
        {"direction": direction} if ways == 2 or chance(draw) else {}
    )
    grid = None
    if op == "RNN":
        attributes["activations"] = ["Relu"] * ways
        grid = _states(x, w, r, b)
    elif x.grid is None or x.grid.peak > 16:
        # where a gate is steep, rounding of what it reads shows
        x = net.add("Clip", x, np.float32(-4), np.float32(4), grid=None)
    if op == "GRU" and chance(draw):
        attributes["linear_before_reset"] = 1
    names = net.node(op, x, w, r, b, outputs=2, **attributes)
    return net.keep(names[0] if chance(draw) else names[1], grid)


def _coarse(net: Net, *shape: int) -> Array:
    return net.random(*shape).integers(-2, 3, shape).astype(np.float32) / 4


def _states(x: Value, w: Array, r: Array, b: Array | None) -> Grid | None:
    """The grid of all states, step by step."""
    entering, states = _sums(w, x.grid), Grid(1.0, 1.0)
    found: Grid | None = states
    for _ in range(x.shape[0]):
        found = total(entering, _sums(r, found), Grid(0.25, 0.0) if b is None else product(of_array(b), Grid(1.0, 2.0)))
    return found


def _sums(weights: Array, x: Grid | None) -> Grid | None:
    own = of_array(weights)
    largest = float(np.abs(weights).sum(-1).max())
    return None if own is None else product(Grid(own.step, max(largest, own.step)), x)
