"""A network under construction: nodes, constants, and what is known of every value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.shape_inference import infer_node_outputs

from tests.fuzz.bodies import DOMAIN, bodies_of
from tests.fuzz.grid import Grid

Array = npt.NDArray[Any]

IR_VERSION = 10
MOST_ELEMENTS = 8192


@dataclass(frozen=True)
class Value:
    """A value of the graph, float32 where nodes may read it.

    grid: which numbers it can hold, None where they are rounded. clear: its elements are so far from zero, or exactly
    zero, that rounding does not change their sign.
    """

    name: str
    shape: tuple[int, ...]
    grid: Grid | None
    clear: bool = False
    dtype: int = TensorProto.FLOAT

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return prod(self.shape)

    @property
    def has_sign(self) -> bool:
        """Whether every right implementation finds the same signs."""
        return self.clear or self.grid is not None


Operand = Value | Array | str | None


class Rejected(Exception):
    """A node that does not fit where it was tried."""


@dataclass(frozen=True)
class Network:
    """A finished network.

    inputs: the grid of each input by name. exact: the grids of the outputs that must be equal bit for bit.
    """

    model: onnx.ModelProto
    inputs: dict[str, Grid]
    exact: dict[str, Grid]


class Net:
    """Builds a network node by node; `values` are those that later nodes may read, oldest first.

    naming: the names of values, from numbers. constant_nodes: whether constants are nodes, not initializers.
    shared: whether equal constants are one.
    """

    def __init__(
        self, opset: int, seed: int, naming: str = "v{}", constant_nodes: bool = False, shared: bool = False
    ) -> None:
        self.opset = opset
        self._naming = naming
        self._constant_nodes = constant_nodes
        self._shared = shared
        self.values: list[Value] = []
        self.extra_outputs: list[Value] = []
        self._seed = seed
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}
        self._types: dict[str, onnx.TypeProto] = {}
        self._inputs: list[Value] = []
        self._ends: list[Value] = []
        self._drawn: dict[tuple[int, ...], int] = {}

    def input(self, shape: Sequence[int], grid: Grid) -> Value:
        """A new graph input."""
        value = Value(f"in{len(self._inputs)}", tuple(shape), grid)
        self._types[value.name] = _tensor_type(TensorProto.FLOAT, value.shape)
        self._inputs.append(value)
        self.values.append(value)
        return value

    def random(self, *shape: int) -> np.random.Generator:
        """Random numbers for a constant of this shape, the same whatever else the network holds."""
        count = self._drawn[shape] = self._drawn.get(shape, 0) + 1
        return np.random.default_rng([self._seed, count, *shape])

    def constant(self, array: Array) -> str:
        """The name of an initializer."""
        tensor = numpy_helper.from_array(np.asarray(array))
        equal = (name for name, other in self._constants.items() if _same(other, tensor))
        if self._shared and (found := next(equal, None)):
            return found
        tensor.name = name = f"c{len(self._constants)}"
        self._constants[name] = tensor
        self._types[name] = _tensor_type(tensor.data_type, tuple(tensor.dims))
        return name

    def node(
        self, op: str, *operands: Operand, outputs: int = 1, shape: Sequence[int] | None = None, **attributes: Any
    ) -> list[str]:
        """Add a node of any types; gives the names of its outputs. Raises Rejected where it does not fit.

        shape: of its float32 output, where ONNX does not find it.
        """
        names = [self._name(operand) for operand in operands]
        number = str(len(self._nodes))
        results = [self._naming.format(f"{number}_{index}" if index else number) for index in range(outputs)]
        made = helper.make_node(op, names, results, name=f"n{number}_{op}", **attributes)
        self._types.update(self._inferred(made, names) if shape is None else {results[0]: _tensor_type(1, shape)})
        self._nodes.append(made)
        return results

    def add(self, op: str, *operands: Operand, grid: Grid | None, clear: bool = False, **attributes: Any) -> Value:
        """Add a node with one float32 output and let later nodes read it."""
        (name,) = self.node(op, *operands, **attributes)
        return self.keep(name, grid, clear=clear)

    def keep(self, name: str, grid: Grid | None, *, clear: bool = False) -> Value:
        """Let later nodes read a value."""
        value = Value(name, self.shape(name), grid, clear)
        if not 0 < value.size <= MOST_ELEMENTS or value.rank > 6:
            self._nodes.pop()
            raise Rejected
        self.values.append(value)
        return value

    def alike(self, op: str, value: Value, *operands: Operand, **attributes: Any) -> Value:
        """Add a node that moves the elements of `value`."""
        return self.add(op, value, *operands, grid=value.grid, clear=value.clear, **attributes)

    def shape(self, name: str) -> tuple[int, ...]:
        """The static shape of any value."""
        return tuple(dim.dim_value for dim in self._types[name].tensor_type.shape.dim)

    def end(self, name: str, shape: tuple[int, ...], grid: Grid | None) -> Value:
        """Make a value of the shape `shape`, whatever ONNX infers, an output that no node reads."""
        value = Value(name, shape, grid, dtype=self._types[name].tensor_type.elem_type)
        self._ends.append(value)
        return value

    def finish(self, name: str = "fuzzed") -> Network:
        """The network of all values that nobody reads, and of `extra_outputs`. Raises Rejected where there is none."""
        read = {operand for node in self._nodes for operand in node.input}
        produced = {result for node in self._nodes for result in node.output}
        outputs = [v for v in self.values if v.name in produced and (v.name not in read or v in self.extra_outputs)]
        outputs += self._ends
        nodes = needed(self._nodes, [value.name for value in outputs])
        used = {operand for node in nodes for operand in node.input}
        inputs = [value for value in self._inputs if value.name in used]
        if not outputs or not inputs:
            raise Rejected
        constants = [tensor for key, tensor in self._constants.items() if key in used]
        if self._constant_nodes:
            made = [helper.make_node("Constant", [], [tensor.name], value=tensor) for tensor in constants]
            nodes, constants = [*made, *nodes], []
        graph = helper.make_graph(nodes, name, list(map(_info, inputs)), list(map(_info, outputs)), constants)
        functions, opsets = bodies_of(nodes), [helper.make_opsetid("", self.opset)]
        opsets += [helper.make_opsetid(DOMAIN, 1)] if functions else []
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, functions=functions)
        exact = {value.name: value.grid for value in outputs if value.grid}
        return Network(model, {value.name: value.grid for value in inputs if value.grid}, exact)

    def _name(self, operand: Operand) -> str:
        if operand is None or isinstance(operand, str):
            return operand or ""
        return operand.name if isinstance(operand, Value) else self.constant(operand)

    def _inferred(self, node: onnx.NodeProto, names: Sequence[str]) -> dict[str, onnx.TypeProto]:
        schema = onnx.defs.get_schema(node.op_type, self.opset)
        types = {name: self._types[name] for name in names if name}
        data = {name: self._constants[name] for name in names if name in self._constants}
        opsets = [helper.make_opsetid("", self.opset)]
        try:
            found = infer_node_outputs(schema, node, types, data, opset_imports=opsets, ir_version=IR_VERSION)
        except Exception as error:
            raise Rejected(str(error)) from error
        tensors = [kind.tensor_type for kind in found.values()]
        if any(not tensor.HasField("shape") or not all(d.dim_value for d in tensor.shape.dim) for tensor in tensors):
            raise Rejected(f"no shape is known of {node.op_type}")
        return found


def needed(nodes: Sequence[onnx.NodeProto], wanted: Sequence[str]) -> list[onnx.NodeProto]:
    """The nodes that compute the wanted values, in their order."""
    needed, kept = set(wanted), []
    for node in reversed(nodes):
        if needed.intersection(node.output):
            needed.update(node.input)
            kept.append(node)
    return kept[::-1]


def _same(left: onnx.TensorProto, right: onnx.TensorProto) -> bool:
    return (left.data_type, left.dims, left.raw_data) == (right.data_type, right.dims, right.raw_data)


def _tensor_type(dtype: int, shape: Sequence[int]) -> onnx.TypeProto:
    return helper.make_tensor_type_proto(dtype, list(shape))


def _info(value: Value) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(value.name, value.dtype, list(value.shape))
