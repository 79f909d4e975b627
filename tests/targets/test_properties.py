"""What every kernel promises besides its results: bare objects, divisible work, any tiling, honest names."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

from qcompiler.errors import UsageError
from qcompiler.ir.codes import BINARY, Codes
from qcompiler.ir.storage import Buffer, Element, Halo
from qcompiler.targets import reference
from qcompiler.targets.architecture import host_features
from qcompiler.targets.problem import Channel, Conv2d, Map2d, Operation, Pool2d, Problem, Scalar, Tensor
from qcompiler.targets.target import Constants
from qcompiler.targets.vector.kernel_runner import object_code
from qcompiler.targets.x86 import TARGET, X86Variant
from tests.targets.problems import RUNNABLE, constants, results, values

EDGE = Halo(1, 1, 1, 1)
ALL = TARGET.variants(())


def image(c: int, element: Element = "float32", halo: Halo = EDGE, h: int = 6, w: int = 9, **more: object) -> Buffer:
    return Buffer(2, h, w, c, element, halo=halo, halo_value=-1.0 if element == BINARY else 0.0, **more)


def binary(c: int, o: int, **more: object) -> Conv2d:
    operation = Operation("threshold", into=image(o, BINARY))
    return Conv2d(image(c, BINARY), o, (3, 3), (1, 1), (1, 1, 1, 1), epilogue=(operation,), **more)


def residual(c: int, o: int, element: Element) -> Conv2d:
    stream = image(o, halo=Halo())
    operations = (
        Operation("mul", Channel()),
        Operation("add", Channel()),
        Operation("add", Tensor(stream)),
        Operation("store", into=stream),
        Operation("prelu", Channel()),
        Operation("store_bits", into=image(o, BINARY)),
    )
    return Conv2d(image(c, element), o, (3, 3), (1, 1), (1, 1, 1, 1), epilogue=operations)


def point(c: int, o: int, element: Element, **more: object) -> Conv2d:
    """Rows of nine pixels behind one another, which become such with halos, and with a residual that has one."""
    if element == BINARY:
        operations = (Operation("threshold", into=image(o, BINARY)),)
    else:
        stream = image(o, order="nchw"), image(1, halo=Halo(0, 3, 0, 0))
        operations = (
            Operation("add", Tensor(stream[0])),
            Operation("mul", Tensor(stream[1])),
            Operation("store", into=image(o, halo=Halo())),
            Operation("store_bits", into=image(o, BINARY)),
        )
    return Conv2d(image(c, element, halo=Halo(), **more), o, (1, 1), epilogue=operations, weights=BINARY)


def pixel(c: int, o: int, element: Element) -> Conv2d:
    x, into = (Buffer(1, 1, 1, channels, element) for channels in (c, o))
    return Conv2d(x, o, (1, 1), epilogue=(Operation("threshold" if element == BINARY else "store", into=into),))


def by_pixels(c: int, o: int, **more: object) -> Conv2d:
    operation = Operation("threshold", into=image(o, Codes(0, 3)))
    x = image(c, BINARY, packing="pixels")
    return Conv2d(x, o, (3, 3), (1, 1), (1, 1, 1, 1), epilogue=(operation,), weights=Codes(-8, 7), **more)


def to_pixels(c: int, **more: object) -> Map2d:
    into = image(c, BINARY, packing="pixels", **more)
    return Map2d(image(c, BINARY, **more), (Operation("store_bits", into=into),))


def to_planes(c: int) -> Map2d:
    return Map2d(image(c, w=21), (Operation("store", into=image(c, order="nchw", w=21)),))


def from_planes(c: int) -> Map2d:
    operations = (
        Operation("mul", Channel()),
        Operation("add", Tensor(image(1, w=37))),
        Operation("sub", Tensor(image(c, w=37))),
        Operation("store", into=image(c, w=37)),
        Operation("store_bits", into=image(c, BINARY, w=37)),
    )
    return Map2d(image(c, order="nchw", w=37), operations)


PROBLEMS: dict[str, Problem] = {
    "binary": binary(64, 64),
    "binary-odd": binary(70, 41),
    "binary-wide": binary(129, 41),
    "binary-6-blocks": binary(33, 96),
    "binary-8-blocks": binary(33, 128),
    "binary-pixel": pixel(70, 112, BINARY),
    "float-pixel": pixel(40, 64, "float32"),
    "binary-point": point(70, 41, BINARY),
    "float-point": point(20, 48, "float32"),
    "float-point-planar": point(20, 41, "float32", order="nchw"),
    "byte-point": point(20, 48, Codes(0, 255), packing="bytes"),
    "plane-point": point(70, 48, Codes(0, 3)),
    "binary-residual": residual(64, 48, BINARY),
    "float": residual(16, 32, "float32"),
    "float-odd": residual(5, 21, "float32"),
    "depthwise": Conv2d(
        image(20), 20, (3, 3), pads=(1, 1, 1, 1), groups=20, epilogue=(Operation("store", into=image(20)),)
    ),
    "max": Pool2d(
        image(20), "max", (2, 2), (1, 1), (0, 0, 1, 1), (6, 9), epilogue=(Operation("store", into=image(20)),)
    ),
    "bits": Pool2d(image(40, BINARY), "codes", (2, 2), (1, 1), (0, 0, 1, 1), (6, 9), into=image(40, BINARY)),
    "codes": Pool2d(image(70, Codes(0, 5)), "codes", (3, 2), (1, 1), (1, 0, 1, 1), (6, 9), into=image(70, Codes(0, 5))),
    "map": Map2d(image(33), (Operation("max", Scalar(0.0)), Operation("store_bits", into=image(33, BINARY)))),
    "sums": Conv2d(
        image(7),
        16,
        (1, 1),
        epilogue=(Operation("add", Scalar(0.1)), Operation("sub", Scalar(0.1)), Operation("store", into=image(16))),
    ),
    "copy": Map2d(image(32), (Operation("store", into=image(32)),)),
    "copy-odd": Map2d(image(5, order="nchw"), (Operation("store", into=image(5)),)),
    "copy-bits": Pool2d(image(64, BINARY), "codes", (1, 1), (1, 1), (0,) * 4, (6, 9), into=image(64, BINARY)),
    "planes": Map2d(
        image(3, order="nchw", w=21),
        (
            Operation("mul", Channel()),
            Operation("add", Tensor(image(1, w=21))),
            Operation("store", into=image(3, order="nchw", w=21)),
        ),
    ),
    "to-planes": to_planes(32),
    "to-planes-odd": to_planes(37),
    "from-planes": from_planes(48),
    "from-planes-odd": from_planes(41),
    "to-pixels": to_pixels(70),
    "to-pixels-whole": to_pixels(32, halo=Halo(), w=40),
    "to-pixels-wide": to_pixels(270, w=21),
    "repack": Map2d(image(48, BINARY), (Operation("store_bits", into=image(48, BINARY, groups=4)),)),
}
ON_X86: dict[str, Problem] = {
    **PROBLEMS,
    "by-pixels": by_pixels(70, 41),
    "by-pixels-same-padding": by_pixels(64, 16, pad_value=-1.0),
}
"""With those that no other target reads."""
per_problem = pytest.mark.parametrize("problem", ON_X86.values(), ids=ON_X86.keys())


@per_problem
@pytest.mark.parametrize("variant", ALL, ids=lambda v: v.name)
def test_objects_are_bare(problem: Problem, variant: X86Variant, tmp_path: Path) -> None:
    path = object_code(variant.kernels(problem)[0], variant, tmp_path / "k.o", "some_name")
    listing = subprocess.run(["nm", str(path)], capture_output=True, text=True, check=True).stdout
    kinds = {line.split()[-1]: line.split()[-2] for line in listing.splitlines()}
    assert kinds["some_name"] == "T"
    assert not [name for name, kind in kinds.items() if kind in "UwvBb" or name.startswith("__TVM")]


@per_problem
@pytest.mark.parametrize("variant", RUNNABLE, ids=lambda v: v.name)
def test_every_tiling(problem: Problem, variant: X86Variant) -> None:
    kernels = variant.kernels(problem)
    assert len({kernel.name for kernel in kernels}) == len(kernels)
    assert [k.cost for k in kernels] == sorted(k.cost for k in kernels)
    for kernel in kernels[:: max(1, len(kernels) // 6)]:
        for got, expected in results(kernel, variant, problem, seed=1):
            np.testing.assert_array_equal(got, expected, err_msg=kernel.name)


@per_problem
def test_work_can_be_cut_anywhere(problem: Problem) -> None:
    variant = RUNNABLE[0]
    kernel = variant.kernels(problem)[0]
    for got, expected in results(kernel, variant, problem, seed=2, cuts=tuple(range(kernel.items))):
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("threshold", [-1e9, 1e9, -np.inf, np.inf, 0.0, 1.0])
@pytest.mark.parametrize("direction", [-1.0, 1.0])
def test_thresholds_out_of_reach(threshold: float, direction: float) -> None:
    problem = binary(40, 20)
    rng = np.random.default_rng(0)
    made = constants(rng, problem)
    ones = np.ones(20, np.float32)
    made = Constants(made.weights, ones[None] * np.float32(threshold), ones * np.float32(direction))
    for variant in RUNNABLE:
        for got, expected in results(variant.kernels(problem)[0], variant, problem, seed=3, made=made):
            np.testing.assert_array_equal(got, expected)


def test_store_and_load_are_inverse() -> None:
    rng = np.random.default_rng(0)
    for buffer in (image(5), image(37, BINARY), image(12, BINARY, groups=3), image(5, order="nchw")):
        stored = values(rng, buffer)
        assert stored.shape == buffer.storage_shape
        np.testing.assert_array_equal(reference.store(buffer, reference.load(buffer, stored)), stored)


def test_variants_by_cpu_name() -> None:
    names = ["avx512vpopcntdq", "avx512bw", "avx2", "baseline"]
    assert [v.name for v in TARGET.variants(())] == names
    assert [v.name for v in TARGET.variants(["x86-64", "znver4"])] == ["avx512vpopcntdq", "baseline"]
    assert [v.name for v in TARGET.variants(["skylake-avx512", "haswell", "avx2"])] == ["avx512bw", "avx2"]
    (native,) = TARGET.variants(["native"])
    assert {feature.name for feature in native.features} <= host_features()
    with pytest.raises(UsageError, match="pentium.*znver4"):
        TARGET.variants(["pentium"])


def test_irreconcilable_packings_have_no_kernel() -> None:
    stores = tuple(Operation("store_bits", into=image(12, BINARY, groups=g)) for g in (1, 2))
    assert not TARGET.variants(())[0].kernels(Map2d(image(12), stores))
