"""One-node files of ops on integers, and arrays drawn for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from qcompiler.frontend import load
from qcompiler.ir import oracle
from tests.frontend.files import write

QUICK = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
KINDS = st.sampled_from([np.int8, np.uint8])
# powers of two make exact halves, the others round in every product
SCALES = st.sampled_from([0.5, 0.25, 0.02, 0.0371, 0.11, 1.7])


def one_node(
    op: str,
    operands: Sequence[tuple[str, Any] | None],
    fed: Sequence[str],
    domain: str = "",
    outputs: Sequence[str] = ("y",),
    **attributes: Any,
) -> onnx.ModelProto:
    """A file of one node: operands by name in order, None for an absent one; those in `fed` are inputs of the graph."""
    given = {each[0]: np.asarray(each[1]) for each in operands if each is not None}
    names = ["" if each is None else each[0] for each in operands]
    node = helper.make_node(op, names, outputs, name="node", domain=domain, **attributes)
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(given[name].dtype), given[name].shape)
        for name in fed
    ]
    stored = [numpy_helper.from_array(array, name) for name, array in given.items() if name not in fed]
    made = [helper.make_empty_tensor_value_info(name) for name in outputs]
    graph = helper.make_graph([node], "g", inputs, made, stored)
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def results(folder: Path, proto: onnx.ModelProto, inputs: Mapping[str, np.ndarray]) -> tuple[Any, Any]:
    """What the canonical graph and onnxruntime make of the inputs: by name, to compare."""
    given = {name: np.asarray(array) for name, array in inputs.items()}
    return oracle.run(load(write(folder, proto)), given), oracle.run(proto, given)


def check_equal(folder: Path, proto: onnx.ModelProto, inputs: Mapping[str, np.ndarray]) -> None:
    """Codes, types and shapes must be those of onnxruntime."""
    found, want = results(folder, proto, inputs)
    for name, array in want.items():
        np.testing.assert_array_equal(found[name], array, strict=True)


def codes(generator: np.random.Generator, kind: Any, shape: Sequence[int]) -> np.ndarray:
    """Random codes, ends included."""
    limits = np.iinfo(kind)
    return generator.integers(limits.min, limits.max, tuple(shape), endpoint=True).astype(kind)


def near(generator: np.random.Generator, zero: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Codes within 3 of their zero points, whose sums stay small, so that results are no ends."""
    limits = np.iinfo(zero.dtype)
    steps = generator.integers(-3, 4, tuple(shape)) + zero.astype(np.int64)
    return np.clip(steps, limits.min, limits.max).astype(zero.dtype)
