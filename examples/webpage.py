"""Pages of one file that hold trained networks as WebAssembly: what those of the examples share."""

from __future__ import annotations

import base64
import json
import re
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import qcompiler
from examples.runs import MODEL, noise
from qcompiler.bundle.load import Bundle
from qcompiler.bundle.manifest import module_name
from qcompiler.bundle.staging import new_file
from qcompiler.errors import QCompilerError
from qcompiler.ir.pixels import Pixels, size_of

SHARED = Path(__file__).parent / "network.js"


def embedded(run: Path, pixels: Pixels) -> dict[str, Any]:
    """What the page is to know of the network of a run: its script, modules, size of pictures and their pixels."""
    with tempfile.TemporaryDirectory() as folder:
        say, pictures = partial(print, file=sys.stderr), noise(run, pixels)
        bundle = qcompiler.compile(run / MODEL, "wasm", output=Path(folder) / "net", inputs=pictures, progress=say)
        files = {each.name: Path(folder, "net", module_name(bundle.name, each.name)) for each in bundle.variants}
        modules = {name: path.read_bytes() for name, path in files.items()}
        code = Path(folder, "net", "index.js").read_text(encoding="utf-8")
    (image,) = bundle.inputs
    width, height = size_of(image, pixels.layout)
    return {
        "title": _title(bundle),
        "run": f"{run.parent.name}/{run.name}",
        "code": code,
        "modules": {name: base64.b64encode(content).decode() for name, content in modules.items()},
        "bytes": {name: len(content) for name, content in modules.items()},
        "width": width,
        "height": height,
        "pixels": asdict(pixels),
    }


def page(folder: Path, networks: list[dict[str, Any]]) -> str:
    """The text of the page of a folder: page.html, page.css and page.js with what pages share before it.

    JSON in ASCII without `<` ends no element, whatever a run or a class is called.
    """
    data = json.dumps(networks).replace("<", "\\u003c")
    parts = {
        "style": (folder / "page.css").read_text(encoding="utf-8"),
        "script": "\n".join(path.read_text(encoding="utf-8") for path in (SHARED, folder / "page.js")),
        "networks": data,
    }
    template = (folder / "page.html").read_text(encoding="utf-8")
    return re.sub("@(style|script|networks)@", lambda match: parts[match[1]], template)


def _title(bundle: Bundle) -> str:
    """The widths of its layers on integers."""
    widths = sorted({(step.w_bits, step.a_bits) for step in bundle.steps if step.integers})
    bits = " and ".join(f"{weights}-bit weights, {codes}-bit activations" for weights, codes in widths)
    return bits or "real numbers"


def write(make: Callable[[], str], output: Path) -> None:
    """Write a page that is made here, whole or not at all, or end with its error in one line and its exit status."""
    try:
        text = make()
        with new_file(output) as staged:
            staged.write_text(text, encoding="utf-8")
    except QCompilerError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    print(f"wrote {output} ({len(text.encode()) / 1024:.0f} KiB): open it in a browser")
