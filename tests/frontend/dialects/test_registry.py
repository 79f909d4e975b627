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


def test_the_standard_knows_what_its_own_dialect_reads() -> None:
    """An op that the standard knows is checked by the standard's schema; others are looked up before functions are."""
    (qdq,) = (each for each in dialects.DIALECTS if each.name == "QDQ")
    assert all(defs.has(op) for op in qdq.ops)
    others = [op for each in dialects.DIALECTS if each is not qdq and "" in each.domains for op in each.ops]
    assert not any(defs.has(op) for op in others)
