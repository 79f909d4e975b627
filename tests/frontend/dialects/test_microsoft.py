"""com.microsoft's ops on 8-bit integers against onnxruntime's kernels: equal codes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcompiler.errors import InvalidModel, QCompilerError, UnsupportedModel
from qcompiler.frontend import load
from qcompiler.frontend.dialects import microsoft
from tests.frontend.dialects.integer_files import KINDS, QUICK, SCALES, check_equal, codes, near, one_node
from tests.frontend.files import write

DOMAIN = "com.microsoft"
SEEDS = st.integers(0, 2**32)


@QUICK
@given(st.data())
def test_products_give_the_codes_of_onnxruntime(tmp_path: Path, data: st.DataObject) -> None:
    generator = np.random.default_rng(data.draw(SEEDS))
    a_kind = data.draw(KINDS)
    b_kind = np.int8 if a_kind == np.int8 else data.draw(KINDS)
    swaps = {name: data.draw(st.integers(0, 1)) for name in ("transA", "transB")}
    count, few = data.draw(st.sampled_from([(), (1,), (4,)])), data.draw(st.booleans())
    a_zero, b_zero = codes(generator, a_kind, ()), codes(generator, b_kind, count)
    a, b = codes(generator, a_kind, (3, 7)), codes(generator, b_kind, (7, 4))
    if few:
        a, b = near(generator, a_zero, a.shape), near(generator, b_zero, b.shape)
    bias = generator.integers(-9, 9, data.draw(st.sampled_from([(4,), (1, 4), (3, 1), (3, 4), (1,)]))).astype(np.int32)
    operands: list[tuple[str, Any] | None] = [
        ("a", a.T if swaps["transA"] else a),
        ("as", np.float32(data.draw(SCALES))),
        ("az", a_zero),
        ("b", b.T if swaps["transB"] else b),
        ("bs", np.asarray(generator.choice([0.5, 0.25, 0.0371], count), np.float32)),
        ("bz", b_zero),
        ("c", bias) if data.draw(st.booleans()) else None,
    ]
    if data.draw(st.booleans()):
        operands += [("ys", np.float32(0.5 if few else 90)), ("yz", codes(generator, a_kind, ()))]
    alpha = data.draw(st.sampled_from([1.0, 0.5, 0.3]))
    fed = ["a"] + ["b"] * data.draw(st.integers(0, 1))
    proto = one_node("QGemm", operands, fed, DOMAIN, alpha=alpha, **swaps)
    check_equal(tmp_path, proto, {name: array for name, array in filter(None, operands) if name in fed})


@QUICK
@given(st.data())
def test_products_of_real_results_are_those_of_onnxruntime(tmp_path: Path, data: st.DataObject) -> None:
    """MatMulIntegerToFloat and DynamicQuantizeMatMul: the same float32 bits."""
    generator = np.random.default_rng(data.draw(SEEDS))
    a_kind, b_kind = data.draw(KINDS), data.draw(KINDS)
    count = data.draw(st.sampled_from([(), (4,)]))
    b, scale = codes(generator, b_kind, (7, 4)), np.asarray(generator.uniform(0.01, 1, count), np.float32)
    zero = ("bz", codes(generator, b_kind, count)) if data.draw(st.booleans()) else None
    bias = [("c", generator.normal(size=4).astype(np.float32))] if data.draw(st.booleans()) else []
    if data.draw(st.booleans()):
        a = generator.normal(size=(2, 3, 7)).astype(np.float32) * data.draw(st.sampled_from([0, 1, 50]))
        proto = one_node("DynamicQuantizeMatMul", [("a", a), ("b", b), ("bs", scale), zero, *bias], ["a"], DOMAIN)
        check_equal(tmp_path, proto, {"a": a})
        return
    inputs = {"a": codes(generator, a_kind, (2, 3, 7)), "as": np.float32([data.draw(SCALES)])}
    inputs["az"] = codes(generator, a_kind, (1,))
    fed = ["a", *data.draw(st.sampled_from([[], ["as"], ["as", "az"]]))]
    if a_kind == np.int8:
        # the only weights for which onnxruntime has a kernel
        b = b.astype(np.int8)
        zero = zero and ("bz", zero[1].astype(np.int8))
    operands = [("a", inputs["a"]), ("b", b), ("as", inputs["as"]), ("bs", scale), ("az", inputs["az"]), zero, *bias]
    proto = one_node("MatMulIntegerToFloat", operands, fed, DOMAIN)
    check_equal(tmp_path, proto, {name: inputs[name] for name in fed})


def of_all_pairs(op: str, kind: Any, scales: Any, zeros: Any) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """A file of an op on two operands, and all pairs of codes."""
    limits, scale, zero = np.iinfo(kind), np.asarray(scales, np.float32), np.asarray(zeros, kind)
    every = np.arange(limits.min, limits.max + 1).astype(kind)
    a, b = (each.reshape(-1) for each in np.meshgrid(every, every))
    operands = [("a", a), ("as", scale[0]), ("az", zero[0]), ("b", b), ("bs", scale[1]), ("bz", zero[1])]
    return one_node(op, [*operands, ("ys", scale[2]), ("yz", zero[2])], ["a", "b"], DOMAIN), {"a": a, "b": b}


@pytest.mark.parametrize("op", ["QLinearAdd", "QLinearMul"])
@QUICK
@given(data=st.data())
def test_all_pairs_of_codes_give_those_of_onnxruntime(tmp_path: Path, data: st.DataObject, op: str) -> None:
    generator, kind = np.random.default_rng(data.draw(SEEDS)), data.draw(KINDS)
    scales = data.draw(st.lists(SCALES, min_size=3, max_size=3))
    if data.draw(st.booleans()):
        scales = generator.uniform(0.01, 1, 3)
    check_equal(tmp_path, *of_all_pairs(op, kind, scales, codes(generator, kind, (3,))))


@pytest.mark.parametrize(
    ("scales", "zeros", "wide"),
    [
        ([0.3895, 0.4144, 0.0548], [13, 0, 12], False),
        # a constant that is moved by an ulp, and by two
        ([0.807, 0.8099, 0.5202], [161, 73, 250], False),
        ([0.4226, 0.6835, 0.7874], [93, 109, 240], False),
        # no constant does
        ([0.6799, 0.0702, 0.56], [231, 69, 92], True),
    ],
)
def test_sums_that_plain_float32_rounds_otherwise(tmp_path: Path, scales: Any, zeros: Any, wide: bool) -> None:
    proto, inputs = of_all_pairs("QLinearAdd", np.uint8, scales, zeros)
    check_equal(tmp_path, proto, inputs)
    kinds = {node.outputs[0].dtype for node in load(write(tmp_path, proto)).graph}
    assert (ir.DataType.DOUBLE in kinds) == wide


@pytest.mark.parametrize("scales", [[0.5, 0.5, 0.5], [0.6799, 0.0702, 0.56], [0.3, 0.7, 0.9]])
def test_a_value_and_itself(tmp_path: Path, scales: list[float]) -> None:
    a, scale = np.arange(256).astype(np.uint8), np.float32(scales)
    operands = [("a", a), ("as", scale[0]), ("az", np.uint8(231)), ("a", a), ("bs", scale[1]), ("bz", np.uint8(69))]
    proto = one_node("QLinearAdd", [*operands, ("ys", scale[2]), ("yz", np.uint8(92))], ["a"], DOMAIN)
    check_equal(tmp_path, proto, {"a": a})


@pytest.mark.parametrize("op", ["QLinearAdd", "QLinearMul"])
@QUICK
@given(data=st.data())
def test_operands_broadcast_as_in_onnxruntime(tmp_path: Path, data: st.DataObject, op: str) -> None:
    generator, kind = np.random.default_rng(data.draw(SEEDS)), data.draw(KINDS)
    shapes = st.sampled_from([(2, 3, 40), (1, 3, 40), (3, 1), (2, 1, 40), (40,), (1,), (), (2, 3, 1), (1, 1, 1)])
    a, b = (codes(generator, kind, data.draw(shapes)) for _ in range(2))
    scales = generator.uniform(0.01, 1, 3).astype(np.float32)
    zeros = codes(generator, kind, (3,))
    operands = [("a", a), ("as", scales[0]), ("az", zeros[0]), ("b", b), ("bs", scales[1]), ("bz", zeros[1])]
    last = [("yz", zeros[2])] if data.draw(st.booleans()) else []
    fed = data.draw(st.sampled_from([["a", "b"], ["a"], ["b"]]))
    proto = one_node(op, [*operands, ("ys", scales[2] * 2), *last], fed, DOMAIN)
    check_equal(tmp_path, proto, {name: array for name, array in (("a", a), ("b", b)) if name in fed})


@pytest.mark.parametrize("op", ["QLinearSigmoid", "QLinearLeakyRelu"])
@QUICK
@given(data=st.data())
def test_functions_of_all_codes_are_those_of_onnxruntime(tmp_path: Path, data: st.DataObject, op: str) -> None:
    kind = data.draw(KINDS)
    limits = np.iinfo(kind)
    x = np.arange(limits.min, limits.max + 1).astype(kind).reshape(2, 128)
    zeros = st.integers(limits.min, limits.max).map(kind)
    operands: list[tuple[str, Any] | None] = [("x", x), ("xs", np.float32(data.draw(SCALES)))]
    operands += [("xz", data.draw(zeros)) if data.draw(st.booleans()) else None]
    operands += [("ys", np.float32(data.draw(st.sampled_from([1 / 256, 0.02, 0.5]))))]
    operands += [("yz", data.draw(zeros))]
    settings = {"alpha": data.draw(st.sampled_from([0.01, 0.25, 0.3]))} if op == "QLinearLeakyRelu" else {}
    proto = one_node(op, operands, ["x"], DOMAIN, **settings)
    check_equal(tmp_path, proto, {"x": x})


@QUICK
@given(st.data())
def test_joined_codes_are_those_of_onnxruntime(tmp_path: Path, data: st.DataObject) -> None:
    """QLinearConcat of parts with the scale of the result and with others, and QLinearWhere."""
    generator, kind = np.random.default_rng(data.draw(SEEDS)), data.draw(KINDS)
    scales = st.sampled_from([np.float32(s) for s in (0.5, 0.25, 0.0371)])
    zeros = st.sampled_from([kind(1), kind(100)])
    if data.draw(st.booleans()):
        x, y, choice = codes(generator, kind, (2, 9)), codes(generator, kind, (9,)), generator.random((2, 9)) < 0.5
        parts = [("x", x), ("xs", data.draw(scales)), ("xz", data.draw(zeros)), ("y_", y)]
        parts += [("ys", data.draw(scales)), ("yz", data.draw(zeros)), ("zs", data.draw(scales))]
        proto = one_node("QLinearWhere", [("c", choice), *parts, ("zz", data.draw(zeros))], ["c", "x", "y_"], DOMAIN)
        check_equal(tmp_path, proto, {"c": choice, "x": x, "y_": y})
        return
    axis = data.draw(st.integers(-2, 1))
    operands: list[tuple[str, Any]] = [("ys", data.draw(scales)), ("yz", data.draw(zeros))]
    inputs = {}
    for index in range(data.draw(st.integers(1, 3))):
        x = codes(generator, kind, (2, 3 + index) if axis % 2 else (3 + index, 2))
        operands += [(f"x{index}", x), (f"s{index}", data.draw(scales)), (f"z{index}", data.draw(zeros))]
        inputs[f"x{index}"] = x
    check_equal(tmp_path, one_node("QLinearConcat", operands, list(inputs), DOMAIN, axis=axis), inputs)


@QUICK
@given(st.data())
def test_average_pools_give_the_codes_of_onnxruntime(tmp_path: Path, data: st.DataObject) -> None:
    """Equal scales give halves in every second window, decided by how the sum rounds."""
    generator, kind = np.random.default_rng(data.draw(SEEDS)), data.draw(KINDS)
    axes, last = data.draw(st.integers(1, 3)), data.draw(st.integers(0, 1))
    image = [data.draw(st.integers(3, 7)) for _ in range(axes)]
    x = codes(generator, kind, (2, *image, 3) if last else (2, 3, *image))
    kernel = [data.draw(st.integers(1, 3)) for _ in range(axes)]
    pads = [data.draw(st.integers(0, size - 1)) for size in kernel * 2]
    attributes: dict[str, Any] = {
        "kernel_shape": kernel,
        "strides": [data.draw(st.integers(1, 2)) for _ in range(axes)],
        "ceil_mode": data.draw(st.integers(0, 1)),
        "count_include_pad": data.draw(st.integers(0, 1)),
        "channels_last": last,
    }
    mode = data.draw(st.sampled_from(["NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"]))
    if mode == "NOTSET":
        attributes["pads"] = pads
    else:
        attributes |= {"auto_pad": mode, "strides": [1] * axes}
    scale = np.float32(data.draw(SCALES))
    result = scale if data.draw(st.booleans()) else np.float32(data.draw(SCALES))
    operands = [("x", x), ("xs", scale), ("xz", codes(generator, kind, ())), ("ys", result)]
    operands += [("yz", codes(generator, kind, ()))] if data.draw(st.booleans()) else []
    check_equal(tmp_path, one_node("QLinearAveragePool", operands, ["x"], DOMAIN, **attributes), {"x": x})


@QUICK
@given(st.data())
def test_global_average_pools_give_the_codes_of_onnxruntime(tmp_path: Path, data: st.DataObject) -> None:
    generator, kind = np.random.default_rng(data.draw(SEEDS)), data.draw(KINDS)
    image, last = data.draw(st.sampled_from([(4, 4), (7, 7), (3,), (2, 3, 4)])), data.draw(st.integers(0, 1))
    x = codes(generator, kind, (2, *image, 5) if last else (2, 5, *image))
    scale = np.float32(data.draw(SCALES))
    result = scale if data.draw(st.booleans()) else np.float32(data.draw(SCALES))
    zeros = codes(generator, kind, (2,))
    operands = [("x", x), ("xs", scale), ("xz", zeros[0]), ("ys", result), ("yz", zeros[1])]
    windows = {"kernel_shape": image} if data.draw(st.booleans()) else {}
    op = "QLinearAveragePool" if windows else "QLinearGlobalAveragePool"
    proto = one_node(op, operands, ["x"], DOMAIN, channels_last=last, **windows)
    check_equal(tmp_path, proto, {"x": x})


def test_sums_over_a_large_image_are_exact(tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(200, 256, (1, 1, 300, 300)).astype(np.uint8)
    operands = [("x", x), ("xs", np.float32(1)), ("xz", np.uint8(3)), ("ys", np.float32(1)), ("yz", np.uint8(3))]
    check_equal(tmp_path, one_node("QLinearGlobalAveragePool", operands, ["x"], DOMAIN), {"x": x})


@QUICK
@given(st.data())
def test_softmaxes_give_the_codes_of_onnxruntime(tmp_path: Path, data: st.DataObject) -> None:
    generator, kind = np.random.default_rng(data.draw(SEEDS)), data.draw(KINDS)
    x = codes(generator, kind, data.draw(st.sampled_from([(2, 5, 9), (3, 17), (4, 1), (1, 2, 3, 4), (40, 3)])))
    axis = data.draw(st.one_of(st.none(), st.integers(-x.ndim, x.ndim - 1)))
    zero = kind(-128) if kind == np.int8 else kind(data.draw(st.sampled_from([0, 0, 10])))
    operands = [("x", x), ("xs", np.float32(data.draw(st.sampled_from([0.5, 0.1, 0.02, 0.003]))))]
    operands += [("xz", codes(generator, kind, ())), ("ys", np.float32(1 / data.draw(st.sampled_from([256, 200.5]))))]
    settings: dict[str, Any] = {} if axis is None else {"axis": axis}
    opset = data.draw(st.sampled_from([11, 13]))
    proto = one_node("QLinearSoftmax", [*operands, ("yz", zero)], ["x"], DOMAIN, opset=opset, **settings)
    check_equal(tmp_path, proto, {"x": x})


@QUICK
@given(st.data())
def test_quantizers_are_those_of_the_standard(tmp_path: Path, data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from([np.int8, np.uint8, np.int16, np.uint16]))
    generator, axis = np.random.default_rng(data.draw(SEEDS)), data.draw(st.sampled_from([None, 0, 1]))
    x = (generator.integers(-40, 40, (3, 4)) / 4).astype(np.float32)
    count = () if axis is None else (x.shape[axis],)
    scale = np.asarray(generator.choice([0.5, 0.0371], count), np.float32)
    zero = generator.integers(0, 9, count).astype(kind)
    settings = {} if axis is None else {"axis": axis}
    proto = one_node("QuantizeLinear", [("x", x), ("s", scale), ("z", zero)], ["x"], DOMAIN, **settings)
    check_equal(tmp_path, proto, {"x": x})
    x = codes(generator, kind, (3, 4))
    proto = one_node("DequantizeLinear", [("x", x), ("s", scale), ("z", zero)], ["x"], DOMAIN, **settings)
    check_equal(tmp_path, proto, {"x": x})


BINARY = {
    "a": np.zeros((2, 3), np.uint8), "as": np.float32(1), "az": np.uint8(0), "b": np.zeros((2, 3), np.uint8),
    "bs": np.float32(1), "bz": np.uint8(0), "ys": np.float32(1), "yz": np.uint8(0),
}  # fmt: skip
UNARY = {
    "x": np.zeros((2, 3, 4, 4), np.uint8), "xs": np.float32(1), "xz": np.uint8(0), "ys": np.float32(1),
    "yz": np.uint8(0),
}  # fmt: skip


@pytest.mark.parametrize(
    ("op", "operands", "attributes", "error", "words"),
    [
        ("QLinearAdd", BINARY | {"as": np.float32(0)}, {}, InvalidModel, "a scale that is 0"),
        ("QLinearAdd", BINARY | {"ys": np.float32(-1)}, {}, InvalidModel, "a scale that is -1"),
        ("QLinearAdd", BINARY | {"az": np.int8(0)}, {}, InvalidModel, "'az' of QLinearAdd is of type int8"),
        ("QLinearAdd", BINARY | {"bs": np.float32([1, 1, 1])}, {}, InvalidModel, r"\[3\], expected one number"),
        ("QLinearAdd", BINARY | {"ys": np.float32(1e-30), "as": np.float32(1e30)}, {}, InvalidModel, "no finite"),
        ("QLinearMul", BINARY | {"bs": np.float32(np.inf)}, {}, InvalidModel, "a scale that is inf"),
        ("QLinearMul", BINARY | {"yz": np.float32(0)}, {}, InvalidModel, "'yz' of QLinearMul is of type float"),
        ("QLinearSigmoid", UNARY | {"x": np.zeros(3, np.int32)}, {}, UnsupportedModel, "'x' of QLinearSigmoid"),
        ("QLinearLeakyRelu", UNARY | {"xs": np.float32(np.nan)}, {}, InvalidModel, "a scale that is nan"),
        ("QLinearSoftmax", UNARY, {"axis": 4, "opset": 13}, InvalidModel, "axis of QLinearSoftmax is 4"),
        ("QLinearAveragePool", UNARY, {}, InvalidModel, "do not fit its image"),
        ("QLinearAveragePool", UNARY, {"kernel_shape": [9, 9]}, InvalidModel, "do not fit its image"),
        ("QLinearAveragePool", UNARY, {"kernel_shape": [2]}, InvalidModel, "do not fit its image"),
        ("QLinearAveragePool", UNARY, {"kernel_shape": [1, 1], "pads": [2] * 4}, UnsupportedModel, "in the padding"),
        (
            "QLinearAveragePool",
            UNARY | {"x": np.zeros((1, 1, 40, 40), np.uint8)},
            {"kernel_shape": [20, 20]},
            UnsupportedModel,
            "more than 256 elements",
        ),
    ],
)
def test_parameters_that_do_not_fit(
    tmp_path: Path, op: str, operands: dict[str, Any], attributes: Any, error: type[QCompilerError], words: str
) -> None:
    proto = one_node(op, list(operands.items()), [next(iter(operands))], DOMAIN, **attributes)
    with pytest.raises(error, match=words) as caught:
        load(write(tmp_path, proto))
    assert caught.value.node == "node"


def test_every_op_has_a_test_here() -> None:
    files = ("test_microsoft.py", "test_matmul_nbits.py", "test_fused.py")
    text = "".join((Path(__file__).parent / name).read_text() for name in files)
    assert all(op in text for op in microsoft.DIALECT.ops)
