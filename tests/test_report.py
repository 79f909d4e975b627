from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper
import onnx.parser
import pytest

import qcompiler
from qcompiler.errors import InvalidBundle
from qcompiler.page import page
from qcompiler.report import Row, table
from tests.frontend.files import graph_text, write
from tests.networks import binary_cnn


def test_the_report_counts_layers_and_says_why(tmp_path: Path) -> None:
    bundle = qcompiler.compile(binary_cnn(tmp_path / "cnn.onnx"), output=tmp_path / "out", mcpu=("baseline",))
    report = bundle.report
    assert json.loads((tmp_path / "out" / "report.json").read_text()) == report
    rows = [Row(**row) for row in report["rows"]]
    assert (report["layers"], report["binary_layers"]) == (3, 2)
    assert report["macs"] == 16 * 64 * 27 + 16 * 64 * 144 + 5 * 256
    assert report["binary_macs"] == report["macs"] - 16 * 64 * 27
    assert report["constants"] == {"weights": 16 * 27 + 16 * 144 + 5 * 256, "others": 5 + 4 * 16}
    assert [check["variant"] for check in report["checks"]] == ["baseline"] and report["checks"][0]["codes"] > 0
    assert sum(row.constant_bytes for row in rows) <= report["constant_bytes"]
    for row, step in zip(rows, bundle.steps, strict=True):
        assert row.read_bytes and (row.nanoseconds[0] > 0) == (row.kernel not in ("standard", "tvm"))
        assert (row.nodes, row.kernel) == ([*step.nodes], step.kernels[0])
    first = next(row for row in rows if row.op == "Conv")
    assert (first.w_bits, first.a_bits) == (32, 32)
    assert "image" in first.note and "put a sign before it" in first.note
    assert all((row.w_bits, row.a_bits) == (1, 1) for row in rows if row.op.startswith("Binary") and row.macs)
    assert len(table(rows).rows) == len(bundle.steps)
    assert "2 of 3 layers on integers (2 w1a1" in bundle.report_text.splitlines()[-1]


def test_the_page_belongs_to_the_bundle(tmp_path: Path) -> None:
    model = binary_cnn(tmp_path / "cnn.onnx")
    bundle = qcompiler.compile(model, output=tmp_path / "out", mcpu=("baseline",), verify=False)
    content = (tmp_path / "out" / "report.html").read_bytes()
    assert content == page(bundle.manifest, bundle.report)
    again = qcompiler.load(tmp_path / "out")
    assert again.manifest == bundle.manifest and again.report == bundle.report
    assert again.report["checks"] == []
    (tmp_path / "out" / "report.html").write_bytes(content + b" ")
    with pytest.raises(InvalidBundle, match="report.html has more than"):
        qcompiler.load(tmp_path / "out")


def test_the_report_tells_whose_kernel_it_is(tmp_path: Path) -> None:
    """Standard operators have kernels of this project (and copies are some), or TVM's."""
    body = "y = Gather (x, i) z = Exp (x) c = Identity (x)"
    text = graph_text(body, "float[4] x, int64[2] i", "float[2] y, float[4] z")
    model = onnx.parser.parse_model(text)
    model.graph.output.append(onnx.helper.make_tensor_value_info("c", onnx.TensorProto.FLOAT, [4]))
    bundle = qcompiler.compile(write(tmp_path, model), output=tmp_path / "out", mcpu=("baseline",), verify=False)
    kernels = {row["op"]: row["kernel"] for row in bundle.report["rows"]}
    assert kernels["Gather"] == kernels["copy"] == "standard"
    assert [kernel for op, kernel in kernels.items() if op not in ("Gather", "copy")] == ["tvm"]


def test_a_layer_on_codes_that_floats_multiply_says_so(tmp_path: Path) -> None:
    body = "q = Round (x) c = Clip (q, low, high) y = MatMul (c, w)"
    text = graph_text(body, "float[2, 64] x", "float[2, 32] y")
    model = onnx.parser.parse_model(text)
    # odd numbers, which no byte holds
    weights = 2 * np.random.default_rng(0).integers(0, 256, (64, 32)) - 255
    constants = {"low": np.float32(-128), "high": np.float32(127), "w": weights.astype(np.float32)}
    model.graph.initializer.extend(onnx.numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items())
    bundle = qcompiler.compile(write(tmp_path, model), output=tmp_path / "out", mcpu=("baseline",))
    (layer,) = [row for row in bundle.report["rows"] if row["macs"]]
    assert (layer["w_bits"], layer["a_bits"], layer["integers"]) == (8, 8, False)
    assert "multiplied as floats" in layer["note"]
    assert "0 of 1 layers on integers" in bundle.report_text.splitlines()[-1]


def test_the_report_says_what_one_cpu_level_would_have(tmp_path: Path) -> None:
    """Levels that look up whole codes and levels that look up planes have weights of their own."""
    random = np.random.default_rng(0)
    text = """<ir_version: 10, opset_import: ["" : 21]>
    g (float[1,64,8,8] x) => (float[1,64,8,8] y) {
        low = Constant <value_float = 0.0> ()
        high = Constant <value_float = 3.0> ()
        clipped = Clip (x, low, high)
        codes = Round (clipped)
        y = Conv <pads = [1, 1, 1, 1]> (codes, w)
    }"""
    model = onnx.parser.parse_model(text)
    weights = random.integers(-2, 2, (64, 64, 3, 3)).astype(np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(weights, "w"))
    onnx.save(model, tmp_path / "net.onnx")
    lines = {}
    for levels in (("avx2",), ("avx2", "baseline")):
        out = tmp_path / str(len(levels))
        bundle = qcompiler.compile(tmp_path / "net.onnx", output=out, mcpu=levels, verify=False)
        lines[levels] = bundle.report_text.splitlines()[-1]
        alone = bundle.report["level_bytes"]
        assert 64 * 64 * 9 / 4 < alone <= bundle.report["constant_bytes"]
    assert f" (at most {alone / 1024:.1f} for one CPU level alone, see --mcpu)" in lines["avx2", "baseline"]
    assert "--mcpu" not in lines["avx2",]
