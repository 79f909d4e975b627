"""Planes of few channels to codes in bytes: any chain against numpy, and faults that must show."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qcompiler.ir.codes import Codes
from qcompiler.ir.storage import Buffer, Halo
from qcompiler.targets import wasm
from qcompiler.targets.problem import Channel, Map2d, Operation, Scalar
from qcompiler.targets.target import Variant
from qcompiler.targets.vector import planes_to_words
from qcompiler.targets.vector.kernel_runner import KernelRunner
from qcompiler.targets.vector.planes_to_words import PlanesToWords2d
from qcompiler.targets.x86 import X86Variant
from tests.targets import in_node
from tests.targets.emulated import EmulatedRunner, missing
from tests.targets.problems import RUNNABLE, results
from tests.targets.test_reductions import ARM

CODES = [Codes(0, 255), Codes(-128, 127), Codes(0, 15), Codes(-7, 7, 2)]


def quantizer(channels: int, size: tuple[int, int], codes: Codes, by_channel: bool = False, n: int = 1) -> Map2d:
    """Channels with a mean and a scale, or a scale of all; where steps are 2, 2 * round(x) - 7 are stored."""
    x, pad = Buffer(n, *size, channels, "float32", "nchw"), Halo(3, 2, 1, 4)
    into = Buffer(n, *size, channels, codes, halo=pad, halo_value=float(codes.high), packing="bytes")
    first = (Operation("sub", Channel()), Operation("div", Channel())) if by_channel else ()
    chain = [*first, Operation("div", Scalar(0.0371, fused=True)), Operation("round")]
    low, high = (codes.low, codes.high) if codes.step == 1 else (0, codes.levels - 1)
    chain += [Operation("max", Scalar(float(low))), Operation("min", Scalar(float(high)))]
    if codes.step != 1:
        chain += [Operation("mul", Scalar(float(codes.step))), Operation("add", Scalar(float(codes.low)))]
    return Map2d(x, (*chain, Operation("store_codes", into=into)))


def check(problem: Map2d, variant: Variant, seed: int = 1, make_runner: Any = KernelRunner) -> None:
    (kernel,) = variant.kernels(problem)
    assert isinstance(kernel, PlanesToWords2d)
    for got, expected in results(kernel, variant, problem, seed, cuts=(2,), make_runner=make_runner):
        np.testing.assert_array_equal(got, expected)


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_chain(data: st.DataObject) -> None:
    size = (data.draw(st.integers(1, 4)), data.draw(st.integers(16, 50)))
    codes, by_channel = data.draw(st.sampled_from(CODES)), data.draw(st.booleans())
    problem = quantizer(data.draw(st.integers(1, 4)), size, codes, by_channel, data.draw(st.integers(1, 2)))
    check(problem, data.draw(st.sampled_from(RUNNABLE)), data.draw(st.integers(0, 99)))


@pytest.mark.parametrize("variant", RUNNABLE, ids=lambda variant: variant.name)
def test_every_variant(variant: X86Variant) -> None:
    check(quantizer(3, (5, 37), CODES[0], by_channel=True), variant)


def test_what_it_leaves_to_others() -> None:
    """Rows of less than a vector, more channels than a word has, floats beside codes, bit planes."""
    usual = quantizer(3, (2, 20), CODES[0])
    *chain, stored = usual.epilogue
    assert stored.into is not None
    planes = dataclasses.replace(stored, into=dataclasses.replace(stored.into, packing="planes"))
    floats = Operation("store", into=Buffer(1, 2, 20, 3, "float32"))
    others = [
        quantizer(3, (2, 15), CODES[0]),
        quantizer(5, (2, 20), CODES[0]),
        dataclasses.replace(usual, epilogue=(*chain, planes)),
        dataclasses.replace(usual, epilogue=(floats, *chain, stored)),
        dataclasses.replace(usual, x=dataclasses.replace(usual.x, order="nhwc")),
    ]
    for problem in others:
        kernels = RUNNABLE[0].kernels(problem)
        assert kernels and not any(isinstance(kernel, PlanesToWords2d) for kernel in kernels)


def test_a_fault_does_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows of the last plane for those of all."""
    monkeypatch.setattr(planes_to_words, "i64", lambda value: planes_to_words.T.int64(0 if value == 1 else value))
    with pytest.raises(AssertionError):
        check(quantizer(3, (5, 37), CODES[0]), RUNNABLE[0])


@pytest.mark.parametrize("architecture", ARM)
def test_arm(architecture: str) -> None:
    packages = missing(architecture)
    if packages:
        pytest.skip(f"missing Debian packages: {packages}")
    for variant in ARM[architecture]:
        check(quantizer(3, (3, 21), CODES[0], by_channel=True), variant, make_runner=EmulatedRunner)


@pytest.mark.skipif(bool(in_node.missing()), reason=in_node.missing())
def test_webassembly() -> None:
    for variant in wasm.TARGET.variants([]):
        check(quantizer(3, (3, 21), CODES[3]), variant, make_runner=in_node.NodeRunner)
