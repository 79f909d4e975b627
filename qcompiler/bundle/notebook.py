"""How a bundle shows itself at a prompt and in a notebook: what it takes and gives, and its report."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

from qcompiler.bundle.manifest import Manifest
from qcompiler.bundle.tensors import describe
from qcompiler.errors import one_line

# pixels of a notebook's column; chosen
HEIGHT = 720


def in_words(manifest: Manifest, place: str) -> str:
    """One line about a bundle in the directory `place`."""
    takes, gives = (", ".join(map(describe, tensors)) for tensors in (manifest.inputs, manifest.outputs))
    return one_line(f"<Bundle {manifest.name} in '{place}' for {manifest.target}: {takes} -> {gives}>")


def as_html(manifest: Manifest, place: str, page: bytes) -> str:
    """HTML of a bundle in the directory `place`; page: its report.html, without which there is the table alone.

    Texts of the bundle stay texts. The report is a document of its own, which neither reads nor changes the notebook.
    """
    facts: Mapping[str, Any] = {
        "network": manifest.name,
        "directory": place,
        "inputs": ", ".join(map(describe, manifest.inputs)),
        "outputs": ", ".join(map(describe, manifest.outputs)),
        "target": f"{manifest.target} ({', '.join(each.name for each in manifest.variants)})",
        "steps": len(manifest.steps),
        "workspace": f"{manifest.workspace_bytes / 1024:.1f} KiB",
    }
    rows = "".join(f"<tr><th>{name}</th><td>{html.escape(str(value))}</td></tr>" for name, value in facts.items())
    return f"<table>{rows}</table>{_report(page)}"


def _report(page: bytes) -> str:
    if not page:
        return ""
    # scripts of the page run without the origin of the notebook
    options = f'sandbox="allow-scripts" style="width: 100%; height: {HEIGHT}px; border: 0"'
    return f'<iframe title="report" {options} srcdoc="{html.escape(page.decode("utf-8", "replace"))}"></iframe>'
