"""Measured ratios: which kernels and problems they are of, and what they change."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler.ir.codes import Codes
from qcompiler.ir.storage import Buffer
from qcompiler.targets import x86
from qcompiler.targets.choose import chosen, nanoseconds
from qcompiler.targets.measured import Ratios, depth_of, family_and_tile, kind_of, ratio, shipped
from qcompiler.targets.problem import Conv2d, Map2d, Operation

(NATIVE,) = x86.TARGET.variants(["znver4"])


def layer(size: int = 8, kernel: int = 1) -> Conv2d:
    x = Buffer(1, size, size, 64, Codes(0, 7), packing="bytes")
    out = Buffer(1, size - kernel + 1, size - kernel + 1, 64, "float32")
    return Conv2d(x, 64, (kernel, kernel), epilogue=(Operation("store", into=out),), weights=Codes(-4, 3))


def test_kinds_of_problems() -> None:
    assert [kind_of(layer()), kind_of(layer(kernel=3)), kind_of(layer(size=3))] == ["point", "window", "rows"]
    assert kind_of(Map2d(Buffer(1, 2, 2, 4, "float32"), ())) == ""


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("bytes_conv2d_vnni_w4_p4b2s14c", ("bytes_conv2d_vnni_w4", "p4b2c")),
        ("xnor_conv2d_p7b1s1r", ("xnor_conv2d", "p7b1r")),
        ("map2d_planar", ("map2d", "planar")),
    ],
)
def test_names_are_taken_apart(name: str, parts: tuple[str, str]) -> None:
    assert family_and_tile(name) == parts


def test_the_nearest_depth_counts_and_the_median_of_the_family() -> None:
    tiles = {"p1b1r": {"4": 1.5, "9": 1.0}, "p2b1r": {"6": 1.1}, "p4b1r": {"6": 1.2}}
    known: Ratios = {"one": {"point": {"bytes": tiles}}}
    assert depth_of(layer()) == 6
    assert ratio(known, "one", layer(), "bytes_p1b1s2r") == 1.5
    assert ratio(known, "one", layer(), "bytes_p4b1s2r") == 1.2
    assert ratio(known, "one", layer(), "bytes_p4b1s2c") == pytest.approx(1.15)
    for variant, problem, name in (
        ("other", layer(), "bytes_p1b1s2r"),
        ("one", layer(size=2), "bytes_p1b1s2r"),
        ("one", layer(), "planes_p1b1s2r"),
    ):
        assert ratio(known, variant, problem, name) == 1.0


def test_every_ratio_that_is_shipped_is_one() -> None:
    every = [
        value
        for kinds in shipped().values()
        for families in kinds.values()
        for tiles in families.values()
        for depths in tiles.values()
        for value in depths.values()
    ]
    assert len(every) > 500 and all(0.2 < value < 5 for value in every)


def test_the_choice_is_by_what_was_measured() -> None:
    problem = layer(kernel=3)
    kernels = NATIVE.kernels(problem)
    times = [nanoseconds(NATIVE, problem, kernel) for kernel in kernels]
    found = chosen(NATIVE, problem)
    assert found is not None and found.nanoseconds == min(times)
    expected = [k.cost * ratio(shipped(), NATIVE.name, problem, k.name) for k in kernels]
    np.testing.assert_allclose(times, expected)
    assert times != [k.cost for k in kernels]
