"""The kernels of CUDA on random problems, run by the processor in several orders of threads, against the reference."""

from __future__ import annotations

import dataclasses

import numpy as np
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from qcompiler.ir.codes import BINARY, Codes
from qcompiler.ir.storage import Buffer, Halo
from qcompiler.targets import reference
from qcompiler.targets.cuda.mma_conv import MmaConv2d
from qcompiler.targets.problem import Conv2d, Map2d, Operation, Pool2d, Problem, Tensor, outputs_of, tensors_of
from tests.targets.cuda.launching import AMPERE, TURING, check, launched
from tests.targets.problems import convolutions, maps, pools
from tests.targets.test_products import data, products

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


@st.composite
def few_bits(draw: st.DrawFn) -> Conv2d:
    """Convolutions that tensor cores multiply bit by bit."""
    problem = draw(convolutions(BINARY).map(on_device))
    held = draw(FEW)
    x = dataclasses.replace(problem.x, element=held, groups=1, packing="planes")
    epilogue = tuple(operation for operation in problem.epilogue)
    return dataclasses.replace(problem, x=x, groups=1, weights=draw(FEW), epilogue=epilogue)


@st.composite
def whole_bytes(draw: st.DrawFn) -> Conv2d:
    """Convolutions that tensor cores multiply byte by byte."""
    problem = draw(convolutions(None).filter(lambda each: not each.centred).map(on_device))
    return dataclasses.replace(problem, x=dataclasses.replace(problem.x, groups=1, packing="bytes"), groups=1)


@quick
@given(problem=whole_bytes().filter(lambda each: without_tables(each) and each.weights.bits <= 8), seed=seeds)
def test_convolution_of_bytes_by_tensor_cores(problem: Conv2d, seed: int) -> None:
    kernels = [kernel for kernel in AMPERE.kernels(problem) if isinstance(kernel, MmaConv2d)]
    assert {kernel.blocks for kernel in kernels} == {1, 2}
    check(problem, seed, kernels)


@quick
@given(problem=few_bits().filter(without_tables), seed=seeds)
def test_convolution_by_tensor_cores(problem: Conv2d, seed: int) -> None:
    kernels = [kernel for kernel in AMPERE.kernels(problem) if isinstance(kernel, MmaConv2d)]
    assert {kernel.blocks for kernel in kernels} == {1, 2}
    check(problem, seed, kernels)


@quick
@given(problem=few_bits().filter(without_tables), seed=seeds)
def test_convolution_by_tensor_cores_that_compare_bits(problem: Conv2d, seed: int) -> None:
    kernels = [kernel for kernel in TURING.kernels(problem) if isinstance(kernel, MmaConv2d)]
    assert {(kernel.blocks, kernel.instruction) for kernel in kernels} == {
        (1, "qc_xor_16x8x256"), (2, "qc_xor_16x8x256")
    }  # fmt: skip
    check(problem, seed, kernels, variant=TURING)
