"""Files that guided search (tests/fuzz/guided) found mistreated, cut down: each is refused with the node's name."""

from __future__ import annotations

import re
import time
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import TensorProto, helper, numpy_helper

from qcompiler.errors import InvalidModel, UnsupportedModel
from qcompiler.frontend import load
from tests.frontend.files import graph_text, save, write

_BODY = "b (float[8] v) => (float[8] w) { w = Neg (v) }"


_IMAGE = "float[1, 1, 8, 8] x, float[1, 1, 3, 3] w"


@pytest.mark.parametrize(
    ("body", "signature", "words"),
    [
        ("y = EyeLike (x)", "float[2, 3, 4] x", "EyeLike reads a value of shape .2, 3, 4."),
        ("y = ReverseSequence <time_axis = 7> (x, n)", "float[2, 3] x, int64[3] n", "time_axis .* is 7"),
        ("y = ReverseSequence <batch_axis = -3> (x, n)", "float[2, 3] x, int64[3] n", "batch_axis of .* is -3"),
        ("y = ReverseSequence (x, n)", "float[8] x, int64[1] n", "expected one of 1 axes"),
        ("y = ConvTranspose <output_shape = [9]> (x, w)", _IMAGE, "output_shape .9."),
        ("y = ConvTranspose (x, w)", "float[1, 1, 8] x, float[1, 1, 3, 3] w", "of another rank"),
        (f"y = Scan <num_scan_inputs = 1099511627776, body = {_BODY}> (x)", "float[2, 8] x", "Scan over 10995"),
        (f"y = Scan <num_scan_inputs = -1, body = {_BODY}> (x)", "float[2, 8] x", "Scan over -1 sequences"),
        ("y = Concat <axis = 9223372036854775807> (x, x)", "float[8] x", "'axis' of Concat is 92233"),
        ("y = LeakyRelu <alpha: float = @slope> (x)", "float[8] x", "is that of a function, which there is none"),
        ("z = Softmax <axis = -5> (x) y = Relu (z)", "float[2, 8] x", "[Aa]xis"),
    ],
)  # fmt: skip
def test_attributes_that_do_not_fit(tmp_path: Path, body: str, signature: str, words: str) -> None:
    with pytest.raises(InvalidModel, match=words) as caught:
        load(save(tmp_path, graph_text(body, signature, "float[N] y")))
    assert caught.value.node and caught.value.remedy


@pytest.mark.parametrize("opset", [9, 11])
def test_softmaxes_of_old_opsets_along_no_axis(tmp_path: Path, opset: int) -> None:
    with pytest.raises(InvalidModel, match="axis of Softmax is 2, expected one of 2 axes"):
        load(save(tmp_path, graph_text("y = Softmax <axis = 2> (x)", "float[2, 8] x", "float[2, 8] y", opset)))


@pytest.mark.parametrize(
    ("parts", "found"),
    [("<num_outputs = 1> (x)", "[1]"), ("<num_outputs = 3> (x)", "[3]"), ("(x, s)", "[1]"), ("(x, r)", "[]")],
)
def test_splits_into_more_or_fewer_parts_than_outputs(tmp_path: Path, parts: str, found: str) -> None:
    """Shape inference of ONNX ends the process."""
    constants = "s = Constant <value_ints = [8]> () r = Constant <value_int = 8> ()"
    text = graph_text(f"{constants} a, b = Split {parts} y = Concat <axis = 0> (a, b)", opset=18)
    with pytest.raises(InvalidModel, match=re.escape(f"Split has 2 outputs, expected as many as its parts: {found}")):
        load(save(tmp_path, text))


def test_attributes_given_twice(tmp_path: Path) -> None:
    proto = onnx.parser.parse_model(graph_text("y = LeakyRelu <alpha = 0.5> (x)"))
    proto.graph.node[0].attribute.append(helper.make_attribute("alpha", 0.25))
    with pytest.raises(InvalidModel, match="has an attribute twice"):
        load(write(tmp_path, proto))


def test_constants_with_two_outputs(tmp_path: Path) -> None:
    proto = onnx.parser.parse_model(graph_text("c = Constant <value_float = 1.0> () y = Add (x, c)"))
    proto.graph.node[0].output.insert(0, "")
    with pytest.raises(InvalidModel, match="Constant has 2 outputs"):
        load(write(tmp_path, proto))


def test_values_without_elements_are_bounded_too(tmp_path: Path) -> None:
    """Their other sizes overflow what an array can have."""
    proto = onnx.parser.parse_model(graph_text("y = Add (x, x)", "float[8] x"))
    proto.graph.initializer.append(TensorProto(name="c", data_type=TensorProto.FLOAT, dims=[0, 2**40, 2**40]))
    with pytest.raises(InvalidModel, match="exceeds 4 GiB"):
        load(write(tmp_path, proto))


def test_loops_within_loops_end_in_time(tmp_path: Path) -> None:
    """Each of them alone is short enough."""
    inner = "inner (int64 j, bool d, float[8] u) => (bool f, float[8] t) { f = Identity (d) t = Neg (u) }"
    text = f"""n = Constant <value_int = 300> () c = Constant <value = bool {{1}}> ()
    y = Loop (n, c, x) <
        body = outer (int64 i, bool e, float[8] v) => (bool g, float[8] w) {{
            g = Identity (e) w = Loop (n, e, v) <body = {inner}>
        }}
    >"""
    start = time.process_time()
    with pytest.raises(UnsupportedModel, match="the loops around it expand to more than 20000 nodes"):
        load(save(tmp_path, graph_text(text)))
    assert time.process_time() - start < 10


def test_names_of_missing_values_stay_on_one_line(tmp_path: Path) -> None:
    proto = onnx.parser.parse_model(graph_text("y = Add (x, c)", "float[8] x"))
    proto.graph.node[0].input[1] = "c\x0b\x1b[2J\u2028"
    with pytest.raises(InvalidModel, match="is defined nowhere") as caught:
        load(write(tmp_path, proto))
    assert r"'c \x1b[2J '" in str(caught.value)


def test_constants_whose_evaluation_fails(tmp_path: Path) -> None:
    proto = onnx.parser.parse_model(graph_text("i = Gather (s, k) y = Expand (x, i)", "float[8] x"))
    proto.graph.initializer.extend(
        numpy_helper.from_array(array, name) for name, array in (("s", np.asarray([8])), ("k", np.asarray([5])))
    )
    with pytest.raises(InvalidModel, match="Gather of constants fails") as caught:
        load(write(tmp_path, proto))
    assert caught.value.remedy
