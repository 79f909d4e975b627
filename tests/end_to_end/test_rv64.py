"""Models compiled for 64-bit RISC-V and verified under an emulator."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import qcompiler
from tests.end_to_end.test_shared_models import MODELS, manifest
from tests.networks import binary_cnn
from tests.targets.emulated import missing

pytestmark = pytest.mark.skipif(bool(missing("riscv64")), reason=f"missing Debian packages: {missing('riscv64')}")

# the emulator cannot say that it has Zbb
RUNNABLE = ["v", "rv64gc"]
_VERIFIED = re.compile(r"(\w+) under qemu-riscv64: verified: \d+ codes of \d+ steps equal")


def compiled(path: Path, folder: Path) -> qcompiler.Bundle:
    said: list[str] = []
    bundle = qcompiler.compile(path, "rv64", output=folder, progress=said.append)
    assert [match[1] for match in map(_VERIFIED.match, said) if match] == RUNNABLE
    assert [variant.name for variant in bundle.variants] == ["v", "zbb", "rv64gc"]
    return bundle


@pytest.mark.slow
@pytest.mark.skipif(not MODELS.exists(), reason=f"the model collection {MODELS} is not here")
@pytest.mark.parametrize("name", manifest())
def test_shared_models(name: str, tmp_path: Path) -> None:
    compiled(MODELS / manifest()[name]["file"], tmp_path / "out")


@pytest.fixture(scope="module")
def classified(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """A bundle's directory with an image beside it, and the class that x86 finds on it."""
    folder = tmp_path_factory.mktemp("rv64")
    path = binary_cnn(folder / "cnn.onnx")
    compiled(path, folder / "out")
    image = np.random.default_rng(5).standard_normal((1, 3, 8, 8)).astype(np.float32)
    image.tofile(folder / "out" / "image.bin")
    native = qcompiler.compile(path, mcpu=("baseline",), output=folder / "x86", verify=False)
    (scores,) = native.run({"image": image}).values()
    return folder / "out", int(scores.argmax())


@pytest.mark.parametrize(("cpu", "variant"), [("rv64,v=true,vext_spec=v1.0", 0), ("rv64", 2)])
def test_a_program_takes_the_best_variant(cpu: str, variant: int, classified: tuple[Path, int], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(classified[0], tmp_path / "out"))
    main = f"""#include "cnn.h"
        int main(void) {{ return cnn_variant() != {variant}; }}"""
    (folder / "main.c").write_text(main)
    for source in ("main", "example"):
        command = ["riscv64-linux-gnu-gcc", "-O1", "-static", f"{source}.c", "libcnn.a", "-lm", "-o", source]
        subprocess.run(command, cwd=folder, check=True)
    subprocess.run(["qemu-riscv64", "-cpu", cpu, "./main"], cwd=folder, check=True)
    run = ["qemu-riscv64", "-cpu", cpu, "./example", "image.bin"]
    done = subprocess.run(run, cwd=folder, capture_output=True, text=True, check=True)
    assert f" largest at {classified[1]}\n" in done.stdout
