"""How good the choice of kernels is by tables of measurements, on layers of which no table knows."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import geometric_mean

from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.kernel_times import KernelTimes
from benchmarks.layers import CHECKED, OTHERS, Offer, Stores, label_of, label_of_widths, offered
from qcompiler.targets.measured import Ratios, family_and_tile
from qcompiler.targets.target import Variant

# of each family, the best by estimate; chosen
PER_FAMILY = 10


def check(
    variants: Sequence[Variant], tables: Sequence[Path], stores: Stores, path: Path | None, console: Console
) -> None:
    """Print what each table chooses beside the best of all candidates, which are timed once for all tables.

    path: of a file that keeps the times; a check with other tables goes by those that it has.
    """
    known = {str(table): Ratios(json.loads(table.read_text())["ratios"]) for table in tables}
    with tempfile.TemporaryDirectory() as folder:
        times = KernelTimes(path or Path(folder) / "times.jsonl")
        for variant in variants:
            _check(variant, known, stores, times, console)


def _check(
    variant: Variant, tables: Mapping[str, Ratios], stores: Stores, times: KernelTimes, console: Console
) -> None:
    shown = {name: Table("layer", "widths", "chosen", "us", "best", "us", "ratio", title=name) for name in tables}
    regrets: dict[str, list[float]] = {name: [] for name in tables}
    for shape, widths in track([(s, w) for s in OTHERS for w in CHECKED], variant.name, console=console):
        offers = offered(variant, shape, widths, stores)
        chosen = {name: choice(variant, table, offers) for name, table in tables.items()}
        candidates = list(dict.fromkeys((*best_of_families(offers), *chosen.values())))
        took = dict(zip(candidates, times.of(variant, shape, widths, candidates), strict=True))
        best = min(took, key=took.__getitem__)
        for name, taken in chosen.items():
            regrets[name].append(took[taken] / took[best])
            columns = [text for each in (taken, best) for text in (each.kernel.name, f"{took[each] / 1e3:.1f}")]
            shown[name].add_row(label_of(shape), label_of_widths(widths), *columns, f"{regrets[name][-1]:.2f}")
    for name, every in regrets.items():
        console.print(shown[name])
        within = sum(regret <= 1.1 for regret in every)
        console.print(
            f"{variant.name}, layers that store {stores}, {name}: {geometric_mean(every):.3f} of the best on average, "
            f"{within} of {len(every)} within 10 %, at most {max(every):.2f}"
        )


def choice(variant: Variant, table: Ratios, offers: Sequence[Offer]) -> Offer:
    """What a table chooses."""
    return min(offers, key=lambda each: each.kernel.cost * table.ratio(variant.name, each.problem, each.kernel.name))


def best_of_families(offers: Sequence[Offer]) -> Iterator[Offer]:
    """The first kernels of every family and storage by estimate."""
    taken = Counter[tuple[str, str]]()
    for each in offers:
        family, _ = family_and_tile(each.kernel.name)
        taken[each.problem.x.packing, family] += 1
        if taken[each.problem.x.packing, family] <= PER_FAMILY:
            yield each
