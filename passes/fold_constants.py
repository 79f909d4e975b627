"""Evaluate what does not depend on the inputs, within bounds, in the reference executor itself.

Live Sign(W), mean |W| and clamped weights become initializers whose bits are exactly those of the reference. Shapes
are static, so Shape and Size are constants too. The constants are exact; the bound is there because onnxruntime sums a
real product with a constant operand in another order than one with a computed operand.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from qcompiler.errors import QCompilerError
from qcompiler.ir import oracle
from qcompiler.ir.plausible import check_constants
from qcompiler.ir.view import constant_of, integer, is_op, static_shape
from qcompiler.passes.editing import add_constant, remove_dead, replace
from qcompiler.passes.result import PassResult, Refusal

_RANDOM = ("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial")
_CONTROL = ("If", "Loop", "Scan", "SequenceMap")
_REDUCING = ("MatMul", "Gemm", "Conv", "ConvTranspose", "Einsum")
_CONSTANT_FIELDS = ("value", "value_float", "value_floats", "value_int", "value_ints")


@dataclass(frozen=True)
class FoldConstants:
    """Evaluate constant subgraphs of bounded size and cost."""

    name: str = "fold-constants"
    bound: float = 1e-5
    value_bytes: int = 1 << 29
    total_bytes: int = 1 << 30
    operations: int = 1 << 33

    def __call__(self, model: ir.Model) -> PassResult:
        """Replace constant subgraphs by initializers."""
        rewrites = _lift_constants(model.graph) + _fold_shapes(model.graph)
        nodes, refusals = self._foldable(model.graph)
        rewrites += _evaluate(model, nodes, refusals)
        remove_dead(model.graph)
        # NaN may come from the evaluation itself, as the mean of no weights
        check_constants(model.graph)
        return PassResult(self.name, rewrites, tuple(refusals))

    def _foldable(self, graph: ir.Graph) -> tuple[list[ir.Node], list[Refusal]]:
        known: set[ir.Value] = set()
        nodes: list[ir.Node] = []
        refusals: list[Refusal] = []
        total, operations = 0, 0
        for node in graph:
            constant = all(i is None or i in known or constant_of(i) is not None for i in node.inputs)
            if not constant or is_op(node, *_RANDOM, *_CONTROL):
                continue
            size, cost = _bytes(node), _operations(node)
            if size is None:
                refusals.append(Refusal(node.name or "", "a constant of unknown shape"))
            elif size > self.value_bytes or total + size > self.total_bytes or operations + cost > self.operations:
                reason = f"a constant of {size} bytes and {cost} operations is too large"
                refusals.append(Refusal(node.name or "", reason))
            else:
                total, operations = total + size, operations + cost
                known.update(node.outputs)
                nodes.append(node)
        return nodes, refusals


def _bytes(node: ir.Node) -> int | None:
    total = 0
    for output in node.outputs:
        shape = static_shape(output)
        if shape is None:
            return None
        total += math.prod(shape) * (8 if output.dtype is None else max(1, output.dtype.itemsize))
    return int(total)


def _operations(node: ir.Node) -> int:
    sizes = [math.prod(static_shape(value) or (1,)) for value in (*node.inputs, *node.outputs) if value is not None]
    if is_op(node, *_REDUCING):
        return math.prod(sizes)
    return sum(sizes)


def _lift_constants(graph: ir.Graph) -> int:
    """Turn Constant nodes into initializers."""
    lifted = 0
    for node in [node for node in graph if is_op(node, "Constant")]:
        field = next((name for name in _CONSTANT_FIELDS if name in node.attributes), None)
        output = node.outputs[0]
        if field is None:
            continue
        content = node.attributes[field].value
        if field == "value":
            array = np.asarray(content.numpy())
        else:
            array = np.asarray(content, dtype=np.float32 if "float" in field else np.int64)
        lifted += _replace_by_constant(graph, output, array)
    return lifted


def _fold_shapes(graph: ir.Graph) -> int:
    folded = 0
    for node in [node for node in graph if is_op(node, "Shape", "Size")]:
        source = node.inputs[0]
        shape = None if source is None else static_shape(source)
        if shape is None:
            continue
        if node.op_type == "Size":
            array = np.asarray(math.prod(shape), dtype=np.int64)
        else:
            end = integer(node, "end", len(shape))
            array = np.asarray(shape[integer(node, "start", 0) : end], dtype=np.int64)
        folded += _replace_by_constant(graph, node.outputs[0], array)
    return folded


def _replace_by_constant(graph: ir.Graph, value: ir.Value, array: np.ndarray) -> int:
    """Let `value` be an initializer of the same name; 0 if it is a graph output, which must stay computed."""
    if value.is_graph_output() or not value.uses():
        return 0
    name = str(value.name)
    replace(value, add_constant(graph, array, f"{name}.folded"), keep_name=False)
    return 1


def _evaluate(model: ir.Model, nodes: list[ir.Node], refusals: list[Refusal]) -> int:
    inside = set(nodes)
    wanted = [
        output
        for node in nodes
        for output in node.outputs
        if any(use.node not in inside for use in output.uses()) and not output.is_graph_output()
    ]
    if not wanted:
        return 0
    try:
        arrays = _run(model, nodes, wanted)
    except QCompilerError as error:
        if len(nodes) == 1:
            refusals.append(Refusal(nodes[0].name or "", f"onnxruntime cannot evaluate it: {error}"))
            return 0
        return sum(_evaluate_alone(model, node, refusals) for node in nodes)
    return sum(_replace_by_constant(model.graph, value, array) for value, array in zip(wanted, arrays, strict=True))


def _evaluate_alone(model: ir.Model, node: ir.Node, refusals: list[Refusal]) -> int:
    if any(i is not None and constant_of(i) is None for i in node.inputs):
        return 0
    return _evaluate(model, [node], refusals)


def _run(model: ir.Model, nodes: list[ir.Node], wanted: list[ir.Value]) -> list[np.ndarray]:
    """Values of `wanted`, from a model that has only `nodes`."""
    part = model.clone()
    names = {output.name for node in nodes for output in node.outputs}
    by_name = {output.name: output for node in part.graph for output in node.outputs}
    part.graph.outputs.clear()
    part.graph.outputs.extend(by_name[value.name] for value in wanted)
    part.graph.remove([node for node in part.graph if not any(output.name in names for output in node.outputs)])
    part.graph.inputs.clear()
    remove_dead(part.graph)
    return list(oracle.run(part, {}).values())
