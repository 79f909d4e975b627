"""Weights that are asked for ahead: only where there are many, and where a register is a line of the cache."""

import pytest

from benchmarks.layers import Shape, offered, random_constants, signed, unsigned
from qcompiler.targets.x86 import TARGET
from tests.targets.problems import RUNNABLE, results

ASKED = "llvm.prefetch"


def kernels(name, outputs, bits):
    """Those that multiply bytes, with blocks of outputs by one, two and four."""
    (variant,) = TARGET.variants([name])
    shape = Shape(256, (3, 3), outputs, 3)
    offers = [
        o for o in offered(variant, shape, (signed(bits), unsigned(8))) if o.kernel.name.startswith("bytes_conv2d")
    ]
    found = {blocks: [o for o in offers if f"b{blocks}s" in o.kernel.name] for blocks in (1, 2, 4)}
    return variant, [(blocks, each[0]) for blocks, each in found.items() if each]


@pytest.mark.parametrize("bits", [8, 4, 2])
def test_weights_of_the_next_blocks_are_asked_for(bits):
    variant, found = kernels("avx512vpopcntdq", 512, bits)
    asked = {blocks: str(offer.kernel.build("kernel")).count(ASKED) for blocks, offer in found}
    # one for each line of a step
    assert asked == {blocks: blocks * bits // 8 for blocks in asked} and any(asked.values())
    for _, offer in found:
        if variant in RUNNABLE:
            for output, expected in results(
                offer.kernel, variant, offer.problem, 0, made=random_constants(offer.problem)
            ):
                assert (output == expected).all()


@pytest.mark.parametrize("name, outputs", [("avx512vpopcntdq", 64), ("avx2", 512)])
def test_few_weights_and_halves_of_lines_are_not(name, outputs):
    _, found = kernels(name, outputs, 8)
    assert found and not any(ASKED in str(offer.kernel.build("kernel")) for _, offer in found)
