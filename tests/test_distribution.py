"""What is built, a wheel and an archive of sources, installs where nothing else is, compiles and runs a network."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MODEL = ROOT / "examples" / "digits" / "model.onnx"


def run(*command: object, cwd: Path, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
    """A command as a user gives it, who has no checkout on Python's path."""
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [str(each) for each in command],
        cwd=cwd,
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        check=check,
    )


@pytest.mark.slow
def test_what_is_built_installs_and_compiles(tmp_path: Path) -> None:
    run(sys.executable, "-m", "build", "-o", tmp_path / "dist", ROOT, cwd=tmp_path)
    (wheel,), (sources,) = (tmp_path / "dist").glob("*.whl"), (tmp_path / "dist").glob("*.tar.gz")
    run(sys.executable, "-m", "venv", tmp_path / "clean", cwd=tmp_path)
    here = tmp_path / "clean" / "bin"
    nothing = tmp_path / "nothing"
    nothing.mkdir()
    for built, options in ((wheel, []), (sources, ["--no-deps", "--force-reinstall"])):
        run(here / "pip", "install", "-q", *options, built, cwd=tmp_path)
        found = run(here / "python", "-c", "import qcompiler; print(qcompiler.__file__)", cwd=tmp_path).stdout
        assert found.startswith(str(tmp_path / "clean"))
        net = tmp_path / f"{built.suffix[1:]}.qc"
        done = run(here / "qcompile", MODEL, "-o", net, cwd=tmp_path)
        assert "verified" in done.stderr and (net / "report.html").exists()
        # a compiler is needed to compile, and for nothing else
        outputs = run(here / "qrun", net, "--json", cwd=tmp_path, PATH=str(nothing)).stdout
        assert '"classes"' in outputs
        done = run(here / "qcompile", MODEL, "-o", tmp_path / "no", cwd=tmp_path, check=False, PATH=str(nothing))
        assert done.returncode == 1 and not (tmp_path / "no").exists()
        assert "error: the C compiler tool 'cc' is not installed; install the package gcc" in done.stderr
        assert run(here / "python", "-m", "qcompiler.doctor", cwd=tmp_path, PATH=str(nothing)).stdout.count("\nno ") > 9
