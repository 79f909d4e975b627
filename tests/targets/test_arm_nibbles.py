"""Lookups by tbl: every tiling against numpy, sums at their limits, and faults that must show."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qcompiler.ir.codes import BINARY, Codes
from qcompiler.targets import reference
from qcompiler.targets.arm import TARGET, ArmVariant, nibble_findings, nibble_lookups
from qcompiler.targets.arm.nibble_findings import tables_in_bytes, tables_in_halves
from qcompiler.targets.problem import Conv2d
from qcompiler.targets.target import Array, Constants
from qcompiler.targets.vector.conv import DirectConv2d
from qcompiler.targets.vector.kernel_runner import aligned, empty_outputs
from qcompiler.targets.vector.nibble_reduction import worths_of
from tests.targets.emulated import EmulatedRunner, missing
from tests.targets.problems import results
from tests.targets.test_reductions import Raw, check_largest, layer, logical

pytestmark = pytest.mark.skipif(bool(missing("aarch64")), reason=f"missing Debian packages: {missing('aarch64')}")

(GENERIC,) = TARGET.variants(["generic"])
SCHEDULED = TARGET.variants(["i8mm", "dotprod", "cortex-a72", "cortex-a76", "generic"])
BITS, SIGNS = Codes(-2, 1), Codes(-3, 3, 2)
WEIGHTS = [BINARY, BITS, SIGNS, Codes(0, 1), Codes(-1, 0), Codes(-1, 1), Codes(0, 3), Codes(-4, 3), Codes(-7, 7, 2)]


def offered(problem: Conv2d, variant: ArmVariant) -> bool:
    """Whether lookups can be faster than other kernels."""
    return len(worths_of(problem)) <= (2 if variant.isa.dotprod else 4)


def pixels(channels: int, x: Codes, weights: Codes, outputs: int = 16, width: int = 3) -> Conv2d:
    return layer(channels, outputs, 1, width, 1, x, weights, "tables")


def activations(bits: int) -> Codes:
    return Codes(0, 2**bits - 1)


def widest(problem: Conv2d) -> int:
    """The most inputs whose sums 16 bits hold."""
    return tables_in_halves(problem) * 4


def lookups(problem: Conv2d, variant: ArmVariant = GENERIC) -> list[DirectConv2d]:
    found = [kernel for kernel in variant.kernels(problem) if isinstance(kernel, DirectConv2d)]
    assert found and all(kernel.reduction.family == "nibbles_conv2d" for kernel in found)
    return found


AT_THE_LIMITS = {
    f"{name} {weights.bits} x {bits} bits": (bits, weights, difference)
    for bits, weights in ((6, BITS), (6, SIGNS), (4, BINARY), (5, BITS), (8, BINARY), (7, BITS))
    for name, difference in (("below", -16), ("at", 0), ("above", 16), ("above by two", 32))
}


@pytest.mark.parametrize(("bits", "weights", "difference"), AT_THE_LIMITS.values(), ids=AT_THE_LIMITS)
def test_sums_of_16_bits_hold_the_largest(bits: int, weights: Codes, difference: int) -> None:
    limit = widest(pixels(16, activations(bits), weights)) // 16 * 16
    check_largest(lookups(pixels(limit + difference, activations(bits), weights))[0], GENERIC, EmulatedRunner)


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 8])
def test_sums_of_bytes_hold_the_largest(bits: int) -> None:
    problem = pixels(70, activations(bits), BINARY)
    assert tables_in_bytes(problem) == {2: 8, 3: 8, 4: 4, 5: 2, 6: 1, 8: 4}[bits]
    check_largest(lookups(problem)[0], GENERIC, EmulatedRunner)


@pytest.mark.parametrize("channels", [48, 80, 176])
def test_taps_whose_last_sixteen_inputs_are_alone(channels: int) -> None:
    for kernel in (1, 2):
        problem = layer(channels, 20, 2, 4, kernel, activations(6), BITS, "tables")
        check_largest(lookups(problem)[0], GENERIC, EmulatedRunner)


def fault_in_bytes(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(nibble_lookups, "tables_in_bytes", lambda problem: 2 * tables_in_bytes(problem))


def fault_in_halves(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(nibble_lookups, "tables_in_halves", lambda problem: 2 * tables_in_halves(problem))


def fault_in_widening(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(nibble_findings.Findings, "_times", lambda findings, half, factor: original(findings, half, 1))


original = nibble_findings.Findings._times


@pytest.mark.parametrize("fault", [fault_in_bytes, fault_in_halves, fault_in_widening], ids=lambda f: f.__name__)
def test_a_fault_is_found(fault: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch) -> None:
    problem = pixels(2 * widest(pixels(16, activations(4), BITS)) // 16 * 16, activations(4), BITS)
    kernel = lookups(problem)[0]
    fault(monkeypatch)
    with pytest.raises(AssertionError, match="nibbles_conv2d"):
        check_largest(kernel, GENERIC, EmulatedRunner)


def test_every_entry_of_a_table_is_read() -> None:
    """One more in an entry is one more in the sums of the channels whose weights choose it, and of no others."""
    problem = layer(4, 16, 1, 1, 1, activations(4), BINARY, "tables")
    weights = np.array([[1 - 2 * (o >> i & 1) for i in range(4)] for o in range(16)], np.float32).reshape(16, 4, 1, 1)
    kernel = lookups(problem)[0]
    sums = []
    for entry in (None, *range(16)):
        sums.append(raw_sums(kernel, weights, entry))
    for entry in range(16):
        np.testing.assert_array_equal(sums[1 + entry] - sums[0], np.eye(16)[entry], err_msg=str(entry))


def raw_sums(kernel: DirectConv2d, weights: Array, entry: int | None) -> Array:
    """Sums of one pixel of 5s, of which an entry of the table is one too much."""
    problem = kernel.problem
    x = aligned(reference.store(problem.x, np.full(logical(problem.x), 5, np.float32)))
    if entry is not None:
        x.reshape(-1).view(np.uint8)[entry] += 1
    outputs = empty_outputs(problem)
    runner = EmulatedRunner(dataclasses.replace(kernel, finish=Raw()), GENERIC, Constants(weights=weights))
    runner.call(runner.bind(x, [], outputs), 0, kernel.items)
    return outputs[0].reshape(-1)


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_layer(data: st.DataObject) -> None:
    levels, step = data.draw(st.integers(3, 256)), data.draw(st.integers(1, 3))
    x = Codes(low := data.draw(st.integers(-40, 3)), low + step * (levels - 1), step)
    weights = data.draw(st.sampled_from(WEIGHTS))
    size = data.draw(st.integers(1, 3))
    channels, outputs = data.draw(st.integers(1, 200)), data.draw(st.integers(1, 40))
    problem = layer(channels, outputs, size, size + data.draw(st.integers(0, 7)), size, x, weights, "tables")
    variants = [variant for variant in SCHEDULED if variant.kernels(problem)]
    assert variants or not offered(problem, GENERIC)
    if not variants:
        return
    variant = data.draw(st.sampled_from(variants))
    kernel = data.draw(st.sampled_from(lookups(problem, variant)))
    check_largest(kernel, variant, EmulatedRunner)
    for got, expected in results(kernel, variant, problem, data.draw(st.integers(0, 99)), make_runner=EmulatedRunner):
        np.testing.assert_array_equal(got, expected, err_msg=kernel.name)


@pytest.mark.slow
@pytest.mark.parametrize("variant", SCHEDULED, ids=lambda variant: variant.name)
@pytest.mark.parametrize("weights", [BINARY, BITS, SIGNS, Codes(0, 1), Codes(-4, 3)], ids=str)
@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 8])
def test_every_tiling(bits: int, weights: Codes, variant: ArmVariant) -> None:
    for problem in (
        layer(64, 48, 3, 11, 3, activations(bits), weights, "tables"),
        layer(48, 40, 2, 9, 2, activations(bits), weights, "tables"),
    ):
        for kernel in lookups(problem, variant) if offered(problem, variant) else ():
            check_largest(kernel, variant, EmulatedRunner)
            for got, expected in results(kernel, variant, problem, 1, make_runner=EmulatedRunner):
                np.testing.assert_array_equal(got, expected, err_msg=kernel.name)
