"""report.html: a network as a page that opens without network, made of data and a fixed template."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qcompiler.bundle.manifest import Manifest
from qcompiler.page.content import content
from qcompiler.page.html import render
from qcompiler.page.measured import Measured, measured

__all__ = ["Measured", "measured", "page"]


def page(manifest: Manifest, report: Mapping[str, Any], times: Measured | None = None) -> bytes:
    """The page of a bundle, from its manifest and what its report.json holds; times: measured ones, to show beside.

    Raises InvalidBundle where the report is not one of these steps.
    """
    return render(content(manifest, report, times))
