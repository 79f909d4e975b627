"""Batches of products of run-time codes against numpy, on every variant that runs here, and on ARM under emulation."""

from __future__ import annotations

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qcompiler.ir.codes import BYTE, Codes
from qcompiler.ir.storage import Buffer
from qcompiler.targets import reference
from qcompiler.targets.problem import Channel, Conv2d, Operation, Scalar, neutral
from qcompiler.targets.target import Array, Constants
from qcompiler.targets.vector.kernel_runner import KernelRunner, aligned, empty_outputs
from tests.targets.emulated import EmulatedRunner
from tests.targets.problems import RUNNABLE, drawn, values
from tests.targets.test_arm import per_variant

GRIDS = [Codes(0, 255), Codes(-128, 127), Codes(-127, 127), Codes(-3, 252), Codes(-200, 55), Codes(0, 15), Codes(-1, 1)]


@st.composite
def products(draw: st.DrawFn) -> Conv2d:
    batch, rows, outputs = (draw(st.integers(1, most)) for most in (3, 9, 70))
    # the sums of many pass what float32 holds
    inputs = draw(st.one_of(st.integers(1, 70), st.integers(1, 70), st.sampled_from([1501, 3000])))
    left, right = draw(st.sampled_from(GRIDS)), draw(st.sampled_from(GRIDS))
    x = Buffer(1, 1, batch * rows, inputs, left, packing="bytes")
    second = Buffer(batch, -(-outputs // 16), -(-inputs // 4), 64, right, packing="bytes")
    scale = [Operation("mul", Scalar(0.5)), Operation("add", Channel())] if draw(st.booleans()) else []
    into = draw(st.sampled_from([Buffer(1, 1, batch * rows, outputs, "float32"),
                                 Buffer(1, 1, batch * rows, outputs, Codes(-128, 127), packing="bytes")]))  # fmt: skip
    bounds = [Operation("round"), Operation("max", Scalar(-128)), Operation("min", Scalar(127))]
    store = [*bounds, Operation("store_codes", into=into)] if into.packed else [Operation("store", into=into)]
    return Conv2d(x, outputs, (1, 1), epilogue=(*scale, *store), weights=BYTE, second=second)


def data(problem: Conv2d, seed: int) -> tuple[Constants, Array, Array]:
    """Constants and both operands."""
    rng = np.random.default_rng(seed)
    second = problem.second
    assert second is not None and second.codes is not None
    right = drawn(rng, second.codes, (second.n, 16, 4, second.h, second.w)).transpose(0, 4, 2, 3, 1)
    rest = np.arange(second.w * 4).reshape(second.w, 4) >= problem.x.c
    right[:, rest] = second.codes.low + neutral(second.codes)
    held = reference.store(second, right.transpose(0, 4, 2, 3, 1).reshape(second.n, 64, second.h, second.w))
    x = aligned(values(rng, problem.x), offset=4)
    channels = sum(isinstance(operation.operand, Channel) for operation in problem.epilogue)
    made = Constants(channels=tuple(rng.normal(size=problem.out_channels).astype(np.float32) for _ in range(channels)))
    return made, x, held


def check(problem: Conv2d, variant, seed: int, runner=KernelRunner) -> None:
    made, x, held = data(problem, seed)
    kernels = variant.kernels(problem)
    kernel = kernels[seed % len(kernels)]
    (out,) = empty_outputs(problem)
    run = runner(kernel, variant, made)
    middle = seed % (kernel.items + 1)
    tensor = aligned(held, offset=4)
    pointers = run.bind(x, [tensor], [out])
    for begin, end in ((middle, kernel.items), (0, middle)):
        run.call(pointers, begin, end)
    np.testing.assert_array_equal(out, *reference.run(problem, x, made, [held]))


@settings(max_examples=40, deadline=None)
@given(problem=products(), variant=st.sampled_from(RUNNABLE), seed=st.integers(0, 999))
def test_products(problem: Conv2d, variant, seed: int) -> None:
    check(problem, variant, seed)


@per_variant
@settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(problem=products(), seed=st.integers(0, 999))
def test_products_on_arm(variant, problem: Conv2d, seed: int) -> None:
    check(problem, variant, seed, EmulatedRunner)


def test_the_reference_multiplies_matrices() -> None:
    """One product, written down by hand."""
    x = Buffer(1, 1, 1, 2, Codes(0, 3), packing="bytes")
    second = Buffer(1, 1, 1, 64, Codes(0, 3), packing="bytes")
    into = Buffer(1, 1, 1, 2, "float32")
    problem = Conv2d(x, 2, (1, 1), epilogue=(Operation("store", into=into),), weights=BYTE, second=second)
    right = np.zeros((1, 64, 1, 1), np.float32)
    right[0, [0, 1, 4, 5], 0, 0] = 1, 2, 3, 0
    left = np.array([2, 1], np.float32).reshape(1, 2, 1, 1)
    (got,) = reference.run(problem, reference.store(x, left), Constants(), [reference.store(second, right)])
    np.testing.assert_array_equal(got.reshape(-1), [2 * 1 + 1 * 2, 2 * 3 + 1 * 0])
