"""What a file's reference leaves out."""

from __future__ import annotations

import onnx
from onnx import TensorProto, helper

from qcompiler.frontend.reference import drop_allowances


def product(level: int) -> onnx.NodeProto:
    settings = {"K": 32, "N": 1, "bits": 4, "block_size": 32, "accuracy_level": level}
    return helper.make_node("MatMulNBits", ["a", "b", "s"], ["y"], domain="com.microsoft", **settings)


def test_a_level_of_accuracy_is_dropped_in_branches_and_functions_too() -> None:
    graph = helper.make_graph([product(4)], "branch", [], [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])])
    branch = helper.make_node("If", ["c"], ["z"], then_branch=graph, else_branch=graph)
    other = helper.make_node("Acme", ["a"], ["w"], domain="com.acme", accuracy_level=4)
    model = helper.make_model(helper.make_graph([product(1), branch, other], "g", [], []))
    opsets = [helper.make_opsetid("com.microsoft", 1)]
    model.functions.append(helper.make_function("own", "f", ["a", "b", "s"], ["y"], [product(4)], opsets))
    drop_allowances(model)
    inner = [each.g.node[0] for each in model.graph.node[1].attribute]
    for node in (model.graph.node[0], *inner, model.functions[0].node[0]):
        assert [each.name for each in node.attribute] == ["K", "N", "bits", "block_size"]
    assert model.graph.node[2].attribute[0].i == 4
