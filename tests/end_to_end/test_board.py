"""Bundles on an emulated board with 64-bit Linux: in its Python, and from here through its RPC server."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import qcompiler
from qcompiler.bundle.isolated import IsolatedBundle
from qcompiler.bundle.load import checked_manifest
from qcompiler.bundle.remote import RemoteBundle
from qcompiler.bundle.tensors import random_inputs
from qcompiler.bundle.toolchain import emulator_for
from qcompiler.errors import UnsupportedCpu, UsageError
from tests import board, rpc
from tests.networks import binary_cnn
from tests.targets.emulated import missing

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [
    pytest.mark.skipif(bool(missing("aarch64")), reason=f"missing Debian packages: {missing('aarch64')}"),
    pytest.mark.skipif(bool(board.reason_to_skip()), reason=board.reason_to_skip()),
]
LOAD = "import sys, qcompiler; bundle = qcompiler.load(sys.argv[1])"
RUN = f"""{LOAD}
import numpy
outputs = bundle.run(dict(numpy.load(sys.argv[2])), threads=2)
numpy.savez(sys.argv[3], **outputs)
assert not {{"tvm", "onnx", "onnxruntime", "networkx"}} & set(sys.modules)
print(bundle.variant)"""


@pytest.fixture(scope="module")
def cnn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return binary_cnn(tmp_path_factory.mktemp("model") / "cnn.onnx")


@pytest.fixture(scope="module")
def bundle(cnn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("arm") / "out"
    qcompiler.compile(cnn, "arm", output=folder, verify=False)
    return folder


def emulated(folder: Path, variant: str) -> dict[str, np.ndarray]:
    """What the C library computes under the emulator from random inputs."""
    manifest, emulator = checked_manifest(folder), emulator_for("aarch64")
    assert emulator is not None
    with IsolatedBundle(folder, manifest, emulator) as opened:
        opened.variant = [item.name for item in manifest.variants].index(variant)
        return opened.run(random_inputs(manifest.inputs))


def assert_same(path: Path, expected: dict[str, np.ndarray]) -> None:
    with np.load(path) as found:
        assert {name: found[name].tobytes() for name in found} == {k: v.tobytes() for k, v in expected.items()}


def save_inputs(folder: Path, path: Path) -> None:
    np.savez(path, **random_inputs(checked_manifest(folder).inputs))


def on_the_board(cpu: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "QEMU_CPU": cpu, "PYTHONPATH": str(ROOT)}
    command = [str(board.PYTHON), "-c", *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("cpu", "variant"), [("max", "dotprod"), ("cortex-a72", "generic")])
def test_python_on_the_board_needs_numpy_alone(cpu: str, variant: str, bundle: Path, tmp_path: Path) -> None:
    save_inputs(bundle, tmp_path / "in.npz")
    done = on_the_board(cpu, RUN, bundle, tmp_path / "in.npz", tmp_path / "out.npz")
    assert (done.stdout, done.stderr) == (f"{variant}\n", "")
    assert_same(tmp_path / "out.npz", emulated(bundle, variant))


@pytest.mark.skipif(bool(missing("arm")), reason=f"missing Debian packages: {missing('arm')}")
def test_python_on_the_board_refuses_32_bit_code(cnn: Path, tmp_path: Path) -> None:
    qcompiler.compile(cnn, "arm", mcpu=("armv7",), output=tmp_path / "out", verify=False)
    done = on_the_board("max", LOAD, tmp_path / "out")
    assert done.returncode == 1 and done.stderr.splitlines()[-1] == (
        "qcompiler.errors.UnsupportedCpu: the bundle is for arm, this machine is aarch64; "
        "compile the model for this machine with --target"
    )


def compiler_prints(what: str) -> str:
    command = ["aarch64-linux-gnu-gcc", f"-print-{what}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_the_static_library_links_with_another_c_library(bundle: Path, tmp_path: Path) -> None:
    """As on Android, whose own cannot be had here: with musl's headers and library instead of glibc's."""
    headers = [board.ROOT / "usr/include/aarch64-linux-musl", compiler_prints("file-name=include"), bundle]
    include = [word for path in headers for word in ("-isystem", str(path))]
    around = [str(board.MUSL / name) for name in ("crt1.o", "crti.o", "libc.a", "crtn.o")]
    for name in ("example", "bench"):
        objects = [*around[:2], f"{bundle}/{name}.c", f"{bundle}/libcnn.a", around[2]]
        command = ["aarch64-linux-gnu-gcc", "-O2", "-Wall", "-Werror", "-static", "-nostdinc", "-nostdlib", *include]
        command += [*objects, compiler_prints("libgcc-file-name"), around[3], "-o", name]
        subprocess.run(command, cwd=tmp_path, check=True)
    inputs = random_inputs(checked_manifest(bundle).inputs)
    inputs["image"].tofile(tmp_path / "image.bin")
    (scores,) = emulated(bundle, "dotprod").values()
    run = ["qemu-aarch64", "./example", "image.bin"]
    done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == f" largest at {scores.argmax()}"
    run = ["qemu-aarch64", "./bench", "5", "2"]
    assert "median" in subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, check=True).stdout


def test_the_board_runs_bundles_through_rpc(cnn: Path, bundle: Path, tmp_path: Path) -> None:
    """In one test, since the server takes half a minute to start."""
    save_inputs(bundle, tmp_path / "in.npz")
    native = tmp_path / "native"
    qcompiler.compile(cnn, "x86", mcpu=("baseline",), output=native, verify=False)
    with rpc.server(tmp_path / "log", board.PYTHON) as address:
        check_qrun(bundle, address, tmp_path)
        generic = RemoteBundle(bundle, address, rpc.KEY, variant="generic")
        found, expected = generic.run(random_inputs(generic.inputs)), emulated(bundle, "generic")
        assert {name: array.tobytes() for name, array in found.items()} == {k: v.tobytes() for k, v in expected.items()}
        del generic  # the server takes one client at a time
        with pytest.raises(UnsupportedCpu, match=f"the bundle is for x86_64, the device {address} is aarch64; compile"):
            RemoteBundle(native, address, rpc.KEY)
        with pytest.raises(UsageError, match="has another key than ''"):
            RemoteBundle(bundle, address)


def check_qrun(bundle: Path, address: str, folder: Path) -> None:
    files = ("--inputs", folder / "in.npz", "--outputs", folder / "out.npz")
    options = ("--remote", address, "--remote-key", rpc.KEY, "--benchmark", "--profile", "--threads", 2)
    command = [sys.executable, "-c", "from qcompiler.cli import qrun; qrun()", bundle, *files, *options]
    done = subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"cnn on {address}: median " in done.stdout and "2 threads, variant dotprod" in done.stdout
    assert "held_conv2d" in done.stdout and "all steps" in done.stdout
    assert_same(folder / "out.npz", emulated(bundle, "dotprod"))
