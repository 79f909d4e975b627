from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.errors import VerificationFailed
from qcompiler.ir import oracle
from qcompiler.ir.view import static_shape
from qcompiler.passes import DEFAULT
from qcompiler.passes.editing import insert, remove_dead, replace
from qcompiler.passes.result import PassResult
from qcompiler.passes.runner import run_passes
from tests.passes.comparison import graph, normal, ops_of, signs


@dataclass(frozen=True)
class Nudge:
    """Adds `amount` to the outputs of every MatMul."""

    amount: float
    bound: float
    name: str = "nudge"

    def __call__(self, model: ir.Model) -> PassResult:
        nodes = [node for node in model.graph if node.op_type == "MatMul"]
        for node in nodes:
            shape = static_shape(node.outputs[0])
            product = insert(node, "MatMul", node.inputs, shape)
            replace(node.outputs[0], insert(node, "Add", [product, np.full(1, self.amount, np.float32)], shape))
        remove_dead(model.graph)
        return PassResult(self.name, len(nodes))


TEXT = """g (float[4, 16] x) => (float[4, 3] y) {
    m = MatMul (x, w1)
    b = qcompiler.Binarize (m)
    y = MatMul (b, w2) }"""


def network(sign="Binarize (m)"):
    generator = np.random.default_rng(0)
    return graph(TEXT.replace("Binarize (m)", sign), w1=normal(generator, 16, 500), w2=signs(generator, 500, 3))


def test_a_pass_that_claims_to_be_exact_and_is_not():
    with pytest.raises(VerificationFailed, match="pass 'nudge' is exact, but changed 12 of 12 values of output 'y'"):
        run_passes(network(), [Nudge(1e-3, bound=0.0)], check=True)


def test_a_pass_that_exceeds_its_bound():
    with pytest.raises(VerificationFailed, match="pass 'nudge' changed .* by 1, more than 1e-05"):
        run_passes(network(), [Nudge(1.0, bound=1e-5)], check=True)


def test_a_flipped_sign_is_no_failure_where_its_cause_is_within_the_bound():
    """The nudge flips some of 2000 signs, which changes the output by whole numbers."""
    nudged, original = network(), network()
    run_passes(nudged, [Nudge(2e-3, bound=1e-3)], check=True)
    inputs = {"x": np.random.default_rng(0).standard_normal((4, 16)).astype(np.float32)}
    assert np.abs(oracle.run(nudged, inputs)["y"] - oracle.run(original, inputs)["y"]).max() > 1


@dataclass(frozen=True)
class Spell:
    """Writes Binarize<zero = 0> as Sign, and counts nothing, as passes do that only refuse."""

    bound: float = 0.0
    name: str = "spell"

    def __call__(self, model: ir.Model) -> PassResult:
        (node,) = [node for node in model.graph if node.op_type == "Binarize"]
        replace(node.outputs[0], insert(node, "Sign", [node.inputs[0]], static_shape(node.outputs[0])))
        remove_dead(model.graph)
        return PassResult(self.name, 0)


def test_a_sign_in_its_other_spelling_is_the_same_jump():
    model = network("Binarize <zero = 0.0> (m)")
    run_passes(model, [Spell(), Nudge(2e-3, bound=1e-3)], check=True)


def test_without_check_nothing_is_run():
    (result,) = run_passes(network(), [Nudge(1.0, bound=0.0)])
    assert result == PassResult("nudge", 2)


def test_the_callback_sees_every_pass_in_order():
    seen = []
    run_passes(network(), DEFAULT, callback=lambda model, result, seconds: seen.append((result.name, seconds >= 0)))
    assert seen == [(step.name, True) for step in DEFAULT]


def test_missing_shapes_are_inferred():
    model = network()
    for node in model.graph:
        if not node.outputs[0].is_graph_output():
            node.outputs[0].shape = None
    run_passes(model, DEFAULT, check=True)
    assert "IntegerMatMul" in ops_of(model)


@dataclass(frozen=True)
class Flatten:
    """Binarizes the flattened value, under the name that the value in its old shape had."""

    bound: float
    name: str = "flatten"

    def __call__(self, model: ir.Model) -> PassResult:
        (node,) = [node for node in model.graph if node.op_type == "Binarize"]
        shape, name = static_shape(node.outputs[0]), node.outputs[0].name
        size = int(np.prod(shape))
        flat = insert(node, "Reshape", [node.inputs[0], np.asarray([size])], (size,))
        code = insert(node, "Binarize", [flat], (size,), {"zero": 1.0})
        replace(node.outputs[0], insert(node, "Reshape", [code, np.asarray(shape)], shape), keep_name=False)
        remove_dead(model.graph)
        code.name = name
        return PassResult(self.name, 1)


@pytest.mark.parametrize("bound", [0.0, 1e-5])
def test_a_name_may_move_to_a_value_of_another_shape(bound):
    run_passes(network(), [Flatten(bound)], check=True)


SMOOTH = """g (float[4, 16] x) => (float[4, 3] y) {
    m = MatMul (x, w1)
    r = Relu (m)
    y = MatMul (r, w2) }"""


def test_a_bound_holds_for_graphs_without_jumps():
    generator = np.random.default_rng(0)
    constants = {"w1": normal(generator, 16, 500), "w2": signs(generator, 500, 3)}
    run_passes(graph(SMOOTH, **constants), [Nudge(1e-3, bound=1e-1)], check=True)
    with pytest.raises(VerificationFailed, match="pass 'nudge' changed 'y' by .*, more than 1e-05"):
        run_passes(graph(SMOOTH, **constants), [Nudge(1.0, bound=1e-5)], check=True)
