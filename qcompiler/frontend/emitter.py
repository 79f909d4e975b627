"""The canonical graph under construction: nodes at the project's opset, typed as they are added."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from qcompiler.errors import InvalidModel, QCompilerError, UnsupportedModel
from qcompiler.frontend.consistency import check_integers, check_shapes, refusal
from qcompiler.frontend.evaluate_nodes import (
    MAX_KNOWN_ELEMENTS,
    evaluate,
    evaluate_constants,
    output_types,
    sizes_and_type,
)
from qcompiler.frontend.read import MAX_NODES
from qcompiler.frontend.stored_tensors import TWO_BIT_RANGES, check_computed, check_stored, widened
from qcompiler.frontend.structure import label
from qcompiler.ir.ops import DOMAIN
from qcompiler.ir.provenance import SOURCE

Array = npt.NDArray[Any]

# elements and nodes of a constant that is computed for a parameter; chosen
_MAX_COMPUTED = 2**20
_MAX_EVALUATED = 64
_RECURRENT = frozenset({"GRU", "LSTM", "RNN"})
_WINDOWS = frozenset({"Conv", "ConvTranspose", "MaxPool", "AveragePool", "LpPool"})


class Emitter:
    """Nodes, constants and types of the graph built so far.

    `base` is the name of the original node being rewritten: new nodes and values are named after it.
    reserved: names of values still to come; outputs: those of graph outputs, which stay results of nodes.
    """

    def __init__(self, reserved: set[str], outputs: Collection[str] = ()) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, onnx.TensorProto] = {}
        self.types: dict[str, onnx.TypeProto] = {}
        self.base = ""
        self._varying: set[str] = set()
        self._two_bit: dict[str, tuple[int, int]] = {}
        self._known: dict[str, Array] = {}
        self._outputs = frozenset(outputs)
        self._value_names = dict.fromkeys(reserved, 1)
        self._positions: dict[str, int] = {}
        self._node_names: dict[str, int] = {}

    def fresh(self, hint: str) -> str:
        """A value name not used anywhere in the graph."""
        return _unique(hint, self._value_names)

    def shape(self, name: str) -> tuple[int, ...]:
        """Static shape of a value."""
        return sizes_and_type(self.types[name])[0]

    def element_type(self, name: str) -> int:
        """onnx.TensorProto.DataType of a value."""
        return sizes_and_type(self.types[name])[1]

    def constant_value(self, name: str) -> Array | None:
        """The value of an initializer, None for anything else."""
        if name in self._known:
            return self._known[name]
        tensor = self.initializers.get(name)
        return None if tensor is None else np.asarray(onnx.numpy_helper.to_array(tensor))

    def computed_value(self, name: str) -> Array | None:
        """The value of an initializer, or of what nodes compute from initializers alone; None for anything else.

        For parameters of quantizers, which exporters leave to a few nodes: no more are evaluated.
        """
        found = self.constant_value(name)
        if found is not None or math.prod(self.shape(name)) > _MAX_COMPUTED:
            return found
        needed: set[int] = set()
        waiting = [name]
        while waiting:
            current = waiting.pop()
            position = self._positions.get(current)
            if current in self.initializers or position in needed:
                continue
            if position is None or len(needed) == _MAX_EVALUATED:
                return None
            needed.add(position)
            waiting.extend(filter(None, self.nodes[position].input))
        return evaluate_constants([self.nodes[i] for i in sorted(needed)], name, self.types, self.initializers)

    def producer(self, name: str) -> onnx.NodeProto | None:
        """The node that makes a value; None for inputs and constants."""
        return self.nodes[self._positions[name]] if name in self._positions else None

    def two_bit_range(self, name: str) -> tuple[int, int] | None:
        """The range of the two-bit type that a constant had in the file; None for other constants and values."""
        return self._two_bit.get(name)

    def are_outputs(self, names: Collection[str]) -> bool:
        """Whether any of the values is an output of the graph, and so has to be computed by a node."""
        return not self._outputs.isdisjoint(names)

    def add_input(self, value: onnx.ValueInfoProto) -> None:
        """Declare a graph input."""
        self.types[value.name] = value.type
        self._varying.add(value.name)

    def add_initializer(self, name: str, tensor: onnx.TensorProto) -> None:
        """Check a stored tensor and take it over under `name`; weights can be large, so it is not copied."""
        check_stored(tensor, f"constant '{name}'", self.base)
        stored = widened(tensor)
        if tensor.data_type in TWO_BIT_RANGES:
            self._two_bit[name] = TWO_BIT_RANGES[tensor.data_type]
        stored.name = name
        stored.ClearField("doc_string")
        self.initializers[name] = stored
        tensor = stored
        self.types[name] = onnx.helper.make_tensor_type_proto(tensor.data_type, list(tensor.dims))
        if math.prod(tensor.dims) <= MAX_KNOWN_ELEMENTS:
            self._known[name] = np.asarray(onnx.numpy_helper.to_array(tensor))

    def constant(self, value: npt.ArrayLike, hint: str, dtype: npt.DTypeLike = np.float32) -> str:
        """A new initializer named after the current node; returns its name."""
        name = self.fresh(f"{self.base}/{hint}")
        self.add_initializer(name, onnx.numpy_helper.from_array(np.asarray(value, dtype)))
        return name

    def op(
        self, op_type: str, inputs: Sequence[str], outputs: Sequence[str] = (), domain: str = "", **settings: object
    ) -> str:
        """Add a node named after the current one; returns its first output, a fresh name unless given."""
        names = list(outputs) or [self.fresh(f"{self.base}/{op_type.lower()}")]
        name = self.base if outputs else f"{self.base}/{op_type.lower()}"
        self.place(onnx.helper.make_node(op_type, inputs, names, name=name, domain=domain, **settings))
        return names[0]

    def place(self, node: onnx.NodeProto) -> None:
        """Add a canonical node whose names are final; a small constant shape computation becomes its value."""
        if len(self.nodes) >= MAX_NODES:
            raise InvalidModel(f"the model expands to more than {MAX_NODES} nodes", remedy="split the model")
        for name in node.input:
            if name and name not in self.types:
                raise InvalidModel(
                    f"input '{name}' is defined nowhere",
                    node=label(node),
                    remedy="the file is damaged; export it again",
                )
        check_integers(node)
        self.types |= output_types(node, self.types, self._known)
        values = evaluate(node, self.types, self._known)
        if values is not None and not self._outputs.intersection(node.output):
            for name, value in values.items():
                self.add_initializer(name, onnx.numpy_helper.from_array(value))
            return
        if values is not None and node.op_type in ("Shape", "Size"):
            ((name, value),) = values.items()
            node = onnx.helper.make_node("Identity", [self.constant(value, "value", value.dtype)], [name], node.name)
        for name in filter(None, node.output):
            check_computed(self.element_type(name), f"output '{name}'", label(node))
        check_shapes(node, [self.shape(name) if name else () for name in node.input], self.shape(_first(node.output)))
        if self._drop_empty(node):
            return
        self._check_operands(node)
        if not self._varying.isdisjoint(node.input):
            self._varying.update(filter(None, node.output))
        node.name = _unique(label(node), self._node_names)
        if self.base not in ("", node.name):
            node.metadata_props.append(onnx.StringStringEntryProto(key=SOURCE, value=self.base))
        self._positions.update(dict.fromkeys(filter(None, node.output), len(self.nodes)))
        self.nodes.append(node)

    def _check_operands(self, node: onnx.NodeProto) -> None:
        """Refuse data without elements beside data of the run; axes, sizes and the like may be an empty list.

        What is computed from constants alone is onnxruntime's business, which no sequence without steps survives.
        """
        if self._varying.isdisjoint(node.input) and node.op_type not in _RECURRENT:
            return
        for name in filter(None, node.input):
            shape, kind = sizes_and_type(self.types[name])
            if 0 in shape and (kind != onnx.TensorProto.INT64 or len(shape) > 1):
                raise UnsupportedModel(
                    f"{node.op_type} reads '{name}' of shape {list(shape)}, which has no elements",
                    node=label(node),
                    remedy="remove the operand",
                )

    def _drop_empty(self, node: onnx.NodeProto) -> bool:
        """Make constants of results without elements: there is nothing in them to compute."""
        outputs = [name for name in node.output if name]
        empty = [name for name in outputs if 0 in self.shape(name)]
        if not empty:
            return False
        if len(empty) < len(outputs) or self.are_outputs(empty):
            raise self._empty(node, self.shape(empty[0]))
        for name in empty:
            dtype = onnx.helper.tensor_dtype_to_np_dtype(self.element_type(name))
            self.add_initializer(name, onnx.numpy_helper.from_array(np.zeros(self.shape(name), dtype)))
        return True

    def _empty(self, node: onnx.NodeProto, shape: tuple[int, ...]) -> QCompilerError:
        """What is wrong with a result without elements: windows that do not fit are a mistake, others are none."""
        operands = [self.shape(name) for name in node.input if name]
        if node.op_type in _WINDOWS and 0 not in (*operands[0], *shape[:2]):
            return refusal(node, f"gives an empty result of shape {list(shape)}")
        return UnsupportedModel(
            f"{node.op_type} gives an empty result of shape {list(shape)}, expected elements",
            node=label(node),
            remedy="remove the output, or give the sizes that make it with --shape",
        )

    def binarize(self, x: str, outputs: Sequence[str] = (), zero: float = 1.0) -> str:
        """Add a qcompiler::Binarize node."""
        return self.op("Binarize", [x], outputs, DOMAIN, zero=zero)


def _first(names: Sequence[str]) -> str:
    return next(name for name in names if name)


def _unique(hint: str, taken: dict[str, int]) -> str:
    """`hint`, with a number appended if needed; `taken` counts the uses of every name."""
    name = hint
    while name in taken:
        taken[hint] += 1
        name = f"{hint}_{taken[hint]}"
    taken[name] = 1
    return name
