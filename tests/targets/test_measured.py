"""Measured ratios: which kernels and problems they are of, and what they change."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcompiler.ir.codes import Codes
from qcompiler.ir.storage import Buffer
from qcompiler.targets import x86
from qcompiler.targets.choose import chosen, nanoseconds
from qcompiler.targets.measured import Ratios, Tiles, family_and_tile, family_of, in_table, kind_of, shipped, size_of
from qcompiler.targets.problem import Conv2d, Map2d, Operation

(NATIVE,) = x86.TARGET.variants(["znver4"])


FLOATS = Buffer(1, 8, 8, 64, "float32")


def layer(size: int = 8, kernel: int = 1, channels: int = 64) -> Conv2d:
    x = Buffer(1, size, size, channels, Codes(0, 7), packing="bytes")
    out = Buffer(1, size - kernel + 1, size - kernel + 1, 64, "float32")
    return Conv2d(x, 64, (kernel, kernel), epilogue=(Operation("store", into=out),), weights=Codes(-4, 3))


def test_kinds_of_problems() -> None:
    assert [kind_of(layer()), kind_of(layer(kernel=3)), kind_of(layer(size=3))] == ["point", "window", "rows"]
    assert (
        kind_of(replace(layer(kernel=3), groups=64))
        == kind_of(replace(layer(kernel=3), groups=64, x=FLOATS))
        == "channels"
    )
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


def test_what_is_measured_is_what_is_expected() -> None:
    tiles = {"p1b1r": {"4.0": 1.5, "9.0": 1.0}, "p2b1r": {"6.0": 1.1}, "p4b1r": {"6.0": 1.2}, "p4b1c": {"9.0": 0.7}}
    known, problem = Ratios({"one": {"point": {"bytes": tiles}}}), layer()
    assert size_of(problem) == 6
    assert known.ratio("one", problem, "bytes_p2b1s2r") == pytest.approx(1.1)
    assert known.ratio("one", problem, "bytes_p4b1s9r") == pytest.approx(1.2)
    for variant, other, name in (
        ("other", problem, "bytes_p1b1s2r"), ("one", layer(size=2), "bytes_p1b1s2r"),
        ("one", problem, "planes_p1b1s2r"), ("one", Map2d(Buffer(1, 2, 2, 4, "float32"), ()), "map2d_planar"),
    ):  # fmt: skip
        assert known.ratio(variant, other, name) == 1.0


@given(
    st.dictionaries(
        st.builds("p{}b{}c".format, st.integers(1, 14), st.integers(1, 8)),
        st.dictionaries(st.sampled_from(["6.0", "7.6", "8.0", "8.6", "9.0"]), st.floats(0.2, 5), min_size=1),
        min_size=1,
        max_size=8,
    )
)
def test_a_fit_never_turns_around_what_was_measured_on_the_very_same_layer(tiles: Tiles) -> None:
    """Also where the table rounds the size, as that of 384 channels."""
    known = Ratios({"one": {"point": {"bytes": tiles}}})
    for channels in (64, 192, 256, 384, 512):
        problem = layer(channels=channels)
        size = in_table(size_of(problem))
        for tile, ratio in ((tile, sizes[size]) for tile, sizes in tiles.items() if size in sizes):
            assert known.ratio("one", problem, f"bytes_{tile[:-1]}s1{tile[-1]}") == pytest.approx(ratio, rel=1e-9)


def test_a_tile_that_was_measured_where_all_are_fast_is_not_taken_for_a_fast_one() -> None:
    """As p4b1 was for 1x1 layers of 256 channels, which had been measured on 64 channels alone."""
    sizes = {"p1b2r": {"6.0": 0.80, "8.0": 0.95}, "p2b2r": {"6.0": 0.78, "8.0": 0.98}, "p4b1r": {"6.0": 0.77}}
    family = family_of(sizes)
    assert family.ratio("p4b1r", 6) == pytest.approx(0.77)
    assert 0.91 < family.ratio("p4b1r", 8) < 0.96
    assert 0.84 < family.ratio("p4b1r", 7) < 0.88


def test_a_tile_that_was_not_measured_is_like_those_near_it() -> None:
    """As seven blocks of weights are like eight, not like one; and another walk is another tile."""
    family = family_of(
        {"p1b1c": {"20.0": 0.43}, "p1b4c": {"20.0": 0.70}, "p1b8c": {"20.0": 0.66}, "p1b8r": {"20.0": 2.0}}
    )
    assert 0.60 < family.ratio("p1b7c", 20) < 0.75
    assert family.ratio("p1b7r", 20) > 1.5
    forms = family_of({"w32p1b2c": {"20.0": 0.5}, "w64p1b2c": {"20.0": 2.0}})
    assert forms.ratio("w64p1b3c", 20) > 1.5 > 0.7 > forms.ratio("w32p1b3c", 20)


def test_sizes_are_of_sums_and_of_rows_of_all_weights() -> None:
    assert size_of(layer(kernel=3)) == pytest.approx(np.log2(576))
    assert size_of(layer(size=1)) == 12
    curve = family_of({"p1b1r": {"10.0": 1.0, "12.0": 4.0}})
    assert [curve.ratio("p1b1r", size) for size in (10, 11, 12)] == pytest.approx([1, 2, 4])
    assert curve.ratio("p1b1r", 99) == curve.ratio("p9b9r", 99) > 2


def test_every_ratio_that_is_shipped_is_one() -> None:
    every = [
        value
        for kinds in shipped().table.values()
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
    expected = [k.cost * shipped().ratio(NATIVE.name, problem, k.name) for k in kernels]
    np.testing.assert_allclose(times, expected)
    assert times != [k.cost for k in kernels]
