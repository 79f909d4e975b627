"""The Cortex-M target: kernels on emulated boards against the numpy reference, and their instructions."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qcompiler.errors import UsageError
from qcompiler.ir.codes import BINARY
from qcompiler.targets.boards import BOARDS
from qcompiler.targets.cortex_m import TARGET, CortexMVariant
from qcompiler.targets.problem import Conv2d, Problem
from tests.targets.on_board import BoardRunner, missing
from tests.targets.problems import convolutions, maps, pools, results
from tests.targets.test_properties import PROBLEMS, binary
from tests.targets.test_reductions import COMMON, LAYERS, check, families_of
from tests.targets.test_wasm import families

ALL = TARGET.variants(("m55", "m7", "m33", "m4", "m0"))
# the others have code of the same forms in another order
FORMS = TARGET.variants(("m55", "m4", "m0"))


def per_form(*fast: str) -> pytest.MarkDecorator:
    """Code with vectors, with words, and without anything that multiplies floats; some of it when there is time."""
    cases = [pytest.param(each, marks=[] if each.name in fast else [pytest.mark.slow], id=each.name) for each in FORMS]
    return pytest.mark.parametrize("variant", cases)


on_board = pytest.mark.skipif(bool(missing()), reason=missing())
seeds = st.integers(0, 2**31)


@on_board
@per_form("cortex_m55")
@pytest.mark.parametrize("problem", PROBLEMS.values(), ids=PROBLEMS)
def test_fixed_problems(problem: Problem, variant: CortexMVariant) -> None:
    kernels = variant.kernels(problem)
    assert kernels and [k.cost for k in kernels] == sorted(k.cost for k in kernels)
    for kernel in families(variant, problem).values():
        for got, expected in results(kernel, variant, problem, 1, make_runner=BoardRunner):
            np.testing.assert_array_equal(got, expected, err_msg=kernel.name)


@on_board
@pytest.mark.slow
@pytest.mark.parametrize("variant", ALL, ids=lambda variant: variant.name)
@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
@given(problem=st.one_of(*map(convolutions, (BINARY, None, "float32")), pools(), maps()), seed=seeds)
def test_random_problems(variant: CortexMVariant, problem: Problem, seed: int) -> None:
    kernels = variant.kernels(problem)
    if not kernels:
        return
    kernel = kernels[seed % len(kernels)]
    with np.errstate(all="ignore"):
        for got, expected in results(kernel, variant, problem, seed, (seed,), make_runner=BoardRunner):
            np.testing.assert_array_equal(got, expected)


@on_board
@per_form("cortex_m4")
def test_reductions(variant: CortexMVariant) -> None:
    families = {*COMMON, "few_conv2d"}
    assert families_of(check(variant, BoardRunner)) == families | {"rounded_conv2d"}


def assembly(variant: CortexMVariant, problem: Conv2d, family: str) -> str:
    kernel = next(each for each in variant.kernels(problem) if each.name.startswith(family))
    return variant.platform.assembly({"kernel": kernel.build("kernel")}, variant.tvm_target)


def test_vectors_are_used_where_there_are_some() -> None:
    code = {variant.name: assembly(variant, binary(64, 64), "few_conv2d") for variant in ALL}
    assert re.search(r"veor\s+q\d", code["cortex_m55"]) and re.search(r"vadd.i32\s+q\d", code["cortex_m55"])
    for name in ("cortex_m4", "cortex_m7", "cortex_m33", "cortex_m0"):
        assert not re.search(r"\bq\d\b", code[name])


def test_bytes_are_multiplied_by_pairs_where_there_are_no_vectors() -> None:
    for variant in ALL:
        code = assembly(variant, LAYERS["8 x 8 bits in bytes"], "bytes_conv2d")
        assert ("smlad" in code) == (variant.name not in ("cortex_m55", "cortex_m0"))
        # a rotation is part of the extension
        assert ("sxtb16" in code) == bool(re.search(r"sxtb16\s+\w+, \w+, ror #8", code)) == ("smlad" in code)


@pytest.mark.parametrize("variant", ALL[:-1], ids=lambda variant: variant.name)
def test_floats_of_64_bits_are_left_to_the_library(variant: CortexMVariant) -> None:
    """Chips of all cores have none in hardware."""
    code = assembly(variant, LAYERS["float"], "float_conv2d")
    assert re.search(r"(vfma|vmla|vmul|vadd)\.f32", code) and ".f64" not in code


def test_cores_without_floats_call_the_library_by_its_names() -> None:
    code = assembly(ALL[-1], LAYERS["float"], "float_conv2d")
    assert "__aeabi_fmul" in code and "__aeabi_fadd" in code and "fmaf" not in code and not re.search(r"\bs\d+\b", code)


def test_cores_by_name() -> None:
    names = ["cortex_m55", "cortex_m7", "cortex_m33", "cortex_m4"]
    assert [variant.name for variant in TARGET.variants(())] == names
    assert [variant.name for variant in ALL] == [*names, "cortex_m0"]
    for spelt in (["m4", "cortex-m55", "m0+"], ["cortex_m0plus", "cortex_m4", "m55"]):
        assert [variant.name for variant in TARGET.variants(spelt)] == ["cortex_m55", "cortex_m4", "cortex_m0"]
    expected = "unknown Cortex-M 'a53', expected one of cortex-m55, cortex-m7, cortex-m33, cortex-m4, cortex-m0"
    with pytest.raises(UsageError, match=expected):
        TARGET.variants(["a53"])
    assert {variant.name for variant in ALL} == set(BOARDS)
