"""What estimates reckon with: what waits for what, and the epilogue."""

from __future__ import annotations

import pytest

from benchmarks.layers import Shape, offered, signed, unsigned
from qcompiler.ir.codes import BINARY
from qcompiler.targets import arm, x86
from qcompiler.targets.target import Variant
from qcompiler.targets.vector.conv import DirectConv2d

(VNNI,) = x86.TARGET.variants(["znver4"])
(WITHOUT,) = x86.TARGET.variants(["skylake-avx512"])
(AVX2,) = x86.TARGET.variants(["avx2"])
(NEON,) = arm.TARGET.variants(["generic"])


def test_an_epilogue_takes_as_long_whatever_the_kernel() -> None:
    shape, widths = Shape(64, (56, 56), 64), (signed(8), unsigned(8))
    codes, floats = (
        {o.kernel.name: o.kernel.cost for o in offered(VNNI, shape, widths, s)} for s in ("codes", "floats")
    )
    assert len(codes) > 10 and codes.keys() == floats.keys()
    # three quarters of the bytes less are stored
    less = 56 * 56 * 64 * 3 / VNNI.isa.stream
    added = [codes[name] - floats[name] + less for name in codes]
    assert added == pytest.approx([56 * 56 * 64 * 6 / VNNI.isa.float_rate] * len(added))


def test_thresholds_are_compared_one_by_one() -> None:
    shape = Shape(64, (56, 56), 64)
    times = [
        offered(VNNI, shape, (signed(2), unsigned(bits)))[0].kernel.cost
        - offered(VNNI, shape, (signed(2), unsigned(bits)), "floats")[0].kernel.cost
        for bits in (1, 2)
    ]
    assert times[1] - times[0] == pytest.approx(
        56 * 56 * 64 * (1.5 * 2 / VNNI.isa.float_rate + 0.125 / VNNI.isa.stream)
    )


@pytest.mark.parametrize("variant", [VNNI, WITHOUT, AVX2, NEON], ids=lambda variant: variant.name)
@pytest.mark.parametrize("outputs", [10, 80, 1000, 1024, 4096])
def test_one_row_of_floats_reads_its_weights_as_one_stream(variant: Variant, outputs: int) -> None:
    kernel = variant.kernels(Shape(4096, (1, 1), outputs).problem(BINARY, BINARY, None))[0]
    assert isinstance(kernel, DirectConv2d) and kernel.reduction.family == "float_conv2d"
    assert kernel.frame.tiling.blocks % kernel.frame.geometry.interleave == 0


@pytest.mark.parametrize(("bits", "instruction"), [(7, "pmaddubsw"), (8, "pmaddwd")])
def test_one_row_of_one_block_waits_for_additions_alone(bits: int, instruction: str) -> None:
    """Which take a cycle: as many as the products of a block, of which nothing waits for another."""
    offers = offered(WITHOUT, Shape(1152, (1, 1), 336), (signed(8), unsigned(bits)))
    costs = {o.kernel.name: o.kernel.cost for o in offers if o.problem.x.packing == "bytes"}
    alone, together = (costs[f"bytes_conv2d_{instruction}_w8_p1b{blocks}s1c"] for blocks in (1, 3))
    assert together < alone < 1.05 * together


def test_products_of_vnni_wait_for_four_cycles() -> None:
    """On 20 pixels in a column, of which no tile holds two."""
    offers = offered(VNNI, Shape(1152, (20, 1), 112), (signed(8), unsigned(8)), "floats")
    costs = {o.kernel.name: o.kernel.cost for o in offers if o.problem.x.packing == "bytes"}
    # seven blocks wait for their weights, as fast as two products hide each other
    one, seven = costs["bytes_conv2d_vnni_w8_p1b1s1c"], costs["bytes_conv2d_vnni_w8_p1b7s1c"]
    assert one == pytest.approx(2 * seven, rel=0.05)
