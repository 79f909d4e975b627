"""The page of networks away from desktops: a table per kind of machine, and what differs is said."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest

from benchmarks.small import Row, measured, missing
from benchmarks.small_page import page
from tests.networks import binary_cnn
from tests.targets.emulated import missing as missing_packages
from tests.targets.in_node import missing as missing_for_web

ROWS = [
    Row("net", "wasm", "simd128", codes=1200, same=8, nbytes=2048, microseconds=12.34),
    Row("net", "x86", "baseline", nbytes=4096, microseconds=5.0),
    Row("net", "cortex-m", "cortex_m4", codes=800, same=6, largest=2e-7, flash=1024, ram=512, instructions=123456),
    Row("large", "cortex-m", failure="too large | for the board"),
]


def lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith(("| net", "| large"))]


def test_every_kind_of_machine_has_a_table() -> None:
    text = page([asdict(row) for row in ROWS], "a processor", 8)
    assert lines(text) == [
        "| network | variant | codes | same bits | KiB | µs |",
        "| net | simd128 | 1,200 | 8 | 2.0 | 12.3 |",
        "| net | baseline | - | - | 4.0 | 5.0 |",
        "| network | variant | codes | same bits | flash | RAM | instructions |",
        "| net | cortex-m4 | 800 | 6, 2e-07 | 1.0 | 0.5 | 123,456 |",
        "| large | too large \\| for the board | - | - | - | - | - |",
    ]
    assert "on a processor" in text and "RISC-V\n\nInstr" not in text


def test_what_is_known_is_not_measured_again() -> None:
    assert missing("net", ("wasm", "cortex-m", "rv64"), ROWS) == ["rv64"]
    assert missing("other", ("wasm",), ROWS) == ["wasm"]


@pytest.mark.slow
@pytest.mark.skipif(bool(missing_for_web()), reason=missing_for_web())
@pytest.mark.skipif(bool(missing_packages("riscv64")), reason=f"missing Debian packages: {missing_packages('riscv64')}")
def test_a_network_is_measured(tmp_path: Path) -> None:
    rows = {row.variant: row for row in measured(binary_cnn(tmp_path / "cnn.onnx"), ("wasm", "rv64"))}
    assert {"simd128", "plain", "baseline", "v", "rv64gc"} < set(rows)
    assert rows["simd128"].same == rows["plain"].same == 8 and rows["plain"].codes > 0
    assert rows["v"].instructions < rows["rv64gc"].instructions
    assert all(rows[variant].microseconds > 0 for variant in ("simd128", "plain", "baseline"))
