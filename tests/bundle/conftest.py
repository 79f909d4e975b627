from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from qcompiler.bundle.load import Bundle, load
from qcompiler.bundle.write import write
from tests.bundle import programs


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of `programs.tiny`, written once: not to be changed."""
    folder = tmp_path_factory.mktemp("bundles") / "tiny"
    write(programs.tiny(), folder, report={"rows": [1]}, report_text="a table", threads=2)
    return folder


@pytest.fixture
def folder(pristine: Path, tmp_path: Path) -> Path:
    """A copy of the bundle that a test may damage."""
    return shutil.copytree(pristine, tmp_path / "tiny")


@pytest.fixture
def bundle(pristine: Path) -> Bundle:
    return load(pristine)
