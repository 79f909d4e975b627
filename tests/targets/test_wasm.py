"""The WebAssembly target: kernels in node against the numpy reference, and which instructions they are made of."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qcompiler.errors import QCompilerError, UsageError
from qcompiler.ir.codes import BINARY, Codes
from qcompiler.ir.storage import Buffer, Packing
from qcompiler.targets.problem import Conv2d, Map2d, Operation, Problem
from qcompiler.targets.vector.kernel_runner import object_code
from qcompiler.targets.wasm import TARGET, WasmVariant, engine, llvm
from tests.targets.in_node import NodeRunner, missing
from tests.targets.problems import convolutions, maps, pools, results
from tests.targets.test_properties import PROBLEMS, binary
from tests.targets.test_reductions import COMMON, LAYERS, check, families_of

ALL = TARGET.variants(())
per_variant = pytest.mark.parametrize("variant", ALL, ids=lambda variant: variant.name)
in_node = pytest.mark.skipif(bool(missing()), reason=missing())
seeds = st.integers(0, 2**31)


def families(variant: WasmVariant, problem: Problem) -> dict[str, object]:
    """The best kernel of each family."""
    return {re.sub(r"_p\d.*", "", kernel.name): kernel for kernel in reversed(variant.kernels(problem))}


@in_node
@per_variant
@pytest.mark.parametrize("problem", PROBLEMS.values(), ids=PROBLEMS)
def test_fixed_problems(problem: Problem, variant: WasmVariant) -> None:
    kernels = variant.kernels(problem)
    assert kernels and [k.cost for k in kernels] == sorted(k.cost for k in kernels)
    for kernel in families(variant, problem).values():
        for got, expected in results(kernel, variant, problem, 1, (kernel.items // 3,), make_runner=NodeRunner):
            np.testing.assert_array_equal(got, expected, err_msg=kernel.name)


@in_node
@per_variant
@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(problem=st.one_of(*map(convolutions, (BINARY, None, "float32")), pools(), maps()), seed=seeds)
def test_random_problems(variant: WasmVariant, problem: Problem, seed: int) -> None:
    kernels = variant.kernels(problem)
    if not kernels:
        return
    kernel = kernels[seed % len(kernels)]
    with np.errstate(all="ignore"):
        for got, expected in results(kernel, variant, problem, seed, (seed,), make_runner=NodeRunner):
            np.testing.assert_array_equal(got, expected)


@in_node
def test_reductions() -> None:
    families = {*COMMON, "xnor_conv2d", "rounded_conv2d"}
    assert families_of(check(ALL[0], NodeRunner)) == families - {"xnor_conv2d"} | {"byte_conv2d"}
    assert families_of(check(ALL[1], NodeRunner)) == families


def assembly(variant: WasmVariant, problem: Conv2d, family: str) -> str:
    kernel = next(each for each in variant.kernels(problem) if each.name.startswith(family))
    return variant.platform.assembly({"kernel": kernel.build("kernel")}, variant.tvm_target)


def test_vectors_count_bits_by_bytes_and_the_others_by_words() -> None:
    families = ("byte_conv2d", "xnor_conv2d")
    simd, plain = (assembly(variant, binary(64, 64), name) for variant, name in zip(ALL, families, strict=True))
    assert "i8x16.popcnt" in simd and "i32.popcnt" not in simd
    assert "i32.popcnt" in plain and "i8x16" not in plain


def test_bytes_are_multiplied_by_pairs() -> None:
    simd, plain = (assembly(variant, LAYERS["8 x 8 bits in bytes"], "bytes_conv2d") for variant in ALL)
    assert "i32x4.dot_i16x8_s" in simd and "i32.mul" in plain and "i32x4" not in plain


def test_vectors_count_the_bits_of_planes_by_bytes() -> None:
    simd = assembly(ALL[0], LAYERS["2 x 2 bits"], "planes_conv2d_w2a2")
    assert "i8x16.popcnt" in simd and "i32.popcnt" not in simd


@per_variant
def test_objects_hold_no_instructions_that_an_engine_may_lack(variant: WasmVariant, tmp_path: Path) -> None:
    """The object says itself which features it used."""
    content = object_code(variant.kernels(binary(64, 64))[0], variant, tmp_path / "kernel.o").read_bytes()
    section = content[content.index(b"target_features") :]
    used = set(re.findall(rb"\+[\x01-\x30]([a-z0-9-]+)", section))
    assert (b"simd128" in used) == (variant.name == "simd128")
    assert used <= {b"simd128", b"sign-ext", b"nontrapping-fptoint", b"mutable-globals"}


def test_levels_by_name() -> None:
    assert [variant.name for variant in TARGET.variants(())] == ["simd128", "plain"]
    assert [variant.name for variant in TARGET.variants(["plain"])] == ["plain"]
    assert [{feature.name for feature in variant.features} for variant in ALL] == [{"simd128"}, set()]
    with pytest.raises(UsageError, match="unknown WebAssembly level 'avx2', expected one of simd128, plain"):
        TARGET.variants(["avx2"])


@pytest.mark.parametrize(
    ("packing", "codes"), [("planes", BINARY), ("planes", Codes(0, 3)), ("bytes", BINARY), ("bytes", Codes(0, 3))]
)
def test_code_for_blocks_of_any_size_is_made(packing: Packing, codes: Codes) -> None:
    """LLVM would not come to an end with some of them."""
    functions = {}
    for channels in range(1, 18):
        x, into = Buffer(1, 1, 3, channels, "float32"), Buffer(1, 1, 3, channels, codes, packing=packing)
        kind = "store_bits" if codes == BINARY else "store_codes"
        problem = Map2d(x, (Operation("round"), Operation(kind, into=into)))
        for kernel in ALL[0].kernels(problem)[:1]:
            functions[f"k{channels}"] = kernel.build(f"k{channels}")
    assert len(functions) == 17
    assert ALL[0].platform.assembly(functions, ALL[0].tvm_target).count("end_function") >= 17


# LLVM does not come to an end with the code of this without masks by instructions
SINGLE = Map2d(Buffer(1, 1, 1, 1, "float32"), (Operation("store_bits", into=Buffer(1, 1, 1, 1, BINARY)),))


def test_masks_of_comparisons_are_instructions() -> None:
    for problem in (binary(64, 64), SINGLE):
        (kernel, *_) = ALL[0].kernels(problem)
        assert "i32x4.bitmask" in ALL[0].platform.assembly({"kernel": kernel.build("kernel")}, ALL[0].tvm_target)


def test_a_code_generator_that_does_not_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    (kernel, *_) = ALL[0].kernels(SINGLE)
    functions, compiler = {"kernel": kernel.build("kernel")}, ALL[0].platform
    with monkeypatch.context() as patched:
        patched.setattr(engine, "_legal", lambda functions, tvm_target: functions)
        patched.setattr(llvm, "PATIENCE", 2.0)
        patched.setattr(llvm, "EACH", 0.0)
        for work in (compiler.compile, compiler.assembly):
            with pytest.raises(QCompilerError, match="LLVM does not come to an end: no answer within 2 s"):
                work(functions, ALL[0].tvm_target)
    assert compiler.compile(functions, ALL[0].tvm_target)[:4] == b"\0asm"
