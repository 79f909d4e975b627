"""What qtune does: tune a network with a live table, and show what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from qcompiler import targets
from qcompiler.command import terminal
from qcompiler.display import duration
from qcompiler.options import Options
from qcompiler.pipeline import identifier, rewritten
from qcompiler.tuning.compiling import check_trials
from qcompiler.tuning.database import read
from qcompiler.tuning.fleet import Fleet
from qcompiler.tuning.here import Here
from qcompiler.tuning.machine import here
from qcompiler.tuning.network import Standing, fastest
from qcompiler.tuning.search import Candidate, Search
from qcompiler.tuning.session import Network, Tuner, here_variant
from qcompiler.tuning.trial import Timed


def run(model: Path, options: Options) -> None:
    """Time the kernels of a network, then the network. Raises what a compile raises."""
    assert options.tune is not None and options.tune_db is not None
    check_trials("--trials", options.tune)
    variants = targets.get(options.target).variants(options.mcpu)
    variant = here_variant(variants)
    console = terminal()
    if options.tune_db.exists():
        for note in read(options.tune_db).notes:
            console.print(note, markup=False, highlight=False, soft_wrap=True)
    network = Network(rewritten(model, options), options.target, variants, identifier(model.stem))
    with Live(console=console, refresh_per_second=4, transient=True) as live:
        watch = _Printing(live.console)
        tuner = Tuner(network, variant, options.tune_db, options.tune, watch, lambda fleet: live.update(_state(fleet)))
        tuner.kernels(lambda: [Here()], here())
        live.update("timing whole networks")
        found = tuner.whole(here())
    console.print(_standings(found))
    best, say = fastest(found), partial(console.print, markup=False, highlight=False, soft_wrap=True)
    say(f"{watch.count} kernels timed; '{best.choice}' on {best.threads} thread(s) is kept")
    say(f"compile with it: qcompile {model} --tune-db {options.tune_db}")


def report(model: Path, options: Options) -> None:
    """Show what a file holds of a network: the best kernel of each problem beside the one taken without tuning."""
    assert options.tune_db is not None
    variants = targets.get(options.target).variants(options.mcpu)
    variant = here_variant(variants)
    console, database = terminal(), read(options.tune_db)
    for note in database.notes:
        console.print(note, markup=False, highlight=False, soft_wrap=True)
    network = Network(rewritten(model, options), options.target, variants, identifier(model.stem))
    machine = database.machine_for(variant.name, here())
    known = {(r.problem, r.kernel): r for r in database.kernels() if (r.machine, r.variant) == (machine, variant.name)}
    table = Table(title=f"{variant.name} on {machine or 'no machine'}", title_justify="left")
    for column in ("layer", "steps", "best kernel", "time", "expected", "noise", "GMAC/s", "default kernel", "gain"):
        table.add_column(column, justify="left" if "l" in column[:1] or "kernel" in column else "right")
    for group in network.tasks(variant).groups:
        search = Search(group, len(known) + 10_000, known)
        if search.best is not None:
            table.add_row(*_report_row(search, search.best))
    console.print(table)


def _report_row(search: Search, best: Candidate) -> list[str]:
    """The best of a search beside the kernel that is expected to be so."""
    nanoseconds, noise, _ = search.times[best]
    default = min(search.times, key=lambda each: each.expected)
    rate = best.task.problem.macs / nanoseconds
    gain = search.times[default][0] / nanoseconds
    return [
        best.task.label, str(best.task.steps or ""), best.kernel.name, duration(nanoseconds * 1e-9),
        duration(best.expected * 1e-9), f"{100 * noise:.0f} %", f"{rate:.0f}", default.kernel.name, f"{gain:.2f}",
    ]  # fmt: skip


class _Printing:
    """A line for every measurement, with what was expected; see `fleet.Watch`."""

    def __init__(self, console: Console) -> None:
        self._say = partial(console.print, markup=False, highlight=False, soft_wrap=True)
        self.count = 0

    def measured(self, candidate: Candidate, timed: Timed, place: str) -> None:
        self.count += 1
        time, expected = duration(timed.nanoseconds * 1e-9), duration(candidate.expected * 1e-9)
        noise = f"± {100 * timed.noise:.0f} %"
        again = ", beside the other best ones" if len(timed.rounds) > 5 else ""
        what = f"{candidate.kernel.name}, {candidate.task.label}{again}"
        self._say(f"{time:>8} {noise:>6}, expected {expected:>8}: {what}")

    def dropped(self, candidate: Candidate, reason: str) -> None:
        self._say(f"kernel {candidate.kernel.name} is left out: {reason}")

    def lost(self, place: str, reason: str) -> None:
        self._say(f"{place}: {reason}")


def _state(fleet: Fleet) -> Group:
    """What is measured, and what every place does."""
    layers = Table(title=f"{fleet.left} kernels to go at most", title_justify="left")
    for column in ("layer", "best kernel", "time", "left"):
        layers.add_column(column)
    for search in fleet.searches:
        best = search.best
        time = duration(search.times[best][0] * 1e-9) if best is not None else ""
        name = best.kernel.name if best is not None else ""
        left = len(search.waiting) + len(search.running)
        layers.add_row(search.label, name, time, "" if search.done else str(left))
    places = Table()
    for column in ("device", "kernel", "trials", "busy"):
        places.add_column(column)
    for status in fleet.status.values():
        places.add_row(status.name, status.gone or status.doing, str(status.trials), f"{status.busy:.1f} s")
    return Group(layers, places)


def _standings(found: Sequence[Standing]) -> Table:
    table = Table(title="Whole networks, in turns", title_justify="left")
    for column in ("kernels", "threads", "median"):
        table.add_column(column)
    for each in sorted(found, key=lambda each: each.seconds):
        table.add_row(each.choice, str(each.threads), duration(each.seconds))
    return table
