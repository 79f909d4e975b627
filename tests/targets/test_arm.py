"""The ARM target: kernels under emulation against the numpy reference, and what their inner loops look like."""

from __future__ import annotations

import dataclasses
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.inner_loops import InnerLoop, assemblies, assembly, inner_loops
from qcompiler.errors import UsageError
from qcompiler.ir.codes import BINARY, Codes
from qcompiler.ir.storage import Buffer, Halo
from qcompiler.targets import reference
from qcompiler.targets.arm import TARGET, ArmVariant
from qcompiler.targets.arm.machine import ISAS
from qcompiler.targets.problem import Conv2d, Operation, Problem
from qcompiler.targets.target import Constants
from qcompiler.targets.vector.conv import DirectConv2d
from qcompiler.targets.vector.kernel_runner import aligned, empty_outputs, object_code
from tests.targets import test_reductions as reductions
from tests.targets.emulated import EmulatedRunner, missing
from tests.targets.problems import convolutions, maps, pools, results
from tests.targets.test_properties import PROBLEMS, binary, residual

ALL = TARGET.variants([isa.name for isa in ISAS if isa.wide])
ARMV7 = TARGET.variants(["armv7"])
DISTINCT = [v for v in (*ALL, *ARMV7) if v.name in ("i8mm", "dotprod", "generic", "armv7")]
EDGE = Halo(1, 1, 1, 1)


def runnable(variant: ArmVariant) -> object:
    packages = missing("aarch64" if variant.isa.wide else "arm")
    skip = pytest.mark.skipif(bool(packages), reason=f"missing Debian packages: {packages}")
    return pytest.param(variant, marks=skip, id=variant.name)


per_variant = pytest.mark.parametrize("variant", [runnable(v) for v in DISTINCT])
# cortex_a53 and cortex_a55 are generic and dotprod by another name
DISTINCT_CODE = [v for v in (*ALL, *ARMV7) if v.name not in ("cortex_a53", "cortex_a55")]
per_code = pytest.mark.parametrize("variant", [runnable(v) for v in DISTINCT_CODE])
seeds = st.integers(0, 2**31)


def layer(c: int, o: int, h: int = 5, w: int = 9, kernel: int = 3) -> Conv2d:
    """A binary convolution whose result is packed again."""
    pad = kernel // 2
    halo = Halo(pad, pad, pad, pad)
    x, y = (Buffer(1, h, w, n, BINARY, halo=halo, halo_value=-1.0) for n in (c, o))
    operation = Operation("threshold", into=y)
    return Conv2d(x, o, (kernel, kernel), pads=(pad, pad, pad, pad), epilogue=(operation,))


DEEP: dict[str, Problem] = {
    "rows": layer(128, 32),
    "rows of 36 steps": layer(512, 16, 3, 4),
    "words of 3 times 18 steps": layer(192, 16, 3, 4),
    "matrix of 1000 words": layer(32000, 20, 1, 3, 1),
    "matrix row": layer(4096, 20, 1, 1, 1),
    "matrix row, chunks of 7": layer(1792, 40, 1, 1, 1),
    "matrix row, chunks of 9": layer(1152, 16, 1, 1, 1),
    "held": layer(64, 32),
    "held, no padding": layer(192, 32, 3, 4, 1),
    "held, full registers": layer(256, 32, 3, 4, 1),
    "held, runs apart": dataclasses.replace(layer(50, 32), kernel=(3, 2), dilations=(1, 2)),
    "held, matrix row": layer(320, 40, 1, 1, 1),
    "held, 15 runs": layer(960, 16, 2, 5, 1),
}


@per_variant
@pytest.mark.parametrize("problem", [*PROBLEMS.values(), *DEEP.values()], ids=[*PROBLEMS, *DEEP])
def test_fixed_problems(problem: Problem, variant: ArmVariant) -> None:
    kernels = variant.kernels(problem)
    assert [k.cost for k in kernels] == sorted(k.cost for k in kernels)
    families = {re.sub(r"_p\d.*", "", k.name): k for k in reversed(kernels)}
    for kernel in families.values():
        cuts = (kernel.items // 3,)
        for got, expected in results(kernel, variant, problem, 1, cuts, make_runner=EmulatedRunner):
            np.testing.assert_array_equal(got, expected, err_msg=kernel.name)


@per_variant
@pytest.mark.parametrize("channels", [64, 64 * 15, 32 * 31, *(128 * steps for steps in (7, 8, 15, 16, 31, 32, 63))])
def test_counts_of_all_mismatches_do_not_overflow(channels: int, variant: ArmVariant) -> None:
    families = check_all_mismatches(channels, 4, variant)
    assert ("held_conv2d" in families) == (variant.isa.wide and channels % 64 == 0 and channels <= 64 * 15)
    assert ("row_conv2d" in families) == (variant.isa.wide and channels % 128 == 0 and channels * 4 > 64 * 15)


@per_variant
@pytest.mark.parametrize("registers", [6, 7, 8, 9, 10, 14, 16, 18, 63 * 8, 64 * 8])
def test_counts_of_all_mismatches_of_a_single_pixel(registers: int, variant: ArmVariant) -> None:
    families = check_all_mismatches(128 * registers, 1, variant)
    chunks = registers in (8, 9, 14, 16, 18, 63 * 8)
    assert ("chunk_conv2d" in families) == (variant.name == "generic" and chunks)


def test_variants_with_and_without_dotprod_share_the_weights_of_a_matrix_row() -> None:
    problem = layer(4096, 64, 1, 1, 1)
    random = np.random.default_rng(0)
    weights = np.where(random.random((64, 4096, 1, 1)) < 0.5, -1, 1).astype(np.float32)
    constants = Constants(weights, np.zeros(64, np.float32), np.ones(64, np.float32))
    chosen = [v.kernels(problem)[0] for v in TARGET.variants(["dotprod", "generic"])]
    assert [k.name.split("_")[0] for k in chosen] == ["row", "chunk"]
    for one, other in zip(*(kernel.pack(constants) for kernel in chosen), strict=True):
        assert one.tobytes() == other.tobytes()


@per_variant
@pytest.mark.parametrize("words", [30, 31, 32, 62, 63])
def test_counts_of_planes_do_not_overflow(words: int, variant: ArmVariant) -> None:
    problem = reductions.layer(32 * words, 16, 1, 2, 1, Codes(0, 3), Codes(-2, 1))
    kernel = variant.kernels(problem)[0]
    assert isinstance(kernel, DirectConv2d) and kernel.reduction.family == "byte_planes_conv2d"
    reductions.check_largest(kernel, variant, EmulatedRunner)


@pytest.mark.skipif(bool(missing("aarch64")), reason=f"missing Debian packages: {missing('aarch64')}")
@pytest.mark.parametrize("steps", [0, 1])
@pytest.mark.parametrize(
    ("x", "weights"),
    [(Codes(0, 15), Codes(-8, 7)), (Codes(0, 255), Codes(-1, 1)), (Codes(0, 127), Codes(-128, 127)),
     (Codes(0, 255), Codes(-128, 127))],
    ids=str,
)  # fmt: skip
def test_sums_of_products_of_bytes_do_not_overflow(x: Codes, weights: Codes, steps: int) -> None:
    """In 16 bits, where that many products of the largest numbers fit, and one step more."""
    (variant,) = TARGET.variants(["generic"])
    largest = (x.high if x.high < 128 else 128) * -weights.low
    channels = max(32, (2**15 - 1) // largest // 4 * 16) + 16 * steps
    kernel = variant.kernels(reductions.layer(channels, 16, 1, 7, 1, x, weights, "bytes"))[0]
    assert isinstance(kernel, DirectConv2d) and kernel.reduction.family == "bytes_word_conv2d"
    reductions.check_largest(kernel, variant, EmulatedRunner)


def check_all_mismatches(channels: int, pixels: int, variant: ArmVariant) -> set[str]:
    """Run a kernel of every family on bits that all differ; the families."""
    x, y = (Buffer(1, 1, pixels, c, element) for c, element in ((channels, BINARY), (16, "float32")))
    problem = Conv2d(x, 16, (1, 1), epilogue=(Operation("store", into=y),))
    made = Constants(np.ones((16, channels, 1, 1), np.float32))
    stored = aligned(reference.store(x, -np.ones((1, channels, 1, pixels), np.float32)))
    families = {re.sub(r"_p\d.*", "", k.name): k for k in reversed(variant.kernels(problem))}
    for kernel in families.values():
        (output,) = empty_outputs(problem)
        runner = EmulatedRunner(kernel, variant, made)
        runner.call(runner.bind(stored, [], [output]), 0, kernel.items)
        np.testing.assert_array_equal(output, np.float32(-channels), err_msg=kernel.name)
    return set(families)


@pytest.mark.slow
@per_code
@pytest.mark.parametrize("problem", [*PROBLEMS.values(), *DEEP.values()], ids=[*PROBLEMS, *DEEP])
def test_every_tiling(problem: Problem, variant: ArmVariant) -> None:
    for kernel in variant.kernels(problem):
        for got, expected in results(kernel, variant, problem, 1, make_runner=EmulatedRunner):
            np.testing.assert_array_equal(got, expected, err_msg=kernel.name)


@per_variant
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(problem=st.one_of(*map(convolutions, (BINARY, None, "float32")), pools(), maps()), seed=seeds)
def test_random_problems(variant: ArmVariant, problem: Problem, seed: int) -> None:
    kernels = variant.kernels(problem)
    if not kernels:
        return
    kernel = kernels[seed % len(kernels)]
    with np.errstate(all="ignore"):
        for got, expected in results(kernel, variant, problem, seed, (seed,), make_runner=EmulatedRunner):
            np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("problem", PROBLEMS.values(), ids=PROBLEMS.keys())
@pytest.mark.parametrize("variant", DISTINCT, ids=lambda v: v.name)
def test_objects_call_nothing_but_the_compilers_own_library(
    problem: Problem, variant: ArmVariant, tmp_path: Path
) -> None:
    path = object_code(variant.kernels(problem)[0], variant, tmp_path / "k.o", "some_name")
    listing = subprocess.run(["nm", "--undefined-only", path], capture_output=True, text=True, check=True).stdout
    # 32-bit ARM names the unwinder, which is in libgcc, which is linked in
    allowed = set() if variant.isa.wide else {"__aeabi_unwind_cpp_pr0"}
    assert set(re.findall(r"\S+$", listing, re.MULTILINE)) <= allowed


def counting_blocks(text: str) -> list[InnerLoop]:
    """All pieces of straight code of a kernel in which bits are counted."""
    pieces = re.split(r"^\.LBB\w+:|\s(?:b|b\.\w+|cbn?z|tbn?z)\s.*$", text, flags=re.MULTILINE)
    split = (tuple(line.split("//")[0].strip() for line in piece.splitlines()) for piece in pieces)
    blocks = [InnerLoop(tuple(line for line in lines if re.match("[a-z]", line))) for lines in split]
    return [block for block in blocks if block.count("cnt")]


SMALL = [layer(channels, 64, 7, 7, 1) for channels in (32, 64, 96, 128, 160, 192, 256, 320, 384, 512, 576, 640, 960)]


@pytest.mark.parametrize("variant", [v for v in ALL if v in DISTINCT_CODE], ids=lambda v: v.name)
@pytest.mark.parametrize("problem", [*SMALL, layer(128, 128, 14, 14), layer(64, 64, 14, 14), layer(32, 48, 14, 14),
                                     layer(256, 256, 7, 7), layer(1024, 64, 1, 8, 1), layer(33, 96, 1, 1, 1),
                                     layer(256, 64, 1, 1, 1), layer(4096, 64, 1, 1, 1), layer(1792, 64, 1, 1, 1),
                                     layer(1152, 64, 1, 1, 1), binary(64, 64), residual(64, 48, BINARY)],
                         ids=lambda p: f"{p.x.c}-{p.out_channels}-{p.x.w}-{p.kernel[0]}")  # fmt: skip
def test_no_counting_code_of_a_binary_kernel_touches_the_stack(problem: Conv2d, variant: ArmVariant) -> None:
    kernels = variant.kernels(problem)
    for kernel, text in zip(kernels, assemblies(kernels, variant), strict=True):
        blocks = counting_blocks(text)
        assert blocks, kernel.name
        for block in blocks:
            assert block.spills == 0, (kernel.name, block.instructions)
            assert block.count("eor") == block.count("cnt"), kernel.name


@pytest.mark.parametrize("variant", ALL, ids=lambda v: v.name)
@pytest.mark.parametrize("channels", [64, 128, 256, 512])
def test_the_chosen_inner_loop_is_exclusive_or_count_and_add(channels: int, variant: ArmVariant) -> None:
    kernel = variant.kernels(layer(channels, channels, 14, 14))[0]
    assert kernel.name.startswith("row" if channels >= 128 else "held")
    (loop,) = [loop for loop in inner_loops(assembly(kernel, variant)) if loop.count("cnt")]
    # two loads by themselves are what a pair is where pairs are loaded
    singles = sum(bool(re.match(r"ldu?r\s+q", instruction)) for instruction in loop.instructions)
    assert len(loop.instructions) - singles / 2 <= 3.6 * loop.count("cnt")


def test_small_images_skip_the_rows_of_their_padding() -> None:
    (variant,) = TARGET.variants(["generic"])
    chosen = {size: variant.kernels(layer(64, 64, size, size))[0].reduction.family for size in (8, 14)}  # type: ignore[attr-defined]
    assert chosen == {8: "byte_conv2d", 14: "held_conv2d"}


def test_dotprod_adds_up_in_one_instruction() -> None:
    (variant,) = TARGET.variants(["cortex-a76"])
    for problem in (layer(128, 128), layer(64, 64)):
        for kernel in variant.kernels(problem):
            if kernel.name.startswith("held"):
                continue
            loops = [loop for loop in inner_loops(assembly(kernel, variant)) if loop.count("cnt")]
            assert all(loop.count("udot") == loop.count("cnt") for loop in loops), kernel.name


@pytest.mark.parametrize("variant", [v for v in ALL if v.isa.dotprod], ids=lambda v: v.name)
def test_cores_with_dot_products_load_no_pairs_of_vectors(variant: ArmVariant) -> None:
    for problem in (layer(128, 128), reductions.layer(128, 128, 7, 7, 3, Codes(0, 15), Codes(-8, 7), "bytes")):
        text = assembly(variant.kernels(problem)[0], variant)
        assert re.search(r"\tldu?r\tq\d", text) and not re.search(r"\tldp\tq\d", text)


def test_variants_by_cpu_name() -> None:
    assert [v.name for v in TARGET.variants(())] == ["dotprod", "generic"]
    assert [v.name for v in TARGET.variants(["cortex-a53", "cortex-a76"])] == ["cortex_a76", "cortex_a53"]
    assert [v.name for v in TARGET.variants(["neoverse-n1", "cortex-a57"])] == ["cortex_a76", "cortex_a72"]
    assert {f.name for v in TARGET.variants(["dotprod"]) for f in v.features} == {"asimd", "asimddp"}
    with pytest.raises(UsageError, match="cortex-m4.*cortex-a53"):
        TARGET.variants(["cortex-m4"])
    with pytest.raises(UsageError, match="32-bit and 64-bit"):
        TARGET.variants(["armv7", "generic"])
