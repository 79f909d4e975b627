"""Sums of two products added up in 16 bits (AVX2) against numpy, where 16 bits are full if anywhere."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qcompiler.ir.codes import BINARY, Codes
from qcompiler.ir.storage import Buffer, Halo
from qcompiler.targets import reference
from qcompiler.targets.problem import Conv2d, Operation
from qcompiler.targets.target import Constants
from qcompiler.targets.vector.byte_sums import ONES
from qcompiler.targets.vector.conv import DirectConv2d
from qcompiler.targets.vector.kernel_runner import KernelRunner, aligned, empty_outputs
from qcompiler.targets.x86 import TARGET
from qcompiler.targets.x86.byte_dots import MultiplyBytes
from qcompiler.targets.x86.pair_sums import PairSums
from tests.targets.problems import RUNNABLE, by_reduction, check_one, compiled, epilogues, results

AVX2 = [variant for variant in RUNNABLE if variant.name == "avx2"]
pytestmark = pytest.mark.skipif(not AVX2, reason="this processor has no AVX2")

# of inputs and weights, and how many sums of two products 16 bits hold of them
HELD = [
    (Codes(0, 255), Codes(-1, 1), 64),
    (Codes(-128, 127), Codes(-2, 1), 32),
    (Codes(0, 255), Codes(-8, 7), 8),
    (Codes(0, 255), Codes(-16, 15), 4),
    (Codes(0, 255), Codes(-32, 31), 2),
    (Codes(0, 15), Codes(-128, 127), 8),
    (Codes(0, 15), Codes(-8, 7), 136),
    (Codes(0, 7), Codes(-4, 3), 585),
    (Codes(0, 127), Codes(-8, 7), 16),
    (Codes(0, 127), Codes(-64, 63), 2),
]


def layer(inputs: int, outputs: int, size: int, x: Codes, weights: Codes, kernel: int = 3, groups: int = 1) -> Conv2d:
    halo = Halo(kernel // 2, kernel // 2, kernel // 2, kernel // 2)
    held = Buffer(1, size, size, inputs, x, "nhwc", halo, x.high, groups, "bytes")
    pads = (kernel // 2,) * 4
    problem = Conv2d(held, outputs, (kernel, kernel), (1, 1), pads, pad_value=x.high, groups=groups, weights=weights)
    store = Operation("store", into=Buffer(1, *problem.out_hw, outputs, "float32"))
    return dataclasses.replace(problem, epilogue=(store,))


def pairs(problem: Conv2d) -> list[DirectConv2d]:
    """The kernels that add sums of two products up."""
    return by_reduction(AVX2[0], problem, PairSums)


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize(("x", "weights", "held"), HELD, ids=lambda each: getattr(each, "label", str(each)))
def test_every_tiling_holds_the_largest_sums(x: Codes, weights: Codes, held: int, kernel: int) -> None:
    """The largest inputs times the largest weights of both signs, one step more than 16 bits hold where it is 1x1."""
    inputs = 4 * (held + 1) if kernel == 1 else 70
    problem = layer(inputs, 128, 6, x, weights, kernel)
    values = np.full((128, inputs, kernel, kernel), weights.low, np.float32)
    values[::2] = weights.high
    made, filled = (
        Constants(weights=values),
        aligned(np.full(problem.x.storage_shape, (x.levels - 1) * ONES, np.uint32)),
    )
    (expected,) = reference.run(problem, filled, made, [])
    offered = pairs(problem)
    assert offered
    for each in offered:
        assert isinstance(each.reduction, PairSums) and each.reduction.dot.held == held
        runner, (output,) = KernelRunner(each, AVX2[0], made), empty_outputs(problem)
        runner.call(runner.bind(filled, [], [output]), 0, runner.items)
        np.testing.assert_array_equal(output, expected, err_msg=each.name)
        for got, other in results(each, AVX2[0], problem, seed=held, make_runner=compiled(runner)):
            np.testing.assert_array_equal(got, other, err_msg=each.name)


@pytest.mark.parametrize(("x", "weights", "held"), HELD, ids=lambda each: getattr(each, "label", str(each)))
def test_sixteen_bits_hold_no_more(x: Codes, weights: Codes, held: int) -> None:
    most = 2 * (x.levels - 1) * max(-weights.low, weights.high)
    assert held * most < 2**15 <= (held + 1) * most


@st.composite
def layers(draw: st.DrawFn) -> Conv2d:
    x, weights, _ = draw(st.sampled_from(HELD))
    inputs, outputs = draw(st.sampled_from([(3, 20), (8, 64), (33, 48), (128, 32), (40, 130), (12, 256)]))
    size, kernel = draw(st.integers(1, 9)), draw(st.sampled_from([1, 3, 5]))
    problem = dataclasses.replace(layer(inputs, outputs, size, x, weights, kernel), centred=draw(st.booleans()))
    oh, ow = problem.out_hw
    return dataclasses.replace(problem, epilogue=draw(epilogues(1, oh, ow, outputs, threshold=True, wide=True)))


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(problem=layers(), seed=st.integers(0, 2**31))
def test_layers(problem: Conv2d, seed: int) -> None:
    check_one(pairs(problem), AVX2[0], problem, seed)


def test_all_variants_share_one_copy_of_the_weights() -> None:
    for x, weights, _ in HELD:
        problem = layer(70, 96, 6, x, weights)
        if not problem.x.in_bytes:
            continue
        values = np.random.default_rng(3).integers(weights.low, weights.high + 1, (96, 70, 3, 3)).astype(np.float32)
        kernels = [each for v in TARGET.variants(()) for each in v.kernels(problem) if "_w" in each.name]
        copies = {
            k.pack(Constants(weights=values))[0].tobytes() for k in kernels if "pairs" in k.name or "bytes" in k.name
        }
        assert len(copies) == 1


def test_products_that_sixteen_bits_do_not_hold_are_left_to_others() -> None:
    assert not pairs(layer(64, 64, 6, Codes(0, 255), Codes(-128, 127)))
    assert not pairs(layer(64, 64, 6, Codes(0, 255), Codes(-64, 63)))
    assert pairs(layer(64, 64, 6, Codes(0, 255), BINARY))
    assert MultiplyBytes(8, 2).speed > MultiplyBytes(8).speed == pytest.approx(1.5)
