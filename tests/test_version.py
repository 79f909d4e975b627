"""The version, installed or not."""

from __future__ import annotations

import tomllib
from importlib import metadata
from pathlib import Path

import pytest

from qcompiler import version as module
from qcompiler.version import version

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)


def test_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "version", lambda name: f"{name} 7")
    assert version() == "qcompiler 7"


@pytest.mark.usefixtures("not_installed")
def test_source_tree() -> None:
    written = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert version() == f"{written} (source tree)"


@pytest.mark.usefixtures("not_installed")
@pytest.mark.parametrize(
    "content",
    [None, "[", "", "project = 3", '[project]\nname = "other"\nversion = "1"', '[project]\nname = "qcompiler"'],
)
def test_beside_something_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None) -> None:
    path = tmp_path / "pyproject.toml"
    if content is not None:
        path.write_text(content)
    monkeypatch.setattr(module, "_PROJECT", path)
    assert version() == "unknown"
