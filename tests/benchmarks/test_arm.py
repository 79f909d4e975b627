from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import qcompiler
from benchmarks.arm import rows
from benchmarks.inner_loops import InnerLoop, inner_loops
from benchmarks.instructions import count
from qcompiler.targets.arm import TARGET
from tests.networks import binary_cnn
from tests.targets.emulated import missing

ASSEMBLY = """
kernel:
	mov	x0, #4
.LBB0_1:
	mov	x1, #9                          // outer
.LBB0_2:
	ldr	q0, [x2], #16
.Ltmp3:
	.loc	1 2 3
	eor	v0.16b, v0.16b, v1.16b
	cnt	v0.16b, v0.16b
	str	q0, [sp, #16]
	subs	x1, x1, #1
	b.ne	.LBB0_2
	subs	x0, x0, #1
	b.ne	.LBB0_1
	ret
"""


def test_inner_loops_are_the_blocks_that_jump_to_themselves() -> None:
    (loop,) = inner_loops(ASSEMBLY)
    assert [instruction.split()[0] for instruction in loop.instructions] == ["ldr", "eor", "cnt", "str", "subs", "b.ne"]
    assert (loop.spills, loop.count("cnt"), loop.count("add")) == (1, 1, 0)


@pytest.mark.skipif(shutil.which("llvm-mca") is None, reason="missing Debian package: llvm")
@pytest.mark.parametrize("layer", ["3x3 C128 28x28", "3x3 C256 14x14", "3x3 C512 7x7"])
def test_binary_inner_loops_come_near_the_ceiling(layer: str) -> None:
    """Of 85.3 products per cycle on two pipes and 42.7 on Cortex-A53."""
    (generic,) = TARGET.variants(["generic"])
    (row,) = rows(layer, generic)
    assert row.rates["cortex-a72"] >= 80 and row.rates["neoverse-n1"] >= 80 and row.rates["cortex-a53"] >= 31
    (dotprod,) = TARGET.variants(["dotprod"])
    (row,) = rows(layer, dotprod)
    assert row.rates["neoverse-n1"] >= 80 and row.spills == 0


@pytest.mark.skipif(shutil.which("llvm-mca") is None, reason="missing Debian package: llvm")
@pytest.mark.parametrize(
    ("layer", "levels", "two_pipes", "cortex_a53"),
    [
        ("1x1 C256 14x14", ["generic", "dotprod"], 80, 24.5),
        ("FC 4096x4096", ["generic", "dotprod"], 80, 29),
        ("3x3 C64 56x56", ["generic", "dotprod"], 78.5, 31),
        ("3x3 C64 56x56", ["cortex-a72", "cortex-a76"], 80, 0),
    ],
)
def test_other_inner_loops(layer: str, levels: list[str], two_pipes: float, cortex_a53: float) -> None:
    """80 on two pipes and 31 on Cortex-A53 where they are reached, else what is; see docs/adr/0007-arm.md."""
    for level in levels:
        (variant,) = TARGET.variants([level])
        found = list(rows(layer, variant))
        assert found
        for row in found:
            assert row.spills == 0 and row.rates["neoverse-n1"] >= two_pipes
            if not variant.isa.dotprod:
                assert row.rates["cortex-a72"] >= two_pipes and row.rates["cortex-a53"] >= cortex_a53


@pytest.mark.skipif(shutil.which("llvm-mca") is None, reason="missing Debian package: llvm")
def test_cycles_of_a_known_loop() -> None:
    loop = InnerLoop(("add v0.16b, v1.16b, v2.16b",) * 6 + ("b.ne .LBB0_1",))
    assert loop.cycles("aarch64", "neoverse-n1") == pytest.approx(3, abs=0.2)


@pytest.mark.skipif(bool(missing("aarch64")), reason=f"missing Debian packages: {missing('aarch64')}")
def test_instructions_are_counted_per_step(tmp_path: Path) -> None:
    bundle = qcompiler.compile(binary_cnn(tmp_path / "cnn.onnx"), "arm", output=tmp_path / "out", verify=False)
    first = count(bundle, tmp_path)
    assert [len(column) for column in first] == [len(bundle.steps)] * len(bundle.variants)
    for column in first:
        for step, instructions in zip(bundle.steps, column, strict=True):
            # a vector instruction makes at most 128 / 3 binary products, or four others
            assert instructions > max(100, step.macs * 3 / 128)
    assert count(bundle, tmp_path) == first
