import numpy as np

from qcompiler.ir.provenance import REASON, sources
from qcompiler.ir.view import only_consumer, static_shape
from qcompiler.passes.editing import add_constant, can_replace, forget_names, insert, remove_dead, replace
from tests.passes.comparison import graph, ops_of

TEXT = "g (float[2, 3] x) => (y, z) { a = Abs (x)\n b = Neg (a)\n y = Relu (b)\n z = Identity (a) }"


def test_a_replacement_takes_over_the_name_of_an_output():
    model = graph(TEXT)
    relu = model.graph.outputs[0].producer()
    replace(relu.outputs[0], insert(relu, "Elu", [relu.inputs[0]], (2, 3)))
    remove_dead(model.graph)
    assert ops_of(model) == ["Abs", "Neg", "Elu", "Identity"]
    assert [value.name for value in model.graph.outputs] == ["y", "z"]


def test_a_new_node_knows_its_origins_and_their_remarks():
    model = graph(TEXT)
    absolute, negative, relu, _ = model.graph
    negative.metadata_props[REASON] = "because"
    value = insert(relu, "Clip", [negative.outputs[0]], (2, 3), origins=(absolute, negative))
    assert sources(value.producer()) == ("Abs_a", "Neg_b")
    assert value.producer().metadata_props[REASON] == "because"
    again = insert(relu, "Elu", [value], (2, 3), origins=(value.producer(), relu))
    assert sources(again.producer()) == ("Abs_a", "Neg_b", "Relu_y")


def test_names_are_unique_even_after_foreign_additions():
    model = graph(TEXT)
    first = add_constant(model.graph, np.ones(2, np.float32), "c")
    foreign = model.graph[0]
    foreign.name = "c.1"
    forget_names(model.graph)
    second = add_constant(model.graph, np.ones(2, np.float32), "c")
    assert (first.name, second.name) == ("c", "c.2")


def test_an_output_cannot_become_an_input():
    model = graph(TEXT)
    assert not can_replace(model.graph.outputs[0], model.graph.inputs[0])
    assert not can_replace(model.graph.outputs[0], model.graph.outputs[1])
    assert can_replace(model.graph[1].outputs[0], model.graph.inputs[0])


def test_only_consumer_is_none_for_forks_and_outputs():
    model = graph(TEXT)
    absolute, negative, relu, _ = model.graph
    assert only_consumer(absolute.outputs[0]) is None
    assert only_consumer(relu.outputs[0]) is None
    assert only_consumer(negative.outputs[0]) is relu


def test_dead_nodes_and_constants_go():
    model = graph("g (float[2] x) => (y) { d = Add (x, c)\n e = Neg (d)\n y = Abs (x) }", c=np.ones(1, np.float32))
    assert remove_dead(model.graph) == 2
    assert (ops_of(model), list(model.graph.initializers)) == (["Abs"], [])


def test_static_shape_of_an_unknown_one():
    model = graph(TEXT)
    value = model.graph[0].outputs[0]
    assert static_shape(value) == (2, 3)
    value.shape = None
    assert static_shape(value) is None
