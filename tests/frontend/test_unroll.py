"""Loops and scans with a known number of iterations, against onnxruntime, which runs them as they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx.parser
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qcompiler.errors import QCompilerError, UnsupportedModel
from qcompiler.frontend import load
from qcompiler.ir import oracle
from tests.frontend.files import write

BODY = """<num_scan_inputs = 2, scan_input_axes = [{a}, {b}], scan_input_directions = [{back}, {forth}],
    scan_output_axes = [{out}], scan_output_directions = [{reverse}],
    body = step (float[3] s, float[3] u, float[3] v) => (float[3] t, float[3] w) {{
        p = Mul (s, half) q = Add (p, u) t = Sub (q, v) w = Mul (t, u)
    }}>"""


def scanning(a: int, b: int, back: int, forth: int, out: int, reverse: int) -> onnx.ModelProto:
    shapes = ["4,3" if axis in (0, -2) else "3,4" for axis in (a, b)]
    result = "4,3" if out in (0, -2) else "3,4"
    body = BODY.format(a=a, b=b, back=back, forth=forth, out=out, reverse=reverse)
    return onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 16]> g (float[3] s0, float[{shapes[0]}] x, float[{shapes[1]}] z) =>'
        f" (float[3] last, float[{result}] all) <float half = {{0.5}}> {{ last, all = Scan (s0, x, z) {body} }}"
    )


AXES = st.sampled_from((0, 1, -1, -2))
BITS = st.integers(0, 1)


@given(AXES, AXES, BITS, BITS, AXES, BITS)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_scan(tmp_path: Path, a: int, b: int, back: int, forth: int, out: int, reverse: int) -> None:
    original = scanning(a, b, back, forth, out, reverse)
    model = load(write(tmp_path, original))
    assert not any(node.op_type == "Scan" for node in model.graph)
    inputs = oracle.random_inputs(original, 0)
    want = oracle.run(original, inputs)
    for name, array in oracle.run(model, inputs).items():
        np.testing.assert_array_equal(array, want[name], strict=True, err_msg=name)


LOOP = """<ir_version: 8, opset_import: ["" : 16]>
g (float[3] x) => (float[3] y, {result} all) <int64 trips = {{{trips}}}, bool go = {{{go}}}, int64 stop = {{{stop}}}> {{
    y, all = Loop ({first}, {second}, x) <
        body = b (int64 i, bool d, float[3] v) => (bool e, float[3] w, float[3] u) {{
            e = Less (i, stop) f = Cast <to = 1> (i) w = Add (v, f) u = Neg (w)
        }}>
}}"""


@pytest.mark.parametrize(
    ("trips", "stop", "second", "count"), [(4, 100, "go", 4), (4, 100, "", 4), (9, 2, "go", 3), (1, 0, "", 1)]
)
def test_loops(tmp_path: Path, trips: int, stop: int, second: str, count: int) -> None:
    """The condition of iteration `stop` ends the loop."""
    text = LOOP.format(trips=trips, go=1, stop=stop, first="trips", second=second, result="float[n,3]")
    original = onnx.parser.parse_model(text)
    model = load(write(tmp_path, original))
    assert not any(node.op_type == "Loop" for node in model.graph)
    inputs = oracle.random_inputs(original, 0)
    want, found = oracle.run(original, inputs), oracle.run(model, inputs)
    assert found["all"].shape == (count, 3)
    for name, array in found.items():
        np.testing.assert_array_equal(array, want[name], strict=True, err_msg=name)


@pytest.mark.parametrize(
    ("values", "error", "words"),
    [
        ({"trips": 0}, UnsupportedModel, "without iterations"),
        ({"trips": 10**9}, UnsupportedModel, "1000000000 times 4 nodes"),
        ({"first": ""}, UnsupportedModel, "depends on data"),
    ],
)
def test_loops_that_cannot_be(tmp_path: Path, values: dict, error: type[QCompilerError], words: str) -> None:
    given = {"trips": 4, "go": 1, "stop": 10**12, "first": "trips", "second": "go", "result": "float[n,3]"} | values
    with pytest.raises(error, match=words):
        load(write(tmp_path, onnx.parser.parse_model(LOOP.format(**given))))
