"""The RISC-V target: kernels under an emulator against the numpy reference, and which instructions they are made of."""

from __future__ import annotations

import re

import numpy as np
import pytest

from qcompiler.errors import UsageError
from qcompiler.targets.problem import Conv2d, Problem
from qcompiler.targets.rv64 import TARGET, Rv64Variant
from tests.targets.emulated import EmulatedRunner, missing
from tests.targets.problems import results
from tests.targets.test_properties import PROBLEMS, binary
from tests.targets.test_reductions import COMMON, check, families_of
from tests.targets.test_wasm import families

ALL = TARGET.variants(())
per_variant = pytest.mark.parametrize("variant", ALL, ids=lambda variant: variant.name)
emulated = pytest.mark.skipif(bool(missing("riscv64")), reason=f"missing Debian packages: {missing('riscv64')}")


@emulated
@per_variant
@pytest.mark.parametrize("problem", ["binary-odd", "binary-pixel", "float-pixel"])
def test_fixed_problems(problem: str, variant: Rv64Variant) -> None:
    run(PROBLEMS[problem], variant)


@emulated
@pytest.mark.slow
@per_variant
@pytest.mark.parametrize("problem", PROBLEMS.values(), ids=PROBLEMS)
def test_all_fixed_problems(problem: Problem, variant: Rv64Variant) -> None:
    run(problem, variant)


def run(problem: Problem, variant: Rv64Variant) -> None:
    assert variant.kernels(problem)
    for kernel in families(variant, problem).values():
        for got, expected in results(kernel, variant, problem, 1, make_runner=EmulatedRunner):
            np.testing.assert_array_equal(got, expected, err_msg=kernel.name)


@emulated
@pytest.mark.slow
@per_variant
def test_reductions(variant: Rv64Variant) -> None:
    families = {*COMMON, "rounded_conv2d"}
    counted = "xnor_conv2d" if variant.isa.counts_bits else "few_conv2d"
    assert families_of(check(variant, EmulatedRunner)) == families | {counted}


def test_levels_use_what_they_have() -> None:
    code = {variant.name: assembly(variant, binary(64, 64)) for variant in ALL}
    assert re.search(r"vxor\.v", code["v"]) and not re.search(r"\bv\w+\.v", code["zbb"] + code["rv64gc"])
    assert "cpopw" in code["zbb"] and "cpop" not in code["v"] + code["rv64gc"]


def assembly(variant: Rv64Variant, problem: Conv2d) -> str:
    kernel = variant.kernels(problem)[0]
    return variant.platform.assembly({"kernel": kernel.build("kernel")}, variant.tvm_target)


def test_levels_by_name() -> None:
    assert [variant.name for variant in ALL] == ["v", "zbb", "rv64gc"]
    assert [variant.name for variant in TARGET.variants(["rv64gc", "v"])] == ["v", "rv64gc"]
    with pytest.raises(UsageError, match="unknown RISC-V level 'sse2', expected one of v, zbb, rv64gc"):
        TARGET.variants(["sse2"])
