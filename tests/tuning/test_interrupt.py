"""The command qtune, interrupted: what it said that it measured is in the file, and nothing is measured again."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import typer

from qcompiler import command
from qcompiler.tuning import database
from tests.networks import lenet

ROOT = Path(__file__).resolve().parents[2]
_PROGRAM = "from qcompiler.cli_tune import qtune; qtune()"
_MEASURED = re.compile(r"expected .*: (\w+_p\d+b\d+s\d+[rc]), ")
_KEPT = "interrupted; what was measured is kept, and the same command goes on from there\n"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lenet(tmp_path_factory.mktemp("interrupted") / "lenet.onnx")


@contextmanager
def tuning(model: Path, db: Path, trials: int) -> Iterator[subprocess.Popen[str]]:
    """The command, alone in a group of processes as a terminal has it; all of them have ended afterwards."""
    command = [sys.executable, "-c", _PROGRAM, model, "--db", db, "--mcpu", "baseline", "--trials", str(trials)]
    process = subprocess.Popen(
        list(map(str, command)), env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def interrupt(process: subprocess.Popen[str]) -> tuple[str, str]:
    """What Ctrl-C does; the rest of what the command prints."""
    os.killpg(process.pid, signal.SIGINT)
    return process.communicate(timeout=60)


def kept(db: Path) -> Counter[str]:
    """How many records a kernel has; none is there twice, and no line is damaged."""
    if not db.exists():
        return Counter()
    found = database.read(db)
    assert not found.notes and len(found.records) == db.read_bytes().count(b"\n")
    return Counter(each.kernel for each in found.kernels())


def test_what_was_measured_before_an_interrupt_is_kept_and_not_repeated(model: Path, tmp_path: Path) -> None:
    """Interrupted after the first measurement, when others follow; the second run ends."""
    db, said = tmp_path / "db", Counter[str]()
    with tuning(model, db, 1) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        rest, errors = interrupt(process)
    assert (process.returncode, errors) == (128 + signal.SIGINT, _KEPT)
    before = db.read_bytes()
    said.update(_MEASURED.findall(line + rest))
    assert said and said <= kept(db)
    with tuning(model, db, 1) as process:
        out, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    said.update(_MEASURED.findall(out))
    assert db.read_bytes().startswith(before) and said == kept(db) and "is kept" in out


def _interrupted() -> None:
    raise KeyboardInterrupt


def _importing() -> None:
    """What a module in C makes of an interrupt while it is imported."""
    try:
        _interrupted()
    except KeyboardInterrupt as interrupt:
        raise ImportError("initialization failed") from interrupt


@pytest.mark.parametrize(("at_once", "task"), [(_interrupted, None), (_importing, None), (None, _importing)])
def test_an_interrupt_is_one_whoever_catches_it_first(
    at_once: command.Task | None,
    task: command.Task | None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """While arguments are read, and in the task."""

    def run() -> command.Task | None:
        if at_once is not None:
            at_once()
        return task

    app = typer.Typer()
    app.command()(run)
    monkeypatch.setattr(sys, "argv", ["command"])
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    with pytest.raises(SystemExit) as ended:
        command.main(app, "command", kept="all is kept")
    assert ended.value.code == 128 + signal.SIGINT and capsys.readouterr().err == "interrupted; all is kept\n"


@pytest.mark.slow
def test_an_interrupt_at_any_moment(model: Path, tmp_path: Path) -> None:
    """From the start of the command to its end, a quarter later each time; one that still starts has Python's words."""
    db, said, pause, codes = tmp_path / "db", Counter[str](), 0.2, Counter[int]()
    while not codes[0]:
        with tuning(model, db, 4) as process:
            try:
                out, errors = process.communicate(timeout=pause)
            except subprocess.TimeoutExpired:
                out, errors = interrupt(process)
        said.update(_MEASURED.findall(out))
        assert said <= kept(db)
        codes[process.returncode] += 1
        if process.returncode not in (0, -signal.SIGINT):
            assert (process.returncode, errors) == (128 + signal.SIGINT, _KEPT)
        pause *= 1.25
    print(f"{codes[128 + signal.SIGINT]} interrupts, {codes[-signal.SIGINT]} before the command began")
    assert said == kept(db) and said and codes[128 + signal.SIGINT] > 2
