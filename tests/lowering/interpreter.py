"""Runs lowered work in numpy: kernels by their reference, generic calls by TVM in process."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import tvm

from qcompiler.ir import ops
from qcompiler.ir.storage import Buffer
from qcompiler.lowering.check import check_offsets, check_works
from qcompiler.lowering.common_storage import CommonStorage
from qcompiler.lowering.memory import lifetimes, plan
from qcompiler.lowering.module import planned
from qcompiler.lowering.work import External, GenericWork, KernelWork, Slot, place_of, slots_of
from qcompiler.targets import reference
from qcompiler.targets.problem import outputs_of, tensors_of
from qcompiler.targets.vector.host import HOST
from qcompiler.targets.x86 import TARGET


def canonical(text: str, constants: dict[str, np.ndarray]) -> ir.Model:
    """A canonical model from textual ONNX and named initializers."""
    proto = onnx.parser.parse_model(text)
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(a, n) for n, a in constants.items())
    model = ir.serde.deserialize_model(proto)
    ops.attach_functions(model)
    proto = onnx.shape_inference.infer_shapes(ir.serde.serialize_model(model), strict_mode=True, data_prop=True)
    return ir.serde.deserialize_model(proto)


class InPlanes(CommonStorage):
    """Every layer on codes reads bit planes, whatever that costs."""

    def _cost(self, node: ir.Node, x: Buffer) -> float:
        return 0


class InBytes(CommonStorage):
    """Every layer on codes reads bytes, where signs have no other weights than signs bit planes."""

    def _cost(self, node: ir.Node, x: Buffer) -> float:
        return float(not x.in_bytes) + float(not x.packed)


class InFloats(CommonStorage):
    """Every layer on codes reads them as floats."""

    def _cost(self, node: ir.Node, x: Buffer) -> float:
        return float(x.packed)


class ByPixels(CommonStorage):
    """Every layer that can reads bit planes by pixels, others bit planes."""

    def _cost(self, node: ir.Node, x: Buffer) -> float:
        return 2.0 * (not x.by_pixels) + float(not x.in_planes)


in_planes = InPlanes(TARGET.variants(("baseline",)))
in_floats = InFloats(TARGET.variants(("avx2",)))
in_bytes = InBytes(TARGET.variants(("avx512bw",)))
by_pixels = ByPixels(TARGET.variants(("avx512vpopcntdq", "avx2")))


def run(model: ir.Model, inputs: list[np.ndarray], storage: CommonStorage = in_planes) -> tuple[list[np.ndarray], list]:
    """Outputs of the lowered network and its works; slots share one workspace exactly as planned."""
    _, works = planned(model.graph, storage, HOST)
    check_works(model.graph, works)
    offsets, size = plan(lifetimes([slots_of(work) for work in works]))
    check_offsets(works, offsets, size)
    workspace = np.full(size, 0xA5, np.uint8)
    outputs = [np.zeros(tuple(v.shape), v.dtype.numpy()) for v in model.graph.outputs]

    def memory(place: Slot | External, nbytes: int) -> np.ndarray:
        if isinstance(place, Slot):
            return workspace[offsets[place] : offsets[place] + nbytes]
        array = inputs[place.position] if place.kind == "input" else outputs[place.position]
        return array.reshape(-1).view(np.uint8)[:nbytes]

    for work in works:
        (_kernel if isinstance(work, KernelWork) else _generic)(work, memory)
    return outputs, works


def _kernel(work: KernelWork, memory) -> None:
    problem = work.problem
    x = _typed(memory(work.reads[0].location, problem.x.nbytes), problem.x)
    operands = tensors_of(problem)
    tensors = [_typed(memory(p.location, b.nbytes), b) for p, b in zip(work.reads[1:], operands, strict=True)]
    results = reference.run(problem, x.copy(), work.constants, [t.copy() for t in tensors])
    for place, buffer, result in zip(work.writes, outputs_of(problem), results, strict=True):
        assert result.nbytes == buffer.nbytes
        memory(place.location, buffer.nbytes)[:] = result.reshape(-1).view(np.uint8)


def _typed(raw: np.ndarray, buffer) -> np.ndarray:
    return np.frombuffer(raw.tobytes(), buffer.dtype).reshape(buffer.storage_shape)


def _generic(work: GenericWork, memory) -> None:
    """Compile the function for the host and call it through ctypes, as the bundle does."""
    import ctypes
    import subprocess
    import tempfile
    from pathlib import Path

    function = work.call.function.with_attr("global_symbol", "f")
    built = tvm.tirx.build(tvm.IRModule({"f": function}), target=tvm.target.Target({"kind": "llvm"}))
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory)
        built.write_to_file(str(path / "f.o"), "o")
        subprocess.run(["cc", "-shared", "-o", path / "f.so", path / "f.o", "-lm"], check=True)
        library = ctypes.CDLL(str(path / "f.so"))
        keep = [
            np.ascontiguousarray(read) if isinstance(read, np.ndarray) else memory(place_of(read), 1 << 40)
            for read in work.reads
        ]
        sizes = (*work.call.output_bytes, *work.call.temporaries)
        places = (*work.writes, *work.temporaries)
        keep += [memory(place_of(place), nbytes) for place, nbytes in zip(places, sizes, strict=True)]
        pointers = [ctypes.c_void_p(array.ctypes.data) for array in keep]
        fault = ctypes.c_int32(0)
        pointers += [ctypes.c_void_p(ctypes.addressof(fault))] if work.call.faults else []
        assert library.f(*pointers, 0, work.call.launch.count) == 0 and fault.value == 0
