"""Weights that are asked for ahead: only where there are many, and where a register is a line of the cache."""

import pytest

from benchmarks.layers import Shape, offered, random_constants, signed, unsigned
from qcompiler.targets.x86 import TARGET
from tests.targets.problems import RUNNABLE, results

ASKED = "llvm.prefetch"


def kernels(name, family, outputs, weights, activations):
    """Those of a family, the first with tiles of one, two and four blocks each."""
    (variant,) = TARGET.variants([name])
    offers = offered(variant, Shape(256, (2, 4), outputs, 3), (signed(weights), unsigned(activations)))
    mine = [offer for offer in offers if offer.kernel.name.startswith(family)]
    found = {blocks: [offer for offer in mine if f"b{blocks}s" in offer.kernel.name] for blocks in (1, 2, 4)}
    return variant, {blocks: each[0] for blocks, each in found.items() if each}


def asked(offer):
    return str(offer.kernel.build("kernel")).count(ASKED)


@pytest.mark.parametrize("family, bits, of_inputs, lines", [
    ("bytes_conv2d", 8, 8, 1), ("bytes_conv2d", 4, 8, 0.5), ("bytes_conv2d", 2, 8, 0.25),
    # two planes in each lookup, of which a loop over pairs of words has eleven
    ("lookup_sums", 2, 2, 2 / 4 * 11), ("lookup_columns", 2, 2, 2 / 4 * 11 * 3),
    # all of a word and a kernel row
    ("lookup_codes", 2, 2, 11 * 3 / 4),
])  # fmt: skip
def test_weights_of_the_next_blocks_are_asked_for(family, bits, of_inputs, lines):
    variant, found = kernels("avx512vpopcntdq", family, 1024, bits, of_inputs)
    assert {blocks: asked(offer) for blocks, offer in found.items()} == {blocks: blocks * lines for blocks in found}
    assert found
    for offer in found.values():
        made = random_constants(offer.problem)
        if variant in RUNNABLE:
            assert all(
                (out == expected).all() for out, expected in results(offer.kernel, variant, offer.problem, 0, made=made)
            )


@pytest.mark.parametrize(
    "name, family, outputs, bits",
    [("avx512vpopcntdq", "bytes_conv2d", 64, 8), ("avx2", "words_conv2d", 512, 8), ("avx2", "lookup_codes", 1024, 2)],
)
def test_few_weights_and_halves_of_lines_are_not(name, family, outputs, bits):
    _, found = kernels(name, family, outputs, bits, bits)
    assert found and not any(map(asked, found.values()))
