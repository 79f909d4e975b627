"""Products of a few rows of bytes with weights of few bits against numpy, on every variant that runs here."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qcompiler.ir.codes import BINARY, Codes
from qcompiler.ir.storage import Buffer, Halo
from qcompiler.targets.problem import Conv2d, Operation
from qcompiler.targets.target import Constants, Kernel
from qcompiler.targets.vector.conv import DirectConv2d
from qcompiler.targets.vector.kernel_runner import KernelRunner
from qcompiler.targets.x86 import TARGET, X86Variant
from qcompiler.targets.x86.field_sums import MOST_ROWS, FieldSums
from tests.targets.problems import RUNNABLE, check_one, epilogues, results
from tests.targets.test_reductions import check_largest

INPUTS = [Codes(0, 255), Codes(-128, 127), Codes(-255, 255, 2), Codes(0, 15)]
WEIGHTS = [BINARY, Codes(-1, 1), Codes(-2, 1), Codes(-3, 3, 2), Codes(0, 5), Codes(-8, 7), Codes(-15, 15, 2)]


def product(rows: int, inputs: int, outputs: int, x: Codes, weights: Codes, groups: int = 1) -> Conv2d:
    problem = Conv2d(
        Buffer(1, 1, rows, inputs, x, "nhwc", Halo(), x.low, groups, "bytes"), outputs, (1, 1), weights=weights
    )
    return dataclasses.replace(problem, epilogue=(Operation("store", into=Buffer(1, 1, rows, outputs, "float32")),))


@st.composite
def products(draw: st.DrawFn) -> Conv2d:
    rows, blocks = draw(st.integers(1, MOST_ROWS)), draw(st.sampled_from([2, 4, 8, 12, 16, 24]))
    outputs = 16 * blocks - draw(st.integers(0, 15))
    inputs = draw(st.one_of(st.integers(1, 70), st.sampled_from([256, 1501])))
    groups = draw(st.sampled_from([1, 1, 1, inputs]))
    found = product(rows, inputs, outputs, draw(st.sampled_from(INPUTS)), draw(st.sampled_from(WEIGHTS)), groups)
    return dataclasses.replace(found, epilogue=draw(epilogues(1, 1, rows, outputs, threshold=True, wide=True)))


def fields(variant: X86Variant, problem: Conv2d) -> list[Kernel]:
    return [k for k in variant.kernels(problem) if isinstance(k, DirectConv2d) and isinstance(k.reduction, FieldSums)]


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(problem=products(), variant=st.sampled_from(RUNNABLE), seed=st.integers(0, 2**31))
def test_products(problem: Conv2d, variant: X86Variant, seed: int) -> None:
    # outputs packed in groups may leave blocks that fill no bytes
    check_one(fields(variant, problem), variant, problem, seed)


@pytest.mark.parametrize("variant", RUNNABLE, ids=lambda variant: variant.name)
@pytest.mark.parametrize("rows", [1, 5])
@pytest.mark.parametrize("weights", [BINARY, Codes(-2, 1), Codes(-8, 7)], ids=lambda codes: codes.label)
@pytest.mark.parametrize("inputs", [4096, 4097], ids=["four steps at once", "one"])
def test_every_tiling_holds_the_largest_sums(variant: X86Variant, rows: int, weights: Codes, inputs: int) -> None:
    """The largest inputs times the lowest and the highest weights: where 16 or 32 bits would overflow, if anywhere."""
    problem = product(rows, inputs, 256, Codes(0, 255), weights)
    offered = fields(variant, problem)
    assert offered
    for kernel in offered:
        assert isinstance(kernel, DirectConv2d)
        check_largest(kernel, variant, KernelRunner)
        for got, expected in results(kernel, variant, problem, 1):
            np.testing.assert_array_equal(got, expected, err_msg=kernel.name)


@pytest.mark.parametrize("variant", [v for v in RUNNABLE if v.name in ("avx2", "avx512bw")], ids=lambda each: each.name)
def test_factors_that_sixteen_bits_do_not_hold_are_found(variant: X86Variant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FieldSums, "_is_lowered", lambda sums, place: False)
    kernel = fields(variant, product(1, 4096, 256, Codes(0, 255), Codes(-8, 7)))[0]
    assert isinstance(kernel, DirectConv2d)
    with pytest.raises(AssertionError):
        check_largest(kernel, variant, KernelRunner)


@pytest.mark.parametrize("weights", [BINARY, Codes(-2, 1), Codes(-8, 7)], ids=lambda codes: codes.label)
def test_variants_share_copies_of_the_weights(weights: Codes) -> None:
    """One of all rows but a single one, which registers of 512 bits read as they come."""
    for rows in (1, MOST_ROWS):
        problem, copies = product(rows, 70, 256, Codes(0, 255), weights), {}
        values = np.resize(np.arange(weights.low, weights.high + 1, weights.step), (256, 70, 1, 1)).astype(np.float32)
        for variant in TARGET.variants([]):
            held = fields(variant, problem)[0].pack(Constants(weights=values))[0].tobytes()
            copies.setdefault(held, set()).add(variant.isa.vector_bytes == 64)
            assert len(held) == 256 * 72 * weights.bits // 8
        assert list(copies.values()) == ([{True}, {False}] if rows == 1 else [{True, False}])


def test_others_are_left_to_whole_bytes() -> None:
    variant = RUNNABLE[0]
    assert fields(variant, product(1, 64, 256, Codes(0, 255), Codes(-8, 7)))
    assert not fields(variant, product(1, 64, 256, Codes(0, 255), Codes(-16, 15)))
    assert not fields(variant, product(MOST_ROWS + 1, 64, 256, Codes(0, 255), Codes(-8, 7)))
    assert not fields(variant, product(1, 64, 16, Codes(0, 255), Codes(-8, 7)))
    # 40,000 * 255 * 256 passes 32 bits
    assert not fields(variant, product(1, 40_000, 256, Codes(0, 255), Codes(-8, 7)))
