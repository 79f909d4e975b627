"""What qrun does with an open bundle: run it, time it, and show what came out."""

from __future__ import annotations

import json
from collections.abc import Mapping
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
    outcome = Outcome(results, found, timed, profiled)
    if asked.as_json:
        print(json.dumps(outcome.as_json(bundle), indent=1, allow_nan=False))
    else:
        _print(bundle, asked, outcome)


@dataclass(frozen=True)
class Outcome:
    """What came of a run: outputs by name, their likeliest classes where asked for, and times."""

    results: Arrays
    found: Mapping[str, list[list[Guess]]]
    timed: Benchmark | None
    profiled: Profile | None

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


def _write_page(bundle: Bundle | RemoteBundle, profile: Profile, path: Path) -> None:
    from qcompiler.page import measured, page

    here = isinstance(bundle, Bundle)
    report = bundle.report if isinstance(bundle, Bundle) else describe(bundle.directory).report
    content = page(bundle.manifest, report, measured(profile, bundle.variant, here=here))
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
        console.print(display.profile_table(outcome.profiled))
    if asked.report is not None:
        say(f"wrote {asked.report}")
