"""The commands for a GPU, with a processor that stands for it: bundles are made, checked, timed, and failures said."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from benchmarks import cuda
from benchmarks.models import Layer, conv_chain
from tests.targets.cuda.launching import missing, stand_in

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One row, whose library runs here."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(cuda, "_workload", lambda row: conv_chain(Layer(64, 7), 1, True))
        assert cuda.main(["make", str(folder), "--mcpu", "sm_80", "--rows", "tiny"]) == 0
    standing = stand_in(folder / "tiny" / "net", tmp_path_factory.mktemp("standing"))
    shutil.rmtree(folder / "tiny" / "net")
    shutil.copytree(standing, folder / "tiny" / "net")
    return folder


def measured(folder: Path, file: Path) -> tuple[int, dict[str, object]]:
    status = cuda.main(["run", str(folder), "--json", str(file), "--seconds", "0.05"])
    return status, json.loads(file.read_text())["bundles"]["tiny"]


def test_a_row_is_held_against_onnxruntime_and_timed(made: Path, tmp_path: Path) -> None:
    status, row = measured(made, tmp_path / "found.json")
    assert status == 0 and row["right"] is True and row["variant"] == "sm_80"
    assert isinstance(row["steps"], list) and any(step["kernel"].startswith("mma_") for step in row["steps"])


def test_other_results_are_not_right(made: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(made, copy)
    held = dict(np.load(copy / "tiny" / cuda.ARRAYS))
    (name,) = set(held) - {"input", "macs"}
    np.savez(copy / "tiny" / cuda.ARRAYS, **{**held, name: held[name] + 1})
    status, row = measured(copy, tmp_path / "found.json")
    assert status == 1 and row["right"] is False


def test_a_row_that_fails_says_why(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(made, copy)
    (copy / "tiny" / "net" / "manifest.json").unlink()
    status, row = measured(copy, tmp_path / "found.json")
    assert status == 1 and "is not a bundle" in str(row["error"])
    assert capsys.readouterr().err.startswith("tiny: ")
