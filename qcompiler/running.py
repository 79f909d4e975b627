"""What qrun does with an open bundle: run it, time it, and show what came out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from qcompiler import display
from qcompiler.bundle.load import Bundle, describe
from qcompiler.bundle.staging import new_file
from qcompiler.bundle.tensors import random_inputs, read_npz, write_npz
from qcompiler.command import terminal
from qcompiler.options import Run

if TYPE_CHECKING:
    from pathlib import Path

    from qcompiler.bundle.remote import RemoteBundle
    from qcompiler.bundle.timing import Benchmark, Profile

Arrays = Mapping[str, npt.NDArray[Any]]


def run(bundle: Bundle | RemoteBundle, asked: Run) -> None:
    """Run a bundle as asked for."""
    threads = bundle.manifest.threads if asked.threads is None else asked.threads
    arrays = _inputs(bundle, asked)
    results = bundle.run(arrays, threads=threads)
    if asked.outputs is not None:
        with new_file(asked.outputs) as staged:
            write_npz(staged, results)
    timed = bundle.benchmark(arrays, threads=threads) if asked.benchmark else None
    profiled = bundle.profile(arrays, threads=threads) if asked.profile else None
    if asked.report is not None and profiled is not None:
        _write_page(bundle, profiled, asked.report)
    show = _print_json if asked.as_json else _print
    show(bundle, asked, results, timed, profiled)


def _inputs(bundle: Bundle | RemoteBundle, asked: Run) -> Arrays:
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


def _print_json(
    bundle: Bundle | RemoteBundle, asked: Run, results: Arrays, timed: Benchmark | None, profiled: Profile | None
) -> None:
    data: dict[str, Any] = {"outputs": display.outputs_data(results)}
    data |= {"benchmark": display.benchmark_data(timed, bundle)} if timed else {}
    data |= {"profile": display.profile_data(profiled)} if profiled else {}
    print(json.dumps(data, indent=1, allow_nan=False))


def _print(
    bundle: Bundle | RemoteBundle, asked: Run, results: Arrays, timed: Benchmark | None, profiled: Profile | None
) -> None:
    console = terminal()
    if asked.inputs is None and not (timed or profiled):
        console.print("random inputs: give arrays with --inputs IN.npz", highlight=False)
    if not (timed or profiled):
        console.print(display.outputs_table(results))
    if timed:
        console.print(display.benchmark_text(timed, bundle), markup=False, highlight=False, soft_wrap=True)
    if profiled:
        console.print(display.profile_table(profiled))
    if asked.report is not None:
        console.print(f"wrote {asked.report}", markup=False, highlight=False, soft_wrap=True)
