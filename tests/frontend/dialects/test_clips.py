"""Bounds that files write with absolute values."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompiler.frontend import canonicalize
from qcompiler.ir import oracle
from tests.frontend.files import graph_text, save

N = 64
CLIPS = {
    "PACT": "p = Abs (x) d = Sub (x, a) q = Abs (d) s = Sub (p, q) t = Add (s, a) y = Mul (t, half)",
    "PACT, otherwise": "d = Sub (a, x) q = Abs (d) p = Abs (x) t = Sub (a, q) s = Add (p, t) y = Div (s, two)",
    "hard tanh": "u = Add (x, a) l = Sub (x, a) p = Abs (u) q = Abs (l) s = Sub (p, q) y = Mul (half, s)",
    "rectifier": "p = Abs (x) s = Add (x, p) y = Mul (s, half)",
    "upper bound": "d = Sub (x, a) p = Abs (d) s = Sub (x, p) t = Add (s, a) y = Mul (t, half)",
}
OTHERS = {
    "twice as steep": "p = Abs (x) d = Sub (x, a) q = Abs (d) s = Sub (p, q) y = Add (s, a)",
    "falling": "p = Abs (x) s = Sub (p, x) y = Mul (s, half)",
    "a hat": "d = Sub (x, a) p = Abs (d) s = Sub (a, p) q = Abs (x) y = Sub (s, q)",
    "two sources": "z = Mul (x, x) p = Abs (x) q = Abs (z) s = Add (p, q) y = Mul (s, half)",
    "a product": "p = Abs (x) s = Add (x, p) y = Mul (s, s)",
    "no sum": "p = Abs (x) y = Mul (p, half)",
}


def text(body: str, a: float) -> str:
    numbers = {"a": a, "half": 0.5, "two": 2.0}
    constants = "\n".join(f"{name} = Constant <value_float = {value}> ()" for name, value in numbers.items())
    return graph_text(f"{constants}\n{body}", f"float[{N}] x", f"float[{N}] y")


@settings(deadline=None, max_examples=30)
@given(st.sampled_from(sorted(CLIPS)), st.floats(2**-6, 100, width=32), st.integers(0, 99))
def test_clips_in_disguise(tmp_path_factory: pytest.TempPathFactory, form: str, a: float, seed: int) -> None:
    folder = tmp_path_factory.mktemp("clips")
    original = text(CLIPS[form], a)
    model = canonicalize(save(folder, original))
    assert [node.op_type for node in model.graph] == ["Clip"]
    x = np.random.default_rng(seed).normal(0, 2 * a, N).astype(np.float32)
    x[:3] = 0, a, -a
    expected = oracle.run(onnx.parser.parse_model(original), {"x": x})["y"]
    np.testing.assert_allclose(oracle.run(model, {"x": x})["y"], expected, rtol=0, atol=4e-6 * a)


@pytest.mark.parametrize("form", OTHERS)
def test_other_functions_stay(tmp_path: Path, form: str) -> None:
    original = text(OTHERS[form], 0.75)
    model = canonicalize(save(tmp_path, original))
    clips = [node for node in model.graph if node.op_type == "Clip"]
    assert not clips
    x = np.random.default_rng(0).normal(0, 2, N).astype(np.float32)
    expected = oracle.run(onnx.parser.parse_model(original), {"x": x})["y"]
    np.testing.assert_array_equal(oracle.run(model, {"x": x})["y"], expected)
