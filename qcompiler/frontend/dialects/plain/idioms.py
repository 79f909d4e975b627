"""Binarization written in plain ONNX, rewritten to qcompiler::Binarize.

A value that is a symmetric step function becomes Mul(Binarize(source - threshold), scale), without the
subtraction at threshold 0 and without the product at scale 1. x - t has the sign of the comparison of x with t for all
finite numbers, so nothing is lost. On the way, `x + (q - x)`, which is what remains in a file of a straight-through
estimator, becomes q: the file's arithmetic meant q, and differs from it by rounding only.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from qcompiler.frontend.dialects.plain.known_constants import KnownConstants
from qcompiler.frontend.dialects.plain.rounding import rounded_step
from qcompiler.frontend.dialects.plain.step_functions import StepFunction, step_function_of
from qcompiler.ir.ops import DOMAIN, attach_functions
from qcompiler.ir.provenance import NOTE, SOURCE
from qcompiler.ir.view import constant_of

_ROUNDINGS = ("Round", "Floor", "Ceil", "Sign", "Binarize", "Quantize")
_SCALINGS = ("Mul", "Div", "Neg")
_SHIFTS = ("Add", "Sub", "Clip", "Identity")


def recognize_binarization(model: ir.Model) -> int:
    """Rewrite the binarization idioms of `model` in place; returns how many values were rewritten."""
    graph = model.graph
    rewriting = _Rewriting(graph)
    for node in list(graph):
        rewriting.visit(node)
    RemoveUnusedNodesPass()(model)
    attach_functions(model)
    return rewriting.count


def _negated(value: ir.Value) -> ir.Value | None:
    """x, where `value` is -x."""
    node = value.producer()
    if node is None or node.domain != "":
        return None
    if node.op_type == "Neg":
        return node.inputs[0]
    if node.op_type == "Mul":
        for x, factor in (node.inputs, node.inputs[::-1]):
            constant = constant_of(factor)
            if constant is not None and constant.size == 1 and constant.reshape(()) == -1:
                return x
    return None


def _note(value: ir.Value, note: str) -> None:
    node = value.producer()
    if node is not None:
        node.metadata_props[NOTE] = "; ".join(filter(None, (node.metadata_props.get(NOTE), note)))


class _Rewriting:
    """One pass over a graph in topological order."""

    def __init__(self, graph: ir.Graph) -> None:
        self.count = 0
        self._graph = graph
        self._constants = KnownConstants()
        self._steps: dict[ir.Value, StepFunction] = {}
        self._quantized: set[ir.Value] = set()
        self._codes: list[tuple[StepFunction, ir.Value]] = []
        self._made: set[ir.Node] = set()
        self._names = {value.name for value in graph.inputs} | set(graph.initializers)
        for node in graph:
            self._names.update((node.name, *(value.name for value in node.outputs)))

    def visit(self, node: ir.Node) -> None:
        """Note what `node` computes, and rewrite it if it binarizes."""
        quantized = self._detached(node)
        if quantized is not None:
            self._substitute(node, quantized)
            _note(quantized, f"the straight-through arithmetic around '{node.name}' is taken as what it rounds to")
            return
        value = node.outputs[0]
        self._constants.note(node)
        step = step_function_of(node, self._steps, self._constants) or rounded_step(node, self._constants)
        if step is not None:
            self._steps[value] = step
        if step is not None or self._is_quantized(node):
            self._quantized.add(value)
        if step is not None and step.symmetric and not self._is_settled(node, step):
            self._rewrite(node, step)
        elif step is None and node.op_type == "Where":
            self._rewrite_chosen_sign(node)

    def _detached(self, node: ir.Node) -> ir.Value | None:
        """q, where `node` is x + (q - x), x - (x - q) or (x - x) + q."""
        if node.op_type not in ("Add", "Sub") or node.domain != "":
            return None
        first, second = node.inputs[:2]
        orders = [(first, second), (second, first)] if node.op_type == "Add" else [(first, second)]
        for x, difference in orders:
            inner = None if difference is None else difference.producer()
            if inner is None or inner.op_type != "Sub" or inner.domain != "":
                continue
            left, right = inner.inputs[:2]
            if node.op_type == "Add" and left is right:
                found, fits = x, True
            elif node.op_type == "Add":
                found, fits = left, right is x
            else:
                found, fits = right, left is x
            if fits and found in self._quantized and found.shape == node.outputs[0].shape:
                return found
        return None

    def _is_quantized(self, node: ir.Node) -> bool:
        if node.op_type in _ROUNDINGS and node.domain in ("", DOMAIN):
            return True
        if node.domain != "" or not any(value in self._quantized for value in node.inputs):
            return False
        others = [value for value in node.inputs if value is not None and value not in self._quantized]
        constant = all(self._constants.of(value) is not None for value in others)
        return node.op_type in _SCALINGS or (node.op_type in _SHIFTS and constant)

    def _is_settled(self, node: ir.Node, step: StepFunction) -> bool:
        """Whether the node has the canonical form already: Binarize, alone or scaled by a constant."""
        if node.op_type == "Binarize" and node.inputs[0] is step.source:
            self._codes.append((step, node.outputs[0]))
            return True
        if node.op_type == "Identity":
            return True
        if node.op_type not in _SCALINGS or (not step.above.shape and step.above == 1):
            return False
        scaled = [self._steps[value] for value in node.inputs if value in self._steps]
        return len(scaled) == 1 and scaled[0].symmetric

    def _rewrite(self, node: ir.Node, step: StepFunction) -> None:
        old = node.outputs[0]
        if old.shape is None or step.source.shape is None:
            return
        code_shape = np.broadcast_shapes(tuple(step.source.shape), step.threshold.shape)
        if np.broadcast_shapes(code_shape, step.above.shape) != tuple(old.shape):
            return
        new = self._code(node, step)
        if step.above.shape or step.above != 1:
            if step.above.shape == () and step.above == -1:
                new = self._insert(node, "Neg", [new], tuple(old.shape))
            else:
                scale = self._constant(node, step.above.astype(np.float32), "scale")
                new = self._insert(node, "Mul", [new, scale], tuple(old.shape))
        self._steps[new] = step
        self._quantized.add(new)
        self._substitute(node, new)
        self.count += 1

    def _rewrite_chosen_sign(self, node: ir.Node) -> None:
        """Where(c, a, -a) with a computed `a` becomes Mul(sign of c, a)."""
        condition, chosen, other = node.inputs
        signs = self._steps[condition].as_signs if condition in self._steps else None
        if signs is None or chosen is None or other is None or chosen.dtype != ir.DataType.FLOAT:
            return
        factor = chosen
        if _negated(chosen) is other:
            factor = other
            signs = replace(signs, below=signs.above, at=-signs.at, above=signs.below)
        elif _negated(other) is not chosen:
            return
        old = node.outputs[0]
        if old.shape is None or not signs.symmetric:
            return
        code_shape = np.broadcast_shapes(tuple(signs.source.shape or ()), signs.threshold.shape)
        if np.broadcast_shapes(code_shape, tuple(factor.shape or ())) != tuple(old.shape):
            return
        code = self._code(node, signs)
        if signs.above < 0:
            code = self._insert(node, "Neg", [code], code_shape)
        new = self._insert(node, "Mul", [code, factor], tuple(old.shape))
        self._quantized.add(new)
        self._substitute(node, new)
        self.count += 1

    def _code(self, node: ir.Node, step: StepFunction) -> ir.Value:
        """The Binarize of a step, made once for equal ones."""
        for other, code in self._codes:
            if other.same_place(step) and other.zero == step.zero:
                return code
        source = step.source
        shape = np.broadcast_shapes(tuple(source.shape or ()), step.threshold.shape)
        if bool(step.threshold.any()):
            threshold = self._constant(node, step.threshold, "threshold")
            source = self._insert(node, "Sub", [source, threshold], shape)
        code = self._insert(node, "Binarize", [source], shape, zero=step.zero)
        self._codes.append((step, code))
        return code

    def _insert(
        self, node: ir.Node, op_type: str, inputs: list[ir.Value], shape: tuple[int, ...], **settings: object
    ) -> ir.Value:
        """A new node before `node`, named after it; returns its output."""
        name = self._fresh(f"{node.name}/{op_type.lower()}")
        domain = DOMAIN if op_type == "Binarize" else ""
        new = ir.node(op_type, inputs, attributes=settings, domain=domain, name=name)
        new.metadata_props[SOURCE] = node.metadata_props.get(SOURCE, node.name)
        output: ir.Value = new.outputs[0]
        output.name = self._fresh(f"{name}/output")
        output.shape = ir.Shape(shape)
        output.type = ir.TensorType(ir.DataType.FLOAT)
        self._graph.insert_before(node, new)
        self._made.add(new)
        return output

    def _constant(self, node: ir.Node, array: np.ndarray, hint: str) -> ir.Value:
        name = self._fresh(f"{node.name}/{hint}")
        tensor = ir.tensor(np.ascontiguousarray(array).reshape(array.shape), name=name)
        value = ir.Value(name=name, const_value=tensor, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype))
        self._graph.register_initializer(value)
        return value

    def _substitute(self, node: ir.Node, new: ir.Value) -> None:
        """Let all readers of the node's output read `new`; a node made for this one takes over its name."""
        old = node.outputs[0]
        if old.is_graph_output():
            if new.producer() is None or new.is_graph_output():
                new = self._insert(node, "Identity", [new], tuple(old.shape or ()))
            name, old.name = old.name, self._fresh(f"{old.name}/replaced")
            new.name = name
        old.replace_all_uses_with(new, replace_graph_outputs=True)
        producer = new.producer()
        if producer is not None and producer in self._made and producer.metadata_props.get(SOURCE) == node.name:
            del producer.metadata_props[SOURCE]
            producer.name, node.name = node.name, producer.name

    def _fresh(self, hint: str) -> str:
        name, count = hint, 1
        while name in self._names:
            count += 1
            name = f"{hint}_{count}"
        self._names.add(name)
        return name
