import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompiler.passes.hoist_pools import HoistPools
from tests.passes.comparison import apply, graph, ops_of, rewritten, the

BIT = st.sampled_from([0, 1])
POOL = "MaxPool <kernel_shape = [3, 2], strides = [2, 2], pads = [{pad}, 0, {pad}, 1], ceil_mode = {ceil}>"


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(["Tanh", "Sigmoid", "Erf", "Exp", "Softplus", "Softsign"]), BIT, BIT, st.integers(0, 99))
def test_pools_first_what_never_falls(function: str, pad: int, ceil: int, seed: int) -> None:
    pool = POOL.format(pad=pad, ceil=ceil)
    model = graph(f"g (float[2, 3, 7, 6] x) => (y) {{ t = {function} (x)\n p = {pool} (t)\n y = Neg (p) }}")
    assert apply(HoistPools(), model, seed, exact=False).rewrites == 1
    assert ops_of(model) == ["MaxPool", function, "Neg"]
    assert the(model, function).outputs[0].shape.numpy() == the(model, "MaxPool").outputs[0].shape.numpy()


def test_a_result_of_the_network_keeps_its_name() -> None:
    model = graph("g (float[1, 2, 4, 4] x) => (y) { t = Tanh (x)\n y = MaxPool <kernel_shape = [2, 2]> (t) }")
    assert apply(HoistPools(), model, exact=False).rewrites == 1
    assert [value.name for value in model.graph.outputs] == ["y"]


@pytest.mark.parametrize(
    "body",
    [
        "t = Abs (x)\n p = MaxPool <kernel_shape = [2, 2]> (t)\n y = Neg (p)",
        "t = Tanh (x)\n p = MaxPool <kernel_shape = [2, 2], pads = [1, 1, 1, 1], strides = [1, 1]> (t)\n"
        "q = Pad (p, ends)\n r = Pad (t, other)\n y = Concat <axis = 0> (q, r)",
        "p = MaxPool <kernel_shape = [2, 2]> (x)\n y = Tanh (p)",
    ],
    ids=["falls and rises", "fork", "pooled already"],
)
def test_leaves_alone(body: str) -> None:
    ends = np.array([0, 0, 0, 0, 0, 0, 0, 0], np.int64)
    other = np.array([0, 0, 0, 0, 0, 0, 1, 1], np.int64)
    model = graph(
        f"g (float[1, 2, 4, 4] x) => (y) {{ {body} }}", **({"ends": ends, "other": other} if "ends" in body else {})
    )
    before = ops_of(model)
    assert apply(HoistPools(), model).rewrites == 0
    assert ops_of(model) == before


def test_before_and_after():
    before = """g (float[1, 2, 4, 4] x) => (y) {
    a = Tanh (x)
    y = MaxPool <kernel_shape = [2, 2]> (a) }"""
    after = """
    MaxPool_y.maxpool = MaxPool <kernel_shape = [2, 2]> (x)
    y = Tanh (MaxPool_y.maxpool)"""
    assert rewritten(HoistPools(), before, exact=False) == after
