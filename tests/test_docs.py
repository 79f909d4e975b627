"""The commands of the documentation that need no board, run as they stand."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import qcompiler
from qcompiler.bundle.elf import machine
from tests.networks import binary_cnn
from tests.targets.emulated import missing

ROOT = Path(__file__).resolve().parents[1]
_BLOCK = re.compile(r"<!-- run: (\S+) -->\n```bash\n(.*?)```", re.DOTALL)


def blocks(page: str, kind: str) -> str:
    found = [text for label, text in _BLOCK.findall((ROOT / "docs" / page).read_text()) if label == kind]
    assert found, page
    return "".join(found)


@pytest.mark.parametrize(
    ("kind", "architecture", "program"), [("64-bit", "aarch64", "classify"), ("32-bit", "arm", "classify32")]
)
def test_the_raspberry_pi_page(
    kind: str, architecture: str, program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if packages := missing(architecture):
        pytest.skip(f"missing Debian packages: {packages}")
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin" / "qcompile"
    command.write_text(f"#!{sys.executable}\nfrom qcompiler.cli import qcompile\nqcompile()\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(command.parent), prepend=":")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
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
