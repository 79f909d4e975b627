"""What holds of every dialect, and of nodes that none of them knows."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, defs, helper

from qcompiler.errors import InvalidModel, UnsupportedModel
from qcompiler.frontend import dialects, load
from tests.frontend.files import write

KNOWN = sorted({(domain, op) for each in dialects.DIALECTS for domain in each.domains for op in each.ops})


def one_node(domain: str, op: str, inputs: list[str], outputs: list[str]) -> onnx.ModelProto:
    node = helper.make_node(op, inputs, outputs, name="culprit", domain=domain)
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 3, 4, 4))
    graph = helper.make_graph([node], "g", [value], [helper.make_empty_tensor_value_info(outputs[0])])
    opsets = [helper.make_opsetid("", 21), *([helper.make_opsetid(domain, 1)] if domain else [])]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def test_names_are_told_apart() -> None:
    names = [each.name for each in dialects.DIALECTS]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("domain", sorted({domain for domain, _ in KNOWN if domain}))
def test_an_unknown_op_lists_those_of_its_domain(tmp_path: Path, domain: str) -> None:
    with pytest.raises(UnsupportedModel) as caught:
        load(write(tmp_path, one_node(domain, "Frobnicate", ["x"], ["y"])))
    assert caught.value.node == "culprit" and "is not supported" in caught.value.message
    known = {op for each in dialects.DIALECTS if domain in each.domains for op in each.ops}
    assert set(caught.value.remedy.removeprefix("of this dialect, use ").split(", ")) == known


def test_a_domain_of_no_dialect(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModel, match="domain 'com.acme' is unknown") as caught:
        load(write(tmp_path, one_node("com.acme", "Frobnicate", ["x"], ["y"])))
    assert "model-local function" in caught.value.remedy


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(KNOWN), st.integers(0, 12), st.integers(1, 3))
def test_other_numbers_of_operands_are_refused(tmp_path: Path, key: tuple[str, str], inputs: int, outputs: int) -> None:
    """No lowering is entered with operands that it does not expect."""
    domain, name = key
    found = [each.ops[name] for each in dialects.DIALECTS if domain in each.domains and name in each.ops]
    if inputs in found[0].inputs and outputs in found[0].outputs:
        return
    names = ["y", *(f"y{index}" for index in range(1, outputs))]
    proto = one_node(domain, name, ["x"] * inputs, names)
    with pytest.raises(InvalidModel, match=f"{name} has {inputs} inputs") as caught:
        load(write(tmp_path, proto))
    assert caught.value.node == "culprit"


def test_the_standard_knows_what_its_own_dialects_read() -> None:
    """An op that the standard knows is checked by the standard's schema; others are looked up before functions are."""
    own = [each for each in dialects.DIALECTS if each.name in ("QDQ", "QOperator")]
    assert len(own) == 2 and all(defs.has(op) for each in own for op in each.ops)
    others = [op for each in dialects.DIALECTS if each not in own and "" in each.domains for op in each.ops]
    assert not any(defs.has(op) for op in others)


QUANTIZE = '<ir_version: 10, opset_import: ["": 21, "qcompiler": 1]> g (float[1, 4] x) => (float[1, 4] y) {constants}'


@pytest.mark.parametrize(
    ("attributes", "constants", "words"),
    [
        ("low = 0.0, high = 3.5", "", "codes from 0.0 to 3.5"),
        ("low = 4.0, high = 3.0", "", "codes from 4.0 to 3.0"),
        ("low = 0.0", "", "codes from 0.0 to nan"),
        ("low = 0.0, high = 3.0, rounding = 'UPWARDS'", "", "the rounding 'UPWARDS'"),
        ("low = 0.0, high = 3.0, order = 'BOTH'", "", "the order 'BOTH'"),
        ("low = 0.0, high = 3.0", "float s = {-1}", "a scale that is -1"),
        (
            "low = 0.0, high = 3.0, order = 'ROUND_SHIFT'",
            "float z = {0.5}",
            "a zero point that is 0.5, expected integers",
        ),
        ("low = 0.0, high = 3.0", "float[3] s = {1, 1, 1}", r"a scale of shape \[3\] for values of shape \[1, 4\]"),
    ],
)
def test_a_quantize_that_means_nothing(tmp_path: Path, attributes: str, constants: str, words: str) -> None:
    """Files that hold our own ops are trusted no more than others."""
    usual = {"s": "float s = {1}", "z": "float z = {0}"}
    given_ = [text for name, text in usual.items() if f" {name} =" not in constants] + [constants] * bool(constants)
    text = QUANTIZE.format(constants=f"<{', '.join(given_)}>")
    attributes = attributes.replace("'", '"')
    proto = onnx.parser.parse_model(f"{text} {{ y = qcompiler.Quantize <{attributes}> (x, s, z) }}")
    with pytest.raises(InvalidModel, match=words):
        load(write(tmp_path, proto))
