"""Which qcompiler this is."""

from __future__ import annotations

import tomllib
from importlib import metadata
from pathlib import Path

NAME = "qcompiler"
_PROJECT = Path(__file__).resolve().parent.parent / "pyproject.toml"


def version() -> str:
    """The installed version; that of pyproject.toml, with a note, where this is a source tree that is not installed."""
    try:
        return metadata.version(NAME)
    except metadata.PackageNotFoundError:
        return _of_source()


def _of_source() -> str:
    try:
        project = tomllib.loads(_PROJECT.read_text(encoding="utf-8"))["project"]
        found, name = project["version"], project["name"]
    except (OSError, ValueError, KeyError, TypeError):
        return "unknown"
    return f"{found} (source tree)" if name == NAME else "unknown"
