"""Instructions per inference where there is more than one program, and where the emulator lacks a variant."""

from __future__ import annotations

from pathlib import Path

import pytest

import qcompiler
from benchmarks.instructions import count
from tests.networks import binary_cnn
from tests.targets.emulated import missing
from tests.targets.on_board import missing as missing_for_boards


@pytest.mark.skipif(bool(missing_for_boards()), reason=missing_for_boards())
def test_boards(tmp_path: Path) -> None:
    path = binary_cnn(tmp_path / "cnn.onnx")
    bundle = qcompiler.compile(path, "cortex-m", mcpu=("m4", "m55"), output=tmp_path / "out", verify=False)
    with_vectors, without = count(bundle, tmp_path)
    for step, few, many in zip(bundle.steps, with_vectors, without, strict=True):
        assert few > max(20, step.macs * 3 / 128) and many > few / 2
    assert 2 * sum(with_vectors) < sum(without)


@pytest.mark.skipif(bool(missing("riscv64")), reason=f"missing Debian packages: {missing('riscv64')}")
def test_variants_that_the_emulator_lacks_are_left_out(tmp_path: Path) -> None:
    path = binary_cnn(tmp_path / "cnn.onnx")
    bundle = qcompiler.compile(path, "rv64", mcpu=("zbb", "rv64gc"), output=tmp_path / "out", verify=False)
    lacking, plain = count(bundle, tmp_path)
    assert lacking == [] and len(plain) == len(bundle.steps)
