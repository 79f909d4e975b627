"""Shells complete options, targets and configs of the commands, as the user installs it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
QCOMPILE, QRUN = "qcompiler.cli:qcompile", "qcompiler.cli:qrun"
QTRAIN = "qcompiler.cli_train:qtrain"


def command(folder: Path, entry: str) -> Path:
    """The command of an entry point, as installing the package makes it."""
    module, _, function = entry.partition(":")
    path = folder / function
    path.write_text(f"#!{sys.executable}\nfrom {module} import {function}\n{function}()\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("entry", "line", "expected"),
    [
        (QCOMPILE, "qcompile --tar", {"--target"}),
        (QCOMPILE, "qcompile --target c", {"cortex-m", "cuda"}),
        (QRUN, "qrun --rem", {"--remote", "--remote-key"}),
        (QTRAIN, "qtrain mnist_l", {"mnist_lenet", "mnist_lenet_small"}),
    ],
)
def test_bash_completes_after_installing(entry: str, line: str, expected: set[str], tmp_path: Path) -> None:
    name = command(tmp_path, entry).name
    # bash finds the function and its words as it does when the user presses the tabulator
    script = f"""{name} --install-completion >&2
        source ~/.bashrc
        COMP_WORDS=({line}) COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
        $(complete -p {name} | sed 's/.*-F \\(\\S*\\).*/\\1/') {name}
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(
        ["bash", "-c", script],
        env={**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(tmp_path), "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"bash completion installed in {tmp_path}/" in done.stderr
    assert set(done.stdout.split()) == expected
