"""Wide registers that must lie on the stack lie within lines of a cache, wherever the stack begins."""

import re

import pytest

from benchmarks.layers import Shape, offered, signed, unsigned
from qcompiler.targets.vector.aligned_stack import on_aligned_stack
from qcompiler.targets.vector.emit import Parameter, lanes, prim_func, write
from qcompiler.targets.x86 import TARGET


def offsets(text: str, register: str) -> list[int]:
    """Bytes behind the stack pointer of all registers that are written there or read from there."""
    lines = [line for line in text.splitlines() if f"%{register}" in line]
    return [int(found[1] or 0) for line in lines for found in re.finditer(r"(?<=[\s,])(-?\d*)\(%rsp\)", line)]


@pytest.mark.parametrize("name, size", [("avx512vpopcntdq", 64), ("avx512bw", 64), ("avx2", 32)])
def test_spills_lie_within_lines(name, size):
    variant = TARGET.variants([name])[0]
    every = offered(variant, Shape(96, (20, 20), 96, 3), (signed(4), unsigned(8)))
    offers = [each for each in every if each.kernel.name.startswith(("bytes", "pairs"))]
    register, found = {64: "zmm", 32: "ymm"}[size], 0
    for kernel in sorted((offer.kernel for offer in offers), key=lambda kernel: kernel.cost)[:8]:
        text = variant.platform.assembly({"kernel": kernel.build("kernel")}, variant.tvm_target)
        assert f"andq\t$-{size}, %rsp" in text, kernel.name
        places = offsets(text, register)
        assert all(place % size == 0 for place in places), (kernel.name, places)
        found += len(places)
    assert found, "no kernel needs the stack: nothing was tested"


def test_what_the_system_aligns_is_left_alone():
    def body(buffers, item):
        write(buffers[0], buffers[1][lanes(item)], lanes(item))

    function = prim_func("f", [Parameter(name, "int32", 64, 4) for name in "ab"], body)
    assert on_aligned_stack(function, 16).same_as(function)
    (variant,) = TARGET.variants(["baseline"])
    assert "prefetch" not in variant.platform.assembly({"f": function}, variant.tvm_target)
