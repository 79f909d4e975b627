from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import qcompiler
from qcompiler.border import border
from qcompiler.errors import InternalError, UsageError
from qcompiler.passes.eliminate_identities import EliminateIdentities
from tests.networks import binary_cnn


@dataclass
class Node:
    name: str


def test_a_foreign_exception_becomes_ours_with_the_innermost_node() -> None:
    def inner(node: Node) -> None:
        raise ValueError(f"a\nlong story {'x' * 1000}")

    def outer(node: Node) -> None:
        inner(Node("inner"))

    with pytest.raises(InternalError) as caught, border():
        outer(Node("outer"))
    assert str(caught.value).startswith("node 'inner': internal error: ValueError: a long story xxx")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400
    assert caught.value.exit_code == 1
    assert isinstance(caught.value.__cause__, ValueError)


@pytest.mark.parametrize("error", [UsageError("ours"), MemoryError(), OSError("disk"), KeyboardInterrupt()])
def test_other_errors_pass(error: BaseException) -> None:
    with pytest.raises(type(error)), border():
        raise error


def test_compile_raises_errors_of_ours_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = binary_cnn(tmp_path / "cnn.onnx")

    def fail(*_: object) -> None:
        raise AttributeError("'numpy.float32' object has no attribute '_add_usage'")

    monkeypatch.setattr(EliminateIdentities, "__call__", fail)
    with pytest.raises(InternalError, match="internal error: AttributeError: .*_add_usage.*please report the model"):
        qcompiler.compile(model, output=tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cnn.onnx"]


PROGRAM = """
import sys
from qcompiler.passes.eliminate_identities import EliminateIdentities
def fail(self, model):
    node = next(iter(model.graph))
    raise RuntimeError("first line\\nsecond line")
EliminateIdentities.__call__ = fail
from qcompiler.cli import qcompile
qcompile()
"""


@pytest.mark.parametrize("debug", [False, True])
def test_the_command_line_ends_in_one_line(debug: bool, tmp_path: Path) -> None:
    model = binary_cnn(tmp_path / "cnn.onnx")
    arguments = [str(model), "-o", str(tmp_path / "out"), *(["--debug"] if debug else [])]
    done = subprocess.run([sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, check=False)
    last = done.stderr.splitlines()[-1]
    assert done.returncode == 1
    assert last.startswith("error: node '") and "internal error: RuntimeError: first line second line" in last
    assert ("Traceback" in done.stderr) == debug
