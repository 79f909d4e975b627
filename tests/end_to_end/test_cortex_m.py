"""Models compiled for microcontrollers: verified on emulated boards, with the files from which firmwares are made."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest

import qcompiler
from qcompiler.bundle.load import Bundle, describe
from qcompiler.errors import QCompilerError, UnsupportedCpu, UnsupportedModel, UsageError
from qcompiler.pipeline import UNVERIFIED
from tests.end_to_end.test_shared_models import MODELS, manifest
from tests.end_to_end.test_wasm import only
from tests.networks import binary_cnn, lenet
from tests.targets.on_board import missing

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())

# binary, and 2 by 2 bits
SAMPLE = ("qonnx_zoo.TFC_1W1A", "qonnx_zoo.TFC_2W2A")
CORES = ("cortex_m55", "cortex_m7", "cortex_m33", "cortex_m4")
TOOLS = tuple(f"arm-none-eabi-{tool}" for tool in ("gcc", "ar", "objcopy", "readelf", "size", "ld", "as"))
# all that a network without exponentials and the like may ask for, and what ARM's ABI calls it
MEMORY = {
    "memcpy",
    "memset",
    "__aeabi_memclr",
    "__aeabi_memclr4",
    "__aeabi_memcpy",
    "__aeabi_memcpy4",
    "__aeabi_memset",
}
_VERIFIED = re.compile(r"(cortex_m\d+) under qemu-system-arm: verified: \d+ codes of \d+ steps equal")


def check_model(path: Path, folder: Path) -> Bundle:
    """Every step is verified on the boards of all cores."""
    said: list[str] = []
    bundle = qcompiler.compile(path, "cortex-m", output=folder / "out", progress=said.append)
    assert [match[1] for match in map(_VERIFIED.match, said) if match] == list(CORES)
    return bundle


@pytest.mark.skipif(not MODELS.exists(), reason=f"the model collection {MODELS} is not here")
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in SAMPLE else [pytest.mark.slow]) for name in manifest()]
)
def test_shared_models(name: str, tmp_path: Path) -> None:
    check_model(MODELS / manifest()[name]["file"], tmp_path)


@pytest.mark.slow
def test_lenet(tmp_path: Path) -> None:
    bundle = check_model(lenet(tmp_path / "lenet.onnx"), tmp_path)
    assert [(step.w_bits, step.a_bits) for step in bundle.steps if step.integers] == [(1, 1)] * 3


def test_the_smallest_core(tmp_path: Path) -> None:
    """Neither floats nor atomic operations in hardware."""
    said: list[str] = []
    path = binary_cnn(tmp_path / "cnn.onnx")
    bundle = qcompiler.compile(path, "cortex-m", mcpu=("m0+",), output=tmp_path / "out", progress=said.append)
    assert [match[1] for match in map(_VERIFIED.match, said) if match] == ["cortex_m0"]
    listing = ["arm-none-eabi-nm", "-u", bundle.directory / bundle.manifest.library]
    needed = subprocess.run(listing, capture_output=True, text=True, check=True).stdout
    assert {name for name in re.findall(r"U (\w+)", needed) if not name.startswith("__aeabi_")} <= MEMORY


def test_a_network_beyond_the_board_is_named(tmp_path: Path) -> None:
    path = tmp_path / "wide.onnx"
    tensor = "float[1, 64, 32, 32]"
    text = f'<ir_version: 8, opset_import: ["": 17]> wide ({tensor} x) => ({tensor} y) {{ y = Relu(x) }}'
    onnx.save(onnx.parser.parse_model(text), path)
    with pytest.raises(UnsupportedModel, match="too large for netduinoplus2, on which cortex-m0 is verified") as raised:
        qcompiler.compile(path, "cortex-m", mcpu=("m0",), output=tmp_path / "out")
    assert raised.value.exit_code == 3 and "compile with --no-verify" in str(raised.value)


@pytest.fixture(scope="module")
def cnn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network, verified on the board of a Cortex-M4."""
    folder = tmp_path_factory.mktemp("cnn")
    qcompiler.compile(binary_cnn(folder / "cnn.onnx"), "cortex-m", mcpu=("m4",), output=folder / "out")
    return folder / "out"


@pytest.fixture
def copy(cnn: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(cnn, tmp_path / "copy"))


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["make", "--no-print-directory", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_files(cnn: Path) -> None:
    core = {"libcnn_cortex_m4.a", "cnn_cortex_m4_constants.c", "cnn_cortex_m4.ld"}
    shared = {"cnn.h", "example.c", "startup.c", "board-semihosting.h", "Makefile"}
    reports = {"manifest.json", "report.json", "report.txt", "report.html"}
    assert {path.name for path in cnn.iterdir()} == core | shared | reports
    header = (cnn / "cnn.h").read_text()
    assert "cnn_pool" not in header and "libcnn_CPU.a" in header and "@" not in header


@pytest.mark.skipif(shutil.which("make") is None, reason="missing Debian package: make")
def test_the_example_computes_what_x86_computes(copy: Path) -> None:
    image = np.random.default_rng(3).standard_normal((1, 3, 8, 8)).astype(np.float32)
    image.tofile(copy / "image.bin")
    done = make(copy, "run", "CPU=cortex-m4", "INPUTS=image.bin")
    assert done.returncode == 0 and done.stderr == ""
    native = qcompiler.compile(binary_cnn(copy / "cnn.onnx"), output=copy / "x86", verify=False)
    (scores,) = native.run({"image": image}).values()
    shown = re.search(r"scores: (.*)\n largest at (\d+)\n", done.stdout)
    assert shown is not None and int(shown[2]) == scores.argmax()
    np.testing.assert_allclose(np.array(shown[1].split(), np.float32), scores.reshape(-1), atol=1e-6)


@pytest.mark.skipif(shutil.which("make") is None, reason="missing Debian package: make")
@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        ("Makefile", "error: Makefile does not hold exactly the bytes of its input\n"),
        ("nothing", "error: nothing cannot be opened\n"),
    ],
)
def test_the_example_refuses_files(inputs: str, expected: str, copy: Path) -> None:
    done = make(copy, "run", f"INPUTS={inputs}")
    assert done.returncode != 0 and expected in done.stdout


def test_libraries_ask_for_nothing_but_memory_functions(cnn: Path) -> None:
    listing = subprocess.run(
        ["arm-none-eabi-nm", "-u", "libcnn_cortex_m4.a"], cwd=cnn, capture_output=True, text=True, check=True
    ).stdout
    assert set(re.findall(r"U (\w+)", listing)) <= MEMORY
    headers = subprocess.run(
        ["arm-none-eabi-objdump", "-h", "libcnn_cortex_m4.a"], cwd=cnn, capture_output=True, text=True, check=True
    ).stdout
    assert re.search(r"\.rodata\.cnn_constants .*\n\s+CONTENTS, ALLOC, LOAD, READONLY, DATA", headers)


def test_constants_are_those_of_the_library(cnn: Path, tmp_path: Path) -> None:
    source = (cnn / "cnn_cortex_m4_constants.c").read_text()
    numbers = bytes(map(int, re.findall(r"\b\d+\b", source[source.index("= {") :])))
    shutil.copy(cnn / "libcnn_cortex_m4.a", tmp_path)
    subprocess.run(["arm-none-eabi-ar", "x", "libcnn_cortex_m4.a"], cwd=tmp_path, check=True)
    copying = ["arm-none-eabi-objcopy", "-O", "binary", "-j", ".rodata.cnn_constants", "cnn.o", "constants.bin"]
    subprocess.run(copying, cwd=tmp_path, check=True)
    assert (tmp_path / "constants.bin").read_bytes() == numbers
    assert len(numbers) == describe(cnn).report["footprints"][0]["constants"]


def test_flash_and_ram_are_reported(cnn: Path) -> None:
    bundle = describe(cnn)
    (row,) = bundle.report["footprints"]
    assert row["variant"] == "cortex_m4" and row["workspace"] == bundle.manifest.workspace_bytes
    assert row["flash"] == row["code"] + row["constants"] and row["code"] > 2000 and row["stack"] > 50
    assert row["ram"] == sum(row[part] for part in ("static", "workspace", "inputs", "outputs", "stack"))
    assert (row["inputs"], row["outputs"]) == (4 * 192, 4 * 5)
    assert "Flash and RAM in KiB" in bundle.report_text
    assert b'"footprints":[{' in (cnn / "report.html").read_bytes().replace(b" ", b"")


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({"flash": 4000}, r"cortex-m4 needs \d+\.\d KiB of flash, --flash allows 3.9 KiB; largest is .*; "),
        ({"ram": 1500}, r"cortex-m4 needs \d\.\d KiB of RAM, --ram allows 1.5 KiB; largest is .*; "),
    ],
)
def test_what_does_not_fit_is_refused(limits: dict[str, int], expected: str, tmp_path: Path) -> None:
    path = binary_cnn(tmp_path / "cnn.onnx")
    with pytest.raises(UnsupportedModel, match=expected) as raised:
        qcompiler.compile(path, "cortex-m", mcpu=("m4",), output=tmp_path / "out", **limits)
    assert raised.value.exit_code == 3
    assert not (tmp_path / "out").exists()


def test_memory_is_that_of_microcontrollers(tmp_path: Path) -> None:
    path = binary_cnn(tmp_path / "cnn.onnx")
    with pytest.raises(UsageError, match="--flash and --ram are those of microcontrollers, not of x86"):
        qcompiler.compile(path, "x86", output=tmp_path / "out", flash=2**20)


def test_a_bundle_is_described_and_not_run_here(cnn: Path) -> None:
    with pytest.raises(UnsupportedCpu, match="the bundle is for cortex-m, .*; run it on an emulated board: make run"):
        qcompiler.load(cnn)


def test_programs_run_on_one_thread(tmp_path: Path) -> None:
    path = binary_cnn(tmp_path / "cnn.onnx")
    with pytest.raises(UsageError, match="--threads 2: .* run on one; leave it out"):
        qcompiler.compile(path, "cortex-m", output=tmp_path / "out", threads=2)


def test_a_missing_compiler_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = binary_cnn(tmp_path / "cnn.onnx")
    only((), tmp_path / "bin", monkeypatch)
    expected = "'arm-none-eabi-gcc' is not installed; install the package gcc-arm-none-eabi"
    with pytest.raises(QCompilerError, match=expected) as raised:
        qcompiler.compile(path, "cortex-m", mcpu=("m4",), output=tmp_path / "out")
    assert raised.value.exit_code == 1
    assert not (tmp_path / "out").exists()


def test_a_missing_c_library_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = binary_cnn(tmp_path / "cnn.onnx")
    only(tuple(tool for tool in TOOLS if not tool.endswith("gcc")), tmp_path / "bin", monkeypatch)
    (tmp_path / "bin" / "arm-none-eabi-gcc").write_text("#!/bin/sh\necho libc.a\n")
    (tmp_path / "bin" / "arm-none-eabi-gcc").chmod(0o755)
    with pytest.raises(QCompilerError, match="finds no libc.a; install the package libnewlib-arm-none-eabi"):
        qcompiler.compile(path, "cortex-m", mcpu=("m4",), output=tmp_path / "out")


def test_without_an_emulator_the_user_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = binary_cnn(tmp_path / "cnn.onnx")
    only(TOOLS, tmp_path / "bin", monkeypatch)
    said: list[str] = []
    bundle = qcompiler.compile(path, "cortex-m", mcpu=("m4",), output=tmp_path / "out", progress=said.append)
    remedy = "install the package qemu-system-arm to verify by emulation"
    assert said[-1] == f"{UNVERIFIED}: it cannot run cortex-m code; {remedy}"
    assert bundle.report["footprints"][0]["stack"] == 0


@pytest.mark.skipif(shutil.which("make") is None, reason="missing Debian package: make")
@pytest.mark.parametrize("name", ["startup", "semihosting", "example", "main"])
def test_names_of_networks_do_not_meet_those_of_files(name: str, tmp_path: Path) -> None:
    path = binary_cnn(tmp_path / f"{name}.onnx")
    qcompiler.compile(path, "cortex-m", mcpu=("m4",), output=tmp_path / "out", verify=False)
    assert make(tmp_path / "out", "run").stdout.count(" largest at ") == 1
