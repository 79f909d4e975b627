"""The parts of the guided search that need no atheris: changes stay files, and files that are tried are judged."""

from __future__ import annotations

from pathlib import Path
from random import Random

import onnx
import onnx.parser
import pytest

from qcompiler.errors import UnsupportedModel
from tests.frontend.files import graph_text
from tests.fuzz.guided import mutations, seeds, trial

FILES = 400


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    folder = tmp_path_factory.mktemp("seeds")
    assert seeds.write_seeds(folder, networks=False) > 1500
    return [path.read_bytes() for path in sorted(folder.glob("*.onnx"))]


def test_changed_files_are_still_files_and_most_differ(corpus: list[bytes]) -> None:
    random = Random(0)
    changed = [(content, mutations.mutated(content, corpus[:3], random)) for content in random.sample(corpus, 100)]
    assert all(mutations.parsed(result) is not None for _, result in changed)
    assert sum(content != result for content, result in changed) > 80


def test_what_is_no_file_stays_as_it_is() -> None:
    assert mutations.mutated(b"\xff\xff", [], Random(0)) == b"\xff\xff"


def test_changed_files_are_read_or_refused(tmp_path: Path, corpus: list[bytes]) -> None:
    random, refused = Random(1), 0
    for content in random.choices(corpus, k=FILES):
        path = tmp_path / "model.onnx"
        path.write_bytes(mutations.mutated(content, random.choices(corpus, k=2), random))
        found = trial.tried(path)
        assert not found.fault, found.detail
        refused += found.refused
    assert FILES / 4 < refused < FILES


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (IndexError("list index out of range"), "IndexError at "),
        (UnsupportedModel("none of ours", remedy=""), "no remedy at "),
        (None, ""),
    ],
)
def test_faults_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception | None, fault: str) -> None:
    def fails(_: Path) -> None:
        if error is not None:
            raise error

    monkeypatch.setattr(trial, "canonicalize", fails)
    (tmp_path / "model.onnx").write_bytes(onnx.parser.parse_model(graph_text("y = Relu (x)")).SerializeToString())
    found = trial.tried(tmp_path / "model.onnx")
    assert found.fault.startswith(fault) and bool(found.fault) == bool(fault)
