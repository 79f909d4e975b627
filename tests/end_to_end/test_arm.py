"""Models compiled for ARM, run under emulation beside their x86 bundles."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import qcompiler
from qcompiler.bundle import elf
from qcompiler.bundle.isolated import IsolatedBundle
from qcompiler.bundle.load import describe
from qcompiler.bundle.toolchain import emulator_for
from qcompiler.errors import QCompilerError, UnsupportedCpu
from qcompiler.ir.program import TensorInfo
from qcompiler.pipeline import UNVERIFIED
from qcompiler.ties import BOUND, relative_difference
from tests.end_to_end.test_shared_models import MODELS, manifest
from tests.networks import binary_cnn, transpose
from tests.targets.emulated import cross_chain, missing

SAMPLE = ("qonnx_zoo.TFC_1W1A", "torch_bnn.xnornet_alpha")
ARCHITECTURES = {"aarch64": (), "arm": ("armv7",)}
C_FLAGS = ("-O2", "-Wall", "-Wextra", "-Werror", "-std=c99", "-static")


def needs(architecture: str) -> pytest.MarkDecorator:
    packages = missing(architecture)
    return pytest.mark.skipif(bool(packages), reason=f"missing Debian packages: {packages}")


def model_cases() -> list[object]:
    return [
        pytest.param(name, architecture, marks=[needs(architecture)] + ([] if name in SAMPLE else [pytest.mark.slow]))
        for name in manifest()
        for architecture in ARCHITECTURES
    ]


def random_inputs(tensors: tuple[TensorInfo, ...]) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(7)
    return {t.name: rng.standard_normal(t.shape).astype(t.dtype) for t in tensors}


def built(folder: Path, architecture: str, source: str = "example.c") -> Path:
    library = next(folder.glob("lib*.a"))
    command = [cross_chain(architecture).compiler, *C_FLAGS, source, library.name, "-lm", "-o", "program"]
    subprocess.run(command, cwd=folder, check=True)
    return folder / "program"


@pytest.mark.skipif(not MODELS.exists(), reason=f"the model collection {MODELS} is not here")
@pytest.mark.parametrize(("name", "architecture"), model_cases())
def test_model_computes_what_its_x86_bundle_computes(name: str, architecture: str, tmp_path: Path) -> None:
    path = MODELS / manifest()[name]["file"]
    said: list[str] = []
    # compiling compares every code of every step with onnxruntime, for each variant
    bundle = qcompiler.compile(
        path, "arm", mcpu=ARCHITECTURES[architecture], output=tmp_path / "arm", progress=said.append
    )
    verified = [line for line in said if re.match(r"\w+ under qemu-\w+: verified: \d+ codes", line)]
    assert len(verified) == len(bundle.variants)
    native = qcompiler.compile(path, "x86", output=tmp_path / "x86", verify=False)
    inputs = random_inputs(native.inputs)
    expected = native.run(inputs)
    emulator = emulator_for(architecture)
    assert emulator is not None
    with IsolatedBundle(tmp_path / "arm", bundle.manifest, emulator) as emulated:
        for emulated.variant in range(len(bundle.variants)):
            found = emulated.run(inputs)
            assert all(relative_difference(found[key], expected[key]) <= BOUND for key in expected)


@pytest.fixture(scope="module")
def cnn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return binary_cnn(tmp_path_factory.mktemp("model") / "cnn.onnx")


@pytest.fixture(scope="module")
def bundle(cnn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("arm") / "out"
    qcompiler.compile(cnn, "arm", output=folder, verify=False)
    return folder


@pytest.mark.parametrize("architecture", [pytest.param(name, marks=needs(name)) for name in ARCHITECTURES])
def test_the_c_example_prints_what_the_x86_bundle_computes(cnn: Path, architecture: str, tmp_path: Path) -> None:
    native = qcompiler.compile(cnn, "x86", output=tmp_path / "x86", verify=False)
    qcompiler.compile(cnn, "arm", mcpu=ARCHITECTURES[architecture], output=tmp_path / "arm", verify=False)
    inputs = random_inputs(native.inputs)
    next(iter(inputs.values())).tofile(tmp_path / "input.bin")
    program = built(tmp_path / "arm", architecture)
    command = [f"qemu-{architecture}", str(program), str(tmp_path / "input.bin")]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    found = np.array([float(word) for word in printed[1].split() if word != "..."])
    (expected,) = native.run(inputs).values()
    np.testing.assert_allclose(found, expected.reshape(-1)[: len(found)], rtol=1e-5, atol=1e-5)


@needs("aarch64")
@pytest.mark.parametrize("architecture", [pytest.param(name, marks=needs(name)) for name in ARCHITECTURES])
def test_code_of_others_alone_runs_too(architecture: str, tmp_path: Path) -> None:
    said: list[str] = []
    path = transpose(tmp_path / "moves.onnx")
    qcompiler.compile(path, "arm", mcpu=ARCHITECTURES[architecture], output=tmp_path / "out", progress=said.append)
    assert any("verified:" in line for line in said)


def test_the_kernel_tells_which_variant_runs(bundle: Path) -> None:
    main = "int main(void) { puts(cnn_variant_name(cnn_variant())); return 0; }"
    (bundle / "which.c").write_text(f'#include <stdio.h>\n#include "cnn.h"\n{main}\n')
    program = built(bundle, "aarch64", "which.c")
    for cpu, variant in (("cortex-a53", "generic"), ("cortex-a72", "generic"), ("max", "dotprod")):
        command = ["qemu-aarch64", "-cpu", cpu, str(program)]
        assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == f"{variant}\n"


@needs("aarch64")
def test_a_core_without_the_features_gets_an_error(cnn: Path, tmp_path: Path) -> None:
    qcompiler.compile(cnn, "arm", mcpu=("cortex-a76",), output=tmp_path / "out", verify=False)
    program = built(tmp_path / "out", "aarch64")
    command = ["qemu-aarch64", "-cpu", "cortex-a72", str(program)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "error: the CPU has none of the instruction sets of this library\n")


@needs("aarch64")
def test_the_shared_library_is_small_and_loads_with_any_page_size(bundle: Path) -> None:
    library = bundle / "libcnn.so"
    assert library.stat().st_size < 64 * 1024
    assert elf.machine(library.read_bytes()) == "aarch64"
    headers = subprocess.run(["readelf", "-lW", library], capture_output=True, text=True, check=True).stdout
    assert set(re.findall(r"LOAD.* (0x\w+)$", headers, re.MULTILINE)) == {"0x10000"}
    dynamic = subprocess.run(["readelf", "-dW", library], capture_output=True, text=True, check=True).stdout
    assert set(re.findall(r"NEEDED.*\[(.*)\]", dynamic)) <= {"libc.so.6", "libm.so.6", "ld-linux-aarch64.so.1"}


@needs("aarch64")
def test_a_bundle_for_another_machine_is_described_and_not_run(bundle: Path) -> None:
    with pytest.raises(UnsupportedCpu, match="the bundle is for aarch64, this machine is x86_64"):
        qcompiler.load(bundle)
    described = describe(bundle)
    assert not described.runs_here
    assert [variant.name for variant in described.variants] == ["dotprod", "generic"]
    with pytest.raises(UnsupportedCpu, match="the bundle is for aarch64"):
        described.run(random_inputs(described.inputs))


def test_without_an_emulator_the_user_is_told(cnn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if missing("aarch64").startswith("gcc"):
        pytest.skip("missing Debian packages: gcc-aarch64-linux-gnu")
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in ("gcc", "ar", "nm", "objcopy", "readelf"):
        (tools / f"aarch64-linux-gnu-{tool}").symlink_to(str(shutil.which(f"aarch64-linux-gnu-{tool}")))
    monkeypatch.setenv("PATH", str(tools))
    said: list[str] = []
    qcompiler.compile(cnn, "arm", output=tmp_path / "one", progress=said.append)
    assert said[-1] == f"{UNVERIFIED}: it cannot run aarch64 code; install the package qemu-user to verify by emulation"
    with pytest.warns(UserWarning, match=UNVERIFIED):
        qcompiler.compile(cnn, "arm", output=tmp_path / "two")


def test_a_missing_cross_compiler_is_named(cnn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(QCompilerError, match="'aarch64-linux-gnu-gcc' is not installed.*gcc-aarch64-linux-gnu"):
        qcompiler.compile(cnn, "arm", output=tmp_path / "out")
    with pytest.raises(QCompilerError, match="'arm-linux-gnueabihf-gcc' is not installed.*gcc-arm-linux-gnueabihf"):
        qcompiler.compile(cnn, "arm", mcpu=("armv7",), output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@needs("arm")
def test_a_cross_compiler_without_its_c_library_is_told(
    cnn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    # as where libc6-dev-armhf-cross is missing
    compiler = shutil.which("arm-linux-gnueabihf-gcc")
    script = (
        f'#!/bin/sh\ncase "$*" in -print-file-name=*) echo "${{1#*=}}";; *) exec {compiler} -nostdinc "$@";; esac\n'
    )
    (tools / "arm-linux-gnueabihf-gcc").write_text(script)
    (tools / "arm-linux-gnueabihf-gcc").chmod(0o755)
    monkeypatch.setenv("PATH", str(tools), prepend=":")
    message = "arm-linux-gnueabihf-gcc is installed, but not its C library.*install the package libc6-dev-armhf-cross"
    with pytest.raises(QCompilerError, match=message):
        qcompiler.compile(cnn, "arm", mcpu=("armv7",), output=tmp_path / "out")
    assert missing("arm") == "libc6-dev-armhf-cross"
    assert not (tmp_path / "out").exists()


@needs("aarch64")
def test_wrong_code_is_found_under_the_emulator(cnn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from qcompiler.targets.vector.word_mismatches import WordMismatches

    pack = WordMismatches.pack
    monkeypatch.setattr(WordMismatches, "pack", lambda *args: [~words for words in pack(*args)])
    with pytest.raises(qcompiler.errors.VerificationFailed, match="codes of .* are wrong"):
        qcompiler.compile(cnn, "arm", output=tmp_path / "out")
    assert not (tmp_path / "out").exists()
