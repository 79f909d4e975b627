"""Convolutions of bit planes by pixels: any layer against numpy, the way into them, and faults that must show."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qcompiler.ir.codes import BINARY, Codes
from qcompiler.ir.storage import Buffer, Halo, load
from qcompiler.targets.problem import Conv2d, Map2d, Operation
from qcompiler.targets.target import Constants
from qcompiler.targets.vector import flat_conv
from qcompiler.targets.vector.flat_conv import FlatConv2d
from qcompiler.targets.vector.kernel_runner import KernelRunner
from qcompiler.targets.vector.planes_to_pixels import PlanesToPixels2d
from qcompiler.targets.x86 import pixel_lookups
from qcompiler.targets.x86.pixel_lookups import Part, PixelLookups, parts_of
from tests.targets.fenced import survives
from tests.targets.problems import RUNNABLE, drawn, epilogues, results, values
from tests.targets.test_reductions import check_largest, layer, patches

LOOKING = [variant for variant in RUNNABLE if variant.isa.vbmi and variant.isa.vnni]
looking = pytest.mark.skipif(not LOOKING, reason="the processor has no AVX-512 VBMI or VNNI")

BITS = Codes(0, 1)
ACTIVATIONS = [BITS, BINARY, Codes(0, 3), Codes(-3, 3, 2), Codes(-1, 1)]
WEIGHTS = [
    Codes(-4, 3), Codes(-7, 7, 2), Codes(-8, 7), Codes(0, 15), Codes(-16, 15), Codes(-32, 31), Codes(-31, 31),
    Codes(0, 63), Codes(-64, 63), Codes(-128, 127), Codes(0, 255),
]  # fmt: skip
BORDERS = [(0, 0, 0, 0), (1, 1, 1, 1), (2, 0, 1, 3)]


def by_pixels(channels: int, outputs: int, x: Codes, weights: Codes, size: tuple[int, int] = (7, 13)) -> Conv2d:
    return layer(channels, outputs, *size, 3, x, weights, "pixels")


def lookups(problem: Conv2d) -> list[FlatConv2d]:
    return [kernel for kernel in LOOKING[0].kernels(problem) if isinstance(kernel, FlatConv2d)]


def tiled(found: list[FlatConv2d], pixels: int) -> FlatConv2d:
    return next(kernel for kernel in found if kernel.frame.tiling.pixels == pixels)


def wide_enough(x: Codes, weights: Codes) -> bool:
    return weights.bits >= (3 if x.bits == 1 else 4)


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_layer(data: st.DataObject) -> None:
    draw = data.draw
    x, weights = draw(st.sampled_from(ACTIVATIONS)), draw(st.sampled_from(WEIGHTS))
    kernel, dilations = (draw(st.tuples(st.integers(1, 3), st.integers(1, 3))) for _ in range(2))
    pads, extra = draw(st.sampled_from(BORDERS)), draw(st.integers(0, 1))
    pad_value = draw(st.sampled_from([float(x.low), float(x.high), 0.0, 2.0]))
    held = pad_value if x.index(pad_value) is not None else float(x.low)
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    h, w = (r + draw(st.integers(3, 12)) for r in reach)
    n, channels, outputs = draw(st.integers(1, 2)), draw(st.integers(1, 170)), draw(st.integers(1, 40))
    halo = Halo(*(pad + extra for pad in pads))
    buffer = Buffer(n, h, w, channels, x, halo=halo, halo_value=held, packing="pixels")
    problem = Conv2d(buffer, outputs, kernel, (1, 1), pads, dilations, 1, pad_value, weights=weights)
    operations = draw(epilogues(n, *problem.out_hw, outputs, threshold=True, wide=True))
    problem = dataclasses.replace(problem, epilogue=operations)
    variant = draw(st.sampled_from([*RUNNABLE, *LOOKING, *LOOKING]))
    found = variant.kernels(problem)
    if found:
        made = draw(st.sampled_from(found[:3]))
        for got, expected in results(made, variant, problem, draw(st.integers(0, 99)), cuts=(3, 7)):
            np.testing.assert_array_equal(got, expected, err_msg=made.name)


@looking
@pytest.mark.parametrize("weights", WEIGHTS, ids=str)
def test_bytes_hold_the_largest_sums(weights: Codes) -> None:
    for x in ACTIVATIONS:
        assert bool(lookups(by_pixels(70, 20, x, weights))) == wide_enough(x, weights)
    kernel = tiled(lookups(by_pixels(70, 16, ACTIVATIONS[2 if weights.bits > 3 else 0], weights)), 16)
    check_largest(kernel, LOOKING[0], KernelRunner)


@looking
@pytest.mark.parametrize(
    ("weights", "x", "into"),
    [(Codes(-4, 3), BITS, BINARY), (Codes(-32, 31), BINARY, None), (Codes(-128, 127), Codes(0, 3), Codes(0, 6))],
    ids=["w3a1", "w6a1", "w8a2"],
)
def test_every_tiling(weights: Codes, x: Codes, into: Codes | None) -> None:
    problem = by_pixels(100, 33, x, weights, (9, 11))
    if into is not None:
        planes = Buffer(1, *problem.out_hw, 33, into, halo=Halo(1, 2, 1, 0), halo_value=float(into.high))
        problem = dataclasses.replace(problem, epilogue=(Operation("threshold", into=planes),))
    found = lookups(problem)
    assert sorted(kernel.frame.tiling.pixels for kernel in found) == [16, 32]
    for kernel in found:
        for got, expected in results(kernel, LOOKING[0], kernel.problem, 1):
            np.testing.assert_array_equal(got, expected, err_msg=kernel.name)


@looking
@pytest.mark.parametrize("into", [BINARY, Codes(0, 2), Codes(0, 3), Codes(0, 7)], ids=str)
@pytest.mark.parametrize("direction", [1.0, -1.0])
def test_sums_that_meet_their_thresholds(direction: float, into: Codes) -> None:
    problem = by_pixels(40, 33, BINARY, Codes(-8, 7))
    planes = Buffer(1, *problem.out_hw, 33, into)
    problem = dataclasses.replace(problem, epilogue=(Operation("threshold", into=planes),))
    weights = drawn(np.random.default_rng(0), problem.weights, (33, 40, 3, 3))
    seen = patches(problem, load(problem.x, values(np.random.default_rng(1), problem.x, whole=True)))
    met = (seen[20] @ weights.reshape(33, -1).T).astype(np.float32)
    apart = np.arange(into.levels - 1, dtype=np.float32) - (into.levels - 1) // 2
    thresholds = met + direction * apart[:, None]
    made = Constants(weights, thresholds, np.full(33, direction, np.float32))
    kernel = tiled(lookups(problem), 16)
    for got, expected in results(kernel, LOOKING[0], problem, 1, made=made):
        np.testing.assert_array_equal(got, expected)


@looking
def test_one_lookup_too_many_does_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = by_pixels(64, 16, BITS, Codes(-16, 15))
    (held,) = parts_of(problem.weights)
    assert held.together == 2
    monkeypatch.setattr(Part, "together", property(lambda self: 3))
    with pytest.raises(AssertionError):
        check_largest(tiled(lookups(problem), 16), LOOKING[0], KernelRunner)


@looking
@pytest.mark.parametrize("entry", [0, 5, 15])
def test_an_entry_off_by_one_does_not_pass(monkeypatch: pytest.MonkeyPatch, entry: int) -> None:
    pack = PixelLookups.pack

    def wrong(self: PixelLookups, *given: object) -> list[npt.NDArray[np.int8]]:
        (tables,) = pack(self, *given)
        tables[0, 0, 1, 0, 0, 1, 3, 1, entry] += 1
        return [tables]

    monkeypatch.setattr(PixelLookups, "pack", wrong)
    kernel = tiled(lookups(by_pixels(64, 16, BITS, Codes(-8, 7), (12, 40))), 16)
    with pytest.raises(AssertionError):
        for got, expected in results(kernel, LOOKING[0], kernel.problem, 1):
            np.testing.assert_array_equal(got, expected)


@looking
def test_a_tile_that_starts_elsewhere_does_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    run = flat_conv.FlatGrid.run.fget
    assert run is not None
    monkeypatch.setattr(flat_conv.FlatGrid, "run", property(lambda self: run(self) - 1))
    kernel = tiled(lookups(by_pixels(40, 16, BITS, Codes(-8, 7))), 16)
    with pytest.raises(AssertionError):
        for got, expected in results(kernel, LOOKING[0], kernel.problem, 1):
            np.testing.assert_array_equal(got, expected)


@looking
@pytest.mark.parametrize("channels", [33, 64])
def test_reads_nothing_behind_the_input(monkeypatch: pytest.MonkeyPatch, channels: int) -> None:
    problem = by_pixels(channels, 16, BITS, Codes(-8, 7))
    assert survives(tiled(lookups(problem), 16), LOOKING[0], problem)
    planes = dataclasses.replace(problem.x, packing="planes")
    into = Map2d(planes, (Operation("store_codes", into=problem.x),))
    (kernel,) = LOOKING[0].kernels(into)
    assert survives(kernel, LOOKING[0], into)
    run = flat_conv.FlatGrid.run.fget
    assert run is not None
    monkeypatch.setattr(flat_conv.FlatGrid, "run", property(lambda self: run(self) + 1))
    assert not survives(tiled(lookups(problem), 16), LOOKING[0], problem)


@looking
def test_not_offered_where_lanes_would_be_apart_or_missing() -> None:
    problem = by_pixels(64, 16, BITS, Codes(-8, 7))
    assert lookups(problem)
    others = [
        dataclasses.replace(problem, strides=(1, 2)),
        dataclasses.replace(problem, groups=2, x=dataclasses.replace(problem.x, groups=2)),
        by_pixels(64, 16, BITS, Codes(-2, 1)),
        by_pixels(64, 16, Codes(0, 7), Codes(-8, 7)),
        by_pixels(64, 16, BITS, Codes(-8, 7), (4, 16)),
        by_pixels(128, 128, BITS, Codes(-8, 7), (20, 20)),
    ]
    assert lookups(by_pixels(128, 128, BITS, Codes(-8, 7), (22, 22)))
    assert lookups(by_pixels(64, 16, BITS, Codes(-8, 7), (4, 17)))
    for other in others:
        assert not any(variant.kernels(other) for variant in RUNNABLE)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_way_into_pixels(data: st.DataObject) -> None:
    draw = data.draw
    codes = draw(st.sampled_from(ACTIVATIONS))
    n, h, w, c = draw(st.integers(1, 2)), draw(st.integers(1, 5)), draw(st.integers(1, 40)), draw(st.integers(1, 300))
    halos = st.sampled_from([Halo(), Halo(1, 1, 1, 1), Halo(2, 0, 1, 3)])
    x = Buffer(n, h, w, c, codes, halo=draw(halos), halo_value=float(codes.low))
    fill = float(draw(st.sampled_from([codes.low, codes.high])))
    into = dataclasses.replace(x, halo=draw(halos), halo_value=fill, packing="pixels")
    problem = Map2d(x, (Operation("store_bits" if codes.binary else "store_codes", into=into),))
    variant = draw(st.sampled_from(RUNNABLE))
    (kernel,) = variant.kernels(problem)
    assert isinstance(kernel, PlanesToPixels2d)
    for got, expected in results(kernel, variant, problem, draw(st.integers(0, 99)), cuts=(1, 3)):
        np.testing.assert_array_equal(got, expected)


def test_parts_make_up_weights() -> None:
    for codes in WEIGHTS:
        numbers = np.arange(codes.low, codes.high + 1)
        parts = parts_of(codes)
        assert (sum(part.of(numbers) << part.shift for part in parts) == numbers).all()
        for part in parts:
            assert part.low <= part.of(numbers).min() and part.of(numbers).max() <= part.high
            largest = pixel_lookups.TABLE_INPUTS * part.together
            assert part.together and largest * part.low >= -128 and largest * part.high <= 127
