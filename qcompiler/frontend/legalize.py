"""One walk over the nodes, from what the file says to the canonical graph.

Functions are expanded, branches with a constant condition are taken, foreign dialects are lowered, and every node is
rewritten for the project's opset, all with the shapes of everything before it known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import onnx
from onnx import defs

from qcompiler.errors import InvalidModel, UnsupportedModel
from qcompiler.frontend import attributes, dialects
from qcompiler.frontend.emitter import Emitter
from qcompiler.frontend.newer import definition, drop_later_defaults
from qcompiler.frontend.read import MAX_NODES
from qcompiler.frontend.structure import check_definitions, label, sorted_nodes, subgraphs
from qcompiler.frontend.unroll import loop, scan
from qcompiler.frontend.upgrade import check_known, upgrade

_STANDARD = ("", "ai.onnx")
# functions within functions; chosen
_MAX_CALL_DEPTH = 32
# nodes and elements of sequences that loops make of a small file in less than ten seconds; chosen
_MAX_UNROLLED = 20_000
_GRAPHS = (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS)
_LOOPS = {"Loop": loop, "Scan": scan}


@dataclass
class Scope:
    """Names visible at one place: the graph, a branch or a function body.

    names: from the name in the file to the name in the canonical graph, "" for an absent optional.
    wanted: canonical names promised to values not yet produced.
    """

    opset: int | None
    prefix: str = ""
    outer: Scope | None = None
    names: dict[str, str] = field(default_factory=dict)
    wanted: dict[str, str] = field(default_factory=dict)

    def resolve(self, name: str, node: str) -> str:
        """The canonical name of a value that `node` reads."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.names:
                return scope.names[name]
            scope = scope.outer
        raise InvalidModel(
            f"input '{name}' is defined nowhere", node=node, remedy="the file is damaged; export it again"
        )


class Legalizer:
    """Rewrites the nodes of one model into an Emitter."""

    def __init__(self, emitter: Emitter, functions: Sequence[onnx.FunctionProto]) -> None:
        self._emitter = emitter
        self._functions = {(_domain(f.domain), f.name, f.overload): f for f in functions}
        self._steps = 0
        self._unrolled = 0
        self._calls: list[tuple[str, str, str]] = []

    def walk(self, nodes: Sequence[onnx.NodeProto], scope: Scope) -> None:
        """Add `nodes`, in any order, to the canonical graph."""
        for node in sorted_nodes(nodes):
            self._steps += 1
            if self._steps > MAX_NODES:
                raise InvalidModel(f"the model expands to more than {MAX_NODES} nodes", remedy="split the model")
            self._step(_renamed(node, scope, self._emitter), node, scope)

    def _step(self, node: onnx.NodeProto, original: onnx.NodeProto, scope: Scope) -> None:
        self._emitter.base = label(node)
        key = (_domain(node.domain), node.op_type, node.overload)
        is_standard = not node.domain and defs.has(node.op_type)
        if not is_standard and dialects.lower(self._emitter, node):
            return
        if key in self._functions:
            self._call(node, original, self._functions[key], scope)
        elif (refusal := dialects.refusal(node)) is not None:
            raise refusal
        elif node.op_type == "If":
            self._branch(node, original, scope)
        elif node.op_type in _LOOPS:
            self._unroll(node, original, scope)
        elif node.op_type == "SequenceMap":
            raise UnsupportedModel("SequenceMap is not compiled", node=label(node), remedy="unroll the loop")
        elif node.op_type == "Constant":
            self._emitter.add_initializer(node.output[0], _constant(node))
        else:
            self._standard(node, original, scope)

    def _standard(self, node: onnx.NodeProto, original: onnx.NodeProto, scope: Scope) -> None:
        opset = self._opset(node, scope)
        check_known(node, opset)
        types = [self._emitter.types[name] if name else onnx.TypeProto() for name in node.input]
        body = definition(node, opset, types)
        if body is not None:
            self._call(node, original, body, scope)
            return
        drop_later_defaults(node, opset)
        if not dialects.lower(self._emitter, node):
            upgrade(self._emitter, node, opset)

    def _opset(self, node: onnx.NodeProto, scope: Scope) -> int:
        if scope.opset is None:
            raise InvalidModel(
                f"{node.op_type} is used, but the file imports no standard opset",
                node=label(node),
                remedy="export it again",
            )
        return scope.opset

    def _branch(self, node: onnx.NodeProto, original: onnx.NodeProto, scope: Scope) -> None:
        condition = self._emitter.constant_value(node.input[0]) if node.input else None
        if condition is None or condition.size != 1:
            raise UnsupportedModel(
                "If depends on data", node=label(node), remedy="export one branch, or make the condition constant"
            )
        name = "then_branch" if bool(condition.reshape(-1)[0]) else "else_branch"
        graphs = [attribute.g for attribute in original.attribute if attribute.name == name]
        if len(graphs) != 1 or len(graphs[0].output) != len(node.output):
            raise InvalidModel(f"If has no proper {name}", node=label(node), remedy="export the model again")
        graph = graphs[0]
        inner = self._subgraph(graph, f"{label(node)}/", scope)
        self._inline(node, original, graph.node, [value.name for value in graph.output], inner, scope)

    def _unroll(self, node: onnx.NodeProto, original: onnx.NodeProto, scope: Scope) -> None:
        opset, name = self._opset(node, scope), label(node)
        if node.op_type == "Scan" and opset < 9:
            raise UnsupportedModel("Scan of opset 8", node=name, remedy="export with opset 9 or later")
        bodies = [attribute.g for attribute in original.attribute if attribute.name == "body"]
        if len(bodies) != 1:
            raise InvalidModel(f"{node.op_type} has no body", node=name, remedy="export the model again")

        def iterate(index: int, arguments: Sequence[str]) -> list[str]:
            self._unrolled += len(bodies[0].node) + len(bodies[0].input)
            if self._unrolled > _MAX_UNROLLED:
                raise UnsupportedModel(
                    f"{node.op_type} and the loops around it expand to more than {_MAX_UNROLLED} nodes",
                    node=name,
                    remedy="use shorter sequences",
                )
            inner = self._subgraph(bodies[0], f"{name}/{index}/", scope)
            inner.names.update(zip((value.name for value in bodies[0].input), arguments, strict=True))
            self.walk(bodies[0].node, inner)
            self._emitter.base = name
            return [inner.resolve(value.name, name) for value in bodies[0].output]

        _LOOPS[node.op_type](self._emitter, node, bodies[0], iterate)

    def _subgraph(self, graph: onnx.GraphProto, prefix: str, scope: Scope) -> Scope:
        """A scope for the nodes of a branch or body, which holds its constants."""
        inner = Scope(scope.opset, prefix, scope)
        check_definitions(graph)
        for tensor in graph.initializer:
            inner.names[tensor.name] = self._emitter.fresh(inner.prefix + tensor.name)
            self._emitter.add_initializer(inner.names[tensor.name], tensor)
        return inner

    def _call(self, node: onnx.NodeProto, original: onnx.NodeProto, function: onnx.FunctionProto, scope: Scope) -> None:
        key = (_domain(function.domain), function.name, function.overload)
        if key in self._calls or len(self._calls) >= _MAX_CALL_DEPTH:
            raise InvalidModel(f"function {function.name} calls itself", node=label(node), remedy="remove the cycle")
        if len(node.input) > len(function.input) or len(node.output) > len(function.output):
            raise InvalidModel(
                f"call of {function.name} has too many inputs or outputs", node=label(node), remedy="export it again"
            )
        inner = Scope(standard_opset(function.opset_import), f"{label(node)}/")
        inner.names = dict.fromkeys(function.input, "") | dict(zip(function.input, node.input, strict=False))
        self._calls.append(key)
        given = {a.name: a for a in function.attribute_proto} | {a.name: a for a in node.attribute}
        body = [_bound(part, given) for part in function.node]
        self._inline(node, original, body, list(function.output)[: len(node.output)], inner, scope)
        self._calls.pop()

    def _inline(
        self,
        node: onnx.NodeProto,
        original: onnx.NodeProto,
        body: Sequence[onnx.NodeProto],
        results: Sequence[str],
        inner: Scope,
        scope: Scope,
    ) -> None:
        """Add `body`; its values `results` become the outputs of `node`."""
        produced = {name for part in body for name in part.output}
        for result, output in zip(results, node.output, strict=True):
            if result in produced and output:
                inner.wanted.setdefault(result, output)
        self.walk(body, inner)
        for result, output, name in zip(results, node.output, original.output, strict=True):
            if output:
                scope.names[name] = inner.resolve(result, label(node))


def standard_opset(imports: Sequence[onnx.OperatorSetIdProto]) -> int | None:
    """The version of the standard operators that a model or function imports."""
    versions = [int(entry.version) for entry in imports if entry.domain in _STANDARD]
    return max(versions, default=None)


def _domain(domain: str) -> str:
    return "" if domain in _STANDARD else domain


def _renamed(node: onnx.NodeProto, scope: Scope, emitter: Emitter) -> onnx.NodeProto:
    """A copy of `node` in canonical names; its outputs become visible in `scope`."""
    name = label(node)
    inputs = [scope.resolve(value, name) if value else "" for value in node.input]
    while inputs and not inputs[-1]:
        inputs.pop()
    outputs = [_define(value, scope, emitter) if value else "" for value in node.output]
    if not any(outputs):
        raise InvalidModel(f"{node.op_type} has no outputs", node=name, remedy="remove the node")
    _check_attributes(node, name)
    copy = onnx.NodeProto(op_type=node.op_type, domain=_domain(node.domain), overload=node.overload)
    copy.name = scope.prefix + name
    copy.input.extend(inputs)
    copy.output.extend(outputs)
    copy.attribute.extend(attribute for attribute in node.attribute if attribute.type not in _GRAPHS)
    return copy


def _check_attributes(node: onnx.NodeProto, name: str) -> None:
    """Refuse attributes that are given twice, or by an attribute of a function where there is none."""
    names = [attribute.name for attribute in node.attribute]
    if len(set(names)) < len(names):
        raise InvalidModel(f"{node.op_type} has an attribute twice: {names}", node=name, remedy="export it again")
    for attribute in node.attribute:
        if attribute.ref_attr_name:
            raise InvalidModel(
                f"attribute '{attribute.name}' of {node.op_type} is that of a function, which there is none",
                node=name,
                remedy="export it again",
            )


def _define(value: str, scope: Scope, emitter: Emitter) -> str:
    name = scope.wanted.get(value) or emitter.fresh(scope.prefix + value)
    scope.names[value] = name
    return name


def _constant(node: onnx.NodeProto) -> onnx.TensorProto:
    """The tensor of a Constant node."""
    if len(node.output) != 1:
        raise InvalidModel(
            f"Constant has {len(node.output)} outputs, expected one", node=label(node), remedy="export the model again"
        )
    found = [attribute for attribute in node.attribute if attribute.name.startswith(("value", "sparse_value"))]
    if len(found) != 1:
        raise InvalidModel("Constant needs exactly one value", node=label(node), remedy="export the model again")
    name = found[0].name
    if name == "value":
        return found[0].t
    readers: dict[str, Callable[[], npt.ArrayLike]] = {
        "value_int": lambda: np.int64(attributes.integer(node, name, 0)),
        "value_ints": lambda: np.asarray(attributes.integers(node, name), np.int64),
        "value_float": lambda: np.float32(attributes.real(node, name, 0.0)),
        "value_floats": lambda: np.asarray(attributes.reals(node, name), np.float32),
    }
    if name not in readers:
        raise UnsupportedModel(f"Constant with {name}", node=label(node), remedy="store it as a dense number tensor")
    return onnx.numpy_helper.from_array(np.asarray(readers[name]()))


def _bound(node: onnx.NodeProto, given: Mapping[str, onnx.AttributeProto]) -> onnx.NodeProto:
    """A copy of a function's node with references to the function's attributes replaced by their values."""
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    del copy.attribute[:]
    for attribute in node.attribute:
        if not attribute.ref_attr_name:
            copy.attribute.append(attribute)
        elif attribute.ref_attr_name in given:
            value = copy.attribute.add()
            value.CopyFrom(given[attribute.ref_attr_name])
            value.name = attribute.name
    for graph in subgraphs(copy):
        parts = [_bound(part, given) for part in graph.node]
        del graph.node[:]
        graph.node.extend(parts)
    return copy
