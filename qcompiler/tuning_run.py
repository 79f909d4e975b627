"""What qtune does: tune a network with a live table, and show what was measured."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from qcompiler import targets
from qcompiler.bundle.timing import memory_rates
from qcompiler.command import terminal
from qcompiler.display import duration
from qcompiler.options import Options
from qcompiler.pipeline import identifier, rewritten
from qcompiler.roofline import Point, draw, shares
from qcompiler.targets.problem import outputs_of, tensors_of
from qcompiler.targets.target import Variant
from qcompiler.tuning.compiling import MOST_TRIALS, check_trials
from qcompiler.tuning.database import read
from qcompiler.tuning.fleet import Fleet
from qcompiler.tuning.here import Here
from qcompiler.tuning.machine import here
from qcompiler.tuning.network import Standing, fastest
from qcompiler.tuning.remote import Remote, devices, machine_of
from qcompiler.tuning.search import Candidate, Search
from qcompiler.tuning.session import Network, Tuner, here_variant
from qcompiler.tuning.task import Task
from qcompiler.tuning.trial import Place, Timed


def run(model: Path, options: Options, tracker: str, key: str) -> None:
    """Time the kernels of a network, here or on devices of a tracker, and here the network too.

    Raises what a compile raises.
    """
    assert options.tune is not None and options.tune_db is not None
    check_trials("--trials", options.tune)
    variants = targets.get(options.target).variants(options.mcpu)
    variant, machine = _tuned_there(variants, key)
    places = partial(_places, tracker, key, variant)
    places_known = len(devices(tracker, key)) if tracker else 1
    console = terminal()
    say = partial(console.print, markup=False, highlight=False, soft_wrap=True)
    for note in read(options.tune_db).notes if options.tune_db.exists() else ():
        say(note)
    network = Network(rewritten(model, options), options.target, variants, identifier(model.stem))
    builders = min(places_known, len(os.sched_getaffinity(0)))
    with Live(console=console, refresh_per_second=4, transient=True) as live:
        watch, show = _Printing(live.console), lambda fleet: live.update(_state(fleet))
        tuner = Tuner(network, variant, options.tune_db, options.tune, watch, show, builders)
        tuner.kernels(places, machine)
        live.update("timing whole networks")
        found = [] if tracker else tuner.whole(machine)
    say(f"{watch.count} kernels timed on {machine}")
    if found:
        console.print(_standings(found))
        best = fastest(found)
        say(f"'{best.choice}' on {best.threads} thread(s) is kept")
    say(f"compile with it: qcompile {model} --target {options.target} --tune-db {options.tune_db}")


def _tuned_there(variants: Sequence[Variant], key: str) -> tuple[Variant, str]:
    """The variant that is tuned, and the machine: this one, or the devices of a key."""
    if not key:
        return here_variant(variants), here()
    return variants[0], machine_of(variants[0].architecture.name, key)


def _places(tracker: str, key: str, variant: Variant) -> list[Place]:
    """Where kernels are tried: here, or on every device that the tracker lists."""
    if not tracker:
        return [Here()]
    count = len(devices(tracker, key))
    return [Remote(tracker, key, variant.architecture.name, number + 1) for number in range(count)]


def report(model: Path, options: Options, key: str, plot: Path | None) -> None:
    """Show what a file holds of a network: the best kernel of each problem beside the one taken without tuning.

    plot: where the roofline goes. Raises what a compile raises.
    """
    assert options.tune_db is not None
    variants = targets.get(options.target).variants(options.mcpu)
    variant, machine = _tuned_there(variants, key)
    console, database = terminal(), read(options.tune_db)
    for note in database.notes:
        console.print(note, markup=False, highlight=False, soft_wrap=True)
    network = Network(rewritten(model, options), options.target, variants, identifier(model.stem))
    found = database.machine_for(variant.name, machine)
    known = {(r.problem, r.kernel): r for r in database.kernels() if (r.machine, r.variant) == (found, variant.name)}
    table = Table(title=f"{variant.name} on {found or 'no machine'}", title_justify="left")
    left = ("layer", "best kernel", "default kernel")
    columns = (
        "layer",
        "steps",
        "best kernel",
        "time",
        "expected",
        "noise",
        "GMAC/s",
        "of limit",
        "default kernel",
        "gain",
    )
    for column in columns:
        table.add_column(column, justify="left" if column in left else "right")
    searches = [Search(group, MOST_TRIALS, known) for group in network.tasks(variant).groups]
    measured = [(search, best) for search in searches if (best := search.best) is not None]
    points = [_point(best.task, search.times[best][0]) for search, best in measured]
    copies = memory_rates() if found == here() else ()
    for (search, best), share in zip(measured, shares(points, copies), strict=True):
        table.add_row(*_report_row(search, best, share))
    console.print(table)
    if plot is not None:
        draw(points, copies, f"{network.name}: {variant.name} on {found or 'no machine'}", plot)
        console.print(f"wrote {plot}", markup=False, highlight=False, soft_wrap=True)


def _point(task: Task, nanoseconds: float) -> Point:
    """A layer with the bytes of its input, weights and results."""
    problem = task.problem
    weights = problem.out_channels * problem.x.c // problem.groups * problem.kernel[0] * problem.kernel[1]
    moved = sum(buffer.nbytes for buffer in (problem.x, *tensors_of(problem), *outputs_of(problem)))
    return Point(
        task.label, task.widths, problem.macs, moved + weights * problem.weights.bits // 8, max(nanoseconds, 1) * 1e-9
    )


def _report_row(search: Search, best: Candidate, share: str) -> list[str]:
    """The best of a search beside the kernel that is expected to be so."""
    nanoseconds, noise, _ = search.times[best]
    default = min(search.times, key=lambda each: each.expected)
    rate = best.task.problem.macs / nanoseconds
    gain = search.times[default][0] / nanoseconds
    return [
        best.task.label, str(best.task.steps or ""), best.kernel.name, duration(nanoseconds * 1e-9),
        duration(best.expected * 1e-9), f"{100 * noise:.0f} %", f"{rate:.0f}", share, default.kernel.name,
        f"{gain:.2f}",
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
    seconds = fleet.seconds_left
    time_left = "" if seconds is None else f", {seconds:.0f} s"
    layers = Table(title=f"{fleet.left} kernels to go at most{time_left}", title_justify="left")
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
    for column in ("kernels", "threads", "time", "noise"):
        table.add_column(column)
    for each in sorted(found, key=lambda each: each.seconds):
        table.add_row(each.choice, str(each.threads), duration(each.seconds), f"{100 * each.noise:.0f} %")
    return table
