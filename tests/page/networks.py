"""Made-up networks of any size for the page: what a bundle would say of them, without code."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from qcompiler.analysis.sizes import Constants
from qcompiler.bundle.manifest import FileInfo, Manifest
from qcompiler.bundle.write import manifest_of
from qcompiler.ir.codes import Codes
from qcompiler.ir.program import (
    Allocation,
    Argument,
    Call,
    Items,
    Program,
    StepInfo,
    StoredValue,
    TensorInfo,
    VariantCode,
)
from qcompiler.page import Measured, page
from qcompiler.report import Check, report

HOSTILE = "</script><script>document.title='owned'</script><img src=x onerror=alert(1)>&lt;\"'`${x}"
WIDTHS = ((1, 1), (2, 2), (8, 8), (32, 32), (0, 0))
CHECK = Check("avx2", 5, 1000, 1, 1e-6, "verified: 1000 codes equal")


def program(steps: int, name: str = "layer", note: str = "") -> Program:
    """A residual network: every step reads the one before it, every fifth also the one four steps before that."""
    variants = tuple(
        VariantCode(level, (), (), tuple(_call(index) for index in range(steps))) for level in ("avx2", "plain")
    )
    return Program(
        name="network",
        target="x86",
        inputs=(TensorInfo(f"image {name}", (1, 3, 32, 32), "float32"),),
        outputs=(TensorInfo(f"scores {name}", (1, 10), "float32"),),
        workspace_bytes=8192,
        constants=b"\0" * 4096,
        steps=tuple(_step(index, steps, name, note) for index in range(steps)),
        variants=variants,
        allocations=tuple(
            Allocation(index % 4 * 2048, 2048, index, min(index + 1, steps - 1)) for index in range(steps)
        ),
    )


def _call(index: int) -> Call:
    family = ("popcount_conv2d_p4", "standard", "tvm")[index % 3]
    return Call(f"k{index}", family, (), Items(1), 512, 1000.0 * (1 + index % 7) if index % 3 == 0 else 0.0)


def _step(index: int, steps: int, name: str, note: str) -> StepInfo:
    w_bits, a_bits = WIDTHS[index % len(WIDTHS)]
    last = index == steps - 1
    place = Argument("output", 0) if last else Argument("workspace", index % 4 * 2048)
    value = StoredValue(f"value {name} {index}", place, (1, 64, 8, 8), "bit-nhwc", "float32", codes=Codes(-1, 1, 2))
    return StepInfo(
        nodes=(f"{name}/{index}/Conv", f"{name}/{index}/Sign"),
        op="IntegerConv",
        w_bits=w_bits,
        a_bits=a_bits,
        macs=100_000 * (1 + index % 11) if w_bits else 0,
        bytes=2048,
        note=note or ("its input is real: put a sign before it" if w_bits == 32 else ""),
        values=(value,),
        integers=0 < w_bits < 32,
        reads_steps=tuple(sorted({index - 1, *((index - 5,) if index % 5 == 0 else ())} - set(range(-5, 0)))),
        reads_inputs=() if index else (0,),
        read_bytes=2048,
    )


def described(made: Program) -> tuple[Manifest, dict[str, Any]]:
    """The manifest of a bundle of the program, and its report as data."""
    manifest = manifest_of(made, "x86_64", 1, {"libnetwork.so": FileInfo("0" * 64, 50_000)})
    summary = replace(report(made, Constants(100_000, 500)), checks=(CHECK,))
    return manifest, json.loads(json.dumps(summary.as_json()))


def measured(steps: int) -> Measured:
    """Times of all steps."""
    times = tuple(1e-6 * (1 + index % 5) for index in range(steps))
    return Measured("avx2", 1, 50, times, (("cached", 60e9), ("in memory", 12e9)))


def written(folder: Path, made: Program, times: Measured | None = None) -> Path:
    """The page of the program as a file."""
    path = folder / "report.html"
    path.write_bytes(page(*described(made), times))
    return path
