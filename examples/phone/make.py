"""Make projects for Android and iOS around a trained network: choose a picture, and read the name of its class.

    python -m examples.phone.make runs/images/seed0 --labels names.txt -o phone

A run is one of qtrain's with --deploy. The README beside this file says how the projects are built, and what of them
has been built where qcompiler is tested.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import qcompiler
from examples.runs import BUNDLE, MODEL, names_for, noise, pixels_of
from qcompiler.bundle.load import Bundle, checked_manifest
from qcompiler.bundle.staging import new_directory
from qcompiler.classes import read_names
from qcompiler.errors import QCompilerError, UsageError
from qcompiler.ir.pixels import Pixels, size_of

HERE = Path(__file__).parent
NATIVE = {"android": Path("app/src/main/cpp"), "ios": Path("Sources/CClassifier")}
NAMES = {"android": Path("app/src/main/assets/names.txt"), "ios": Path("Sources/Classifier/names.txt")}
# what --mcpu of --target arm each is compiled for
CODE: dict[str, tuple[str, ...]] = {"android": (), "ios": ("ios",)}
PUBLIC_HEADER = {"android": Path(), "ios": Path("include")}


def pixels_header(bundle: Bundle, pixels: Pixels) -> str:
    """A C header that says how a picture becomes the input of the network."""
    width, height = size_of(bundle.inputs[0], pixels.layout)
    numbers = {name: ", ".join(map(repr, getattr(pixels, name))) for name in ("mean", "scale")}
    return f"""/* The input is (pixel - mean) * scale; PLANAR: whether channels lie one behind the other. */
enum {{ CHANNELS = {len(pixels.mean)}, HEIGHT = {height}, WIDTH = {width}, PLANAR = {int(pixels.layout == "nchw")} }};
static const double mean[CHANNELS] = {{{numbers["mean"]}}};
static const double scale[CHANNELS] = {{{numbers["scale"]}}};
"""


def project(kind: str, folder: Path, bundle: Bundle, pixels: Pixels, names: Sequence[str]) -> None:
    """The project of a kind, "android" or "ios", in a new folder."""
    shutil.copytree(HERE / kind, folder)
    native = folder / NATIVE[kind]
    shutil.copytree(bundle.directory, native / "net")
    shutil.copy(HERE / "classifier" / "classifier.c", native)
    shutil.copy(HERE / "classifier" / "classifier.h", native / PUBLIC_HEADER[kind])
    (native / "pixels.h").write_text(pixels_header(bundle, pixels), encoding="utf-8")
    labels = folder / NAMES[kind]
    labels.parent.mkdir(parents=True, exist_ok=True)
    labels.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")


def make(
    run: Path, names: Sequence[str] | None, output: Path, kinds: Sequence[str] = tuple(NATIVE), target: str = "arm"
) -> None:
    """Compile the network of a run and write projects. Raises UsageError where it is no classifier of pictures."""
    pixels = pixels_of(run)
    manifest = checked_manifest(run / BUNDLE)
    (image, *_), (scores, *_) = manifest.inputs, manifest.outputs
    if image.dtype != "float32" or scores.dtype != "float32":
        raise UsageError(f"the network of '{run}' does not take and give floats", remedy="take another run")
    shown = names_for(names, scores.shape[-1])
    with new_directory(output) as staged:
        net, given, say = staged / "net", noise(run, pixels), partial(print, file=sys.stderr)
        for kind in kinds:
            mcpu = CODE[kind] if target == "arm" else ()
            bundle = qcompiler.compile(run / MODEL, target, mcpu=mcpu, output=net, inputs=given, progress=say)
            project(kind, staged / kind, bundle, pixels, shown)
            shutil.rmtree(net)


def main() -> None:
    """Compile the network and write the projects."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path, metavar="RUN", help="directory of a run of qtrain with --deploy")
    parser.add_argument("--labels", type=Path, metavar="NAMES.txt", help="the name of each class, one on each line")
    kinds = list(NATIVE)
    parser.add_argument("--for", dest="kinds", nargs="+", choices=kinds, default=kinds, help="both, if left out")
    parser.add_argument("-o", "--output", type=Path, default=Path("phone"), metavar="DIR")
    given = parser.parse_args()
    try:
        make(given.run, None if given.labels is None else read_names(given.labels), given.output, given.kinds)
    except QCompilerError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    written = " and ".join(f"{given.output}/{kind}" for kind in given.kinds)
    print(f"wrote {written}: examples/phone/README.md says how to build them")


if __name__ == "__main__":
    main()
