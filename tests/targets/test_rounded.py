"""Products of floats rounded in blocks against numpy, on every variant that runs here, and on ARM under emulation."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from qcompiler.ir.block_rounding import SMALLEST, rounded_in_blocks
from qcompiler.ir.storage import Buffer
from qcompiler.ir.weight_grids import WeightGrid, in_blocks
from qcompiler.targets.problem import Channel, Conv2d, Operation, Problem
from qcompiler.targets.target import Array, Constants, Kernel, Variant
from qcompiler.targets.vector.common_kernels import rounded_products
from qcompiler.targets.vector.conv import DirectConv2d
from qcompiler.targets.vector.kernel_runner import KernelRunner, aligned, empty_outputs
from qcompiler.targets.x86 import TARGET, X86Variant
from qcompiler.targets.x86.byte_dots import multiply_words
from qcompiler.targets.x86.machine import Isa
from tests.targets.emulated import EmulatedRunner
from tests.targets.problems import RUNNABLE
from tests.targets.test_arm import per_variant

slow_data = settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))


@dataclasses.dataclass(frozen=True)
class Case:
    """A product as MatMulNBits has it; zeros: whether blocks have zero points of their own."""

    rows: int
    inputs: int
    outputs: int
    bits: int
    size: int
    zeros: bool


cases = st.builds(
    Case, st.integers(1, 9), st.one_of(st.integers(1, 200), st.sampled_from([512, 1040])), st.integers(1, 300),
    st.sampled_from([2, 4, 8]), st.sampled_from([16, 32, 64, 128, 256]), st.booleans(),
)  # fmt: skip


def weights_of(case: Case, rng: np.random.Generator) -> Array:
    """Float32 [O, K], as the front end computes them."""
    block = np.arange(case.inputs) // case.size
    shape = (case.outputs, block[-1] + 1)
    codes = rng.integers(0, 2**case.bits, (case.outputs, case.inputs))
    zeros = rng.integers(0, 2**case.bits, shape) if case.zeros else np.full(shape, 2 ** (case.bits - 1))
    scales = rng.uniform(0.001, 0.01, shape).astype(np.float32)
    return ((codes - zeros[:, block]).astype(np.float32) * scales[:, block]).astype(np.float32)


def product_of(case: Case, weights: Array) -> Conv2d:
    """With a number added to each output."""
    found = in_blocks(weights, case.size)
    assert found is not None, "weights of integers and a scale lie on a grid"
    into = Buffer(1, 1, case.rows, case.outputs, "float32")
    chain = (Operation("add", Channel()), Operation("store", into=into))
    return dataclasses.replace(product_on(found.grid, case.rows, case.inputs, case.outputs), epilogue=chain)


def product_on(grid: WeightGrid, rows: int, inputs: int, outputs: int) -> Conv2d:
    """With nothing added."""
    chain = (Operation("store", into=Buffer(1, 1, rows, outputs, "float32")),)
    return Conv2d(Buffer(1, 1, rows, inputs, "float32"), outputs, (1, 1), epilogue=chain, grid=grid, rounded=True)


def wide_products(isa: Isa, problem: Problem) -> Iterator[Kernel]:
    """As of 32 registers of 64 bytes, by what every processor has."""
    yield from rounded_products(
        dataclasses.replace(isa, vector_bytes=64, registers=32), problem, multiply_words(4), 255
    )


DESKTOPS = TARGET.variants(())
WIDE = dataclasses.replace(RUNNABLE[-1], table=(wide_products,))


def assert_near(case: Case, got: Array, weights: Array, values: Array, bias: Array, name: str) -> None:
    """got [rows, O] is what numpy gives, as near as sums in any order are."""
    rounded = rounded_in_blocks(values, case.size).astype(np.float64)
    # what terms of all signs add up to at most, which rounding is relative to
    bound = np.abs(rounded) @ np.abs(weights.T).astype(np.float64) + np.abs(bias)
    expected = rounded @ weights.T.astype(np.float64) + bias
    assert (np.abs(got - expected) <= 2e-5 * bound + 1e-30).all(), name


def check(
    case: Case, variant: Variant, seed: int, runner: type[KernelRunner] | type[EmulatedRunner], every: bool = False
) -> None:
    """One of the kernels, or every one."""
    rng = np.random.default_rng(seed)
    weights = weights_of(case, rng)
    kernels = variant.kernels(product_of(case, weights))
    assert kernels, "every such product has a kernel"
    values = inputs(rng, case)
    bias = rng.normal(size=case.outputs).astype(np.float32)
    made = Constants(weights.reshape(*weights.shape, 1, 1), channels=(bias,))
    for kernel in kernels if every else [kernels[seed % len(kernels)]]:
        got = computed(kernel, variant, values, made, runner, seed)
        assert_near(case, got, weights, values, bias, kernel.name)


def inputs(rng: np.random.Generator, case: Case) -> Array:
    """Numbers of all magnitudes, halves of a step among them, and a block of nothing."""
    values = rng.normal(size=(case.rows, case.inputs)) * 10.0 ** rng.integers(-3, 4, (case.rows, 1))
    values[0, : case.size] = (rng.integers(-253, 254, min(case.size, case.inputs)) / 2.0) if rng.random() < 0.5 else 0
    values[0, 0] = 127 if values[0].any() else 0
    if rng.random() < 0.3:
        values[-1] *= SMALLEST / 1000
    return values.astype(np.float32)


def computed(
    kernel: DirectConv2d,
    variant: Variant,
    values: Array,
    made: Constants,
    runner: type[KernelRunner] | type[EmulatedRunner],
    seed: int,
) -> Array:
    (out,) = empty_outputs(kernel.problem)
    out[...] = np.nan
    x = aligned(values.reshape(1, 1, *values.shape), offset=4)
    run = runner(kernel, variant, made)
    pointers, middle = run.bind(x, [], [out]), seed % (kernel.items + 1)
    for begin, end in ((middle, kernel.items), (0, middle)):
        run.call(pointers, begin, end)
    return np.asarray(out.reshape(len(values), -1), np.float64)


@slow_data
@given(case=cases, variant=st.sampled_from(RUNNABLE), seed=st.integers(0, 2**31))
def test_products(case: Case, variant: Variant, seed: int) -> None:
    check(case, variant, seed, KernelRunner)


@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("variant", RUNNABLE, ids=lambda variant: variant.name)
def test_every_tiling(variant: Variant, bits: int, zeros: bool) -> None:
    """Of one row and eight, and so many channels that some tiles hold several runs of blocks, and several arrays."""
    for rows in (1, 8):
        check(Case(rows, 70, 512, bits, 32, zeros), variant, bits, KernelRunner, every=True)


@pytest.mark.parametrize("bits", [4, 8])
def test_tilings_of_wide_registers(bits: int) -> None:
    check(Case(4, 40, 512, bits, 16, False), WIDE, bits, KernelRunner, every=True)


@pytest.mark.parametrize(("bits", "rows", "wide", "narrow"), [(8, 1, 4, 4), (4, 8, 4, 4), (4, 1, 16, 4), (2, 1, 16, 4)])
@pytest.mark.parametrize("variant", DESKTOPS, ids=lambda variant: variant.name)
def test_indices_lie_as_they_are_read(variant: X86Variant, bits: int, rows: int, wide: int, narrow: int) -> None:
    """Group by group `turn` channel blocks at a time, of each step sixteen lanes of four inputs."""
    index = np.random.default_rng(0).integers(0, 2**bits, (256, 64), np.uint8)
    turn = wide if variant.isa.vector_bytes == 64 else narrow
    kernel = variant.kernels(product_on(WeightGrid(bits, 32, 0), rows, 64, 256))[0]
    codes = kernel.pack(Constants(index.astype(np.float32).reshape(256, 64, 1, 1)))[0]
    turns = index.reshape(16 // turn, turn * bits // 8, 8 // bits, 16, 2, 8, 4).transpose(4, 0, 5, 1, 3, 6, 2)
    joined = np.bitwise_or.reduce(turns << np.arange(0, 8, bits, dtype=np.uint8), axis=-1)
    np.testing.assert_array_equal(codes.view(np.uint8), joined.reshape(-1))


@pytest.mark.parametrize("rows", [1, 8])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_variants_and_tilings_share_copies_of_the_weights(bits: int, rows: int) -> None:
    """One of all, but of one row of few bits, which registers of 512 bits read as they come."""
    weights = np.random.default_rng(0).integers(0, 2**bits, (512, 64)).astype(np.float32)
    problem = product_on(WeightGrid(bits, 32, 0), rows, 64, 512)
    made = Constants(weights.reshape(512, 64, 1, 1))
    packed = {
        (b"".join(map(bytes, kernel.pack(made))), each.isa.vector_bytes == 64 and rows == 1 and bits < 8)
        for each in DESKTOPS
        for kernel in each.kernels(problem)
    }
    assert len(packed) == (2 if rows == 1 and bits < 8 else 1)


@pytest.mark.parametrize(
    ("variant", "bits", "rows", "outputs", "tile"),
    [
        ("avx512vpopcntdq", 8, 8, 4096, "p4b16"),
        ("avx512vpopcntdq", 4, 8, 4096, "p4b32"),
        ("avx2", 8, 3, 4096, "p3b16"),
        ("avx2", 4, 5, 4096, "p1b16"),
        ("avx2", 8, 8, 4096, "p2b16"),
        ("avx2", 2, 2, 1000, "p2b16"),
        ("avx2", 4, 8, 1000, "p2b16"),
        ("baseline", 2, 3, 1000, "p1b16"),
    ],
)
def test_the_tile_that_is_taken(variant: str, bits: int, rows: int, outputs: int, tile: str) -> None:
    (found,) = (each for each in DESKTOPS if each.name == variant)
    kernels = found.kernels(product_on(WeightGrid(bits, 32, 2 ** (bits - 1)), rows, 4096, outputs))
    assert f"_{tile}s" in kernels[0].name


@per_variant
@settings(max_examples=1, deadline=None, suppress_health_check=list(HealthCheck))
@given(case=cases, seed=st.integers(0, 2**31))
def test_products_on_arm(variant: Variant, case: Case, seed: int) -> None:
    assume(case.inputs * case.outputs < 2**14)
    check(case, variant, seed, EmulatedRunner)


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("variant", RUNNABLE, ids=lambda variant: variant.name)
def test_the_largest_products(variant: Variant, bits: int) -> None:
    """The largest integers of either sign against the largest indices, where 16 bits would overflow, if anywhere."""
    index = np.full((256, 512), 2**bits - 1)
    index[:, ::256], index[:, 1::256] = 0, 1
    weights = (index - 2 ** (bits - 1)).astype(np.float32)
    problem = product_on(WeightGrid(bits, 256, 2 ** (bits - 1)), 3, 512, 256)
    values = np.array([127, -127, 64], np.float32)[:, None] * np.ones((1, 512), np.float32)
    made = Constants(weights.reshape(256, 512, 1, 1))
    for kernel in variant.kernels(problem)[::3]:
        got = computed(kernel, variant, values, made, KernelRunner, 1)
        np.testing.assert_allclose(got, values.astype(np.float64) @ weights.T, rtol=1e-6, err_msg=kernel.name)
