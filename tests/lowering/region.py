"""Runs the calls of a region of standard operators by themselves, in memory with guards, beside onnxruntime."""

from __future__ import annotations

import ctypes
import itertools
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import tvm
from onnx import helper, numpy_helper

from qcompiler.ir import oracle
from qcompiler.ir.ops import IR_VERSION, OPSET
from qcompiler.lowering.call import ScheduledCall
from qcompiler.lowering.quiet import quiet
from qcompiler.lowering.regions import region_calls
from qcompiler.targets.vector.host import HOST

Array = np.ndarray[Any, Any]
GUARD = 4096


def model(
    nodes: Sequence[onnx.NodeProto] | onnx.NodeProto,
    inputs: Mapping[str, Array],
    constants: Mapping[str, Array] | None = None,
    outputs: Sequence[str] | None = None,
) -> onnx.ModelProto:
    """A model of standard operators with inferred types; by default every value that nobody reads is an output."""
    nodes = [nodes] if isinstance(nodes, onnx.NodeProto) else list(nodes)
    read = {name for node in nodes for name in node.input}
    wanted = [name for node in nodes for name in node.output if name and name not in read]
    graph = helper.make_graph(
        nodes,
        "region",
        [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
            for name, a in inputs.items()
        ],
        [onnx.ValueInfoProto(name=name) for name in outputs or wanted],
        [numpy_helper.from_array(a, name) for name, a in (constants or {}).items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    proto = onnx.shape_inference.infer_shapes(proto, strict_mode=True, data_prop=True)
    for value in proto.graph.output:
        if not value.type.tensor_type.HasField("shape"):  # the inference of onnx says nothing of some scalars
            shape = oracle.run(proto, inputs, [value.name])[value.name].shape
            value.type.tensor_type.shape.dim.extend(onnx.TensorShapeProto.Dimension(dim_value=n) for n in shape)
            value.type.tensor_type.shape.SetInParent()
    return proto


class Region:
    """The compiled calls of all nodes of a model, and its results in onnxruntime."""

    def __init__(self, proto: onnx.ModelProto) -> None:
        self.proto = proto
        self.graph = ir.from_proto(proto).graph
        self.calls: tuple[ScheduledCall, ...] = region_calls(list(self.graph), HOST)
        functions = {f"f{i}": call.function.with_attr("global_symbol", f"f{i}") for i, call in enumerate(self.calls)}
        with quiet():
            built = tvm.tirx.build(tvm.IRModule(functions), target=tvm.target.Target({"kind": "llvm"}))
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory)
            built.write_to_file(str(path / "f.o"), "o")
            link = ["cc", "-shared", "-o", path / "f.so", path / "f.o", "-lm", "-Wl,-z,defs", "-lc"]
            subprocess.run(link, check=True)
            self.library = ctypes.CDLL(str(path / "f.so"))

    def run(self, inputs: Mapping[str, Array], cuts: int = 1) -> dict[str, Array]:
        """The outputs; every call runs in `cuts` pieces, last piece first, as threads may.

        Raises IndexError or ZeroDivisionError for a fault, AssertionError where anything outside is written.
        """
        memory = {name: _guarded(array.nbytes, array) for name, array in inputs.items()}
        for index, call in enumerate(self.calls):
            self._call(index, call, memory, cuts)
        return {
            value.name or "": memory[value.name or ""][GUARD:-GUARD]
            .view(value.dtype.numpy())
            .reshape(tuple(value.shape))
            .copy()
            for value in self.graph.outputs
        }

    def _call(self, index: int, call: ScheduledCall, memory: dict[str, Array], cuts: int) -> None:
        for name, nbytes in zip(call.outputs, call.output_bytes, strict=True):
            memory[name] = _guarded(nbytes)
        arrays = [memory[r] if isinstance(r, str) else _guarded(r.nbytes, r) for r in call.inputs]
        before = [array.copy() for array in arrays]
        arrays += [memory[name] for name in call.outputs] + [_guarded(nbytes) for nbytes in call.temporaries]
        fault = ctypes.c_int32(0)
        pointers = [ctypes.c_void_p(array.ctypes.data + GUARD) for array in arrays]
        pointers += [ctypes.c_void_p(ctypes.addressof(fault))] if call.faults else []
        bounds = [call.launch.count * cut // cuts for cut in range(cuts + 1)]
        for begin, end in reversed(list(itertools.pairwise(bounds))):
            assert getattr(self.library, f"f{index}")(*pointers, begin, end) == 0
        for array in arrays:
            assert (array[:GUARD] == 0xA5).all() and (array[-GUARD:] == 0xA5).all(), "written outside"
        for array, old in zip(arrays, before, strict=False):
            assert np.array_equal(array, old), "an input was written"
        if fault.value:
            assert fault.value in call.faults
            raise {10: IndexError, 11: ZeroDivisionError}[fault.value]


def _guarded(nbytes: int, content: Array | None = None) -> Array:
    """Bytes full of garbage between guards, 64-byte aligned."""
    raw = np.full(nbytes + 2 * GUARD + 64, 0xA5, np.uint8)
    found = raw[-raw.ctypes.data % 64 :][: nbytes + 2 * GUARD]
    if content is not None:
        found[GUARD : GUARD + nbytes] = np.ascontiguousarray(content).reshape(-1).view(np.uint8)
    return found


def check(
    proto: onnx.ModelProto,
    inputs: Mapping[str, Array],
    *,
    tolerance: float = 0.0,
    cuts: Sequence[int] = (1, 2, 3),
) -> None:
    """Compile the model and compare it with onnxruntime; `tolerance` is relative to the largest magnitude."""
    region = Region(proto)
    expected = oracle.run(proto, inputs)
    for count in cuts:
        found = region.run(inputs, count)
        for name, array in expected.items():
            assert found[name].dtype == array.dtype and found[name].shape == array.shape
            if array.dtype.kind == "f" and tolerance:
                largest = float(np.abs(array[np.isfinite(array)]).max(initial=1e-6))
                np.testing.assert_allclose(found[name], array, rtol=0, atol=tolerance * largest, err_msg=name)
            else:
                np.testing.assert_array_equal(found[name], array, err_msg=name)
