"""Textual graphs in, rewritten graphs out, and their equality in onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from qcompiler.ir import oracle
from qcompiler.ir.ops import attach_functions
from qcompiler.ir.view import constant_of, static_shape
from qcompiler.passes.result import Pass, PassResult

HEADER = '<ir_version: 10, opset_import: ["": 21, "qcompiler": 1]>\n'


def graph(text: str, **constants: np.ndarray[Any, Any]) -> ir.Model:
    """A model from ONNX text; names of `constants` that the text uses become initializers."""
    proto = onnx.parser.parse_model(HEADER + text)
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in constants.items())
    model = ir.from_proto(proto)
    attach_functions(model)
    proto = onnx.shape_inference.infer_shapes(ir.to_proto(model), strict_mode=True, data_prop=True)
    model = ir.from_proto(proto)
    for node in model.graph:
        node.name = node.name or f"{node.op_type}_{node.outputs[0].name}"
    return model


def ops_of(model: ir.Model) -> list[str]:
    """Op types in graph order."""
    return [str(node.op_type) for node in model.graph]


def the(model: ir.Model, op: str) -> ir.Node:
    """The only node of this op type."""
    (node,) = [node for node in model.graph if node.op_type == op]
    return node


def apply(rewrite: Pass, model: ir.Model, seed: int = 0, exact: bool = True) -> PassResult:
    """Apply a pass, and assert that the outputs are equal (exactly, or to 1e-5) and that a second time is a no-op.

    Where every value had the shape that was declared for it, it must have it still.
    """
    inputs = oracle.random_inputs(model, seed)
    before, declared = oracle.run(model, inputs), misdeclared(model, inputs)
    result = rewrite(model)
    after = oracle.run(model, inputs)
    assert list(before) == list(after)
    for name in before:
        if exact:
            np.testing.assert_array_equal(after[name], before[name])
        else:
            # where terms cancel, what is left has the rounding errors of the terms
            rounding = 2.0**-22 * float(np.abs(before[name]).max(initial=0))
            np.testing.assert_allclose(after[name], before[name], rtol=1e-5, atol=max(1e-5, rounding))
    assert declared is not None or misdeclared(model, inputs) is None
    assert rewrite(model).rewrites == 0
    return result


def rewritten(rewrite: Pass, text: str, exact: bool = True, **constants: np.ndarray[Any, Any]) -> str:
    """The graph of `text` after a pass, as text; see `graph`, `apply` and `lines`."""
    model = graph(text, **constants)
    apply(rewrite, model, exact=exact)
    return lines(model)


def misdeclared(model: ir.Model, inputs: Mapping[str, np.ndarray[Any, Any]]) -> str | None:
    """A value that has another shape or type than the graph declares for it, if there is one."""
    values = {str(value.name): value for node in model.graph for value in node.outputs if value.name}
    for name, found in oracle.run(model, inputs, list(values)).items():
        dtype = values[name].dtype
        if static_shape(values[name]) != found.shape or dtype is None or dtype.numpy() != found.dtype:
            return name
    return None


def signs(generator: np.random.Generator, *shape: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Random -1/+1 weights."""
    return np.where(generator.random(shape) < 0.5, -1, 1).astype(np.float32)


def normal(generator: np.random.Generator, *shape: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Normal float32 weights."""
    return generator.standard_normal(shape).astype(np.float32)


def lines(model: ir.Model) -> str:
    """The nodes of a graph as text, a line each.

    Constants of up to four numbers are written out, of larger ones that a pass made the shape; attributes of windows
    that say nothing are left out.
    """
    return "".join(f"\n    {_line(node)}" for node in model.graph)


_USUAL = {"dilations": 1, "strides": 1, "pads": 0, "group": 1, "ceil_mode": 0, "pad_value": 0}


def _line(node: ir.Node) -> str:
    said = {name: attribute.value for name, attribute in sorted(node.attributes.items())}
    said = {
        name: value for name, value in said.items() if name not in _USUAL or np.any(np.asarray(value) != _USUAL[name])
    }
    shown = ", ".join(f"{name} = {_text(value)}" for name, value in said.items())
    results = ", ".join(map(_name, node.outputs))
    op = f"{node.domain}.{node.op_type}".lstrip(".") + (f" <{shown}>" if shown else "")
    return f"{results} = {op} ({', '.join(map(_operand, node.inputs))})"


def _operand(value: ir.Value | None) -> str:
    if value is None:
        return ""
    constant = constant_of(value)
    if constant is not None and constant.size <= 4:
        return _text(constant.tolist())
    made = constant is not None and "." in str(value.name)
    return f"{constant.dtype}{list(constant.shape)}" if made else _name(value)


def _name(value: ir.Value) -> str:
    return str(value.name).removesuffix(".output")


def _text(value: object) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_text, value))}]"
    return f"{value:g}" if isinstance(value, float) else str(value)
