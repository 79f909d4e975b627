from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import qcompiler
from benchmarks.arm import LAYERS, rows
from benchmarks.arm_page import page
from benchmarks.arm_widths import CORES, WIDTHS, Measured, measured, tool
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
@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("level", ["generic", "dotprod", "cortex-a72", "cortex-a76"])
def test_binary_inner_loops_come_near_the_ceiling(layer: str, level: str) -> None:
    """80 of 85.3 products per cycle on two pipes, and 31 of 42.7 on Cortex-A53; see docs/adr/0007-arm.md."""
    (variant,) = TARGET.variants([level])
    found = list(rows(layer, variant))
    assert found
    for row in found:
        assert row.spills == 0 and row.rates["neoverse-n1"] >= 80
        if not variant.isa.dotprod:
            assert row.rates["cortex-a72"] >= 80
        if level == "generic":
            assert row.rates["cortex-a53"] >= 31


@pytest.mark.skipif(not tool(), reason="missing Debian package: llvm")
@pytest.mark.parametrize(
    ("width", "core", "share"),
    [("w1a2", "cortex-a72", 0.85), ("w1a4", "cortex-a72", 0.85), ("w1a4", "cortex-a53", 0.5),
     ("w2a2", "cortex-a72", 0.85), ("w2a4, weights -3, -1, 1, 3", "cortex-a72", 0.8), ("w4a4", "cortex-a72", 0.95),
     ("ternary x 8", "cortex-a72", 0.95), ("w8a8", "cortex-a72", 0.85), ("w8a8", "cortex-a55", 0.8),
     ("w1a1", "cortex-a53", 0.85), ("w1a1", "cortex-a55", 0.85), ("w2a1", "cortex-a53", 0.75),
     ("w4a4", "cortex-a53", 0.75), ("w2a1", "cortex-a55", 0.85), ("w4a4", "cortex-a55", 0.85)],
)  # fmt: skip
def test_inner_loops_of_codes_reach_their_share(width: str, core: str, share: float) -> None:
    """On cores whose models are the same in most versions of LLVM; see docs/performance_arm.md."""
    if core == "cortex-a55" and tool() == "llvm-mca":
        pytest.skip("llvm-mca of LLVM 14 has another model of the Cortex-A55")
    (chosen,) = (each for each in CORES if each.model == core)
    row = measured(width, chosen)
    assert row.spills == 0 and row.share >= share, row
    assert row.rate <= row.ceiling * 1.01


def test_the_page_has_a_line_for_every_width_and_core() -> None:
    rows = [Measured(width, core.model, "k", 20.0, 40.0, 1.5, 0.5, 0.1, 0) for width in WIDTHS for core in CORES]
    text = page(rows, "llvm-mca", {"net": {"M MACs": 3, "generic": 2_000_000}}, {"net": {"generic": 5_000_000}}, "abc")
    assert text.count("20.0 of 40.0, 50%") == len(rows)
    assert text.count("| `k` | 20.0 | 40.0 | 50% | 1.50 | 0.50 | 0.10 | 0 |") == len(rows)
    assert "| net | 3 | 2.0 (before 5.0: 2.50x) |" in text and "as of abc" in text


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
