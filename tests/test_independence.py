"""Which batches may be run in parts: random networks, and what mixes the rows of one."""

from __future__ import annotations

import re
from pathlib import Path

import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from qcompiler.errors import InvalidModel
from qcompiler.frontend import canonicalize
from qcompiler.independence import dependence
from qcompiler.ir.batch_axis import batch_axis
from tests.frontend.files import graph_text, save, write
from tests.frontend.test_float32 import Build

MIXED = "a row of output 'y' depends on other rows of the batch"
CONSTANTS = """
    zero = Constant <value_ints = [0]> () one = Constant <value_ints = [1]> () end = Constant <value_ints = [-1]> ()
    all = Constant <value_ints = [-1, 4]> ()
"""


def found(folder: Path, body: str, x: str = "float[N, 4] x", y: str = "float[N, M] y") -> str:
    path = save(folder, graph_text(CONSTANTS + body, x, y))
    return dependence(path, canonicalize(path))


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("y = Softmax (x)", ""),
        ("y = Reshape (x, all)", ""),
        ("t = Transpose (x) s = Softmax <axis = 0> (t) y = Transpose (s)", ""),
        ("y = Softmax <axis = 0> (x)", MIXED),
        ("m = ReduceMax (x, zero) y = Sub (x, m)", MIXED),
        ("m = ReduceMin (x, zero) l = Less (m, far) c = Cast <to = 1> (l) y = Add (x, c)", MIXED),
        ("y = CumSum (x, zero)", MIXED),
        ("s = Slice (x, end, far, zero, end) y = Neg (s)", MIXED),
        ("t = Transpose (x) p = MatMul (x, t) y = MatMul (p, x)", MIXED),
        ("m = IsNaN (x) c = Cast <to = 1> (m) s = ReduceMax (c, zero) y = Add (x, s)", MIXED),
        ("s = Shape (x) n = Gather (s, zero) f = Cast <to = 1> (n) y = Div (x, f)", "output 'y' depends on the size"),
        ("y = Transpose (x)", r"output 'y' is \[4, 1\], and \[4, 2\] for twice the batch"),
        ("y = ReduceSum <keepdims = 0> (x, zero)", r"output 'y' is \[4\], and \[4\] for twice the batch"),
        ("r = Constant <value_ints = [1, 4]> () y = Reshape (x, r)", "it cannot be read for twice the batch .Reshape"),
    ],
)
def test_what_mixes_rows(tmp_path: Path, body: str, reason: str) -> None:
    if "far" in body:
        kind = "value_ints = [-9]" if "Slice" in body else "value_floats = [-2.5]"
        body = f"far = Constant <{kind}> () {body}"
    rank = "float[N] y" if "keepdims = 0" in body else "float[N, M] y"
    problem = found(tmp_path, body, y=rank)
    assert bool(problem) == bool(reason)
    if reason:
        assert re.match(reason, problem), problem


def test_integers_and_several_inputs(tmp_path: Path) -> None:
    inputs = "int64[N, 4] i, float[N, 4] x"
    assert not found(tmp_path, "f = Cast <to = 1> (i) y = Add (f, x)", inputs)
    assert found(tmp_path, "m = ReduceMax (i, zero) f = Cast <to = 1> (m) y = Add (f, x)", inputs) == MIXED
    table = "t = Constant <value_floats = [1., 2., 3.]> () g = Gather (t, i)"
    assert not found(tmp_path, f"{table} y = Mul (g, x)", inputs)


class OpenBatch(Build):
    """A random network of float32 on a batch of open size."""

    def __init__(self, seed: int) -> None:
        super().__init__(TensorProto.FLOAT, seed, plain=True, outside=False)

    def model(self, mixing: str = "") -> onnx.ModelProto:
        if mixing:
            self.result = getattr(self, mixing)(self.result)
        proto = super().model()
        for value in (*proto.graph.input, *proto.graph.output):
            sizes = [dim.dim_value for dim in proto.graph.input[0].type.tensor_type.shape.dim]
            shape = ["N", *sizes[1:]] if value in proto.graph.input else ["N", "c", "h", "w"]
            value.CopyFrom(helper.make_tensor_value_info(value.name, TensorProto.FLOAT, shape))
        return proto

    def summed(self, x: str) -> str:
        return self.node("Sub", [x, self.node("ReduceMean", [x, self.integers([0])])])

    def softmax(self, x: str) -> str:
        return self.node("Softmax", [x], axis=0)

    def shifted(self, x: str) -> str:
        padded = self.node("Pad", [x, self.integers([1, 0, 0, 0, -1, 0, 0, 0])])
        return self.node("Add", [padded, x])


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["", "", "summed", "softmax", "shifted"]))
def test_random_networks(tmp_path_factory: pytest.TempPathFactory, seed: int, mixing: str) -> None:
    path = write(tmp_path_factory.getbasetemp(), OpenBatch(seed).model(mixing), "batch.onnx")
    graph = canonicalize(path)
    assert batch_axis(graph.graph) is not None
    name = graph.graph.outputs[0].name
    assert dependence(path, graph) == (MIXED.replace("'y'", f"'{name}'") if mixing else "")


def test_rows_may_depend_on_each_other_within_a_part(tmp_path: Path) -> None:
    """Three rows from which their mean is taken."""
    body = "p = Constant <value_ints = [-1, 3, 4]> () r = Reshape (x, p) o = Constant <value_ints = [1]> () "
    body += "m = ReduceMean (r, o) d = Sub (r, m) y = Reshape (d, all)"
    path = save(tmp_path, graph_text(CONSTANTS + body, "float[N, 4] x", "float[N, M] y"))
    assert not dependence(path, canonicalize(path, {"x": (3, 4)}))
    with pytest.raises(InvalidModel, match=r"with a batch of 1 for input 'x' \[N, 4\]") as caught:
        canonicalize(path)
    assert caught.value.node == "r"
    assert caught.value.remedy == "if it needs another batch, fix them, for example with --shape x=1x4"
