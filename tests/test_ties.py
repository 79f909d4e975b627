from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompiler.ir import oracle
from qcompiler.ir.cutting import Pieces, computed_names
from qcompiler.ties import TIE, Aligned, Kept, Ties, explained, relative_difference, wrong_elements

CHAIN = """s = Softmax(x)
    t = Sub(s, third)
    b = qcompiler.Binarize(t)
    m = Mul(b, third)
    y = Add(m, x)"""


def model(body: str = CHAIN, outputs: str = "float[1,3] y") -> ir.Model:
    text = f"""<ir_version: 10, opset_import: ["" : 21, "qcompiler" : 1]>
    g (float[1,3] x) => ({outputs}) <float third = {{0.25}}> {{ {body} }}"""
    graph = ir.from_proto(onnx.parser.parse_model(text))
    for node in graph.graph:
        for value in node.outputs:
            if value.dtype is None:
                value.type, value.shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape((1, 3))
    return graph


def values(graph: ir.Model, x: np.ndarray) -> dict[str, np.ndarray]:
    return {"x": x, **oracle.run(graph, {"x": x}, computed_names(graph))}


def logits(*probabilities: float) -> np.ndarray:
    return np.log(np.array([probabilities], np.float32))


def test_pieces_take_what_is_given() -> None:
    x = logits(0.25, 0.25, 0.5)
    found = Pieces(model(), ["b"], ["b", "m", "y"]).run({"x": x, "b": np.array([[8, 0, -4]], np.float32)})
    np.testing.assert_array_equal(found["m"], [[2, 0, -1]])
    np.testing.assert_array_equal(found["y"], found["m"] + x)
    # it is computed all the same
    assert set(found["b"].reshape(-1).tolist()) <= {-1.0, 1.0}


def tied(name: str, found: np.ndarray, x: np.ndarray) -> bool:
    """Whether `found` is an excusable value of `name` where x, b and m are stored."""
    graph = model()
    known = values(graph, x)
    others = list(Ties(graph, ["b", "m", "y"]).others(known))
    wrong = wrong_elements(found, known[name], exactly=name == "b")
    return explained(found, wrong, name, others, exactly=name == "b")


def test_a_tie_excuses_its_own_element_and_the_neighbouring_code() -> None:
    x = logits(0.25, 0.35, 0.4)
    codes = values(model(), x)["b"]
    for index, flipped in enumerate(([-1, 1, 1], [1, -1, 1], [1, 1, -1])):
        found = np.array([flipped], np.float32)
        assert tied("b", found, x) == (index == 0 or np.array_equal(found, codes))
    assert not tied("b", np.array([[-3.0, 1, 1]], np.float32), x)
    # m is computed from a value that is stored, and set to the reference's there: nothing is left to excuse
    assert not tied("m", -values(model(), x)["m"], x)


@settings(max_examples=30, deadline=None)
@given(st.floats(-3, 3), st.integers(0, 2))
def test_elements_away_from_a_jump_are_never_excused(distance: float, index: int) -> None:
    x = np.zeros((1, 3), np.float32)
    x[0, index] = distance
    known = values(model(), x)
    far = np.abs(known["t"]) > 2 * TIE * np.abs(known["t"]).max()
    for element in np.flatnonzero(far):
        found = known["b"].copy()
        found[0, element] *= -1
        assert not tied("b", found, x)


def test_exact_values_have_no_ties() -> None:
    graph = model("t = Sub(x, third) y = qcompiler.Binarize(t)")
    known = values(graph, np.array([[0.25, 1, 2]], np.float32))
    assert known["t"][0, 0] == 0
    assert not list(Ties(graph, ["y"]).others(known))
    assert list(Ties(graph, ["y"], exact=True).others(known))


def test_a_jump_behind_a_jump_in_one_piece() -> None:
    graph = model("s = Softmax(x) t = Sub(s, third) b = qcompiler.Binarize(t) m = Mul(b, third) y = Floor(m)")
    known = values(graph, logits(0.25, 0.35, 0.4))
    # 0.25 or -0.25 becomes 0 or -1
    found = np.where(np.arange(3) == 0, -1 - known["y"], known["y"]).astype(np.float32)
    wrong = wrong_elements(found, known["y"], exactly=False)
    assert explained(found, wrong, "y", list(Ties(graph, ["y"]).others(known)), exactly=False)


def test_ties_pass_through_layouts() -> None:
    graph = model("s = Softmax(x) t = Sub(s, third) b = Sign(t) y = Transpose(b)", "float[3,1] y")
    known = values(graph, logits(0.25, 0.35, 0.4))
    for side in (-1, 0, 1):
        found = known["y"].copy()
        found[0, 0] = side
        wrong = wrong_elements(found, known["y"], exactly=False)
        assert explained(found, wrong, "y", list(Ties(graph, ["y"]).others(known)), exactly=False)


@pytest.mark.parametrize("large", [1.0, 1e6])
@pytest.mark.parametrize(
    "rounding",
    [
        "y = Round(s)",
        "y = Floor(s)",
        "y = qcompiler.Quantize <low = -99999999.0, high = 99999999.0> (s, one, zero)",
        "q = Cast <to = 6> (s) y = Cast <to = 1> (q)",
    ],
)
def test_a_code_becomes_none_but_a_neighbour(rounding: str, large: float) -> None:
    """However large other values are: what rounding may do to those is many steps."""
    graph = model(f"s = Mul(x, third) {rounding}")
    for name, number in (("one", 1), ("zero", 0)):
        tensor = ir.tensor(np.float32(number), name=name)
        value = ir.Value(name=name, const_value=tensor, shape=ir.Shape(()), type=ir.TensorType(ir.DataType.FLOAT))
        graph.graph.register_initializer(value)
        for node in graph.graph:
            for position, each in enumerate(node.inputs):
                if each is not None and each.name == name:
                    node.replace_input_with(position, value)
    if "Cast" in rounding:
        graph.graph[1].outputs[0].type = ir.TensorType(ir.DataType.INT32)
    known = values(graph, np.float32([[10, 12, 4 * large]]))
    others = [each["y"] for each in Ties(graph, ["y"], exact=True).others(known) if "y" in each]
    assert others and max(np.abs(other - known["y"])[0, :2].max() for other in others) == 1


OTHER = """s = Softmax(x)
    moved = Add(s, noise)
    t = Sub(moved, third)
    c = qcompiler.Binarize(t)
    b = Identity(c)
    m = Mul(b, third)
    y = Add(m, x)"""


def other(noise: float, body: str = OTHER) -> ir.Model:
    graph = model(body)
    tensor = ir.tensor(np.array(noise, np.float32), name="noise")
    value = ir.Value(name="noise", const_value=tensor, shape=ir.Shape(()), type=ir.TensorType(ir.DataType.FLOAT))
    graph.graph.register_initializer(value)
    for node in graph.graph:
        for position, each in enumerate(node.inputs):
            if each is not None and each.name == "noise":
                node.replace_input_with(position, value)
    return graph


def test_an_aligned_graph_decides_ties_as_the_other_one() -> None:
    x = logits(0.25, 0.35, 0.4)
    known = values(model(), x)
    for noise in (-3e-7, 3e-7):
        plain = oracle.run(other(noise), {"x": x}, ["y"])["y"]
        aligned = Aligned(other(noise), ["y"]).values(known)["y"]
        assert relative_difference(aligned, known["y"]) <= 1e-6
        if np.sign(noise) != known["b"][0, 0]:
            assert relative_difference(plain, known["y"]) > 0.1


def test_an_aligned_graph_keeps_differences_that_no_tie_explains() -> None:
    x = logits(0.25, 0.35, 0.4)
    known = values(model(), x)
    aligned = Aligned(other(0.2), ["y"]).values(known)["y"]
    np.testing.assert_array_equal(aligned, oracle.run(other(0.2), {"x": x}, ["y"])["y"])


def test_a_name_that_means_something_else_is_not_used() -> None:
    x = logits(0.2, 0.4, 0.4)
    graph = model("s = Relu(x) t = Softmax(x) y = Add(t, third)")
    known = values(model("s = Softmax(x) y = Add(s, third)"), x)
    assert relative_difference(Aligned(graph, ["y"]).values(known)["y"], known["y"]) == 0


def test_relative_difference() -> None:
    one = np.array([1.0, -4.0], np.float32)
    assert relative_difference(one, one) == 0
    assert relative_difference(np.array([1.0, -3.0], np.float32), one) == 0.25
    nan = np.array([np.nan, 1.0], np.float32)
    assert relative_difference(nan, nan) == 0
    assert relative_difference(one, nan) == float("inf")
    assert relative_difference(np.array([1, 2]), np.array([1, 3])) == float("inf")
    assert relative_difference(one, one[None]) == float("inf")


def test_wrong_elements() -> None:
    expected = np.array([1.0, 0, 100, np.nan, np.inf, np.inf], np.float32)
    found = np.array([1.005, 0.02, 100, np.nan, np.inf, 1], np.float32)
    assert wrong_elements(found, expected, exactly=False).tolist() == [False, True, False, False, False, True]
    assert wrong_elements(found, expected, exactly=True).tolist() == [True, True, False, False, False, True]


def test_masks_are_infinities_and_no_magnitude() -> None:
    lowest = np.finfo(np.float32).min
    masked, infinite = np.array([1, lowest], np.float32), np.array([1, -np.inf], np.float32)
    assert relative_difference(masked, infinite) == relative_difference(infinite, masked) == 0
    assert relative_difference(np.array([2, lowest], np.float32), masked) == 1
    assert relative_difference(np.array([1, -lowest], np.float32), masked) == np.inf
    np.testing.assert_array_equal(
        wrong_elements(np.array([2, -np.inf], np.float32), masked, exactly=False), [True, False]
    )


def test_what_values_can_be_instead_is_evaluated_once_and_no_further_than_needed() -> None:
    made: list[int] = []

    def source() -> Iterator[dict[str, np.ndarray]]:
        for number in range(9):
            made.append(number)
            yield {"v" if number != 1 else "another": np.full(1, number, np.float32)}

    def excused(value: float) -> bool:
        return explained(np.float32([value]), np.ones(1, np.bool_), "v", others, exactly=True)

    others = Kept(source())
    assert excused(2) and made == [0, 1, 2]
    assert excused(0) and not excused(1) and made == list(range(9))
    assert excused(8) and not excused(9) and made == list(range(9))


def test_a_tie_is_found_where_nothing_else_differs() -> None:
    """The other graph's value is then exactly what tipping the tie gives, and no difference from what is given."""
    graph = model("a = Mul(x, third)\n b = Round(a)\n y = Mul(b, third)")
    x = np.array([[2.0, 8.0, 12.0]], np.float32)
    upstream = {"x": x, "b": np.array([[1.0, 2.0, 3.0]], np.float32)}
    assert values(graph, x)["b"][0, 0] == 0.0
    np.testing.assert_array_equal(Aligned(graph, ["b"]).values(upstream)["b"], upstream["b"])
