"""Every kernel family on random problems against the numpy reference."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tvm
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qcompiler.ir.codes import BINARY
from qcompiler.ir.storage import Buffer
from qcompiler.targets.problem import Conv2d, Map2d, Operation, Problem, Scalar, outputs_of, tensors_of
from qcompiler.targets.x86 import X86Variant
from tests.targets.problems import RUNNABLE, convolutions, maps, pools, results

per_variant = pytest.mark.parametrize("variant", RUNNABLE, ids=lambda v: v.name)
seeds = st.integers(0, 2**31)
quick = settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))


def check(variant: X86Variant, problem: Problem, seed: int) -> None:
    kernels = variant.kernels(problem)
    if not kernels:
        return
    kernel = kernels[seed % len(kernels)]
    assert kernel.items > 0 and kernel.cost > 0
    with np.errstate(all="ignore"):
        for got, expected in results(kernel, variant, problem, seed, cuts=(seed, seed // 7)):
            np.testing.assert_array_equal(got, expected)


@per_variant
@quick
@given(problem=convolutions(BINARY), seed=seeds)
def test_binary_convolution(variant: X86Variant, problem: Problem, seed: int) -> None:
    check(variant, problem, seed)


@per_variant
@quick
@given(problem=convolutions(None), seed=seeds)
def test_convolution_of_codes(variant: X86Variant, problem: Problem, seed: int) -> None:
    check(variant, problem, seed)


@per_variant
@quick
@given(problem=convolutions("float32"), seed=seeds)
def test_float_convolution(variant: X86Variant, problem: Problem, seed: int) -> None:
    check(variant, problem, seed)


@per_variant
@quick
@given(problem=pools(), seed=seeds)
def test_pooling(variant: X86Variant, problem: Problem, seed: int) -> None:
    check(variant, problem, seed)


@per_variant
def test_code_is_made_for_many_quantizers_in_a_row(variant: X86Variant) -> None:
    """Each operation that mentions its operand twice doubled what TVM looked at: five quantizers took days."""
    image = Buffer(1, 3, 4, 8, "float32")
    quantizer = [
        Operation("max", Scalar(-7.0)),
        Operation("min", Scalar(7.0)),
        Operation("round"),
        Operation("mul", Scalar(0.75)),
    ]
    check(
        variant,
        Map2d(
            image, (*quantizer * 5, Operation("sign"), Operation("prelu", Scalar(0.5)), Operation("store", into=image))
        ),
        0,
    )


@per_variant
@quick
@given(problem=maps(), seed=seeds)
def test_map(variant: X86Variant, problem: Problem, seed: int) -> None:
    check(variant, problem, seed)


@per_variant
@quick
@given(problem=st.one_of(convolutions(BINARY), convolutions("float32")))
def test_padding_that_no_halo_holds_is_left_to_others(variant: X86Variant, problem: Conv2d) -> None:
    assert not variant.kernels(dataclasses.replace(problem, padding="kernel"))


@per_variant
@quick
@given(problem=st.one_of(convolutions(BINARY), convolutions(None), pools(), maps()))
def test_kernels_state_the_buffers_of_their_problem(variant: X86Variant, problem: Problem) -> None:
    kernels = variant.kernels(problem)
    assert [kernel.cost for kernel in kernels] == sorted(kernel.cost for kernel in kernels)
    for kernel in kernels[:1]:
        assert kernel.reads == (problem.x, *tensors_of(problem)) and kernel.writes == outputs_of(problem)


CHAIN = ("sign", "round", "max", "prelu", "min", "round")


@pytest.mark.parametrize("order", ["planes", "planes to channels", "channels"])
def test_code_of_a_chain_grows_with_its_length_and_no_faster(order: str) -> None:
    """Operations that read their operand more than once: expressions of expressions double with each of them."""

    def nodes(length: int) -> int:
        x = Buffer(1, 4, 16, 16, "float32", "nhwc" if order == "channels" else "nchw")
        into = dataclasses.replace(x, order="nchw" if order == "planes" else "nhwc")
        used = [CHAIN[i % len(CHAIN)] for i in range(length)]
        operations = [Operation(op, None if op in ("sign", "round") else Scalar(0.5)) for op in used]
        kernel = RUNNABLE[0].kernels(Map2d(x, (*operations, Operation("store", into=into))))[0]
        module = tvm.tirx.transform.StmtSimplify()(tvm.IRModule({"f": kernel.build("f")}))
        return len(module["f"].script())

    short, long = nodes(2), nodes(8)
    assert long < 6 * short
