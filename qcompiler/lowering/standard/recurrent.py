"""RNN, GRU and LSTM: in both directions, with any activations, clipping, peepholes and lengths of sequences.

An item is one sequence of the batch in one direction: it goes through all its time steps with its own state. With
constant weights the products read them transposed, so that neighbouring gates lie side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from tvm.script.ir_builder import tirx as T

from qcompiler.ir.view import constant_of, dtype_of, integer, number, shape_of, text
from qcompiler.lowering.call import StandardCall
from qcompiler.lowering.standard import skeleton
from qcompiler.lowering.standard.activations import Activation, activations
from qcompiler.lowering.standard.skeleton import Operand, kernel, loop, operand, present, refuse, variable, when
from qcompiler.targets.vector.emit import Expr, i64, split, write

DIRECTIONS = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}
GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
DEFAULTS = {"RNN": ("Tanh",), "GRU": ("Sigmoid", "Tanh"), "LSTM": ("Sigmoid", "Tanh", "Tanh")}
X, W, R, B, LENGTHS, H0, C0, P = range(8)


@dataclass(frozen=True)
class Sizes:
    """Extents of a recurrent layer."""

    steps: int
    batch: int
    inputs: int
    hidden: int
    directions: int
    gates: int
    batch_first: bool

    @property
    def rows(self) -> int:
        """Rows of the weights of one direction."""
        return self.gates * self.hidden


def recurrent(node: ir.Node) -> StandardCall:
    """Any of the three layers."""
    return _Layer(node).call()


class _Layer:
    def __init__(self, node: ir.Node) -> None:
        self.node = node
        self.kind = node.op_type
        directions = text(node, "direction", "forward")
        if directions not in DIRECTIONS or dtype_of(node.inputs[X]) != np.float32:
            raise refuse(node, f"with direction {directions} of {dtype_of(node.inputs[X]).name} is not known")
        if integer(node, "input_forget", 0):
            raise refuse(node, "couples input and forget gates (input_forget = 1)", "export it without")
        self.reversed = DIRECTIONS[directions]
        shape, first = shape_of(node.inputs[X]), bool(integer(node, "layout", 0))
        steps, batch = (shape[1], shape[0]) if first else (shape[0], shape[1])
        hidden = shape_of(node.inputs[R])[2]
        self.sizes = Sizes(steps, batch, shape[2], hidden, len(self.reversed), GATES[self.kind], first)
        self.clip = number(node, "clip", 0.0)
        self.functions = activations(node, DEFAULTS[self.kind], len(self.reversed))
        self.reset_late = bool(integer(node, "linear_before_reset", 0))
        self.operands: dict[str, Operand] = {}

    def call(self) -> StandardCall:
        """The kernel and its operands, in the order of their names here."""
        node, s = self.node, self.sizes
        items = s.directions * s.batch
        reads = {"x": operand(node.inputs[X]), "w": _weights(node.inputs[W]), "r": _weights(node.inputs[R])}
        optional = {"b": B, "lengths": LENGTHS, "h0": H0, "c0": C0, "p": P}
        reads |= {k: operand(v) for k, i in optional.items() if (v := present(node.inputs, i)) is not None}
        names = ["y", "yh", "yc"][: len(node.outputs)]
        writes = {k: operand(v) for i, k in enumerate(names) if (v := present(node.outputs, i)) is not None}
        floats = {"gates": s.rows, "recurrent": s.rows, "h": s.hidden, "c": s.hidden, "reset": s.hidden}
        temporaries = {name: Operand("float32", items * count) for name, count in floats.items()}
        order = [*reads, *writes, *temporaries]

        def body(buffers: list[Expr], item: Expr) -> None:
            self._sequence(dict(zip(order, buffers, strict=True)), item)

        return kernel(node, [*reads.values()], [*writes.values()], items, body, temporaries=[*temporaries.values()])

    def _sequence(self, memory: dict[str, Expr], item: Expr) -> None:
        direction, batch = split(item, self.sizes.batch)
        run = _Run(self, memory, item, direction, batch)
        if len(self.reversed) == 1:
            run.emit(self.reversed[0], self.functions[0])
            return
        when(
            direction == i64(0),
            lambda: run.emit(False, self.functions[0]),
            lambda: run.emit(True, self.functions[1]),
        )


def _weights(value: ir.Value) -> Operand:
    """Constant weights [directions, rows, columns] as [directions, columns, rows]; others as they are."""
    array = constant_of(value)
    return operand(value) if array is None else skeleton.constant(np.ascontiguousarray(array.transpose(0, 2, 1)))


@dataclass(frozen=True)
class _Run:
    """One sequence: memory by name, and which direction and sequence of the batch it is."""

    layer: _Layer
    memory: dict[str, Expr]
    item: Expr
    direction: Expr
    batch: Expr

    def emit(self, backwards: bool, functions: Sequence[Activation]) -> None:
        """All time steps."""
        sizes, memory = self.layer.sizes, self.memory
        length: Expr = i64(sizes.steps)
        if "lengths" in memory:
            length = T.bind(T.max(T.min(i64(memory["lengths"][self.batch]), i64(sizes.steps)), i64(0)))
        self._initial("h", "h0", length)
        self._initial("c", "c0", length)
        self._blank()
        with T.serial(i64(0), length) as number:
            at = T.bind(length - 1 - number if backwards else number)
            self._products("gates", memory["x"], self._input(at), "w", sizes.inputs)
            self._products("recurrent", memory["h"], self.item * sizes.hidden, "r", sizes.hidden)
            _CELLS[self.layer.kind](self, functions)
            if "y" in memory:
                with loop(sizes.hidden) as j:
                    write(memory["y"], self._state("h", j), self._output(at) + j)
        self._final("yh", "h")
        self._final("yc", "c")

    def _at(self, name: str, width: int, j: Expr) -> Expr:
        return self.item * width + j

    def _state(self, name: str, j: Expr) -> Expr:
        return self.memory[name][self.item * self.layer.sizes.hidden + j]

    def _set(self, name: str, j: Expr, value: Expr) -> None:
        write(self.memory[name], value, self.item * self.layer.sizes.hidden + j)

    def _input(self, at: Expr) -> Expr:
        s = self.layer.sizes
        return (self.batch * s.steps + at if s.batch_first else at * s.batch + self.batch) * s.inputs

    def _output(self, at: Expr) -> Expr:
        s = self.layer.sizes
        if s.batch_first:
            return ((self.batch * s.steps + at) * s.directions + self.direction) * s.hidden
        return ((at * s.directions + self.direction) * s.batch + self.batch) * s.hidden

    def _row(self) -> Expr:
        """Offset of this sequence in [directions, batch, hidden], or [batch, directions, hidden]."""
        s = self.layer.sizes
        if s.batch_first:
            return (self.batch * s.directions + self.direction) * s.hidden
        return (self.direction * s.batch + self.batch) * s.hidden

    def _initial(self, state: str, given: str, length: Expr) -> None:
        """The state before the first step; an empty sequence ends with zeros, as in onnxruntime, not with this."""
        with loop(self.layer.sizes.hidden) as j:
            value = self.memory[given][self._row() + j] if given in self.memory else T.float32(0)
            if given in self.memory and "lengths" in self.memory:
                value = T.Select(length > i64(0), value, T.float32(0))
            self._set(state, j, value)

    def _final(self, output: str, state: str) -> None:
        if output in self.memory:
            with loop(self.layer.sizes.hidden) as j:
                write(self.memory[output], self._state(state, j), self._row() + j)

    def _blank(self) -> None:
        """Zeros where the sequence is shorter than the longest."""
        if "y" not in self.memory or "lengths" not in self.memory:
            return
        with loop(self.layer.sizes.steps) as at, loop(self.layer.sizes.hidden) as j:
            write(self.memory["y"], T.float32(0), self._output(at) + j)

    def _products(self, into: str, x: Expr, start: Expr, weights: str, columns: int) -> None:
        """Into = bias + W x, for all rows."""
        rows, memory = self.layer.sizes.rows, self.memory
        bias = self.direction * (2 * rows) + (0 if weights == "w" else rows)
        with loop(rows) as row:
            value = memory["b"][bias + row] if "b" in memory else T.float32(0)
            write(memory[into], value, self.item * rows + row)
        if constant_of(self.layer.node.inputs[W if weights == "w" else R]) is None:
            with loop(rows) as row, loop(columns) as column:
                at = self.item * rows + row
                product = memory[weights][(self.direction * rows + row) * columns + column] * x[start + column]
                write(memory[into], memory[into][at] + product, at)
        else:
            with loop(columns) as column:
                factor = T.bind(x[start + column])
                with loop(rows) as row:
                    at = self.item * rows + row
                    product = memory[weights][(self.direction * columns + column) * rows + row] * factor
                    write(memory[into], memory[into][at] + product, at)

    def part(self, name: str, gate: int, j: Expr) -> Expr:
        """Row j of a gate in "gates" or "recurrent"."""
        s = self.layer.sizes
        return self.memory[name][self.item * s.rows + gate * s.hidden + j]

    def gate(self, gate: int, j: Expr, function: Activation, more: Expr | None = None) -> Expr:
        """The activated sum of a gate's two products and `more`."""
        total = self.part("gates", gate, j) + self.part("recurrent", gate, j)
        return T.bind(function(self.clipped(total if more is None else total + more)))

    def clipped(self, value: Expr) -> Expr:
        """A value within the layer's clipping threshold."""
        bound = self.layer.clip
        return T.max(T.min(value, T.float32(bound)), T.float32(-bound)) if bound > 0 else value

    def peephole(self, index: int, j: Expr, state: Expr) -> Expr | None:
        """The contribution of the cell state to gate number `index` of input, output, forget."""
        if "p" not in self.memory:
            return None
        hidden = self.layer.sizes.hidden
        return self.memory["p"][self.direction * (3 * hidden) + index * hidden + j] * state


def _rnn(run: _Run, functions: Sequence[Activation]) -> None:
    with loop(run.layer.sizes.hidden) as j:
        run._set("h", j, run.gate(0, j, functions[0]))


def _gru(run: _Run, functions: Sequence[Activation]) -> None:
    """Gates: update, reset, hidden. The reset applies before or after the recurrent product of the hidden gate."""
    layer, (f, g) = run.layer, functions
    hidden = layer.sizes.hidden
    with loop(hidden) as j:
        reset = run.gate(1, j, f)
        run._set("reset", j, reset if layer.reset_late else reset * run._state("h", j))
    if not layer.reset_late:
        _reset_product(run)
    with loop(hidden) as j:
        update = run.gate(0, j, f)
        again = run.part("recurrent", 2, j)
        scaled = run._state("reset", j) * again if layer.reset_late else again
        candidate = T.bind(g(run.clipped(run.part("gates", 2, j) + scaled)))
        run._set("c", j, (T.float32(1) - update) * candidate + update * run._state("h", j))
    with loop(hidden) as j:
        run._set("h", j, run._state("c", j))


def _reset_product(run: _Run) -> None:
    """The recurrent product of the hidden gate anew, on the state after the reset."""
    s, memory = run.layer.sizes, run.memory
    constant = constant_of(run.layer.node.inputs[R]) is not None
    with loop(s.hidden) as j:
        row = j + 2 * s.hidden
        bias = run.direction * (2 * s.rows) + s.rows + row
        total = variable("float32", memory["b"][bias] if "b" in memory else T.float32(0))
        with loop(s.hidden) as k:
            at = (
                (run.direction * s.hidden + k) * s.rows + row
                if constant
                else ((run.direction * s.rows + row) * s.hidden + k)
            )
            write(total, total[0] + memory["r"][at] * run._state("reset", k), i64(0))
        write(memory["recurrent"], total[0], run.item * s.rows + row)


def _lstm(run: _Run, functions: Sequence[Activation]) -> None:
    """Gates: input, output, forget, cell."""
    f, g, h = functions
    with loop(run.layer.sizes.hidden) as j:
        cell = T.bind(run._state("c", j))
        entry = run.gate(0, j, f, run.peephole(0, j, cell))
        forget = run.gate(2, j, f, run.peephole(2, j, cell))
        candidate = run.gate(3, j, g)
        new = T.bind(forget * cell + entry * candidate)
        out = run.gate(1, j, f, run.peephole(1, j, new))
        run._set("c", j, new)
        run._set("h", j, out * h(new))


_CELLS: dict[str, Any] = {"RNN": _rnn, "GRU": _gru, "LSTM": _lstm}
