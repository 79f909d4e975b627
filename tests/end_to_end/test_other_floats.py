"""Whole compiles of models of 16-bit floats and of float64, and what their bundles take and give."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx.parser
import pytest
from onnx import TensorProto, numpy_helper

import qcompiler
from qcompiler.bundle.manifest import decode
from qcompiler.errors import InvalidBundle, UsageError
from qcompiler.verify import Verification
from tests.frontend.test_float32 import both

FAULT = Path(__file__).resolve().parents[3] / "shared" / "faults" / "half.onnx"
SIGNED = """<ir_version: 10, opset_import: ["": 21]>
g (KIND[1,8,6,6] image) => (KIND[1,4,4,4] scores) {
    normal = Mul (image, scale)
    signs = Sign (normal)
    sums = Conv (signs, w)
    high = Add (sums, far)
    rounded = Round (high)
    scores = Add (rounded, offset)
}"""


def signed(folder: Path, kind: str) -> Path:
    """A layer on signs behind a multiplication, and a rounding."""
    model = onnx.parser.parse_model(SIGNED.replace("KIND", kind))
    random = np.random.default_rng(0)
    constants = {
        "scale": random.uniform(0.5, 2, (1, 8, 1, 1)),
        "w": np.where(random.random((4, 8, 3, 3)) < 0.5, -1, 1),
        "far": np.asarray(0.25),
        "offset": random.standard_normal((1, 4, 1, 1)),
    }
    dtype = numpy_helper.onnx.helper.tensor_dtype_to_np_dtype(TensorProto.DataType.Value(kind.upper()))
    tensors = [
        numpy_helper.from_array(np.asarray(each, np.float32).astype(dtype), name) for name, each in constants.items()
    ]
    model.graph.initializer.extend(tensors)
    (folder / f"{kind}.onnx").write_bytes(model.SerializeToString())
    return folder / f"{kind}.onnx"


@pytest.mark.parametrize(("kind", "dtype"), [("float16", "float16"), ("bfloat16", "float32"), ("double", "float64")])
def test_results_have_the_types_of_the_file(tmp_path: Path, kind: str, dtype: str) -> None:
    figures: list[Verification] = []
    path = signed(tmp_path, kind)
    bundle = qcompiler.compile(path, output=tmp_path / "out", mcpu=("baseline",), verified=figures.append)
    name = dtype if kind != "bfloat16" else "bfloat16"
    assert [(t.dtype, t.file_dtype) for t in (*bundle.inputs, *bundle.outputs)] == [("float32", name)] * 2
    image = np.random.default_rng(1).standard_normal((1, 8, 6, 6)).astype(dtype)
    scores = bundle.run({"image": image})["scores"]
    assert scores.dtype == dtype
    np.testing.assert_array_equal(bundle.run({"image": image.astype(np.float32)})["scores"], scores)
    assert [(row["w_bits"], row["a_bits"]) for row in bundle.report["rows"] if row["macs"]] == [(1, 2)]
    assert f"{name} in the ONNX file" in (tmp_path / "out" / f"{kind}.h").read_text()
    (found,) = figures
    assert found.holds_halves == (kind != "double")
    if kind == "float16":
        # the results are rounded to 11 bits there, at least
        assert found.off_halves is not None and 0 < found.off_halves < 2**-9
        assert "16-bit floats are computed in float32, which changes results by up to 0." in found.summary()
    elif kind == "bfloat16":
        assert found.off_halves is None
        assert "which onnxruntime cannot do otherwise" in found.summary()
    with pytest.raises(UsageError, match=f"has dtype int32, expected float32 or {name}"):
        bundle.run({"image": image.astype(np.int32)})


def test_given_inputs_may_be_of_the_types_of_the_file(tmp_path: Path) -> None:
    images = np.random.default_rng(1).standard_normal((3, 8, 6, 6)).astype(np.float16)
    figures: list[Verification] = []
    path = signed(tmp_path, "float16")
    qcompiler.compile(
        path, output=tmp_path / "out", mcpu=("baseline",), inputs={"image": images}, verified=figures.append
    )
    assert figures[0].samples == 3


def test_numbers_that_half_does_not_hold_become_infinite(tmp_path: Path) -> None:
    text = '<ir_version: 10, opset_import: ["": 21]> g (float16[4] x) => (float16[4] y) { y = Add (x, x) }'
    path = tmp_path / "add.onnx"
    path.write_bytes(onnx.parser.parse_model(text).SerializeToString())
    bundle = qcompiler.compile(path, output=tmp_path / "out", mcpu=("baseline",))
    x = np.array([60000, -60000, 1.5, 0.1], np.float16)
    np.testing.assert_array_equal(bundle.run({"x": x})["y"], np.array([np.inf, -np.inf, 3, 0.2], np.float16))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"file_dtype": "float8"}, r"inputs\[0\].file_dtype is 'float8', expected one of , float16"),
        ({"file_dtype": 16}, r"inputs\[0\].file_dtype is 16"),
        ({"dtype": "int32", "file_dtype": "float16"}, r"inputs\[0\].file_dtype is 'float16', expected one of"),
    ],
)
def test_manifests_with_other_types(tmp_path: Path, change: dict[str, object], message: str) -> None:
    bundle = qcompiler.compile(signed(tmp_path, "float16"), output=tmp_path / "out", mcpu=("baseline",), verify=False)
    document = json.loads(bundle.manifest.encode())
    document["inputs"][0] |= change
    with pytest.raises(InvalidBundle, match=message):
        decode(json.dumps(document).encode())


@pytest.mark.parametrize("seed", range(3))
def test_random_networks_compile(tmp_path: Path, seed: int) -> None:
    """Their verification compares them with onnxruntime."""
    for kind, outside in ((TensorProto.FLOAT16, False), (TensorProto.BFLOAT16, True), (TensorProto.DOUBLE, False)):
        path = tmp_path / f"net{kind}.onnx"
        path.write_bytes(both(kind, seed, outside=outside)[0].SerializeToString())
        qcompiler.compile(path, output=tmp_path / f"out{kind}", mcpu=("baseline",))


@pytest.mark.skipif(not FAULT.exists(), reason=f"{FAULT} is not here")
def test_a_network_of_half_weights_and_signs(tmp_path: Path) -> None:
    bundle = qcompiler.compile(FAULT, output=tmp_path / "out", mcpu=("baseline",))
    assert [(row["w_bits"], row["integers"]) for row in bundle.report["rows"] if row["macs"]] == [(1, True)]
