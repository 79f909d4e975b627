"""What qrun does with an open bundle: run it, time it, and show what came out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from qcompiler import display
from qcompiler.bundle.load import Bundle, describe
from qcompiler.bundle.staging import new_file
from qcompiler.bundle.tensors import random_inputs, read_npz, write_npz
from qcompiler.classes import TOP, guesses, read_names, scores_of
from qcompiler.command import terminal
from qcompiler.options import Run
from qcompiler.pictures import picture_input
from qcompiler.roofline import Point, draw, shares

if TYPE_CHECKING:
    from pathlib import Path

    from qcompiler.bundle.remote import RemoteBundle
    from qcompiler.bundle.timing import Benchmark, Profile
    from qcompiler.display import Guess

Arrays = Mapping[str, npt.NDArray[Any]]


def run(bundle: Bundle | RemoteBundle, asked: Run) -> None:
    """Run a bundle as asked for."""
    threads = bundle.manifest.threads if asked.threads is None else asked.threads
    names = None if asked.labels is None else read_names(asked.labels)
    arrays = _inputs(bundle, asked)
    results = bundle.run(arrays, threads=threads)
    wanted = names is not None or asked.top or (asked.picture and scores_of(results))
    found = guesses(results, names, asked.top or TOP) if wanted else {}
    if asked.outputs is not None:
        with new_file(asked.outputs) as staged:
            write_npz(staged, results)
    timed = bundle.benchmark(arrays, threads=threads) if asked.benchmark else None
    profiled = bundle.profile(arrays, threads=threads) if asked.profile else None
    if asked.report is not None and profiled is not None:
        _write_page(bundle, profiled, asked.report)
    points, copies = _roofline(bundle, profiled) if profiled is not None else ([], ())
    if asked.plot is not None and profiled is not None:
        draw(points, copies, f"{bundle.name}, {bundle.variant}, {profiled.threads} thread(s)", asked.plot)
    outcome = Outcome(results, found, timed, profiled, tuple(shares(points, copies)))
    if asked.as_json:
        print(json.dumps(outcome.as_json(bundle), indent=1, allow_nan=False))
    else:
        _print(bundle, asked, outcome)


@dataclass(frozen=True)
class Outcome:
    """What came of a run: outputs by name, their likeliest classes where asked for, and times.

    limits: how near each step is to its limit; nothing where that is not known.
    """

    results: Arrays
    found: Mapping[str, list[list[Guess]]]
    timed: Benchmark | None
    profiled: Profile | None
    limits: tuple[str, ...] = ()

    def as_json(self, bundle: Bundle | RemoteBundle) -> dict[str, Any]:
        """Plain data."""
        data: dict[str, Any] = {"outputs": display.outputs_data(self.results)}
        data |= {"top": display.guesses_data(self.found)} if self.found else {}
        data |= {"benchmark": display.benchmark_data(self.timed, bundle)} if self.timed else {}
        data |= {"profile": display.profile_data(self.profiled)} if self.profiled else {}
        return data


def _inputs(bundle: Bundle | RemoteBundle, asked: Run) -> Arrays:
    if asked.picture is not None:
        return picture_input(asked.picture, bundle.inputs, bundle.manifest.pixels)
    if asked.inputs is None:
        return random_inputs(bundle.inputs)
    return read_npz(asked.inputs, bundle.inputs, any_batch=bundle.manifest.any_batch)


def _roofline(bundle: Bundle | RemoteBundle, profile: Profile) -> tuple[list[Point], Sequence[tuple[str, float]]]:
    """The steps of a bundle with their times, and the speed of memory; nothing where the bundle has no report."""
    from qcompiler.page.content import content
    from qcompiler.page.measured import measured

    here, report = isinstance(bundle, Bundle), _report(bundle)
    if not report:
        return [], ()
    steps = content(bundle.manifest, report)["steps"]
    times = measured(profile, bundle.variant, here=here)
    found = [
        Point(
            step.op, f"w{each['w_bits']}a{each['a_bits']}" if each["integers"] else "float", step.macs,
            each["read_bytes"] + each["write_bytes"] + each["constant_bytes"], max(step.seconds, 1e-9),
        )
        for each, step in zip(steps, profile.steps, strict=False)
    ]  # fmt: skip
    return found, times.copies


def _report(bundle: Bundle | RemoteBundle) -> Mapping[str, Any]:
    return bundle.report if isinstance(bundle, Bundle) else describe(bundle.directory).report


def _write_page(bundle: Bundle | RemoteBundle, profile: Profile, path: Path) -> None:
    from qcompiler.page import measured, page

    here = isinstance(bundle, Bundle)
    content = page(bundle.manifest, _report(bundle), measured(profile, bundle.variant, here=here))
    with new_file(path) as staged:
        staged.write_bytes(content)


def _print(bundle: Bundle | RemoteBundle, asked: Run, outcome: Outcome) -> None:
    console = terminal()
    say = partial(console.print, markup=False, highlight=False, soft_wrap=True)
    measured = outcome.timed or outcome.profiled
    if asked.inputs is None and asked.picture is None and not measured:
        say("random inputs: give arrays with --inputs IN.npz, or a picture with --image")
    if outcome.found:
        console.print(display.guesses_table(outcome.found))
    elif not measured:
        console.print(display.outputs_table(outcome.results))
    if outcome.timed:
        say(display.benchmark_text(outcome.timed, bundle))
    if outcome.profiled:
        console.print(display.profile_table(outcome.profiled, outcome.limits))
    for path in (asked.report, asked.plot):
        if path is not None:
            say(f"wrote {path}")
