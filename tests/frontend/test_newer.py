"""Files of opsets and IR versions newer than onnxruntime's own, against onnx's reference implementation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import defs
from onnx.reference import ReferenceEvaluator

from qcompiler.errors import UnsupportedModel
from qcompiler.frontend import load, newer
from qcompiler.frontend.read import MAX_IR, MAX_OPSET
from qcompiler.ir import oracle
from qcompiler.ir.ops import OPSET
from tests.frontend.files import write

IMAGE = "float[1,8,4,6] x"


def newest(body: str, signature: str = IMAGE, result: str = "y", opset: int = MAX_OPSET) -> onnx.ModelProto:
    text = f'<ir_version: {MAX_IR}, opset_import: ["" : {opset}]> g ({signature}) => ({result}) {{ {body} }}'
    return onnx.parser.parse_model(text)


# onnx 1.23 writes this header unless told otherwise; what it holds is older
UNCHANGED = "a = Relu (x) b = Transpose <perm = [0, 2, 3, 1]> (a) c = Softmax (b) y = ReduceMax <keepdims = 0> (c)"
DEFINED = {
    "space-to-depth-dcr": "y = SpaceToDepth <blocksize = 2> (x)",
    "space-to-depth-crd": 'y = SpaceToDepth <blocksize = 2, mode = "CRD"> (x)',
    "depth-to-space": 'y = DepthToSpace <blocksize = 2, mode = "CRD"> (x)',
    "swiglu": "a = Neg (x) y = SwiGLU (x, a)",
    "celu": "y = Celu <alpha = 2.0> (x)",
    "cast": "y = Cast <to = 11> (x)",
}


@pytest.mark.parametrize("body", [UNCHANGED, *DEFINED.values()], ids=["unchanged", *DEFINED])
def test_files_of_the_newest_versions(tmp_path: Path, body: str) -> None:
    original = newest(body)
    model = load(write(tmp_path, original))
    assert model.opset_imports[""] == OPSET
    inputs = oracle.random_inputs(model, 3)
    (want,) = ReferenceEvaluator(original).run(None, inputs)
    np.testing.assert_allclose(oracle.run(model, inputs)["y"], want, rtol=1e-6, atol=1e-6, strict=True)


def test_every_newer_operator_is_known_to_have_kept_its_meaning() -> None:
    """An operator of these opsets that is in no list is refused; with an onnx that knows more of them, look again."""
    schemas = [schema for schema in defs.get_all_schemas_with_history() if not schema.domain]
    changed = {
        s.name for s in schemas if newer._COMPARED < s.since_version <= MAX_OPSET and defs.has(s.name, OPSET, "")
    }
    assert changed - {"Optional", "OptionalGetElement", "OptionalHasElement"} == newer._SAME_MEANING


def test_an_operator_that_changed_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(newer, "_SAME_MEANING", frozenset())
    with pytest.raises(UnsupportedModel, match=f"operator Cast of opset {MAX_OPSET} has no form"):
        load(write(tmp_path, newest("y = Cast <to = 1> (x)", "int32[2] x")))


@pytest.mark.parametrize(
    ("body", "signature", "words"),
    [
        ("y = Cast <to = 23> (x)", IMAGE, r"tensor\(float4e2m1\) in Cast of opset 28"),
        ('y = Cast <to = 1, round_mode = "nearest"> (x)', IMAGE, "attribute 'round_mode' of Cast"),
        ("y = Cast <to = 22> (x)", IMAGE, "output 'y' is of type int4, expected whole bytes; cast it to int8"),
        ("y = Cast <to = 1> (x)", "uint4[3] x", "input 'x' is of type uint4, expected whole bytes; cast it to uint8"),
        ("y = BitCast <to = 6> (x)", IMAGE, "operator BitCast of opset 28 has no form"),
    ],
)
def test_refusals_say_what_is_newer(tmp_path: Path, body: str, signature: str, words: Any) -> None:
    with pytest.raises(UnsupportedModel, match=words):
        load(write(tmp_path, newest(body, signature)))


@pytest.mark.parametrize("direction", ["LEFT", "RIGHT"])
@pytest.mark.parametrize("kind", ["int8", "int16", "int32", "int64", "uint8", "uint32"])
def test_shifts_by_any_distance(tmp_path: Path, direction: str, kind: str) -> None:
    body = f'y = BitShift <direction = "{direction}"> (x, d)'
    original = newest(body, f"{kind}[4,9] x, {kind}[9] d", f"{kind}[4,9] y")
    limits = np.iinfo(kind)
    x = np.random.default_rng(0).integers(limits.min, limits.max, (4, 9), kind, endpoint=True)
    x[0, :2] = limits.min, limits.max
    distances = [0, 1, 3, limits.bits - 1, limits.bits, limits.bits + 1, 2, 7, 0 if limits.min == 0 else -1]
    inputs = {"x": x, "d": np.array(distances).astype(kind)}
    (want,) = ReferenceEvaluator(original).run(None, inputs)
    np.testing.assert_array_equal(oracle.run(load(write(tmp_path, original)), inputs)["y"], want, strict=True)
