import numpy as np
import pytest

from qcompiler.passes.eliminate_identities import EliminateIdentities
from tests.passes.comparison import apply, graph, ops_of, rewritten, the

SHAPES = {"same": np.asarray([2, 3, 4]), "flat": np.asarray([2, 12]), "other": np.asarray([6, 4])}
CONSTANTS = {
    **SHAPES,
    "nought": np.zeros(6, np.int64),
    "starts": np.asarray([0, -1]),
    "ends": np.asarray([4, -9]),
    "back": np.asarray([-1]),
    "begin": np.asarray([-1]),
    "end": np.asarray([-9]),
    "axis": np.asarray([1]),
    "one": np.asarray([1, 1, 1]),
    "off": np.asarray(False),
    "ratio": np.asarray(0.5, np.float32),
}


@pytest.mark.parametrize(
    "body",
    [
        "i = Identity (a)",
        "i = Dropout (a)",
        "i = Dropout (a, ratio, off)",
        "i = Cast <to = 1> (a)",
        "i = Reshape (a, same)",
        "i = Expand (a, one)",
        "i = Tile (a, one)",
        "i = Transpose <perm = [0, 1, 2]> (a)",
        "i = Pad (a, nought)",
        "i = Concat <axis = 0> (a)",
        "i = Max (a)",
        "t = Transpose <perm = [1, 2, 0]> (a)\n i = Transpose <perm = [2, 0, 1]> (t)",
        "t = Transpose (a)\n i = Transpose (t)",
        "r = Reshape (a, flat)\n i = Reshape (r, same)",
    ],
)
def test_no_ops_vanish(body):
    model = graph(f"g (float[2, 3, 4] x) => (y) {{ a = Abs (x)\n {body}\n y = Neg (i) }}", **CONSTANTS)
    assert apply(EliminateIdentities(), model).rewrites >= 1
    assert ops_of(model) == ["Abs", "Neg"]


@pytest.mark.parametrize(
    "body",
    [
        "i = Cast <to = 7> (a)",
        "i = Slice (a, begin, end, axis, back)",
        "i = Transpose <perm = [0, 2, 1]> (a)",
        "i = Reshape (a, flat)",
    ],
)
def test_ops_that_do_something_stay(body):
    model = graph(f"g (float[2, 3, 4] x) => (y) {{ a = Abs (x)\n {body}\n y = Neg (i) }}", **CONSTANTS)
    assert apply(EliminateIdentities(), model).rewrites == 0
    assert len(ops_of(model)) == 3


def test_reshapes_merge_and_keep_their_sources():
    text = "g (float[2, 3, 4] x) => (y) { a = Reshape (x, flat)\n y = Reshape (a, other) }"
    model = graph(text, **SHAPES)
    apply(EliminateIdentities(), model)
    assert ops_of(model) == ["Reshape"]
    assert the(model, "Reshape").metadata_props["qcompiler.source"] == "Reshape_a,Reshape_y"


def test_transposes_merge():
    text = "g (float[2, 3, 4] x) => (y) { a = Transpose <perm = [1, 2, 0]> (x)\n y = Transpose <perm = [0, 2, 1]> (a) }"
    model = graph(text)
    apply(EliminateIdentities(), model)
    assert ops_of(model) == ["Transpose"]


def test_graph_outputs_keep_their_names():
    model = graph("g (float[2] x) => (y, z) { a = Abs (x)\n y = Identity (a)\n z = Identity (a) }")
    apply(EliminateIdentities(), model)
    assert ops_of(model) == ["Abs", "Identity"]
    assert [value.name for value in model.graph.outputs] == ["y", "z"]


def test_an_output_that_is_an_input_needs_its_node():
    model = graph("g (float[2] x) => (y) { a = Identity (x)\n y = Identity (a) }")
    apply(EliminateIdentities(), model)
    assert ops_of(model) == ["Identity"]


def test_a_copy_of_an_input_is_an_identity():
    for op in ("Clip", "Sum", "Max", "Cast <to = 1>"):
        copy = graph(f"g (float[3, 4] x) => (y) {{ y = {op} (x) }}")
        apply(EliminateIdentities(), copy)
        assert ops_of(copy) == ["Identity"]


def test_before_and_after():
    constants = {
        "same": np.int64([2, 3]),
    }
    before = """g (float[2, 3] x) => (y) {
    a = Identity (x)
    b = Add (a, a)
    c = Reshape (b, same)
    y = Relu (c) }"""
    after = """
    b = Add (x, x)
    y = Relu (b)"""
    assert rewritten(EliminateIdentities(), before, **constants) == after
