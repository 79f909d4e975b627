"""TVM's ONNX importer, believed in nothing: every value it makes must have the shape and type that ONNX infers."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import onnx
from tvm.relax.frontend.onnx import from_onnx
from tvm.relax.frontend.onnx.onnx_frontend import _get_convert_map

from qcompiler.errors import QCompilerError, UnsupportedModel
from qcompiler.ir.ops import OPSET

Result = TypeVar("Result")

REMEDY = "replace the operator by supported ones, or cut the model before it"


def unsupported(nodes: Sequence[onnx.NodeProto], reason: str) -> UnsupportedModel:
    """The error for nodes without code; the first is named."""
    kinds = sorted({node.op_type for node in nodes})
    return UnsupportedModel(f"no kernel for {', '.join(kinds)} ({reason})", node=nodes[0].name, remedy=REMEDY)


def imported(model: onnx.ModelProto) -> Any:
    """A Relax module for a model whose value_info holds the type of every value that a node makes.

    Raises UnsupportedModel where TVM has no importer for a node, or one that gets a type or shape wrong.
    """
    for node in model.graph.node:
        if node.op_type not in _get_convert_map():
            raise unsupported([node], f"TVM has no importer for it: {node.op_type}")
    _check_types(model)
    return _import(model)


def attempted(model: onnx.ModelProto, step: Callable[[], Result]) -> Result:
    """The result of `step`; whatever TVM raises becomes the refusal of the model's nodes, with its first line.

    The words of an error that Python raised in TVM's own code would tell a user nothing.
    What TVM held is let go before the refusal is raised: it has words to say then, too.
    """
    try:
        return step()
    except QCompilerError:
        raise
    except (AttributeError, TypeError, LookupError):
        reason = "TVM takes it with other operands or attributes alone, such as constants"
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = lines[0] if lines else type(error).__name__
    raise unsupported(model.graph.node, reason)


def _import(model: onnx.ModelProto) -> Any:
    with contextlib.redirect_stdout(io.StringIO()):  # the importer prints what it also raises
        return from_onnx(model, opset=OPSET, keep_params_in_input=False)


def _check_types(model: onnx.ModelProto) -> None:
    """Compare all values of the model, also those that no output shows."""
    known = {value.name: value.type.tensor_type for value in (*model.graph.value_info, *model.graph.output)}
    makers = {name: node for node in model.graph.node for name in node.output if name in known}
    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    del whole.graph.output[:]
    whole.graph.output.extend(onnx.ValueInfoProto(name=name, type=_tensor(known[name])) for name in makers)
    result = _import(whole)["main"].ret_ty
    found = list(result.fields) if hasattr(result, "fields") else [result]
    for (name, node), given in zip(makers.items(), found, strict=True):
        expected, read = _described(known[name]), _described_by_tvm(given)
        if read != expected:
            raise unsupported([node], f"TVM reads its result as {read}, expected {expected}")


def _tensor(tensor: onnx.TypeProto.Tensor) -> onnx.TypeProto:
    return onnx.TypeProto(tensor_type=tensor)


def _described(tensor: onnx.TypeProto.Tensor) -> str:
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name
    return f"{dtype} {[int(dim.dim_value) for dim in tensor.shape.dim]}"


def _described_by_tvm(tensor: Any) -> str:
    extents = getattr(tensor, "shape", None)
    shape = None if extents is None else [getattr(extent, "value", str(extent)) for extent in extents]
    return f"{str(getattr(tensor, 'dtype', tensor)).removeprefix('T.')} {shape}"
