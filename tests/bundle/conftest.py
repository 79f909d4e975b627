from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from qcompiler.bundle.load import Bundle, checked_manifest, load
from qcompiler.bundle.native import Library
from qcompiler.bundle.write import add_reports, write
from tests.bundle import programs


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of `programs.tiny`, written once: not to be changed."""
    folder = tmp_path_factory.mktemp("bundles") / "tiny"
    write(programs.tiny(), folder, threads=2)
    add_reports(folder, checked_manifest(folder), programs.REPORTS)
    return folder


@pytest.fixture
def folder(pristine: Path, tmp_path: Path) -> Path:
    """A copy of the bundle that a test may damage."""
    return shutil.copytree(pristine, tmp_path / "tiny")


@pytest.fixture
def bundle(pristine: Path) -> Bundle:
    return load(pristine)


@pytest.fixture
def as_many_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pools have as many threads as they are asked for, however many processors there are."""
    call = Library.call

    def exactly(library: Library, function: str, *arguments: Any) -> Any:
        return call(library, "pool_start_exactly" if function == "pool_start" else function, *arguments)

    monkeypatch.setattr(Library, "call", exactly)
