"""Faults planted in the source of a tensor-core kernel: running it on the processor finds each."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest

from qcompiler.ir.codes import BINARY, Codes
from qcompiler.ir.storage import Buffer
from qcompiler.targets.cuda import CudaVariant
from qcompiler.targets.cuda.mma_conv import MmaConv2d
from qcompiler.targets.problem import Conv2d, Operation
from qcompiler.targets.target import Constants, Kernel
from tests.targets.cuda.launching import AMPERE, HOPPER, TURING, Trapped, check, launched
from tests.targets.test_rounded import Case, assert_near, inputs, product_of, weights_of

SEED = 1


def problem() -> Conv2d:
    """Seven steps, two blocks of pixels and two of channels, borders that count as 0, floats and bits stored."""
    x, floats = Buffer(1, 9, 9, 192, BINARY), Buffer(1, 9, 9, 40, "float32")
    stores = (Operation("store", into=floats), Operation("store_bits", into=Buffer(1, 9, 9, 40, BINARY)))
    return Conv2d(x, 40, (3, 3), pads=(1, 1, 1, 1), padding="kernel", pad_value=0, epilogue=stores)


def kernels(variant: CudaVariant = AMPERE) -> list[Kernel]:
    offered = [each for each in variant.kernels(problem()) if isinstance(each, MmaConv2d)]
    found: list[Kernel] = [each for each in offered if (each.blocks, each.splits) == (1, 1)]
    assert found
    return found


def the(number: int, pattern: str, new: str) -> Callable[[str], str]:
    """Replaces one of the places where a pattern is found."""

    def edit(source: str) -> str:
        places = list(re.finditer(pattern, source))
        assert places, f"{pattern} is not in the source"
        place = places[number]
        return source[: place.start()] + place.expand(new) + source[place.end() :]

    return edit


MUTATIONS = {
    "no barrier between a copy and its use": the(0, r"qc_barrier\(\);", ""),
    "no barrier between a use and the next copy": the(1, r"qc_barrier\(\);", ""),
    "no wait for copies": the(0, r"qc_wait_1\(\);", ""),
    "copies of a step are in no group": the(1, r"qc_commit\(\);", ""),
    "nobody copies the first step": the(0, r"qc_copy_8\(", "(void)("),
    "copies go where the other step lies": the(0, r"\+ 1\) % 2\) \* 768", r"+ 0) % 2) * 768"),
    "rows lie closer than they are read": the(-1, r"(\(&\(qc_shared\[\(\(\(v_15) \* 12", r"\1 * 8"),
    "another word of the inputs": the(0, r"\+ v_5\) \+ 4\)\]", "+ v_5) + 5)]"),
    "another instruction": the(0, r"qc_and_16x8x256\(", "shim_wrong("),
    "weights of another tile": the(0, r"\(&\(_ptr_4\[0\]\)\)", "(&(_ptr_3[0]))"),
    "a border too wide": the(-1, r"(v_\d+) >= 0\)", r"\1 >= 1)"),
    "a border that is not made zero": the(0, r"condval_1 = 0;", "condval_1 = 8;"),
    "sums of inputs from other threads": the(0, r"qc_exchange\((\w+), 2\)", r"qc_exchange(\1, 4)"),
    "a warp that is not whole votes": the(0, r"(v_\d+) = qc_ballot\(", r"\1 = v_3 == 5 ? 0 : qc_ballot("),
}
WRONG = """\
static void shim_wrong(int *d, const uint32_t *a, const uint32_t *b) {
    uint32_t c[2] = {~b[0], b[1]};
    qc_and_16x8x256(d, a, c);
}
"""


def test_the_kernel_as_it_is() -> None:
    check(problem(), SEED, kernels())


@pytest.mark.parametrize("name", list(MUTATIONS))
def test_a_planted_fault_is_found(name: str) -> None:
    def edit(source: str) -> str:
        head, kernel = source.split("\n", 1)
        return f"{head}\n{WRONG}{MUTATIONS[name](kernel)}"

    with pytest.raises((AssertionError, Trapped)) as found:
        check(problem(), SEED, kernels(), edit=edit)
    assert "is not in the source" not in str(found.value)


def few_rows() -> Conv2d:
    """A product whose rows of several runs share a block of threads."""
    floats = Buffer(1, 1, 3, 40, "float32")
    stores = (Operation("store", into=floats), Operation("store_bits", into=Buffer(1, 1, 3, 40, BINARY)))
    return Conv2d(Buffer(1, 1, 3, 192, BINARY), 40, (1, 1), padding="kernel", epilogue=stores)


def of_few_rows() -> list[Kernel]:
    """A kernel for rows of all runs, one behind the other."""
    offered = [each for each in AMPERE.kernels(few_rows()) if isinstance(each, MmaConv2d)]
    found: list[Kernel] = [each for each in offered if (each.blocks, each.splits, each.slices) == (1, 4, 1)]
    assert len(found) == 1
    return found


RUNS = 7
"""21 rows, 16 of which are of one block of threads."""

TOGETHER_RUNS = {
    "rows of the first run alone": the(0, r"\(runs \* 3\)", "3"),
    "a row too many": the(-1, r"< \(runs \* 3\)", "<= (runs * 3)"),
    "a run too many": the(0, r"\(int\)memory->runs", "(int)memory->runs + 1"),
    "blocks for one run": the(0, r"blocks_of\(memory->runs \* 3,", "blocks_of(3,"),
    "outputs of a run where another's begin": the(
        0, r"workspace \+ (\d+) \* memory->runs}, \(int", r"workspace + \1}, (int"
    ),
}


def test_rows_of_several_runs_as_they_are() -> None:
    check(few_rows(), SEED, of_few_rows(), runs=RUNS)


@pytest.mark.parametrize("name", list(TOGETHER_RUNS))
def test_a_fault_planted_where_runs_share_blocks_is_found(name: str) -> None:
    with pytest.raises((AssertionError, Trapped)) as found:
        check(few_rows(), SEED, of_few_rows(), edit=TOGETHER_RUNS[name], runs=RUNS)
    assert "is not in the source" not in str(found.value)


COMPARING = {
    "products of bits instead of comparisons": the(0, r"qc_xor_16x8x256\(", "qc_and_16x8x256("),
    "twice the sum": the(0, r"\) >> 1\)", ") >> 0)"),
    "sums of weights of another channel": the(0, r"weight_totals\[(\w+)\]", r"weight_totals[\1 ^ 1]"),
    "a part of a copy": the(0, r"(qc_copy_8\(.*), (\w+)\);", r"\1, \2 / 2);"),
}


def test_the_kernel_that_compares_bits_as_it_is() -> None:
    check(problem(), SEED, kernels(TURING), variant=TURING)


@pytest.mark.parametrize("name", list(COMPARING))
def test_a_fault_planted_where_bits_are_compared_is_found(name: str) -> None:
    def edit(source: str) -> str:
        changed = COMPARING[name](source)
        assert changed != source
        return changed

    with pytest.raises((AssertionError, Trapped)) as found:
        check(problem(), SEED, kernels(TURING), variant=TURING, edit=edit)
    assert "is not in the source" not in str(found.value) and "changed" not in str(found.value)


def grouped() -> Conv2d:
    """Codes of four bits in two groups, in three steps of four warps that share pixels; another block has few."""
    x, floats = Buffer(1, 5, 5, 160, Codes(0, 15), groups=2, packing="bytes"), Buffer(1, 5, 5, 128, "float32")
    stores = (Operation("store", into=floats),)
    return Conv2d(x, 128, (3, 3), pads=(1, 1, 1, 1), groups=2, padding="kernel", weights=Codes(-8, 7), epilogue=stores)


def sharing() -> list[Kernel]:
    offered = [each for each in AMPERE.kernels(grouped()) if isinstance(each, MmaConv2d)]
    found: list[Kernel] = [each for each in offered if each.by == "nibbles" and (each.splits, each.slices) == (4, 1)]
    assert len(found) == 1
    return found


SHARING = {
    "inputs of the first group for all": the(0, r"(int v_\d+ = \(\(v_1 / 2\) \* )20\);", r"\g<1>0);"),
    "the part of another warp": the(0, r"\(v_6 \* 16\)\);", r"((v_6 ^ 1) * 16));"),
    "the sums of a warp are forgotten": the(0, r"\+ qc_shared\[[^\]]*\+ 1920\)\]", ""),
    "no barrier before the sums of others": the(-1, r"qc_barrier\(\);", ""),
    "halves of bytes over one another": the(0, r"<< \(uint\)4", "<< (uint)3"),
    "bytes instead of their halves": the(0, r"qc_nibbles_16x8x64\(", "qc_bytes_16x8x32("),
}


def test_the_kernel_whose_warps_share_pixels_as_it_is() -> None:
    check(grouped(), SEED, sharing())


@pytest.mark.parametrize("name", list(SHARING))
def test_a_fault_planted_where_warps_share_pixels_is_found(name: str) -> None:
    with pytest.raises((AssertionError, Trapped)) as found:
        check(grouped(), SEED, sharing(), edit=SHARING[name])
    assert "is not in the source" not in str(found.value)


def long_rows() -> Conv2d:
    """Codes of four bits in five steps, of which four blocks of threads have two each or less; two tiles of rows."""
    stores = (Operation("store", into=Buffer(1, 1, 19, 40, "float32")),)
    x = Buffer(1, 1, 19, 1200, Codes(0, 15), packing="bytes")
    return Conv2d(x, 40, (1, 1), padding="kernel", weights=Codes(-8, 7), epilogue=stores)


def in_slices(problem: Conv2d, variant: CudaVariant = AMPERE) -> list[Kernel]:
    """The kernel of which several blocks share a tile, that the target would take first."""
    offered = [each for each in variant.kernels(problem) if isinstance(each, MmaConv2d)]
    return [each for each in offered if each.slices > 1][:1]


SLICES = {
    "the first slice for all": the(0, r"(int v_\d+ = \()v_1 \* 2\);", r"\g<1>0);"),
    "the sums of a slice are forgotten": the(0, r" \+ left\[[^\]]*\+ 132\)\]", ""),
    "slices over one another": the(0, r"\(v_1 \* 66\)", "(v_1 * 33)"),
    "the rows of another block": the(-1, r"\(int\)blockIdx\.x\) % 4", "(int)blockIdx.x) % 2"),
    "no second phase": the(0, r"QC_LAUNCH\((\w+)_1,", r"QC_LAUNCH(\1,"),
}


def test_a_kernel_whose_blocks_share_tiles_as_it_is() -> None:
    assert in_slices(long_rows())
    check(long_rows(), SEED, in_slices(long_rows()), runs=2)


def test_blocks_that_share_tiles_compare_bits_in_groups() -> None:
    x, floats = Buffer(1, 5, 5, 1024, BINARY, groups=2), Buffer(1, 5, 5, 64, "float32")
    stores = (Operation("store", into=floats), Operation("store_bits", into=Buffer(1, 5, 5, 64, BINARY)))
    shape = {"kernel": (3, 3), "pads": (1, 1, 1, 1), "groups": 2, "padding": "kernel"}
    problem = Conv2d(x, 64, **shape, pad_value=0, epilogue=stores)
    assert in_slices(problem, TURING)
    check(problem, SEED, in_slices(problem, TURING), variant=TURING)


@pytest.mark.parametrize("name", list(SLICES))
def test_a_fault_planted_where_blocks_share_tiles_is_found(name: str) -> None:
    with pytest.raises((AssertionError, Trapped)) as found:
        check(long_rows(), SEED, in_slices(long_rows()), edit=SLICES[name])
    assert "is not in the source" not in str(found.value)


CASE = Case(2, 600, 33, 4, 32, True)
ROUNDING = {
    "no barrier before the sums of other warps": the(0, r"qc_barrier\(\);", ""),
    "the largest of half of a block": the(0, r"qc_exchange\((\w+\[0\]), 4\)", r"qc_exchange(\1, 2)"),
    "the scale of another block": the(0, r"qc_from_float32\((\w+\[\d\]), (\w+)\)", r"qc_from_float32(\1, \2 ^ 8)"),
    "inputs of another thread": the(0, r"qc_from_int32\((\w+\[\d\]), \(", r"qc_from_int32(\1, 1 + ("),
    "bytes without a sign": the(0, r"\(int\)rintf\(", "127 & (int)rintf("),
    "an input that counts as outside": the(0, r"\+ 3\) < 600", "+ 3) < 3"),
}


def check_rounding(edit: Callable[[str], str] = str) -> None:
    rng = np.random.default_rng(SEED)
    weights, x, bias = weights_of(CASE, rng), inputs(rng, CASE), rng.normal(size=CASE.outputs).astype(np.float32)
    kernel = next(each for each in AMPERE.kernels(product_of(CASE, weights)) if each.name.endswith("p4"))
    made = Constants(weights.reshape(*weights.shape, 1, 1), channels=(bias,))
    for name, (found,) in launched([kernel], made, x.reshape(1, 1, *x.shape), [], edit=edit):
        assert_near(CASE, found.reshape(CASE.rows, -1), weights, x, bias, name)


def test_the_kernel_that_rounds_as_it_is() -> None:
    check_rounding()


@pytest.mark.parametrize("name", list(ROUNDING))
def test_a_fault_planted_where_inputs_are_rounded_is_found(name: str) -> None:
    with pytest.raises((AssertionError, Trapped)) as found:
        check_rounding(ROUNDING[name])
    assert "is not in the source" not in str(found.value)


TOGETHER = {
    "copies that other parts of the device cannot see": the(0, r"qc_shown\(\);", ""),
    "weights of the other step": the(
        0, r"qc_and_64x64x256\((.*), \(&\(qc_shared\[\((v_\d+)", r"qc_and_64x64x256(\1, (&(qc_shared[((1280 - \2)"
    ),
    "a warp that does not come": the(0, r"qc_and_64x64x256\(", "if (threadIdx.x >= 32) qc_and_64x64x256("),
    "inputs of another half": the(
        0, r"qc_and_64x64x256\((.*), \(&\((\w+)\[0\]\)\), \(&\(qc", r"qc_and_64x64x256(\1, (&(\2[1])), (&(qc"
    ),
    "no barrier between copies and products": the(0, r"qc_barrier\(\);", ""),
}


def together() -> list[Kernel]:
    found: list[Kernel] = [each for each in HOPPER.kernels(problem()) if isinstance(each, MmaConv2d) and each.wide]
    assert len(found) == 1
    return found


def test_the_kernel_whose_warps_multiply_together_as_it_is() -> None:
    check(problem(), SEED, together(), variant=HOPPER)


@pytest.mark.parametrize("name", list(TOGETHER))
def test_a_fault_planted_where_warps_multiply_together_is_found(name: str) -> None:
    with pytest.raises((AssertionError, Trapped)) as found:
        check(problem(), SEED, together(), variant=HOPPER, edit=TOGETHER[name])
    assert "is not in the source" not in str(found.value)
