"""Make a page of one file on which people draw digits, and trained networks say at every stroke what they see.

    python -m examples.draw.make runs/mnist_lenet_small/seed0 [runs/mnist_lenet_small/seed1 ...] -o draw.html

A run is one of qtrain's with --deploy, on grey pictures of digits. The page needs no server and no network: it holds
the WebAssembly modules that `qcompile --target wasm` makes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from examples.runs import pixels_of
from examples.webpage import embedded, page, write
from qcompiler.errors import UsageError
from qcompiler.ir.pixels import Pixels

HERE = Path(__file__).parent


def grey_pixels(run: Path) -> Pixels:
    """How a picture becomes the input of the run's network. Raises UsageError where it takes no grey pictures."""
    found = pixels_of(run)
    if len(found.mean) != 1:
        raise UsageError(f"the network of '{run}' does not take grey pictures", remedy="train it on digits")
    return found


def main() -> None:
    """Compile the networks and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="directory of a run of qtrain with --deploy")
    parser.add_argument("-o", "--output", type=Path, default=Path("draw.html"), metavar="PAGE.html")
    given = parser.parse_args()
    write(lambda: page(HERE, [embedded(run, grey_pixels(run)) for run in given.runs]), given.output)


if __name__ == "__main__":
    main()
