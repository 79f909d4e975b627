"""Running a graph in onnxruntime with every optimisation off: the reference for passes, tests and verification.

The default optimisation level re-quantizes biases and replaces quantized products by approximations, so it is no
reference (docs/adr/0001-ir.md). Only train/deploy.py imports onnxruntime beside this module, to measure its speed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import onnxruntime as ort

from qcompiler.errors import InvalidModel, QCompilerError, UnsupportedModel, UsageError
from qcompiler.ir.portable import Portable, portable
from qcompiler.ir.unsaturated import unsaturated

Array = npt.NDArray[Any]
Model: TypeAlias = ir.Model | onnx.ModelProto | Portable

# chosen
_THREADS = 2
_SMALL_BYTES = 2**16
# what protobuf holds
_PROTOBUF_LIMIT = 2**31 - 1
_NODE_IN_MESSAGE = re.compile(r"Name:\s*'([^']*)'|node with name '([^']*)'|Node, \(\"([^\"]*)\"|[Nn]ode\s*\(([^)]*)\)")
# for inputs of integers, tried in turn until the graph runs; chosen
_RANGES = ((-7, 8), (1, 8), (0, 4), (0, 2), (1, 2), (0, 1))
_FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)


def run(model: Model, inputs: Mapping[str, Array], outputs: Sequence[str] | None = None) -> dict[str, Array]:
    """Evaluate `model` on `inputs`; the result maps value names to arrays in their ONNX shapes and dtypes.

    outputs: names of the values wanted, which may be intermediate; None means the graph outputs.
    Raises UsageError for wrong inputs or unknown names, UnsupportedModel or InvalidModel where onnxruntime refuses.
    """
    return Session(model, outputs).run(inputs)


class Session:
    """A graph prepared once and evaluated on many inputs; see `run`."""

    def __init__(self, model: Model, outputs: Sequence[str] | None = None) -> None:
        prepared = _portable(model)
        self._model = unsaturated(prepared) if _saturates() else prepared
        graph = self._model.proto.graph
        self._inputs = _real_inputs(graph)
        self._wanted = list(dict.fromkeys([value.name for value in graph.output] if outputs is None else outputs))
        given = {tensor.name: tensor for tensor in graph.initializer}
        self._given = {name: _constant(self._model, given[name]) for name in self._wanted if name in given}
        names = {value.name for value in self._inputs}
        self._computed = [name for name in self._wanted if name not in names and name not in given]
        self._session: ort.InferenceSession | None = None

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The wanted values, by name."""
        _check_inputs(self._inputs, inputs)
        results = dict(self._given)
        if self._computed:
            results.update(zip(self._computed, self._evaluate(inputs), strict=True))
        return {name: results[name] if name in results else np.asarray(inputs[name]) for name in self._wanted}

    def _evaluate(self, inputs: Mapping[str, Array]) -> list[Array]:
        quiet = ort.RunOptions()
        quiet.log_severity_level = 4
        if self._session is None:
            _make_outputs(self._model.proto.graph, self._computed)
        try:
            self._session = self._session or _start(self._model)
            arrays: list[Array] = self._session.run(self._computed, dict(inputs), quiet)
        except QCompilerError:
            raise
        except Exception as error:
            raise _translate(error) from error
        return arrays


def random_inputs(model: Model, seed: int) -> dict[str, Array]:
    """One array for every input that is no initializer: standard normal floats, small integers, random booleans.

    Integers may be indices or divisors: they come from the first of some ranges that the model runs with.
    """
    prepared = _portable(model)
    declared = _real_inputs(prepared.proto.graph)
    generator = np.random.default_rng(seed)
    arrays = {value.name: _random(value, generator, _RANGES[0]) for value in declared}
    integers = [value for value in declared if arrays[value.name].dtype.kind in "iu"]
    for limits in _RANGES[1:] if integers else ():
        if _runs(prepared, arrays):
            break
        arrays |= {value.name: _random(value, generator, limits) for value in integers}
    return arrays


def _runs(model: Model, inputs: Mapping[str, Array]) -> bool:
    """Whether the model has results for the inputs."""
    try:
        run(model, inputs)
    except QCompilerError:
        return False
    return True


def _portable(model: Model) -> Portable:
    return model if isinstance(model, Portable) else portable(model)


@lru_cache(maxsize=1)
def _saturates() -> bool:
    """Whether onnxruntime's sums of two products of bytes end at 32767 on this processor; see `unsaturated.py`."""
    text = "sums (uint8[1,2] a, int8[2,1] b) => (int32[1,1] y) { y = MatMulInteger (a, b) }"
    proto = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": 21]> {text}')
    ends = {"a": np.full((1, 2), 255, np.uint8), "b": np.full((2, 1), 127, np.int8)}
    (found,) = _start(Portable(proto, {})).run(None, ends)
    return int(found[0, 0]) != 2 * 255 * 127


def _constant(model: Portable, tensor: onnx.TensorProto) -> Array:
    """The data of an initializer of the graph."""
    return model.constants[tensor.name] if tensor.name in model.constants else onnx.numpy_helper.to_array(tensor)


def _real_inputs(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    initializers = {tensor.name for tensor in graph.initializer}
    return [value for value in graph.input if value.name not in initializers]


def _check_inputs(declared: Sequence[onnx.ValueInfoProto], inputs: Mapping[str, Array]) -> None:
    expected = {value.name: value for value in declared}
    if missing := [name for name in expected if name not in inputs]:
        raise UsageError(f"no array for input '{missing[0]}'", remedy=f"give arrays for {', '.join(expected)}")
    if extra := [name for name in inputs if name not in expected]:
        raise UsageError(f"the model has no input '{extra[0]}'", remedy=f"its inputs are {', '.join(expected)}")
    for name, value in expected.items():
        _check_array(name, np.asarray(inputs[name]), value.type.tensor_type)


def _check_array(name: str, array: Array, declared: onnx.TypeProto.Tensor) -> None:
    dtype = onnx.helper.tensor_dtype_to_np_dtype(declared.elem_type)
    if array.dtype != dtype:
        raise UsageError(f"input '{name}' is {array.dtype}, expected {dtype}", remedy="convert the array")
    sizes = [dim.dim_value if dim.HasField("dim_value") else None for dim in declared.shape.dim]
    fits = len(sizes) == array.ndim and all(want in (None, size) for want, size in zip(sizes, array.shape, strict=True))
    if declared.HasField("shape") and not fits:
        raise UsageError(f"input '{name}' has shape {list(array.shape)}, expected {sizes}", remedy="reshape the array")


def _start(model: Portable) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    # starting and ending threads takes longer than shape arithmetic
    is_small = len(model.proto.graph.node) == 1 and model.nbytes < _SMALL_BYTES
    options.intra_op_num_threads = 1 if is_small else _THREADS
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    ort.set_default_logger_severity(4)
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if model.nbytes > _PROTOBUF_LIMIT:
        raise UnsupportedModel("the graph holds more than 2 GiB of constants", remedy="use a smaller model")
    arrays = [ort.OrtValue.ortvalue_from_numpy(array) for array in model.constants.values()]
    options.add_external_initializers(list(model.constants), arrays)
    return ort.InferenceSession(model.proto.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _make_outputs(graph: onnx.GraphProto, names: Sequence[str]) -> None:
    """Make `names` the graph outputs, with their types where the graph knows them."""
    produced = {name for node in graph.node for name in node.output}
    if unknown := [name for name in names if name not in produced]:
        raise UsageError(f"the graph has no value '{unknown[0]}'", remedy="ask for a name that is in the graph")
    known = {value.name: value for value in [*graph.value_info, *graph.output]}
    outputs = [known.get(name, onnx.ValueInfoProto(name=name)) for name in names]
    del graph.output[:]
    graph.output.extend(outputs)


def _translate(error: Exception) -> QCompilerError:
    """An onnxruntime failure in our terms; its exceptions are told apart by class name only."""
    message = str(error)
    found = _NODE_IN_MESSAGE.search(message)
    node = next((group for group in found.groups() if group), "") if found else ""
    kind = type(error).__name__
    if kind == "NotImplemented":
        return UnsupportedModel(f"onnxruntime cannot run it: {message}", node=node, remedy="use a float32 form of it")
    return InvalidModel(f"onnxruntime refuses the graph: {message}", node=node, remedy="check the model")


def _random(value: onnx.ValueInfoProto, generator: np.random.Generator, limits: tuple[int, int]) -> Array:
    """An array for an input; integers are in range(*limits), unsigned ones not negative."""
    tensor = value.type.tensor_type
    if not all(dim.HasField("dim_value") for dim in tensor.shape.dim):
        raise UsageError(f"input '{value.name}' has dynamic dimensions", remedy="load the model with fixed shapes")
    shape = tuple(dim.dim_value for dim in tensor.shape.dim)
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
    if tensor.elem_type in _FLOATS:
        return np.asarray(generator.standard_normal(shape, dtype=np.float32)).astype(dtype)
    if tensor.elem_type == onnx.TensorProto.BOOL:
        return np.asarray(generator.integers(0, 2, shape)).astype(dtype)
    low, high = limits
    return np.asarray(generator.integers(max(low, 0) if dtype.name.startswith("uint") else low, high, shape)).astype(
        dtype
    )
