"""What the exporter writes, brought into the form that people and other tools expect of an ONNX file."""

from __future__ import annotations

import ast

import numpy as np
import onnx_ir as ir
import onnxscript.optimizer

_SCOPES = "pkg.torch.onnx.name_scopes"


def tidy(model: ir.Model) -> None:
    """Fold shape arithmetic, name nodes after the modules they come from, and drop the exporter's notes; in place.

    Nothing that computes on weights or activations is changed, so that BatchNorm stays apart from its convolution and
    the sums of codes stay exact.
    """
    onnxscript.optimizer.fold_constants(model)
    _spell_out_reshapes(model.graph)
    _drop_zero_biases(model.graph)
    onnxscript.optimizer.remove_unused_nodes(model)
    _name_after_modules(model.graph)
    _strip_notes(model)


def module_path(node: ir.Node) -> str:
    """The name of the torch module that made `node`, as in named_modules; known until `tidy` has run."""
    scopes = ast.literal_eval(node.metadata_props.get(_SCOPES, "[]"))
    return str(scopes[-2]) if len(scopes) > 1 else ""


def _spell_out_reshapes(graph: ir.Graph) -> None:
    """Give a Reshape whose result has one dynamic axis a constant target with -1 there."""
    for node in graph:
        target, shape = node.inputs[1] if node.op_type == "Reshape" else None, node.outputs[0].shape
        if target is None or target.const_value is not None or shape is None:
            continue
        sizes = [size if isinstance(size, int) else -1 for size in shape]
        if sizes.count(-1) == 1:
            name = f"{node.outputs[0].name}_shape"
            value = ir.Value(name=name, const_value=ir.tensor(np.array(sizes, np.int64), name=name))
            graph.register_initializer(value)
            node.replace_input_with(1, value)


def _drop_zero_biases(graph: ir.Graph) -> None:
    """The exporter gives a convolution without bias a bias of zeros."""
    for node in graph:
        if node.domain == "" and node.op_type == "Conv" and len(node.inputs) == 3:
            bias = node.inputs[2]
            if bias is not None and bias.const_value is not None and not np.any(bias.const_value.numpy()):
                node.resize_inputs(2)


def _name_after_modules(graph: ir.Graph) -> None:
    """Name nodes MODULE/OPERATOR, and values after their nodes."""
    kept = [*graph.inputs, *graph.outputs, *graph.initializers.values()]
    taken = {value.name for value in kept}
    for node in graph:
        path = module_path(node)
        stem = f"{path}/{node.op_type}" if path else node.op_type
        name, count = stem, 1
        while name in taken:
            count += 1
            name = f"{stem}_{count}"
        taken.add(name)
        node.name = name
        for position, value in enumerate(node.outputs):
            if value not in graph.outputs:
                value.name = name if position == 0 else f"{name}:{position}"


def _strip_notes(model: ir.Model) -> None:
    """The exporter's notes are longer than a small network, and hold paths of the machine."""
    values = [*model.graph.inputs, *model.graph.initializers.values()]
    for node in model.graph:
        values += node.outputs
        node.metadata_props.clear()
        node.doc_string = None
    for value in values:
        value.metadata_props.clear()
    model.graph.metadata_props.clear()
    model.metadata_props.clear()
    model.producer_name, model.producer_version = "qcompiler", None
