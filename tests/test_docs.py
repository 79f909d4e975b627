"""The commands of the documentation that need no board, run as they stand."""

from __future__ import annotations

import ast
import contextlib
import http.server
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser

import qcompiler
from qcompiler.bundle.elf import machine
from tests.networks import binary_cnn
from tests.targets.cuda.launching import missing as missing_for_cuda
from tests.targets.emulated import missing
from tests.targets.in_node import missing as missing_for_web
from tests.targets.on_board import missing as missing_for_boards

ROOT = Path(__file__).resolve().parents[1]
APP = """#include "model.h"
int classify(const void *const *inputs, void *const *outputs, void *workspace) {
    return model_run(inputs, outputs, workspace, MODEL_WORKSPACE_SIZE);
}
"""
_BLOCK = re.compile(r"<!-- run: (\S+) -->\n```bash\n(.*?)```", re.DOTALL)


def blocks(page: str, kind: str) -> str:
    found = [text for label, text in _BLOCK.findall((ROOT / "docs" / page).read_text()) if label == kind]
    assert found, page
    return "".join(found)


def public_names(package: str) -> dict[str, str]:
    """The module of every name that a package offers, from the text of its __init__.py: importing would take long."""
    tree = ast.parse((ROOT / package.replace(".", "/") / "__init__.py").read_text())
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module != "typing"]
    return {alias.name: str(node.module) for node in imports for alias in node.names if node.module != "__future__"}


@pytest.mark.parametrize("package", ["qcompiler", "qcompiler.nn"])
def test_all_that_is_public_has_a_place_in_the_reference(package: str) -> None:
    shown = set(re.findall(r"^::: (\S+)$", (ROOT / "docs" / "api.md").read_text(), re.MULTILINE))
    names = public_names(package)
    assert len(names) >= 5
    for name, module in names.items():
        assert {module, f"{module}.{name}"} & shown, name


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """qcompile on the search path."""
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin" / "qcompile"
    command.write_text(f"#!{sys.executable}\nfrom qcompiler.cli import qcompile\nqcompile()\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(command.parent), prepend=":")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


@pytest.mark.usefixtures("commands")
@pytest.mark.parametrize(
    ("kind", "architecture", "program"), [("64-bit", "aarch64", "classify"), ("32-bit", "arm", "classify32")]
)
def test_the_raspberry_pi_page(kind: str, architecture: str, program: str, tmp_path: Path) -> None:
    if packages := missing(architecture):
        pytest.skip(f"missing Debian packages: {packages}")
    model = binary_cnn(tmp_path / "model.onnx")
    image = np.random.default_rng(3).standard_normal((1, 3, 8, 8)).astype(np.float32)
    image.tofile(tmp_path / "image.bin")
    script = blocks("deploy_raspberry_pi.md", kind)
    done = subprocess.run(["bash", "-euc", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"under qemu-{architecture}: verified" in done.stderr
    assert machine((tmp_path / program).read_bytes()) == architecture
    (scores,) = qcompiler.compile(model, output=tmp_path / "x86", verify=False).run({"image": image}).values()
    assert f"largest at {scores.argmax()}" in done.stdout


@pytest.mark.usefixtures("commands")
@pytest.mark.skipif(shutil.which("cmake") is None, reason="missing Debian package: cmake")
def test_the_android_page(tmp_path: Path) -> None:
    """With GCC's cross compiler instead of the NDK's."""
    if packages := missing("aarch64"):
        pytest.skip(f"missing Debian packages: {packages}")
    binary_cnn(tmp_path / "model.onnx")
    subprocess.run(["bash", "-euc", blocks("deploy_android.md", "android")], cwd=tmp_path, check=True)
    (lines,) = re.findall(r"```cmake\n(.*?)```", (ROOT / "docs" / "deploy_android.md").read_text(), re.DOTALL)
    (tmp_path / "app.c").write_text(APP)
    start = "cmake_minimum_required(VERSION 3.13)\nproject(app C)\nadd_library(app SHARED app.c)\n"
    (tmp_path / "CMakeLists.txt").write_text(start + lines)
    cross = ["-DCMAKE_SYSTEM_NAME=Linux", "-DCMAKE_SYSTEM_PROCESSOR=aarch64"]
    cross += ["-DCMAKE_C_COMPILER=aarch64-linux-gnu-gcc", "-DCMAKE_SHARED_LINKER_FLAGS=-Wl,-z,defs"]
    subprocess.run(["cmake", "-S", ".", "-B", "build", *cross], cwd=tmp_path, check=True)
    subprocess.run(["cmake", "--build", "build"], cwd=tmp_path, check=True)
    app = tmp_path / "build" / "libapp.so"
    assert machine(app.read_bytes()) == "aarch64"
    headers = subprocess.run(["readelf", "-lW", app], capture_output=True, text=True, check=True).stdout
    assert set(re.findall(r"LOAD.* (0x\w+)$", headers, re.MULTILINE)) == {"0x4000"}
    symbols = subprocess.run(["aarch64-linux-gnu-nm", "-D", app], capture_output=True, text=True, check=True).stdout
    assert " T classify" in symbols and "U model_" not in symbols


@pytest.mark.usefixtures("commands")
@pytest.mark.skipif(bool(missing_for_web()), reason=missing_for_web())
def test_the_web_page(browser: Browser, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "examples" / "digits", tmp_path / "examples" / "digits")
    script = blocks("deploy_web.md", "web")
    done = subprocess.run(["bash", "-euc", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count(" under node: verified") == 2 and " largest at 3\n" in done.stdout
    (html,) = re.findall(r"```html\n(.*?)```", (ROOT / "docs" / "deploy_web.md").read_text(), re.DOTALL)
    (tmp_path / "index.html").write_text(html)
    with served(tmp_path) as address:
        page = browser.new_page()
        page.goto(address)
        page.wait_for_function("document.body.textContent.startsWith('simd128: ')")
        (scores,) = (
            qcompiler.compile(tmp_path / "examples" / "digits" / "model.onnx", output=tmp_path / "x86")
            .run({"image": np.zeros((1, 1, 8, 8), np.float32)})
            .values()
        )
        shown = page.evaluate("document.body.textContent").removeprefix("simd128: ").split(",")
        np.testing.assert_array_equal(np.array(shown, np.float32), scores.reshape(-1))
        page.close()


@pytest.mark.usefixtures("commands")
@pytest.mark.skipif(bool(missing_for_boards()), reason=missing_for_boards())
@pytest.mark.skipif(shutil.which("make") is None, reason="missing Debian package: make")
def test_the_microcontroller_page(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "examples" / "digits", tmp_path / "examples" / "digits")
    script = blocks("deploy_microcontroller.md", "board")
    done = subprocess.run(["bash", "-euc", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count(" under qemu-system-arm: verified") == 3
    assert done.stdout.count("\n largest at 3\n") == 2
    (firmware,) = re.findall(r"```c\n(.*?)```", (ROOT / "docs" / "deploy_microcontroller.md").read_text(), re.DOTALL)
    (tmp_path / "net" / "firmware.c").write_text(firmware)
    command = ["arm-none-eabi-gcc", "-std=c11", "-Wall", "-Wextra", "-Werror", "-mthumb", "-mcpu=cortex-m4"]
    subprocess.run([*command, "-mfloat-abi=hard", "-c", "firmware.c"], cwd=tmp_path / "net", check=True)


@pytest.mark.usefixtures("commands")
def test_the_riscv_page(tmp_path: Path) -> None:
    if packages := missing("riscv64"):
        pytest.skip(f"missing Debian packages: {packages}")
    shutil.copytree(ROOT / "examples" / "digits", tmp_path / "examples" / "digits")
    script = blocks("deploy_riscv.md", "riscv")
    done = subprocess.run(["bash", "-euc", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count(" under qemu-riscv64: verified") == 2 and " largest at 3\n" in done.stdout


@pytest.mark.usefixtures("commands")
@pytest.mark.skipif(bool(missing_for_cuda()), reason=missing_for_cuda())
def test_the_cuda_page(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "examples" / "digits", tmp_path / "examples" / "digits")
    script = blocks("deploy_cuda.md", "cuda")
    done = subprocess.run(["bash", "-euc", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count(" on the processor: verified") == 2
    started = ["./classify", "examples/digits/three.bin"]
    ran = subprocess.run(started, cwd=tmp_path, capture_output=True, text=True, check=False)
    no_device = ran.returncode == 1 and ran.stderr == "error: there is no CUDA device here, or no driver for it\n"
    assert no_device or " largest at 3\n" in ran.stdout


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of a folder, as the page's last command serves it."""
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.mark.usefixtures("commands")
def test_the_arm_commands_of_the_readme(tmp_path: Path) -> None:
    """.ci/run times them as they stand; here what they print is looked at."""
    if packages := missing("aarch64"):
        pytest.skip(f"missing Debian packages: {packages}")
    (script,) = re.findall(r"<!-- arm -->\n```bash\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(script.splitlines()) == 3
    shutil.copytree(ROOT / "examples" / "digits", tmp_path / "examples" / "digits")
    script = script.replace(".venv/bin/qcompile", "qcompile")
    done = subprocess.run(["bash", "-euc", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(" largest at 3\n")
