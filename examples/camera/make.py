"""Make a page of one file on which a trained network says what the camera sees, or what is on a picture.

    python -m examples.camera.make runs/images/seed0 --labels names.txt -o camera.html

A run is one of qtrain's with --deploy, such as one on folders of images. The page needs no server and no network.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from examples.runs import BUNDLE, names_for, pixels_of
from examples.webpage import embedded, page, write
from qcompiler.bundle.load import checked_manifest
from qcompiler.classes import read_names

HERE = Path(__file__).parent


def text_of(run: Path, names: Sequence[str] | None) -> str:
    """The page. Raises UsageError where the run's network is no classifier of pictures, or has other classes."""
    pixels = pixels_of(run)
    classes = checked_manifest(run / BUNDLE).outputs[0].shape[-1]
    shown = names_for(names, classes)
    return page(HERE, [{**embedded(run, pixels), "names": shown}])


def main() -> None:
    """Compile the network and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path, metavar="RUN", help="directory of a run of qtrain with --deploy")
    parser.add_argument("--labels", type=Path, metavar="NAMES.txt", help="the name of each class, one on each line")
    parser.add_argument("-o", "--output", type=Path, default=Path("camera.html"), metavar="PAGE.html")
    given = parser.parse_args()
    write(lambda: text_of(given.run, None if given.labels is None else read_names(given.labels)), given.output)


if __name__ == "__main__":
    main()
