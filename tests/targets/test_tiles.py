"""AMX and AVX-VNNI, which few machines have: instructions in the code, and results by what does the same here."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tvm.script.ir_builder import tirx as T

from qcompiler.ir.codes import Codes
from qcompiler.ir.storage import Buffer, Halo
from qcompiler.targets.architecture import host_features
from qcompiler.targets.problem import Conv2d, Operation, Problem
from qcompiler.targets.target import Kernel
from qcompiler.targets.vector.conv import DirectConv2d
from qcompiler.targets.vector.kernel_runner import KernelRunner
from qcompiler.targets.x86 import TARGET
from qcompiler.targets.x86.tile_sums import TileSums, TileUnit
from tests.targets.problems import convolutions, results

(AMX, ICE_LAKE), (AVX_VNNI,) = TARGET.variants(["amx"]), TARGET.variants(["avxvnni"])
# the same instructions in the encoding of AVX-512
ENCODED = dataclasses.replace(
    AVX_VNNI, isa=dataclasses.replace(AVX_VNNI.isa, mattr=("+avx512vnni", "+avx512vl", "+avx512f"))
)
seeds = st.integers(0, 2**31)
quick = settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
needs_vnni = pytest.mark.skipif("avx512_vnni" not in host_features(), reason="no CPU with AVX-512 VNNI")


class InC(TileUnit):
    """Calls of functions in C."""

    def call(self, name: str, *operands: Any) -> None:
        T.evaluate(T.call_extern("int32", name, *operands))


def in_c(kernel: Kernel) -> Kernel:
    assert isinstance(kernel, DirectConv2d) and isinstance(kernel.reduction, TileSums)
    return dataclasses.replace(kernel, reduction=TileSums(InC()))


run_in_c = partial(KernelRunner, beside=[Path(__file__).with_name("tiles.c")])


def tile_kernels(problem: Problem) -> list[Kernel]:
    return [kernel for kernel in AMX.kernels(problem) if "_amx_" in kernel.name]


def layer(channels: int, size: int, outputs: int, kernel: int, bits: int = 8) -> Conv2d:
    codes, pad = Codes(0, 2**bits - 1), kernel // 2
    x = Buffer(1, size, size, channels, codes, halo=Halo(pad, pad, pad, pad), packing="bytes")
    pads = (pad, pad, pad, pad)
    problem = Conv2d(x, outputs, (kernel, kernel), pads=pads, padding="halo", weights=Codes(-127, 127))
    oh, ow = problem.out_hw
    into = Buffer(1, oh, ow, outputs, "float32", "nhwc")
    return dataclasses.replace(problem, epilogue=(Operation("store", into=into),))


@needs_vnni
@quick
@given(problem=convolutions(None), seed=seeds)
def test_products_of_tiles(problem: Conv2d, seed: int) -> None:
    kernels = tile_kernels(problem)
    if kernels:
        kernel = in_c(kernels[seed % len(kernels)])
        for got, expected in results(kernel, ICE_LAKE, problem, seed, cuts=(seed,), make_runner=run_in_c):
            np.testing.assert_array_equal(got, expected)


@needs_vnni
@pytest.mark.parametrize(
    "problem", [layer(64, 14, 64, 3), layer(24, 7, 40, 3), layer(3, 16, 32, 5), layer(200, 5, 16, 1)], ids=str
)
def test_every_tiling_of_tiles(problem: Conv2d) -> None:
    kernels = tile_kernels(problem)
    assert len(kernels) > 3
    for kernel in kernels:
        for got, expected in results(in_c(kernel), ICE_LAKE, problem, 1, make_runner=run_in_c):
            np.testing.assert_array_equal(got, expected, err_msg=kernel.name)


def test_no_tiles_where_channels_of_a_block_read_different_bytes() -> None:
    """As they do where narrow groups are packed side by side."""
    problem = dataclasses.replace(layer(32, 8, 32, 3), groups=8)
    into = Buffer(1, 8, 8, 32, Codes(0, 3), packing="bytes")
    packed = dataclasses.replace(problem, epilogue=(Operation("store", into=into),))
    assert tile_kernels(problem) and AMX.kernels(packed) and not tile_kernels(packed)


def test_tiles_are_chosen_and_their_registers_are_let_go() -> None:
    problem = layer(256, 14, 256, 3)
    kernel = AMX.kernels(problem)[0]
    assert "_amx_" in kernel.name
    code = AMX.platform.assembly({"kernel": kernel.build("kernel")}, AMX.tvm_target).split(".Lfunc_end0:")[0]
    used = Counter(re.findall(r"^\s(ldtilecfg|tileloadd|tdpbusd|tilestored|tilerelease|call)", code, re.MULTILINE))
    assert used["ldtilecfg"] == used["tilerelease"] == 1 and used["tdpbusd"] >= used["tilestored"] > 1
    assert used["tileloadd"] > used["tdpbusd"] and not used["call"]


@needs_vnni
@quick
@given(problem=convolutions(None), seed=seeds)
def test_products_of_bytes_by_avx_vnni(problem: Problem, seed: int) -> None:
    kernels = [kernel for kernel in ENCODED.kernels(problem) if "vnni" in kernel.name]
    if kernels:
        kernel = kernels[seed % len(kernels)]
        for got, expected in results(kernel, ENCODED, problem, seed):
            np.testing.assert_array_equal(got, expected)


def test_avx_vnni_is_in_the_code() -> None:
    kernel = AVX_VNNI.kernels(layer(64, 14, 64, 3))[0]
    assert "vnni" in kernel.name
    code = AVX_VNNI.platform.assembly({"kernel": kernel.build("kernel")}, AVX_VNNI.tvm_target)
    assert "{vex} vpdpbusd" in re.sub(r"\s+", " ", code) and "zmm" not in code


def test_levels_that_few_machines_have_are_asked_for_by_name() -> None:
    def levels(*names: str) -> list[str]:
        return [variant.name for variant in TARGET.variants(names)]

    assert not {"amx", "avxvnni"} & set(levels())
    assert levels("sapphirerapids") == ["amx", "avx512vpopcntdq"] and levels("alderlake", "x86-64") == [
        "avxvnni",
        "baseline",
    ]
