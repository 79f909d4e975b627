"""Standard ops that have no kernel of ours: TVM's Relax importer, legalisation and fusion, called by plain pointers.

A region is a small ONNX model. Relax turns it into PrimFuncs over buffers and a `main` that calls them; each call
becomes one step. The functions are scheduled here (TVM leaves naive loops) and rewritten to take plain pointers,
with their temporaries as workspace pointers, because the bundle has no runtime that could allocate them.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import tvm
from tvm import relax, s_tir, tirx
from tvm.relax.frontend.onnx import from_onnx

from qcompiler.errors import UnsupportedModel
from qcompiler.lowering.call import GenericCall
from qcompiler.lowering.identities import with_identities

LANES = 16


def lower_region(model: onnx.ModelProto) -> tuple[GenericCall, ...]:
    """Compile a region of standard ops; the last calls' outputs carry the model's output names.

    Raises UnsupportedModel where TVM has no importer for an op.
    """
    module = _import(model)
    module = _PIPELINE(module)
    return tuple(_calls(module, model))


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


def _import(model: onnx.ModelProto) -> Any:
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # the importer prints what it also raises
            return from_onnx(model, keep_params_in_input=False)
    except Exception as error:
        raise _unsupported(model, str(error).splitlines()[0] if str(error) else type(error).__name__) from error


def _unsupported(model: onnx.ModelProto, reason: str) -> UnsupportedModel:
    kinds = sorted({node.op_type for node in model.graph.node})
    return UnsupportedModel(
        f"no kernel for {', '.join(kinds)} ({reason})",
        node=model.graph.node[0].name,
        remedy="replace the operator by supported ones, or cut the model before it",
    )


def _calls(module: Any, model: onnx.ModelProto) -> list[GenericCall]:
    output_names = [value.name for value in model.graph.output]
    main = module["main"]
    names = {param: param.name for param in main.params}
    calls: list[GenericCall] = []
    bindings = [binding for block in main.body.blocks for binding in block.bindings]
    results = _result_names(main.body.body, bindings, output_names)
    for binding in bindings:
        value, var = binding.value, binding.var
        if isinstance(value, relax.Call) and value.op.name == "relax.call_tir":
            outputs = results.get(var) or _intermediate_names(var, f"{output_names[0]}/call{len(calls)}")
            function = module[value.args[0]]
            inputs = tuple(_operand(argument, names) for argument in value.args[1].fields)
            calls.append(_pointer_call(function, inputs, outputs, value.args[0].name_hint))
            names[var] = outputs[0]
            names.update({(var, index): name for index, name in enumerate(outputs)})
        elif isinstance(value, relax.TupleGetItem):
            names[var] = names[(value.tuple_value, value.index)]
        elif isinstance(value, relax.Var) and value in names:
            names[var] = names[value]
        elif isinstance(value, relax.Tuple):
            continue
        else:
            raise _unsupported(
                model, f"TVM makes no code for {value.op.name if isinstance(value, relax.Call) else value}"
            )
    return calls


def _intermediate_names(var: Any, base: str) -> list[str]:
    """One name per value of a call that `main` does not return: several where its result is a tuple."""
    fields = getattr(var.ty, "fields", None)
    return [base] if fields is None else [f"{base}/{i}" for i in range(len(fields))]


def _operand(argument: Any, names: dict[Any, str]) -> str | npt.NDArray[Any]:
    if isinstance(argument, tvm.ir.GenericConst):
        return np.ascontiguousarray(argument.value.numpy())
    return names[argument]


def _result_names(body: Any, bindings: Sequence[Any], output_names: Sequence[str]) -> dict[Any, list[str]]:
    """The ONNX output names of the variables that `main` returns, followed through aliases and tuples."""
    values = {binding.var: binding.value for binding in bindings}

    def resolve(expression: Any) -> Any:
        while isinstance(expression, relax.Var) and isinstance(values.get(expression), relax.Var):
            expression = values[expression]
        return expression

    returned = resolve(body)
    if isinstance(values.get(returned), relax.Tuple):
        returned = values[returned]
    fields = [resolve(field) for field in returned.fields] if isinstance(returned, relax.Tuple) else [returned]
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


def _pointer_call(
    function: Any, inputs: tuple[str | npt.NDArray[Any], ...], outputs: Sequence[str], name: str
) -> GenericCall:
    scheduled, independent = _schedule(function)
    root = scheduled.body.block
    temporaries = list(root.alloc_buffers)
    buffers = [*scheduled.params, *temporaries]
    begin, end = tirx.Var("begin", "int32"), tirx.Var("end", "int32")
    pointers = [
        tirx.Var(f"{buffer.name}_ptr", tvm.ir.PointerType(tvm.ir.PrimType(str(buffer.dtype)), "global"))
        for buffer in buffers
    ]
    declarations = [tirx.DeclBuffer(b, data=p) for b, p in zip(buffers, pointers, strict=True)]
    body, items = _ranged(root.body, independent, begin, end)
    block = s_tir.SBlock(root.iter_vars, root.reads, root.writes, root.name_hint, body, root.init)
    realize = s_tir.SBlockRealize(scheduled.body.iter_values, scheduled.body.predicate, block)
    done = tirx.Return(tirx.const(0, "int32"))
    wrapped = tirx.PrimFunc(
        [*pointers, begin, end],
        tirx.SeqStmt([*declarations, realize, done]),
        ret_type=tvm.ir.PrimType("int32"),
    ).with_attr({"tirx.noalias": True, "calling_conv": 2})
    written = scheduled.params[len(inputs) :]
    return GenericCall(
        function=wrapped,
        inputs=inputs,
        outputs=tuple(outputs),
        output_bytes=tuple(_nbytes(buffer) for buffer in written),
        temporaries=tuple(_nbytes(buffer) for buffer in temporaries),
        items=items,
        ops=name,
    )


def _nbytes(buffer: Any) -> int:
    count = int(np.prod([int(extent) for extent in buffer.shape], dtype=np.int64))
    dtype = str(buffer.dtype)
    return count * (1 if dtype == "bool" else np.dtype(dtype).itemsize)


def _schedule(function: Any) -> tuple[Any, bool]:
    """Inline elementwise producers, put the last spatial loop in vector lanes, and reductions outside of it.

    Also says whether the outermost loop is spatial and covers everything, so that its iterations are independent.
    """
    schedule = s_tir.Schedule(tvm.IRModule({"main": with_identities(function)}), error_render_level="none")
    for block in schedule.get_child_blocks(schedule.get_sblock("root")):
        with contextlib.suppress(s_tir.ScheduleError):
            schedule.compute_inline(block)
    blocks = schedule.get_child_blocks(schedule.get_sblock("root"))
    independent = len(blocks) == 1 and _spatial_first(schedule, blocks[0])
    for block in blocks:
        _vectorize(schedule, block)
    return schedule.mod["main"], independent


def _spatial_first(schedule: Any, block: Any) -> bool:
    iterators = schedule.get(block).iter_vars
    return len(schedule.get_loops(block)) == len(iterators) and bool(iterators) and iterators[0].iter_type == 0


def _vectorize(schedule: Any, block: Any) -> None:
    loops = schedule.get_loops(block)
    iterators = schedule.get(block).iter_vars
    if len(loops) != len(iterators) or not loops:
        return
    spatial = [loop for loop, it in zip(loops, iterators, strict=True) if it.iter_type == 0]
    reduction = [loop for loop, it in zip(loops, iterators, strict=True) if it.iter_type != 0]
    if not spatial:
        return
    with contextlib.suppress(s_tir.ScheduleError):
        if not reduction:
            spatial = [schedule.fuse(*spatial)]
        inner = spatial[-1]
        extent = int(schedule.get(inner).extent)
        lanes = next((n for n in (LANES, 8, 4) if extent % n == 0), 0)
        if not lanes:
            return
        outer, vector = schedule.split(inner, [None, lanes])
        schedule.reorder(*spatial[:-1], outer, *reduction, vector)
        schedule.vectorize(vector)
        if reduction:
            schedule.decompose_reduction(block, reduction[0])


def _ranged(body: Any, independent: bool, begin: Any, end: Any) -> tuple[Any, int]:
    """Restrict the outermost loop to [begin, end) where its iterations are independent; else one item does all."""
    if independent and isinstance(body, tirx.For):
        dtype = str(body.loop_var.ty)
        first, count = begin.astype(dtype), (end - begin).astype(dtype)
        return tirx.For(body.loop_var, first, count, tirx.ForKind.SERIAL, body.body), int(body.extent)
    return tirx.IfThenElse(begin < end, body, None), 1
