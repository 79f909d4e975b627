"""Standard ops that have no kernel of ours: TVM's Relax importer, legalisation and fusion, called by plain pointers.

A region is a small ONNX model. Relax turns it into PrimFuncs over buffers and a `main` that calls them; each call
becomes one step.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import tvm
from tvm import relax

from qcompiler.lowering.call import ScheduledCall, StandardCall, scheduled
from qcompiler.lowering.exact import exact
from qcompiler.lowering.importer import attempted, imported, unsupported
from qcompiler.lowering.quiet import quiet
from qcompiler.lowering.safety import hazard
from qcompiler.lowering.standard.copy import copy_call
from qcompiler.targets.standard_op import TensorFunction, tensor_bytes
from qcompiler.targets.target import Platform


def lower_region(model: onnx.ModelProto, platform: Platform) -> tuple[ScheduledCall, ...]:
    """Compile a region of standard ops; the last calls' outputs carry the model's output names.

    model: its value_info holds the type of every value that a node makes. platform: what schedules them. Raises
    UnsupportedModel where TVM has no importer for an op, gets its type wrong, or makes code that is not safe with any
    data.
    """
    with quiet():
        return attempted(model, lambda: _lowered(model, platform))


def _lowered(model: onnx.ModelProto, platform: Platform) -> tuple[ScheduledCall, ...]:
    calls = _calls(_PIPELINE(imported(model)), model)
    _check_bytes(calls, model)
    return tuple(scheduled(call, platform) for call in calls)


def _check_bytes(calls: Sequence[StandardCall], model: onnx.ModelProto) -> None:
    """Every output must be written by a call, in the size that ONNX infers."""
    written = {name: nbytes for call in calls for name, nbytes in zip(call.outputs, call.output_bytes, strict=True)}
    for value in model.graph.output:
        tensor = value.type.tensor_type
        size = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).itemsize
        expected = prod(dim.dim_value for dim in tensor.shape.dim) * size
        if written.get(value.name) != expected:
            maker = next(node for node in model.graph.node if value.name in node.output)
            raise unsupported([maker], f"TVM stores {written.get(value.name, 0)} bytes of it, expected {expected}")


_PIPELINE = tvm.ir.transform.Sequential(
    [
        relax.transform.DecomposeOpsForInference(),
        relax.transform.LegalizeOps(),
        relax.transform.AnnotateTIROpPattern(),
        relax.transform.FoldConstant(),
        relax.transform.FuseOps(),
        relax.transform.FuseTIR(),
        relax.transform.DeadCodeElimination(),
    ]
)


def _calls(module: Any, model: onnx.ModelProto) -> list[StandardCall]:
    output_names = [value.name for value in model.graph.output]
    main = module["main"]
    names = {param: param.name for param in main.params}
    calls: list[StandardCall] = []
    bindings = [binding for block in main.body.blocks for binding in block.bindings]
    fields = _returned(main.body.body, bindings)
    results = _result_names(fields, bindings, output_names)
    for binding in bindings:
        value, var = binding.value, binding.var
        if isinstance(value, relax.Call) and value.op.name == "relax.call_tir":
            outputs = results.get(var) or _intermediate_names(var, f"{output_names[0]}/call{len(calls)}")
            function = module[value.args[0]]
            inputs = tuple(_operand(argument, names) for argument in value.args[1].fields)
            calls.append(_call(function, inputs, outputs, value.args[0].name_hint))
            names[var] = outputs[0]
            names.update({(var, index): name for index, name in enumerate(outputs)})
        elif isinstance(value, relax.TupleGetItem):
            names[var] = names[(value.tuple_value, value.index)]
        elif isinstance(value, relax.Var) and value in names:
            names[var] = names[value]
        elif isinstance(value, relax.Tuple | tvm.ir.GenericConst):
            continue
        else:
            kind = value.op.name if isinstance(value, relax.Call) else value
            raise unsupported(model.graph.node, f"TVM makes no code for {kind}")
    return [*calls, *_copies(fields, output_names, calls, names)]


def _call(function: Any, inputs: tuple[str | npt.NDArray[Any], ...], outputs: Sequence[str], name: str) -> StandardCall:
    """A call of a function over tensors. Raises ValueError where it is not safe with any data."""
    problem = hazard(function)
    if problem:
        raise ValueError(problem)
    sizes = tuple(tensor_bytes(tensor) for tensor in function.params[len(inputs) :])
    return StandardCall(TensorFunction(exact(function), len(inputs)), inputs, tuple(outputs), sizes, (), name)


def _copies(
    fields: Sequence[Any], output_names: Sequence[str], calls: Sequence[StandardCall], names: dict[Any, str]
) -> list[StandardCall]:
    """Calls for outputs that are constants, inputs, or the same as other outputs."""
    written = {name for call in calls for name in call.outputs}
    pairs = [(field, name) for field, name in zip(fields, output_names, strict=True) if name not in written]
    return [copy_call(_operand(field, names), name, *_element(field)) for field, name in pairs]


def _element(field: Any) -> tuple[str, int]:
    """Element type and number of elements of a tensor."""
    return str(field.ty.dtype).removeprefix("T."), prod(int(extent) for extent in field.ty.shape)


def _intermediate_names(var: Any, base: str) -> list[str]:
    """One name per value of a call that `main` does not return: several where its result is a tuple."""
    fields = getattr(var.ty, "fields", None)
    return [base] if fields is None else [f"{base}/{i}" for i in range(len(fields))]


def _operand(argument: Any, names: dict[Any, str]) -> str | npt.NDArray[Any]:
    if isinstance(argument, tvm.ir.GenericConst):
        return np.ascontiguousarray(argument.value.numpy())
    return names[argument]


def _returned(body: Any, bindings: Sequence[Any]) -> list[Any]:
    """What `main` returns, followed through aliases and tuples: variables of calls, parameters or constants."""
    values = {binding.var: binding.value for binding in bindings}

    def resolve(expression: Any) -> Any:
        while isinstance(values.get(expression), relax.Var | tvm.ir.GenericConst):
            expression = values[expression]
        return expression

    returned = resolve(body)
    returned = values.get(returned, returned) if isinstance(values.get(returned), relax.Tuple) else returned
    return [resolve(field) for field in returned.fields] if isinstance(returned, relax.Tuple) else [returned]


def _result_names(fields: Sequence[Any], bindings: Sequence[Any], output_names: Sequence[str]) -> dict[Any, list[str]]:
    """The ONNX output names of the variables that `main` returns."""
    values = {binding.var: binding.value for binding in bindings}
    result: dict[Any, list[str]] = {}
    for field, name in zip(fields, output_names, strict=True):
        source = values.get(field)
        if isinstance(source, relax.TupleGetItem):
            count = len(source.tuple_value.ty.fields)
            owned = result.setdefault(source.tuple_value, [f"{name}/{i}" for i in range(count)])
            owned[source.index] = name
        else:
            result.setdefault(field, [name])
    return result
