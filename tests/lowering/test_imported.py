"""Operators that go through TVM: right in value against onnxruntime, checked in type, safe with any data, silent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tvm
from onnx import helper
from tvm import relax
from tvm.script.ir_builder import tirx as T

from qcompiler.errors import UnsupportedModel
from qcompiler.ir import oracle
from qcompiler.lowering import importer, standard
from qcompiler.lowering.quiet import quiet
from qcompiler.lowering.safety import hazard
from qcompiler.targets.vector.emit import Parameter, i64, prim_func, write
from tests.lowering.region import Region, check, model

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng(5)


def nodes(*specs: Any) -> list[Any]:
    """One node per (operator, inputs, attributes), with an output of its own."""
    return [
        helper.make_node(op, list(inputs), [f"o{i}"], f"n{i}", **attributes)
        for i, (op, inputs, attributes) in enumerate(specs)
    ]


def compare(specs: list[Any], inputs: dict[str, Array], constants: dict[str, Array] | None = None) -> None:
    """All nodes in one region, on one thread and in two pieces; each element within 1e-4 of its own size."""
    made = nodes(*specs)
    proto = model(made, inputs, constants)
    region, expected = Region(proto), oracle.run(proto, inputs)
    for cuts in (1, 2):
        found = region.run(inputs, cuts)
        for node in made:
            got, wanted = found[node.output[0]], expected[node.output[0]]
            assert got.dtype == wanted.dtype and got.shape == wanted.shape, node
            if wanted.dtype.kind == "f":
                np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-6, err_msg=str(node))
            else:
                np.testing.assert_array_equal(got, wanted, err_msg=str(node))


UNARY = [
    "Abs",
    "Acos",
    "Acosh",
    "Asin",
    "Asinh",
    "Atan",
    "Atanh",
    "Ceil",
    "Cos",
    "Cosh",
    "Elu",
    "Erf",
    "Exp",
    "Floor",
    "Gelu",
    "HardSigmoid",
    "HardSwish",
    "IsInf",
    "IsNaN",
    "LeakyRelu",
    "Log",
    "Mish",
    "Neg",
    "Reciprocal",
    "Relu",
    "Round",
    "Selu",
    "Sigmoid",
    "Sign",
    "Sin",
    "Sinh",
    "Softplus",
    "Softsign",
    "Sqrt",
    "Tan",
    "Tanh",
    "ThresholdedRelu",
    "Softmax",
    "LogSoftmax",
    "Hardmax",
]
EXTREMES = [0, -0.0, 1, -1, 0.5, -0.5, 1.5, 2.5, -1.5, -2.5, 3.3, -3.3, 20, -20, 88, -88, 100, -100, 1e-3, -1e-3]
EXTREMES += [1e-30, 1e30, -1e30, np.inf, -np.inf, 0.25, -0.25, 0.9999, 7, 8, 9, 2]


def test_functions_of_one_tensor() -> None:
    specs: list[Any] = [(op, ["x"], {}) for op in UNARY]
    specs += [("Elu", ["x"], {"alpha": 2.0}), ("LeakyRelu", ["x"], {"alpha": -0.5}), ("Cast", ["x"], {"to": 9})]
    specs += [("HardSigmoid", ["x"], {"alpha": 0.3, "beta": 0.7}), ("Selu", ["x"], {"alpha": 1.5, "gamma": 2.0})]
    specs += [("Shrink", ["x"], {"bias": 0.3, "lambd": 0.7}), ("Gelu", ["x"], {"approximate": "tanh"})]
    specs += [("IsInf", ["x"], {"detect_negative": 0}), ("IsInf", ["x"], {"detect_positive": 0})]
    specs += [("Clip", ["x", "low", "high"], {})]
    constants = {"low": np.float32(-2), "high": np.float32(3)}
    compare(
        specs, {"x": np.array(EXTREMES, np.float32).reshape(4, 8)}, {k: np.asarray(v) for k, v in constants.items()}
    )


def test_functions_of_two_tensors() -> None:
    x = np.array(EXTREMES, np.float32)
    kinds = [
        "Add",
        "Sub",
        "Mul",
        "Div",
        "Pow",
        "Max",
        "Min",
        "Equal",
        "Greater",
        "Less",
        "GreaterOrEqual",
        "LessOrEqual",
        "PRelu",
        "Mean",
        "Sum",
    ]
    compare([(op, ["a", "b"], {}) for op in kinds], {"a": np.tile(x, (32, 1)), "b": np.repeat(x, 32).reshape(32, 32)})


@pytest.mark.parametrize("dtype", ["int32", "int64", "uint8", "int8"])
def test_integers(dtype: str) -> None:
    limit = np.iinfo(dtype)
    values = np.array([0, 1, 2, 3, 5, 7, limit.max, limit.min, limit.max - 1, limit.min + 1, 9, 11, 13, 100, 4, 6])
    a, b = np.tile(values, (16, 1)).astype(dtype), np.repeat(values, 16).reshape(16, 16).astype(dtype)
    kinds = ["Add", "Sub", "Mul", "Max", "Min", "Equal", "Greater", "Less", "BitwiseAnd", "BitwiseOr", "BitwiseXor"]
    specs: list[Any] = [(op, ["a", "b"], {}) for op in kinds]
    specs += [("Abs", ["a"], {}), ("BitwiseNot", ["a"], {}), ("Clip", ["a", "low", "high"], {})]
    specs += [("Cast", ["a"], {"to": to}) for to in (1, 7, 9)] + [("ArgMax", ["a"], {"axis": 1})]
    specs += [("Where", ["c", "a", "b"], {}), ("Transpose", ["a"], {"perm": [1, 0]}), ("ReduceMax", ["a", "axes"], {})]
    bounds = {"low": np.array(2, dtype), "high": np.array(9, dtype), "axes": np.array([1])}
    compare(specs, {"a": a, "b": b, "c": a > b}, bounds)


def test_reductions() -> None:
    x = RNG.integers(-2, 3, (3, 4, 5, 6)).astype(np.float32) + RNG.integers(0, 2, (3, 4, 5, 6)).astype(np.float32) / 2
    kinds = ["L1", "L2", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare"]
    specs: list[Any] = [
        (f"Reduce{op}", ["x", axes], {"keepdims": k}) for op in kinds for axes, k in [("a", 0), ("b", 1), ("c", 1)]
    ]
    specs += [(f"Reduce{op}", ["x"], {"keepdims": k}) for op in ("Max", "Sum") for k in (0, 1)]
    for op in ("ArgMax", "ArgMin"):
        specs += [(op, ["x"], {"axis": axis, "select_last_index": last}) for axis in (0, 2, -1) for last in (0, 1)]
    specs += [(op, ["x"], {"axis": axis}) for op in ("Softmax", "LogSoftmax", "Hardmax") for axis in (0, 1, -1)]
    compare(specs, {"x": x}, {"a": np.array([1, 2]), "b": np.array([3]), "c": np.array([-4, -1])})


def test_movements() -> None:
    x = RNG.standard_normal((2, 4, 6, 8)).astype(np.float32)
    lists = {"starts": [1, -1], "ends": [100, -100], "axes": [1, 2], "steps": [2, -2], "pads": [0, 1, 2, 0, 1, 0, 0, 3]}
    lists |= {"crop": [0, -1, 0, 1, 0, 2, -1, 0], "times": [1, 2, 1, 3], "wide": [3, 2, 4, 6, 8], "shape": [0, -1, 8]}
    specs: list[Any] = [
        ("Slice", ["x", "starts", "ends", "axes", "steps"], {}),
        ("Pad", ["x", "pads"], {}),
        ("Pad", ["x", "pads", "value"], {}),
        ("Pad", ["x", "crop"], {}),
        *(("Pad", ["x", "pads"], {"mode": mode}) for mode in ("edge", "reflect", "wrap")),
        ("Tile", ["x", "times"], {}),
        ("Expand", ["x", "wide"], {}),
        ("Reshape", ["x", "shape"], {}),
        ("Trilu", ["x"], {}),
        ("Trilu", ["x", "one"], {"upper": 0}),
        *(("DepthToSpace", ["x"], {"blocksize": 2, "mode": mode}) for mode in ("DCR", "CRD")),
        ("SpaceToDepth", ["x"], {"blocksize": 2}),
        ("Transpose", ["x"], {"perm": [2, 0, 3, 1]}),
        ("Concat", ["x", "x", "x"], {"axis": -2}),
        ("EyeLike", ["m"], {}),
        ("Size", ["x"], {}),
        ("Identity", ["x"], {}),
    ]
    constants = {name: np.array(value) for name, value in lists.items()} | {"one": np.array(1)}
    compare(specs, {"x": x, "m": x[0, 0]}, {**constants, "value": np.array(2.5, np.float32)})


def test_outputs_that_are_inputs_constants_or_each_other() -> None:
    x = RNG.standard_normal((3, 4)).astype(np.float32)
    made = [
        helper.make_node("Identity", ["x"], ["same"]),
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("Identity", ["a"], ["b"]),
        helper.make_node("EyeLike", ["x"], ["eye"]),
    ]
    check(model(made, {"x": x}, outputs=["same", "a", "b", "eye"]), {"x": x})


class TestTypesAreChecked:
    """With an importer that lies, of a value that is an output and of one inside of the region."""

    @pytest.fixture(params=["shape", "dtype"])
    def lie(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
        original = importer.from_onnx

        def lying(proto: Any, **options: Any) -> Any:
            changed = type(proto)()
            changed.CopyFrom(proto)
            for node in changed.graph.node:
                if node.name == "culprit" and request.param == "shape":
                    node.op_type = "Transpose"
                elif node.name == "culprit":
                    node.op_type = "Cast"
                    node.attribute.append(helper.make_attribute("to", 11))
            return original(changed, **options)

        monkeypatch.setattr(importer, "from_onnx", lying)

    @pytest.mark.parametrize("behind", [False, True])
    def test_a_difference_names_the_node(self, lie: None, behind: bool) -> None:
        made = [helper.make_node("Abs", ["x"], ["a"], "first"), helper.make_node("Neg", ["a"], ["b"], "culprit")]
        made += [helper.make_node("ReduceMax", ["b"], ["c"], "last")] if behind else []
        proto = model(made, {"x": np.zeros((2, 3), np.float32)})
        with pytest.raises(UnsupportedModel, match=r"node 'culprit'.*Neg.*expected float32 \[2, 3\]"):
            Region(proto)


@pytest.mark.parametrize("op", ["Gather", "GatherElements", "GatherND", "Div", "RoiAlign"])
def test_code_that_data_can_lead_astray_is_refused(op: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """TVM's own code for operators that have kernels of ours."""
    monkeypatch.setattr(standard, "LOWERINGS", {})
    x, index = np.zeros((5, 4), np.float32), np.zeros((5, 1), np.int64)
    inputs = {"x": x, "i": index} if op != "Div" else {"x": x.astype(np.int32), "i": x.astype(np.int32)}
    if op == "RoiAlign":
        inputs = {"x": np.zeros((1, 1, 8, 8), np.float32), "r": x, "i": index[:, 0]}
    proto = model(helper.make_node(op, list(inputs), ["y"], "culprit"), inputs)
    with pytest.raises(
        UnsupportedModel, match="node 'culprit'.*(computed from data and has no bounds|divided by data)"
    ):
        Region(proto)


def test_bounds_of_both_ends_are_asked_for() -> None:
    """The index of one load, bounded from below, from above, from both sides, and by a condition."""

    def gather(bounded: Callable[[Any], Any], condition: Callable[[Any], Any] | None = None) -> str | None:
        def body(buffers: list[Any], item: Any) -> None:
            source, index, target = buffers
            raw = index[item]
            if condition is None:
                write(target, source[bounded(raw)], item)
            else:
                write(target, T.if_then_else(condition(raw), source[bounded(raw)], T.float32(0)), item)

        parameters = [
            Parameter("x", "float32", 10, 64),
            Parameter("i", "int64", 10, 64),
            Parameter("y", "float32", 10, 64),
        ]
        return hazard(prim_func("f", parameters, body))

    assert gather(lambda i: T.max(T.min(i, i64(9)), i64(0))) is None
    assert gather(lambda i: i, lambda i: T.And(i >= i64(0), i < i64(10))) is None
    wrong: list[Any] = [(lambda i: i,), (lambda i: T.min(i, i64(9)),), (lambda i: T.max(i, i64(0)),)]
    wrong += [(lambda i: T.max(T.min(i, i64(10)), i64(0)),), (lambda i: i, lambda i: i < i64(10))]
    wrong += [(lambda i: i, lambda i: T.Or(i >= i64(0), i < i64(10)))]
    for case in wrong:
        assert "has no bounds" in (gather(*case) or "")


def test_code_that_looks_where_it_goes_is_not_refused() -> None:
    """Indices from data behind a condition: outside of the image there is nothing to read."""
    inputs = {"x": RNG.standard_normal((1, 2, 4, 5)).astype(np.float32)}
    inputs["g"] = np.array([-2, -1.001, -1, 0, 0.3, 1, 1e9, -1e9], np.float32).reshape(1, 2, 2, 2)
    for mode in ("linear", "nearest"):
        check(model(helper.make_node("GridSample", ["x", "g"], ["y"], mode=mode), inputs), inputs, tolerance=1e-5)
    region = Region(model(helper.make_node("GridSample", ["x", "g"], ["y"]), inputs))
    inputs["g"][...] = np.nan
    region.run(inputs)


def test_tvm_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    """An importer that fails half-way, an integer power and a gather make TVM write to standard error."""
    x = {"x": np.zeros((3, 4), np.float32)}
    with pytest.raises(UnsupportedModel, match="node 'culprit'"):
        Region(model(nodes(("Abs", ["x"], {})) + [helper.make_node("EyeLike", ["x"], ["y"], "culprit", dtype=7)], x))
    standard_pow = model(helper.make_node("Pow", ["x", "p"], ["y"]), x, {"p": np.array(3, np.float32)})
    Region(standard_pow)
    found = capfd.readouterr()
    assert found.out == "" and found.err == ""


def test_other_lines_of_standard_error_come_through(capfd: pytest.CaptureFixture[str]) -> None:
    import os

    with quiet():
        os.write(2, b"[12:00:00] /project/src/relax/ir/block_builder.cc:67: Warning: remaining blocks!\n")
        os.write(2, b"a line of another thread\n")
    assert capfd.readouterr().err == "a line of another thread\n"


def test_an_error_of_tvm_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: Any, **__: Any) -> Any:
        raise tvm.error.InternalError("Check failed\nand a traceback")

    monkeypatch.setattr(relax.transform, "LegalizeOps", failing)
    monkeypatch.setattr(importer, "from_onnx", failing)
    proto = model(helper.make_node("Abs", ["x"], ["y"], "culprit"), {"x": np.zeros(3, np.float32)})
    with pytest.raises(UnsupportedModel, match=r"node 'culprit': no kernel for Abs \(Check failed\)"):
        Region(proto)
