"""The doctor finds tools where they are, names the package where they are not, and ends with status 0 either way."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from qcompiler import doctor
from qcompiler.targets import TARGETS

ROOT = Path(__file__).resolve().parents[1]


def examined() -> dict[str, tuple[bool, str]]:
    return {each.part.name: (each.here, each.text) for each in doctor.examine()}


def test_without_tools_every_package_is_named(tmp_path: Path) -> None:
    """As a user sees it who has nothing but Python."""
    done = subprocess.run(
        [sys.executable, "-m", "qcompiler.doctor"],
        env={"PATH": str(tmp_path), "PYTHONPATH": str(ROOT), "COLUMNS": "300"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    lines = [line.split() for line in done.stdout.splitlines() if line.startswith(("no ", "yes "))]
    # nvcc and the extras come from Python's packages
    assert all(line[0] == "no" for line in lines if line[1] not in ("nvcc", "extra")) and len(lines) > 12
    assert set(re.findall(r"sudo apt install ([\w-]+)", done.stdout)) == {
        "gcc", "gcc-aarch64-linux-gnu", "gcc-arm-linux-gnueabihf", "gcc-riscv64-linux-gnu", "gcc-arm-none-eabi",
        "qemu-user", "qemu-system-arm", "make", "clang", "nodejs",
    }  # fmt: skip


def test_every_target_is_told_of() -> None:
    told = " ".join(part.adds for part in doctor.parts())
    assert all(f"--target {target}" in told for target in TARGETS)


def test_a_tool_is_found_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert examined()["node"] == (False, "install the package nodejs (Debian, Ubuntu: sudo apt install nodejs)")
    (tmp_path / "node").symlink_to(sys.executable)
    assert examined()["node"] == (True, str(tmp_path / "node"))


def test_each_tool_for_ios_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "sudo apt install clang)" in examined()["compiler for arm64-ios"][1]
    (tmp_path / "clang").symlink_to(sys.executable)
    assert "sudo apt install llvm)" in examined()["compiler for arm64-ios"][1]
    for tool in ("nm", "objcopy", "ar"):
        (tmp_path / f"llvm-{tool}").symlink_to(sys.executable)
    assert examined()["compiler for arm64-ios"] == (True, str(tmp_path / "clang"))


@pytest.mark.skipif(shutil.which("gcc") is None, reason="missing Debian package: gcc")
def test_a_compiler_without_its_c_library_is_not_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for tool in ("ar", "objcopy", "readelf"):
        (tmp_path / f"riscv64-linux-gnu-{tool}").symlink_to("/bin/true")
    compiler = tmp_path / "riscv64-linux-gnu-gcc"
    # gcc prints the name of a file that it does not find
    compiler.write_text("#!/bin/sh\necho crt1.o\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert examined()["compiler for riscv64"] == (
        False,
        "install the package libc6-dev-riscv64-cross (Debian, Ubuntu: sudo apt install libc6-dev-riscv64-cross)",
    )


def test_gpus_are_named_as_the_driver_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = tmp_path / "nvidia-smi"
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    driver.write_text("#!/bin/sh\necho 'One, 8.0'\necho 'Two, 9.0'\n")
    driver.chmod(0o755)
    assert examined()["GPU"] == (True, "One, 8.0; Two, 9.0")
    driver.write_text("#!/bin/sh\necho 'no devices were found'\nexit 6\n")
    assert examined()["GPU"] == (False, "none, or no driver of NVIDIA's; bundles are verified without")


def test_extras_are_those_of_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = ["numpy>=2.0", 'pillow>=10; extra == "images"', "not-there>=1; extra == 'train'"]
    monkeypatch.setattr(doctor.metadata, "requires", lambda name: asked)
    found = examined()
    assert found["extra images"][0] and found["extra images"][1].startswith("pillow ")
    assert found["extra train"] == (False, "pip install 'qcompiler[train]' (missing: not-there)")
