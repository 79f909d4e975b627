"""Make a page of one file on which people draw digits, and trained networks say at every stroke what they see.

    python -m examples.draw.make runs/mnist_lenet_small/seed0 [runs/mnist_lenet_small/seed1 ...] -o draw.html

A run is one of qtrain's with --deploy, on grey pictures of digits. The page needs no server and no network: it holds
the WebAssembly modules that `qcompile --target wasm` makes.
"""

from __future__ import annotations

import argparse
import base64
import json
import re
import sys
import tempfile
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import qcompiler
from examples.runs import MODEL, noise, pixels_of
from qcompiler.bundle.load import Bundle
from qcompiler.bundle.manifest import module_name
from qcompiler.bundle.staging import new_file
from qcompiler.errors import QCompilerError, UsageError
from qcompiler.ir.pixels import Pixels, size_of

HERE = Path(__file__).parent


def embedded(run: Path) -> dict[str, Any]:
    """What the page is to know of the network of a run: its script, modules, size of pictures and their pixels."""
    pixels = _pixels(run)
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


def page(networks: list[dict[str, Any]]) -> str:
    """The text of the page. JSON in ASCII without `<` ends no element, whatever a run is called."""
    data = json.dumps(networks).replace("<", "\\u003c")
    parts = {
        "style": (HERE / "draw.css").read_text(encoding="utf-8"),
        "script": (HERE / "draw.js").read_text(encoding="utf-8"),
        "networks": data,
    }
    template = (HERE / "page.html").read_text(encoding="utf-8")
    return re.sub("@(style|script|networks)@", lambda match: parts[match[1]], template)


def _pixels(run: Path) -> Pixels:
    """How a picture becomes the input of the run's network. Raises UsageError where it takes no grey pictures."""
    found = pixels_of(run)
    if len(found.mean) != 1:
        raise UsageError(f"the network of '{run}' does not take grey pictures", remedy="train it on digits")
    return found


def _title(bundle: Bundle) -> str:
    """The widths of its layers on integers."""
    widths = sorted({(step.w_bits, step.a_bits) for step in bundle.steps if step.integers})
    bits = " and ".join(f"{weights}-bit weights, {codes}-bit activations" for weights, codes in widths)
    return bits or "real numbers"


def main() -> None:
    """Compile the networks and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="directory of a run of qtrain with --deploy")
    parser.add_argument("-o", "--output", type=Path, default=Path("draw.html"), metavar="PAGE.html")
    given = parser.parse_args()
    try:
        text = page([embedded(run) for run in given.runs])
        with new_file(given.output) as staged:
            staged.write_text(text, encoding="utf-8")
    except QCompilerError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    print(f"wrote {given.output} ({len(text.encode()) / 1024:.0f} KiB): open it in a browser")


if __name__ == "__main__":
    main()
