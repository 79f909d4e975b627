"""Tuning a network from end to end, and what a compile takes from a database."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

from qcompiler.errors import QCompilerError, UsageError
from qcompiler.ir.program import Program
from qcompiler.lowering.module import lower
from qcompiler.targets.target import Variant
from qcompiler.targets.tuned import UNTUNED, Tuned
from qcompiler.tuning.builder import Builder
from qcompiler.tuning.database import Database, append, read
from qcompiler.tuning.fleet import Fleet, Watch
from qcompiler.tuning.machine import here, runnable
from qcompiler.tuning.network import ROUNDS, Standing, fastest, standings
from qcompiler.tuning.record import ALL, DEFAULTS, KERNELS, NetworkRecord
from qcompiler.tuning.search import Search
from qcompiler.tuning.task import Task, Tasks, tasks_of
from qcompiler.tuning.trial import Place

Beat = Callable[[Fleet], None]


@dataclass(frozen=True)
class Network:
    """A rewritten network that is to be compiled for variants; name: of its bundle."""

    graph: ir.Model
    target: str
    variants: tuple[Variant, ...]
    name: str

    def tasks(self, variant: Variant, tuned: Tuned = UNTUNED) -> Tasks:
        """See `tasks_of`."""
        return tasks_of(self.graph.graph, self.variants, variant, tuned)

    def program(self, tuned: Tuned, variant: Variant) -> Program:
        """The network on one variant with the kernels that were fastest, stored as all variants have it."""
        return lower(self.graph, self.target, self.variants, self.name, tuned=tuned, coded=(variant,))


@dataclass(frozen=True)
class Applied:
    """What a compile takes from a database: times of kernels, and the number of threads, None where nothing is known.

    notes: what the user should know.
    """

    tuned: Tuned = UNTUNED
    threads: int | None = None
    notes: tuple[str, ...] = ()


def here_variant(variants: Sequence[Variant]) -> Variant:
    """The variant that is tuned on this machine. Raises UsageError where it runs none."""
    found = runnable(variants)
    if found is None:
        names = ", ".join(variant.name for variant in variants)
        what = f"this machine runs none of {names} of {variants[0].architecture.name}, which are to be tuned"
        raise UsageError(what, remedy="tune on a device: qtune --tracker HOST:PORT --key KEY")
    return found


@dataclass(frozen=True)
class Tuner:
    """Tunes one variant of a network at places of one machine kind, and keeps what was measured in a file.

    trials: kernels that are tried of each task at most. builders: kernels that are compiled at the same time.
    """

    network: Network
    variant: Variant
    path: Path
    trials: int
    watch: Watch
    beat: Beat
    builders: int = 1

    def kernels(self, open_places: Callable[[], Sequence[Place]], machine: str) -> None:
        """Time kernels: first those that decide about storages, then those of the steps, in both ways of storing.

        open_places: opens those that try kernels, which are closed again. Nothing that the file holds of the machine is
        timed again. Raises QCompilerError where no place is left.
        """
        default = self.network.tasks(self.variant)
        self._run(open_places, machine, [group for group in default.groups if not group[0].steps])
        chosen = self.network.tasks(self.variant, self._tuned(ALL, machine))
        steps = {group[0].key: group for tasks in (default, chosen) for group in tasks.groups if group[0].steps}
        self._run(open_places, machine, list(steps.values()))

    def _database(self) -> Database:
        return read(self.path) if self.path.exists() else Database()

    def _run(
        self, open_places: Callable[[], Sequence[Place]], machine: str, groups: Sequence[tuple[Task, ...]]
    ) -> None:
        records = self._database().kernels()
        known = {(r.problem, r.kernel): r for r in records if (r.machine, r.variant) == (machine, self.variant.name)}
        searches = [Search(group, self.trials, known) for group in groups]
        if all(search.done for search in searches):
            return
        with Builder(self.builders) as builder:
            fleet = Fleet(searches, open_places(), builder, lambda record: append(self.path, [record]), self.watch)
            fleet.run(lambda: self.beat(fleet))
        if not all(search.done for search in searches):
            raise QCompilerError(
                f"no device is left, {fleet.left} kernels are not measured",
                remedy=f"start the devices again and repeat the command: '{self.path}' holds what was measured",
            )

    def whole(self, machine: str) -> list[Standing]:
        """Time the whole network on this machine with what the file knows and without, and keep what was fastest."""
        choices = {choice: self._tuned(choice, machine) for choice in (DEFAULTS, KERNELS, ALL)}
        different: dict[str, Program] = {}
        for choice, tuned in choices.items():
            program = self.network.program(tuned, self.variant)
            # where it takes the same kernels it is the same network
            if all(_kernels(program) != _kernels(each) for each in different.values()):
                different[choice] = program
        found = standings(different, self.variant.name, threads=self.variant.architecture.threads)
        best = fastest(found)
        before = next(each for each in found if each.choice == DEFAULTS and each.threads == 1)
        record = NetworkRecord(
            self.network.tasks(self.variant).digest, self.network.name[:100], best.choice, best.threads, machine,
            self.variant.name, best.seconds * 1e9, before.seconds * 1e9, ROUNDS,
        )  # fmt: skip
        append(self.path, [record])
        return found

    def _tuned(self, choice: str, machine: str) -> Tuned:
        return tuned_for(self.network, self._database(), self.variant, choice, machine)


def tuned_for(network: Network, database: Database, variant: Variant, choice: str, machine: str) -> Tuned:
    """What a choice takes from a database."""
    if choice == DEFAULTS:
        return UNTUNED
    names = [each.name for each in network.variants]
    if choice == ALL:
        return database.tuned(names, machine)
    tasks = [task for group in network.tasks(variant).groups for task in group]
    steps = {task.key for task in tasks if task.steps}
    return database.tuned(names, machine, {task.key for task in tasks} - steps)


def applied(network: Network, path: Path) -> Applied:
    """What a compile takes from a file. Raises UsageError and InvalidData as `database.read` does."""
    database = read(path)
    variant = runnable(network.variants) or network.variants[0]
    notes = list(database.notes)
    machine = database.machine_for(variant.name, here())
    if machine is None:
        return Applied(notes=(*notes, f"'{path}' holds no record for {variant.name}: default kernels are taken"))
    if machine != here():
        notes.append(f"'{path}' was measured on {machine}")
    record = database.network(network.tasks(variant).digest, variant.name, machine)
    choice, threads = (ALL, None) if record is None else (record.choice, record.threads)
    if choice == DEFAULTS:
        notes.append("the network was as fast with default kernels as with tuned ones: they are taken")
    return Applied(tuned_for(network, database, variant, choice, machine), threads, tuple(notes))


def _kernels(program: Program) -> list[tuple[str, ...]]:
    return [tuple(call.kernel for call in code.calls) for code in program.variants]
