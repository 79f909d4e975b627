"""Whole networks timed beside each other: the fastest kernels are not always the fastest network."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from qcompiler.bundle.load import Bundle, load
from qcompiler.bundle.tensors import random_inputs
from qcompiler.bundle.write import write_into
from qcompiler.ir.program import Program
from qcompiler.tuning.record import DEFAULTS
from qcompiler.tuning.trial import low, spread

ROUNDS = 15
# seconds of a network in a round, and how much faster a choice must be than another one that is simpler; chosen
_SECONDS = 0.05
_GAIN = 0.01
_MOST_THREADS = 8


@dataclass(frozen=True)
class Standing:
    """A way to run a network; rounds: seconds of the fastest run of each round."""

    choice: str
    threads: int
    rounds: tuple[float, ...]

    @property
    def seconds(self) -> float:
        """The lower quartile: slow moments of a machine say nothing of a network."""
        return low(self.rounds)

    @property
    def noise(self) -> float:
        """How far the median of the rounds is above it, as a part of it."""
        return spread(self.rounds)


def standings(programs: Mapping[str, Program], variant: str, *, threads: bool) -> list[Standing]:
    """The times of programs of one network, by choice; threads: try several numbers of them too.

    All take turns, so that a slow moment hits all alike. Raises what writing and loading a bundle raise.
    """
    counts = _counts() if threads else (1,)
    with ExitStack() as opened:
        bundles = {choice: _written(program, variant, opened) for choice, program in programs.items()}
        inputs = random_inputs(next(iter(bundles.values())).inputs)
        rounds: dict[tuple[str, int], list[float]] = {(c, n): [] for c in bundles for n in counts}
        for _ in range(ROUNDS):
            for (choice, count), times in rounds.items():
                times.append(bundles[choice].benchmark(inputs, threads=count, seconds=_SECONDS).minimum)
    return [Standing(choice, count, tuple(times)) for (choice, count), times in rounds.items()]


def fastest(found: Sequence[Standing]) -> Standing:
    """The fastest of standings; defaults, and fewer threads, where nothing is faster by a hundredth and the noise."""
    best = min(found, key=lambda each: each.seconds)
    close = [each for each in found if each.seconds <= best.seconds * (1 + max(_GAIN, best.noise, each.noise))]
    return min(close, key=lambda each: (each.threads, each.choice != DEFAULTS, each.seconds))


def _counts() -> tuple[int, ...]:
    """Powers of two up to the number of processors, and that."""
    most = min(len(os.sched_getaffinity(0)), _MOST_THREADS)
    return tuple(sorted({*(2**power for power in range(4) if 2**power <= most), most}))


def _written(program: Program, variant: str, opened: ExitStack) -> Bundle:
    folder = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="qcompiler-")))
    write_into(program, folder)
    return load(folder, variant=variant)
