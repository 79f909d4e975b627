"""Loading an ONNX file nobody vouches for into the canonical form.

Canonical: opset and IR version of `qcompiler.ir.ops`; standard and `qcompiler` operators only; no functions, no control
flow; every value has a static shape; constants are initializers; nodes are named and in topological order; inputs and
outputs keep the names of the file; 16-bit floats, and in networks that take it float64, are float32.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import onnx
import onnx.checker
import onnx_ir as ir

from qcompiler.errors import InvalidModel, UnsupportedModel
from qcompiler.frontend.emitter import Emitter
from qcompiler.frontend.evaluate_nodes import ONNX_ERRORS
from qcompiler.frontend.float32 import file_types, other_types, to_float32
from qcompiler.frontend.legalize import Legalizer, Scope, standard_opset
from qcompiler.frontend.limits import check_limits
from qcompiler.frontend.read import read
from qcompiler.frontend.signature import batch_axis_of, fixed_inputs
from qcompiler.frontend.stored_tensors import MAX_STORED_BYTES, check_passed, read_external_data
from qcompiler.frontend.structure import check_definitions
from qcompiler.frontend.value_types import check_tensor
from qcompiler.ir.batch_axis import BatchAxis, record_batch_axis
from qcompiler.ir.file_types import record_file_types
from qcompiler.ir.ops import DOMAIN, IR_VERSION, OPSET, attach_functions
from qcompiler.ir.plausible import check_constants

# larger tensors are shown to the checker without their data; chosen
_CHECKED_BYTES = 2**16


def load(path: str | os.PathLike[str], shapes: Mapping[str, tuple[int, ...]] | None = None) -> ir.Model:
    """The canonical graph of the ONNX file at `path`; `shapes` fixes dynamic inputs by name.

    The batch of a file that leaves it open is 1 where nothing else is said.

    Raises UsageError (missing file, missing or wrong shapes), InvalidModel (damaged or hostile file) or
    UnsupportedModel (operators, types or versions that cannot be compiled); nothing else.
    """
    model = read(path)
    read_external_data(model, Path(path).parent)
    types = file_types(model)
    to_float32(model, other_types(model))
    with _for_batch(model.graph, shapes or {}) as batch:
        result = _canonical(model, dict(shapes or {}))
    record_file_types(result.graph, types)
    record_batch_axis(result.graph, batch)
    return result


@contextmanager
def _for_batch(graph: onnx.GraphProto, shapes: Mapping[str, tuple[int, ...]]) -> Iterator[BatchAxis | None]:
    """The batch of the file; what fails where nobody gave one may need another than 1."""
    axis = batch_axis_of(graph, shapes)
    try:
        yield axis
    except InvalidModel as error:
        if axis is None or not axis.open_inputs:
            raise
        what = f"{error.message}, with a batch of 1 for input {axis.open_inputs}"
        raise InvalidModel(what, node=error.node, remedy=f"if it needs another batch, {axis.remedy}") from error


def _canonical(model: onnx.ModelProto, shapes: Mapping[str, tuple[int, ...]]) -> ir.Model:
    graph = model.graph
    if graph.sparse_initializer:
        raise UnsupportedModel("the model stores sparse tensors", remedy="store them as dense tensors")
    check_definitions(graph)
    inputs = fixed_inputs(graph, shapes)
    for value in graph.output:
        check_tensor(value.type, f"output '{value.name}'")
    emitter = _legalized(model, inputs)
    outputs = _outputs(graph, emitter)
    _check_depends(emitter, inputs, outputs)
    proto = _assembled(graph.name or "graph", emitter, inputs, outputs)
    _check(proto)
    check_limits(proto.graph)
    result = ir.from_proto(proto)
    check_constants(result.graph)
    attach_functions(result)
    return result


def _legalized(model: onnx.ModelProto, inputs: Sequence[onnx.ValueInfoProto]) -> Emitter:
    graph = model.graph
    stored = [tensor.name for tensor in graph.initializer]
    produced = [name for node in graph.node for name in node.output if name]
    reserved = {*stored, *produced, *(value.name for value in graph.input)}
    emitter = Emitter(reserved, [value.name for value in graph.output])
    for value in inputs:
        emitter.add_input(value)
    for tensor in graph.initializer:
        emitter.add_initializer(tensor.name, tensor)
    scope = Scope(standard_opset(model.opset_import))
    scope.names = {name: name for name in [*stored, *(value.name for value in inputs)]}
    scope.wanted = {name: name for name in produced}
    Legalizer(emitter, model.functions).walk(graph.node, scope)
    for value in graph.output:
        _bind_output(emitter, scope, value.name)
    return emitter


def _bind_output(emitter: Emitter, scope: Scope, name: str) -> None:
    """Make sure a graph output exists under its own name, as the result of a node."""
    found = scope.names.get(name)
    if found is None:
        raise InvalidModel(f"graph output '{name}' is defined nowhere", remedy="the file is damaged; export it again")
    if found != name:
        emitter.base = name
        emitter.op("Identity", [found], [name])


def _outputs(graph: onnx.GraphProto, emitter: Emitter) -> list[onnx.ValueInfoProto]:
    outputs = []
    for value in graph.output:
        found, declared = emitter.types[value.name], value.type.tensor_type.elem_type
        if declared and declared != found.tensor_type.elem_type:
            raise InvalidModel(
                f"graph output '{value.name}' is declared with type {declared}, its node gives"
                f" {found.tensor_type.elem_type}",
                remedy="export the model again",
            )
        check_passed(found.tensor_type.elem_type, f"output '{value.name}'")
        outputs.append(onnx.ValueInfoProto(name=value.name, type=found))
    if len({value.name for value in outputs}) < len(outputs):
        raise InvalidModel("a graph output is listed twice", remedy="list every output once")
    return outputs


def _check_depends(
    emitter: Emitter, inputs: Sequence[onnx.ValueInfoProto], outputs: Sequence[onnx.ValueInfoProto]
) -> None:
    """Refuse outputs that no input reaches: a network has nothing to compute for them."""
    reached = {value.name for value in inputs}
    for node in emitter.nodes:
        if not reached.isdisjoint(node.input):
            reached.update(node.output)
    for value in outputs:
        if value.name not in reached:
            raise UnsupportedModel(
                f"output '{value.name}' is a constant, because it depends on no input of the model",
                remedy="remove this output and keep its value beside the model",
            )


def _assembled(
    name: str, emitter: Emitter, inputs: Sequence[onnx.ValueInfoProto], outputs: Sequence[onnx.ValueInfoProto]
) -> onnx.ModelProto:
    nodes = _live(emitter.nodes, [value.name for value in outputs])
    used = {value for node in nodes for value in node.input} | {value.name for value in outputs}
    tensors = [tensor for key, tensor in emitter.initializers.items() if key in used]
    if sum(tensor.ByteSize() for tensor in tensors) > MAX_STORED_BYTES:
        raise UnsupportedModel("the model stores more than 2 GiB of weights", remedy="use a smaller model")
    public = {value.name for value in outputs}
    infos = [
        onnx.ValueInfoProto(name=value, type=emitter.types[value])
        for node in nodes
        for value in node.output
        if value and value not in public
    ]
    model = onnx.ModelProto(ir_version=IR_VERSION, producer_name="qcompiler")
    model.opset_import.append(onnx.helper.make_opsetid("", OPSET))
    if any(node.domain == DOMAIN for node in nodes):
        model.opset_import.append(onnx.helper.make_opsetid(DOMAIN, 1))
    model.graph.name = name
    parts = ("node", nodes), ("input", inputs), ("output", outputs), ("initializer", tensors), ("value_info", infos)
    for field, content in parts:
        getattr(model.graph, field).extend(content)
    return model


def _live(nodes: Sequence[onnx.NodeProto], outputs: Sequence[str]) -> list[onnx.NodeProto]:
    """The nodes on which `outputs` depend, in their order."""
    needed = set(outputs)
    kept = []
    for node in reversed(nodes):
        if any(name in needed for name in node.output):
            needed.update(node.input)
            kept.append(node)
    return kept[::-1]


def _check(proto: onnx.ModelProto) -> None:
    """The standard's own checker and strict shape inference, on the graph without its large constants."""
    model = ir.from_proto(_without_weights(proto))
    attach_functions(model)
    try:
        onnx.checker.check_model(ir.to_proto(model), full_check=True)
    except ONNX_ERRORS as error:
        raise InvalidModel(f"the ONNX checker refuses the graph: {error}", remedy="export the model again") from error


def _without_weights(proto: onnx.ModelProto) -> onnx.ModelProto:
    graph = proto.graph
    kept = list(_small(graph.initializer))
    names = {tensor.name for tensor in kept}
    large = [
        onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
        for tensor in graph.initializer
        if tensor.name not in names
    ]
    light = onnx.helper.make_graph(
        graph.node, graph.name, [*graph.input, *large], graph.output, kept, value_info=graph.value_info
    )
    return onnx.helper.make_model(light, opset_imports=proto.opset_import, ir_version=IR_VERSION)


def _small(tensors: Sequence[onnx.TensorProto]) -> Iterator[onnx.TensorProto]:
    return (tensor for tensor in tensors if tensor.ByteSize() <= _CHECKED_BYTES)
