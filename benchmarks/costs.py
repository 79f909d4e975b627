"""Measure what kernels take beside their estimates, for the table that the choice of kernels reads.

    python -m benchmarks.costs                        # the best variant of this machine, into targets/measured.json
    python -m benchmarks.costs --variants all         # every variant that runs here; or name some
    python -m benchmarks.costs --layers 1x1/1 w2      # some layers; the table keeps the rest
    python -m benchmarks.costs --check                # how good is the choice, on layers that are not measured

First a few kernels of every family at every size, the best by estimate; then, as long as there are any, those that the
table so far holds to be the best or nearly so for a layer, and that were not measured: so what is chosen for one of the
layers was measured, and is the fastest of what was. Kernels of a layer are timed in turns, so that a slow moment hits
all alike; the quartile of rounds counts. Results are not verified here: that is what tests do.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, TypeAlias

from rich.console import Console
from rich.progress import track

from benchmarks.choice import check
from benchmarks.kernel_times import KernelTimes
from benchmarks.layers import Offer, Shape, Widths, layers_with, offered
from benchmarks.machine import clock_ghz, cpu_name
from qcompiler.targets.measured import MEASURED, Ratios, family_and_tile, in_table, kind_of, size_of
from qcompiler.targets.target import Variant
from qcompiler.targets.x86 import TARGET
from qcompiler.targets.x86.machine import GHZ
from qcompiler.train.atomic import write_atomically

# kernels of a family at a size that are measured whatever is expected of them; chosen
STARTING = 2
# where the estimate is so many times that of the best kernel, no ratio makes up for it; chosen
HOPELESS = 4.0
# within which part of the best a kernel is worth measuring, how many of a layer, and how often all layers are gone
# through; chosen
MARGIN, MOST, PASSES = 1.12, 5, 6

Place: TypeAlias = tuple[str, str, str, str]
"""Where the table holds a ratio: kind of problem, family, tile and size."""

Found: TypeAlias = Mapping[Place, Sequence[float]]
"""Ratios that were measured."""


def place_of(offer: Offer) -> Place:
    """Where the ratio of a kernel belongs."""
    return kind_of(offer.problem), *family_and_tile(offer.kernel.name), in_table(size_of(offer.problem))


def starting(offers: Sequence[Offer], found: Found) -> list[Offer]:
    """The first kernels of each family by estimate, where they are not known."""
    cheapest, taken, wanted = min(each.kernel.cost for each in offers), Counter[str](), list[Offer]()
    for each in offers:
        family, _ = family_and_tile(each.kernel.name)
        taken[family] += 1
        if taken[family] <= STARTING and each.kernel.cost < HOPELESS * cheapest and place_of(each) not in found:
            wanted.append(each)
    return wanted


def promising(variant: Variant, known: Ratios, offers: Sequence[Offer], found: Found) -> list[Offer]:
    """The kernels that may be the best by what is known, where they are not measured."""
    times = [each.kernel.cost * known.ratio(variant.name, each.problem, each.kernel.name) for each in offers]
    order = sorted(range(len(offers)), key=times.__getitem__)
    near = [offers[i] for i in order if times[i] <= MARGIN * times[order[0]]]
    return [each for each in near[:MOST] if place_of(each) not in found]


def ratios(found: Found) -> dict[str, Any]:
    """Measured over estimated time by kind of problem, family, tile and size, each the median of what was measured."""
    result: dict[str, Any] = {}
    for (kind, family, tile, size), every in sorted(found.items()):
        tiles = result.setdefault(kind, {}).setdefault(family, {})
        tiles.setdefault(tile, {})[size] = round(median(every), 3)
    return result


def measured(
    variant: Variant, layers: Sequence[tuple[Shape, Widths]], times: KernelTimes, console: Console
) -> dict[str, Any]:
    """The ratios of a variant, as if this machine had the clock that estimates assume.

    What is not measured is estimated for that clock, and must not look faster for it.
    """
    faster = clock_ghz() / GHZ
    found: dict[Place, list[float]] = defaultdict(list)
    for number in range(PASSES):
        before, known = len(found), Ratios({variant.name: ratios(found)})
        for shape, widths in track(layers, f"{variant.name}, pass {number + 1}", console=console):
            offers = offered(variant, shape, widths)
            asked = starting(offers, found) if number == 0 else promising(variant, known, offers, found)
            for each, nanoseconds in zip(asked, times.of(variant, shape, widths, asked), strict=True):
                found[place_of(each)].append(nanoseconds * faster / each.kernel.cost)
        console.print(f"{len(found) - before} kernels in pass {number + 1}")
        if len(found) == before:
            break
    return ratios(found)


def measure(
    variants: Sequence[Variant], layers: Sequence[tuple[Shape, Widths]], path: Path, whole: bool, console: Console
) -> None:
    """Write the table once all is measured; it keeps what it holds of other variants, and of other layers if not whole.

    Until then, what is measured lies in a file beside it, with which the same command goes on.
    """
    content = json.loads(path.read_text()) if path.exists() else {"ratios": {}}
    times = KernelTimes(path.with_name(f"{path.name}.partial.jsonl"))
    if times:
        console.print(f"going on after {len(times)} kernels; delete {times.path} to begin anew")
    for variant in variants:
        new = measured(variant, layers, times, console)
        if whole:
            content["ratios"][variant.name] = new
        else:
            merge(content["ratios"].setdefault(variant.name, {}), new)
    content["machine"] = cpu_name()
    text = json.dumps(content, indent=0, sort_keys=True) + "\n"
    write_atomically(path, lambda file: file.write(text.encode()), f"make room; {times.path} holds what was measured")
    times.path.unlink(missing_ok=True)
    console.print(f"wrote {path}")


def merge(table: dict[str, Any], more: Mapping[str, Any]) -> None:
    """Put what was measured into a table, in place of what it holds of the same."""
    for key, value in more.items():
        if isinstance(value, Mapping):
            merge(table.setdefault(key, {}), value)
        else:
            table[key] = value


def _variants(names: Sequence[str]) -> Sequence[Variant]:
    """Those that run here; "all" stands for those of a bundle."""
    flags = Path("/proc/cpuinfo").read_text().partition("flags")[2].partition("\n")[0].split()
    found = [v for v in TARGET.variants([] if "all" in names else names) if all(f.name in flags for f in v.features)]
    if not found:
        raise SystemExit(f"this machine runs none of {', '.join(names)}")
    return found


def main() -> int:
    """Measure, or check; on the first processor."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.costs", description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--variants", nargs="+", default=["native"], metavar="CPU", help="as --mcpu, or all; default: native"
    )
    parser.add_argument("-o", "--output", type=Path, default=Path("targets") / MEASURED, metavar="FILE")
    parser.add_argument("--layers", nargs="+", metavar="TEXT", help="those with a text in their name, as '1x1/1 64-64'")
    parser.add_argument("--check", action="store_true", help="print the choice beside the best")
    parser.add_argument(
        "--tables", nargs="+", type=Path, default=[Path("targets") / MEASURED], metavar="FILE", help="that are checked"
    )
    parser.add_argument("--stores", choices=("codes", "floats"), default="codes", help="what checked layers store")
    parser.add_argument("--times", type=Path, metavar="FILE", help="keeps what is timed for a check")
    options = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
    variants, console = _variants(options.variants), Console(width=max(Console().width, 150))
    if options.check:
        check(variants, options.tables, options.stores, options.times, console)
    else:
        layers = layers_with(options.layers or [""])
        measure(variants, layers, options.output, options.layers is None, console)
    return 0


if __name__ == "__main__":
    sys.exit(main())
