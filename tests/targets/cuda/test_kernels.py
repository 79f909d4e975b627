"""The kernels of CUDA on random problems, run by the processor in several orders of threads, against the reference."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from qcompiler.ir.codes import BINARY, Codes
from qcompiler.ir.storage import Buffer, Halo, Packing
from qcompiler.targets import reference
from qcompiler.targets.cuda import CudaVariant
from qcompiler.targets.cuda.mma_conv import MmaConv2d
from qcompiler.targets.cuda.mma_tiling import Multiplied
from qcompiler.targets.cuda.rounded_product import RoundedProduct
from qcompiler.targets.problem import Conv2d, Map2d, Operation, Pool2d, Problem, Tensor, outputs_of, tensors_of
from qcompiler.targets.target import Constants
from tests.targets.cuda.launching import AMPERE, HOPPER, TURING, check, launched
from tests.targets.problems import convolutions, maps, pools
from tests.targets.test_products import data, products
from tests.targets.test_rounded import Case, assert_near, inputs, product_of, weights_of

# each example is compiled: shrinking one takes minutes
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)
quick = settings(max_examples=2, deadline=None, phases=PHASES, suppress_health_check=list(HealthCheck))
seeds = st.integers(0, 2**31)


def bare(buffer: Buffer) -> Buffer:
    """The buffer without its halo: kernels of devices make up the padding."""
    return dataclasses.replace(buffer, halo=Halo(), halo_value=0.0)


def _bare_operation(operation: Operation) -> Operation:
    operand, into = operation.operand, operation.into
    if isinstance(operand, Tensor):
        operand = dataclasses.replace(operand, buffer=bare(operand.buffer))
    return dataclasses.replace(operation, operand=operand, into=None if into is None else bare(into))


def on_device(problem: Problem) -> Problem:
    """The problem as lowering gives it to a device."""
    made = dataclasses.replace(problem, x=bare(problem.x), epilogue=tuple(map(_bare_operation, problem.epilogue)))
    if isinstance(made, Conv2d):
        return dataclasses.replace(made, padding="kernel")
    if isinstance(made, Pool2d) and made.into is not None:
        return dataclasses.replace(made, into=bare(made.into))
    return made


def without_tables(problem: Problem) -> bool:
    return not any(b.in_tables for b in (problem.x, *tensors_of(problem), *outputs_of(problem)))


def in_own_groups(problem: Conv2d) -> bool:
    """Whether the input is packed in the groups of the convolution, as the target asks for it."""
    return without_tables(problem) and not problem.centred and problem.x.groups == problem.groups


def check_all(problem: Problem, seed: int) -> None:
    kernels = AMPERE.kernels(problem)
    assert kernels
    check(problem, seed, kernels)


@quick
@given(problem=convolutions(BINARY).filter(in_own_groups).map(on_device), seed=seeds)
def test_binary_convolution(problem: Conv2d, seed: int) -> None:
    check_all(problem, seed)


@quick
@given(problem=convolutions(None).filter(in_own_groups).map(on_device), seed=seeds)
def test_convolution_of_codes(problem: Conv2d, seed: int) -> None:
    check_all(problem, seed)


@quick
@given(problem=convolutions("float32").filter(without_tables).map(on_device), seed=seeds)
def test_float_convolution(problem: Conv2d, seed: int) -> None:
    check_all(problem, seed)


@quick
@given(problem=pools().filter(without_tables).map(on_device), seed=seeds)
def test_pool(problem: Pool2d, seed: int) -> None:
    check_all(problem, seed)


@quick
@given(problem=maps().filter(without_tables).map(on_device), seed=seeds)
def test_map(problem: Map2d, seed: int) -> None:
    check_all(problem, seed)


@quick
@given(problem=products().map(on_device), seed=seeds)
def test_product_of_two_run_time_matrices(problem: Conv2d, seed: int) -> None:
    made, x, right = data(problem, seed)
    (expected,) = reference.run(problem, x, made, [right])
    for name, (found,) in launched(AMPERE.kernels(problem), made, x, [right]):
        np.testing.assert_array_equal(found, expected, err_msg=name)


FEW = st.sampled_from([BINARY, Codes(0, 1), Codes(0, 3), Codes(-2, 1), Codes(-3, 3, 2)])
"""Codes of one and two bits."""


KINDS = {(1, 1), (2, 1), (1, 4)}
"""Blocks of channels, and warps that share pixels."""


@st.composite
def few_bits(draw: st.DrawFn) -> Conv2d:
    """Convolutions that tensor cores multiply bit by bit."""
    problem = draw(convolutions(BINARY).filter(without_tables).map(on_device))
    x = dataclasses.replace(problem.x, element=draw(FEW), groups=1, packing="planes")
    return dataclasses.replace(problem, x=x, groups=1, weights=draw(FEW))


@st.composite
def whole_bytes(draw: st.DrawFn) -> Conv2d:
    """Convolutions that tensor cores multiply byte by byte."""
    problem = draw(convolutions(None).filter(lambda each: without_tables(each) and not each.centred).map(on_device))
    return dataclasses.replace(problem, x=dataclasses.replace(problem.x, groups=1, packing="bytes"), groups=1)


@st.composite
def halves_of_bytes(draw: st.DrawFn) -> Conv2d:
    """Convolutions of codes in bytes that tensor cores multiply four bits at a time."""
    problem = draw(whole_bytes())
    held = draw(st.sampled_from([Codes(0, 15), Codes(-8, 7), Codes(-3, 3, 2), Codes(0, 6)]))
    weights = draw(st.sampled_from([Codes(-8, 7), Codes(-7, 7), Codes(-1, 1), BINARY]))
    return dataclasses.replace(problem, x=dataclasses.replace(problem.x, element=held), weights=weights)


def by_tensor_cores(variant: CudaVariant, problem: Problem, by: Multiplied) -> list[MmaConv2d]:
    """The kernels that multiply by this instruction."""
    return [kernel for kernel in variant.kernels(problem) if isinstance(kernel, MmaConv2d) and kernel.by == by]


def check_by(by: Multiplied, problem: Conv2d, seed: int, variant: CudaVariant = AMPERE) -> None:
    kernels = by_tensor_cores(variant, problem, by)
    assert {(kernel.blocks, kernel.splits) for kernel in kernels} == ({(2, 1)} if by == "wide and" else KINDS)
    check(problem, seed, kernels, variant=variant)


@quick
@given(problem=whole_bytes().filter(lambda each: each.weights.bits <= 8), seed=seeds)
def test_convolution_of_bytes_by_tensor_cores(problem: Conv2d, seed: int) -> None:
    check_by("bytes", problem, seed)


@quick
@given(problem=halves_of_bytes(), seed=seeds)
def test_convolution_of_halves_of_bytes_by_tensor_cores(problem: Conv2d, seed: int) -> None:
    check_by("nibbles", problem, seed)


@quick
@given(problem=few_bits(), seed=seeds)
def test_convolution_by_tensor_cores(problem: Conv2d, seed: int) -> None:
    check_by("and", problem, seed)


@quick
@given(problem=few_bits(), seed=seeds)
def test_convolution_by_tensor_cores_that_compare_bits(problem: Conv2d, seed: int) -> None:
    check_by("xor", problem, seed, TURING)


@quick
@given(problem=few_bits(), seed=seeds)
def test_convolution_by_four_warps_together(problem: Conv2d, seed: int) -> None:
    check_by("wide and", problem, seed, HOPPER)


def test_what_nobody_measured_is_offered_and_not_taken() -> None:
    problem = in_groups(4, 1, "planes")
    kernels = [kernel for kernel in HOPPER.kernels(problem) if isinstance(kernel, MmaConv2d)]
    assert any(kernel.wide for kernel in kernels) and not kernels[0].wide
    assert not by_tensor_cores(AMPERE, problem, "wide and")


def in_groups(groups: int, written_in: int, packing: Packing) -> Conv2d:
    """48 inputs and 64 outputs of each group, outputs as floats and packed in `written_in` groups."""
    codes = BINARY if packing == "planes" else Codes(0, 15)
    x = Buffer(1, 5, 6, groups * 48, codes, groups=groups, packing=packing)
    into = Buffer(1, 5, 6, groups * 64, BINARY, groups=written_in)
    floats = Buffer(1, 5, 6, groups * 64, "float32")
    stores = (Operation("store", into=floats), Operation("store_bits", into=into))
    weights = BINARY if packing == "planes" else Codes(-8, 7)
    return Conv2d(
        x, groups * 64, (3, 3), pads=(1, 1, 1, 1), groups=groups, padding="kernel", epilogue=stores, weights=weights
    )


@pytest.mark.parametrize(
    ("variant", "packing", "written_in"),
    [(AMPERE, "planes", 1), (AMPERE, "bytes", 2), (TURING, "planes", 4), (AMPERE, "planes", 8)],
    ids=["and, packed as one", "halves of bytes and bytes", "xor, packed in groups", "and, packed in smaller groups"],
)
def test_groups_by_tensor_cores(variant: CudaVariant, packing: Packing, written_in: int) -> None:
    problem = in_groups(2 if packing == "bytes" else 4, written_in, packing)
    kernels = [kernel for kernel in variant.kernels(problem) if isinstance(kernel, MmaConv2d)]
    assert {(kernel.blocks, kernel.splits) for kernel in kernels} == KINDS
    check(problem, 3, kernels, variant=variant)


def test_groups_that_share_a_word_of_outputs_are_left_to_other_kernels() -> None:
    problem = dataclasses.replace(in_groups(4, 1, "planes"), out_channels=4 * 40, epilogue=())
    into = Buffer(1, 5, 6, 160, "float32")
    problem = dataclasses.replace(problem, epilogue=(Operation("store", into=into),))
    assert not by_tensor_cores(AMPERE, problem, "and") and AMPERE.kernels(problem)


def test_few_pixels_are_shared_by_warps_and_many_are_not() -> None:
    for h, splits in ((1, 4), (56, 1)):
        x = Buffer(8, h, h, 512, BINARY)
        stores = (Operation("store_bits", into=Buffer(8, h, h, 512, BINARY)),)
        problem = Conv2d(x, 512, (1, 1), padding="kernel", epilogue=stores)
        fastest = by_tensor_cores(AMPERE, problem, "and")[0]
        assert fastest.splits == splits


ROUNDED = {
    "of half a byte, a zero for all": Case(5, 200, 70, 4, 32, False),
    "of 2 bits in large blocks with zeros of their own": Case(2, 300, 33, 2, 128, True),
    "of 8 bits in the largest and the smallest blocks": Case(1, 1040, 40, 8, 256, False),
    "of half a byte in the smallest blocks": Case(3, 600, 32, 4, 16, True),
}


@pytest.mark.parametrize("name", ROUNDED)
def test_product_of_floats_rounded_in_blocks(name: str) -> None:
    case, rng = ROUNDED[name], np.random.default_rng(len(name))
    weights, x, bias = weights_of(case, rng), inputs(rng, case), rng.normal(size=case.outputs).astype(np.float32)
    problem = product_of(case, weights)
    kernels = AMPERE.kernels(problem)
    assert [kernel.name for kernel in kernels] and all(isinstance(each, RoundedProduct) for each in kernels)
    made = Constants(weights.reshape(*weights.shape, 1, 1), channels=(bias,))
    for kernel_name, (found,) in launched(kernels, made, x.reshape(1, 1, *x.shape), []):
        assert_near(case, found.reshape(case.rows, -1), weights, x, bias, kernel_name)


def test_rows_share_weights_where_there_are_many() -> None:
    for rows, tile in ((1, 1), (512, 4)):
        case = Case(rows, 256, 256, 4, 32, False)
        kernels = AMPERE.kernels(product_of(case, weights_of(case, np.random.default_rng(1))))
        assert isinstance(kernels[0], RoundedProduct) and kernels[0].tile == tile
