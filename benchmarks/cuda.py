"""Everything that is measured on a GPU, in two commands: bundles are made where nvcc is, and run where the GPU is.

    python -m benchmarks.cuda make DIR [--mcpu sm_80 sm_90a] [--rows ROW ...]
    python -m benchmarks.cuda run DIR --json FILE [--minutes 8.5] [--dry-run]

The second needs numpy, and torch for what stands beside. It holds a sample of the outputs of every bundle against what
onnxruntime gave to `make`, and times a CUDA graph of the whole network, and its steps; it measures what the device
reaches at most, and runs compute-sanitizer on the smallest bundles where that is installed. A row that fails says why;
the others go on. The file is written anew after each row, and rows for which no time is left are named in it.
`python -m benchmarks.cuda_page FILE -o docs/performance_cuda.md` makes the page. With --dry-run the processor stands
for the device: the smallest bundles are checked, and nothing is timed.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib.util
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cuda_rows import ROWS, Array, Drawn, Row, rebatched, sampled
from benchmarks.cuda_timing import median
from qcompiler.bundle.cuda_library import DeviceLibrary, DeviceMemory
from qcompiler.bundle.load import Bundle, checked_manifest, load
from qcompiler.errors import QCompilerError, UsageError

DESCRIBED, ARRAYS, PEAKS = "row.json", "arrays.npz", "libpeaks.so"
BOUND = 1e-4
# of the images of a network; signs of real numbers near 0 depend on the order of float sums
MOST_OFF = 0.1
PEAK_NAMES = ("popc", "b1 mma", "int8 mma", "b1 wgmma", "int4 mma")
SANITIZER, SANITIZER_S = "compute-sanitizer", 40.0
# seconds that a row takes beside its timed ones: loading, checking, compiling of torch
_BESIDE = 4.0
_PARTS = 3


def make(folder: Path, mcpu: Sequence[str], rows: Sequence[str]) -> int:
    """Write the library of peaks, and for every row a bundle and what onnxruntime makes of its input."""
    from qcompiler.targets.cuda.machine import gpus_for

    folder.mkdir(parents=True, exist_ok=True)
    _make_peaks(folder, [gpu.name for gpu in gpus_for(mcpu)])
    for name in rows:
        if name not in ROWS:
            raise UsageError(f"no row '{name}'", remedy=f"choose of {', '.join(ROWS)}")
    for name in rows:
        said = _make_row(folder / name, ROWS[name], mcpu)
        print(f"{name}: {said}", flush=True)
    return 0


def _make_peaks(folder: Path, architectures: Sequence[str]) -> None:
    from qcompiler.bundle import cuda_link
    from qcompiler.bundle.side_by_side import run_all
    from qcompiler.bundle.toolchain import printed

    source = Path(__file__).parent / "cuda_peaks.cu"
    codes = [option for each in architectures for option in cuda_link.code_for(each)]
    flags = ("-std=c++17", "-O3", "-shared", "-cudart", "static", "-Xcompiler", "-fPIC")
    (done,) = run_all([[cuda_link.compiler(), *flags, *codes, str(source.absolute()), "-o", PEAKS]], folder)
    printed("nvcc", done)


def _make_row(place: Path, row: Row, mcpu: Sequence[str]) -> str:
    """Where its bundle lies, or why there is none."""
    import onnx

    import qcompiler
    from benchmarks.cuda_wanted import record_wanted
    from benchmarks.graphs import float_model
    from qcompiler.ir import oracle

    place.mkdir(parents=True, exist_ok=True)
    workload, drawn = rebatched(row.workload(), row.batch)
    model = float_model(workload.network, workload.x)
    for value in (*model.graph.input, *model.graph.output):
        if workload.x.ndim == 4:
            value.type.tensor_type.shape.dim[0].dim_value = row.batch
    path = place / "model.onnx"
    onnx.save(model, path)
    records = place / "wanted.jsonl" if row.family else None
    if records is not None:
        records.unlink(missing_ok=True)
        if not record_wanted(path, mcpu, row.family, records):
            path.unlink()
            return f"no architecture has kernels {row.family}"
    # the processor would stand for a device for hours
    qcompiler.compile(path, "cuda", mcpu=mcpu, output=place / "net", force=True, verify=row.small, tune_db=records)
    (expected,) = oracle.Session(model).run({"input": drawn.array()}).values()
    np.savez(place / ARRAYS, expected=sampled(expected))
    path.unlink()
    described = {"shape": drawn.shape, "kind": drawn.kind, "macs": workload.macs * workload.repeats}
    (place / DESCRIBED).write_text(json.dumps({**described, "repeats": workload.repeats}))
    return str(place / "net")


@dataclass(frozen=True)
class Made:
    """What `make` left of a row."""

    place: Path
    row: Row
    drawn: Drawn
    macs: int
    repeats: int

    @classmethod
    def read(cls, place: Path) -> Made:
        """From its folder. Raises OSError, ValueError or KeyError where something is missing."""
        held = json.loads((place / DESCRIBED).read_text())
        drawn = Drawn(tuple(held["shape"]), held["kind"])
        return cls(place, ROWS[place.name], drawn, held["macs"], held["repeats"])

    def compared(self, output: Array) -> dict[str, Any]:
        """How an output differs from onnxruntime's, and whether that is right.

        Layers are right within BOUND of the largest output; of a network, all but MOST_OFF of the images.
        """
        expected = np.load(self.place / ARRAYS)["expected"]
        found = np.abs(sampled(output) - expected) / (float(np.abs(expected).max()) or 1.0)
        off = float((found.max(1) > BOUND).mean())
        most = MOST_OFF if self.row.float_twin is not None else 0.0
        return {"right": off <= most, "difference": float(found.max()), "images off": off}


class OnDevice:
    """An array on the device, as others describe theirs."""

    def __init__(self, library: DeviceLibrary, array: Array) -> None:
        self.memory, self.array = DeviceMemory(library, array.nbytes), array
        self.memory.write(array.reshape(-1).view(np.uint8))
        shape, data = array.shape, (self.memory.address, False)
        self.__cuda_array_interface__ = {"data": data, "shape": shape, "typestr": array.dtype.str, "version": 3}

    def read(self) -> Array:
        """A copy on the host."""
        self.memory.read(self.array.reshape(-1).view(np.uint8))
        return self.array


def run(folder: Path, file: Path, seconds: float, minutes: float, dry: bool) -> int:
    """Check and time what `make` left, for so many minutes at most; status 1 where anything failed or is not right."""
    end = time.monotonic() + minutes * 60
    results: dict[str, Any] = {"rows": {}, "dropped": [], "dry": dry}
    found = [name for name in ROWS if (folder / name / DESCRIBED).exists()]
    if not found:
        raise UsageError(f"there are no rows in '{folder}'", remedy="make them: python -m benchmarks.cuda make")
    if not dry:
        results["device"] = _guarded(_device)
        results["peaks"] = _guarded(partial(_peaks, folder / PEAKS))
    for name in found:
        if dry and not ROWS[name].small:
            continue
        if end - time.monotonic() < (0 if dry else _PARTS * seconds + _BESIDE):
            results["dropped"].append(name)
            continue
        results["rows"][name] = _guarded(partial(_measured, folder / name, seconds, dry))
        _write(file, results)
    if not dry:
        results["sanitizer"] = _sanitized(folder, end)
    _write(file, results)
    return _status(results)


def _status(results: Mapping[str, Any]) -> int:
    failures = {name: row["error"] for name, row in results["rows"].items() if "error" in row}
    for name, why in failures.items():
        print(f"{name}: {why}", file=sys.stderr)
    wrong = [name for name, row in results["rows"].items() if not row.get("right", True)]
    for name in wrong:
        print(f"{name}: not what onnxruntime gives", file=sys.stderr)
    return int(bool(failures or wrong or not results["rows"]))


def _write(file: Path, results: Mapping[str, Any]) -> None:
    """Whole or not at all."""
    beside = file.with_name(f".{file.name}.new")
    beside.write_text(json.dumps(results, indent=1) + "\n")
    beside.replace(file)


def _guarded(measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return measure()
    except (QCompilerError, OSError, RuntimeError, ValueError, KeyError, subprocess.SubprocessError) as error:
        return {"error": str(error)}


def _device() -> dict[str, Any]:
    command = ["nvidia-smi", "--query-gpu=name,driver_version,clocks.max.sm", "--format=csv,noheader"]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    return {"name": shown.stdout.strip().splitlines()[0] if shown.stdout.strip() else "unknown"}


def _peaks(path: Path) -> dict[str, Any]:
    """Multiply-adds per second; those that the device lacks are left out."""
    library = ctypes.CDLL(str(path.absolute()))
    library.peaks_measure.restype, library.peaks_measure.argtypes = ctypes.c_double, [ctypes.c_int]
    found = {name: float(library.peaks_measure(which)) for which, name in enumerate(PEAK_NAMES)}
    failed = {name: value for name, value in found.items() if value < 0}
    if failed:
        raise RuntimeError(f"CUDA's errors {failed}")
    return {name: value for name, value in found.items() if value > 0}


def _measured(place: Path, seconds: float, dry: bool) -> dict[str, Any]:
    """One row."""
    made = Made.read(place)
    if dry:
        return {"title": made.row.title, "batch": made.row.batch, **_stood_in(made)}
    bundle = load(place / "net")
    row = {"title": made.row.title, "batch": made.row.batch, "variant": bundle.variant, "macs": made.macs}
    row |= {"repeats": made.repeats, **_timed(bundle, made, seconds)}
    if importlib.util.find_spec("torch") is not None and (
        made.row.layer is not None or made.row.float_twin is not None
    ):
        row["peers"] = _guarded(partial(_peers, made.row, seconds))
    return row


def _stood_in(made: Made) -> dict[str, Any]:
    """The outputs of a bundle whose kernels the processor runs."""
    from qcompiler.bundle.isolated import IsolatedBundle

    with IsolatedBundle(made.place / "net", checked_manifest(made.place / "net"), "c++") as bundle:
        (output,) = bundle.run({"input": made.drawn.array()}).values()
    return made.compared(output)


def _timed(bundle: Bundle, made: Made, seconds: float) -> dict[str, Any]:
    """Differences, and seconds of a graph of the whole network and of its steps."""
    assert isinstance(bundle._library, DeviceLibrary)
    x = made.drawn.array()
    (wanted,) = bundle.outputs
    given = OnDevice(bundle._library, x)
    left = OnDevice(bundle._library, np.zeros(wanted.shape, wanted.dtype))
    graph = bundle.on_device().capture({bundle.inputs[0].name: given}, {wanted.name: left})
    graph.replay()
    graph.wait()
    result = made.compared(left.read())
    result["seconds"] = median(graph.replay, graph.wait, seconds)
    profile = bundle.profile({bundle.inputs[0].name: x}, repeats=5)
    result["steps"] = [
        {"op": step.op, "kernel": step.kernels[bundle._variant_index()], "macs": step.macs, "seconds": timed.seconds}
        for step, timed in zip(bundle.steps, profile.steps, strict=True)
    ]
    return result


def _peers(row: Row, seconds: float) -> dict[str, Any]:
    import torch

    from benchmarks.cuda_peers import peers

    if not torch.cuda.is_available():
        raise RuntimeError("torch finds no GPU")
    return {"torch": torch.__version__, "seconds": peers(row, seconds)}


def _sanitized(folder: Path, end: float) -> dict[str, Any]:
    """What compute-sanitizer's tools say of the smallest bundles; nothing where it is not installed."""
    program = shutil.which(SANITIZER)
    if program is None:
        return {"missing": f"{SANITIZER} is not installed"}
    found: dict[str, Any] = {}
    small = [name for name, row in ROWS.items() if row.small and (folder / name / DESCRIBED).exists()]
    for tool in ("memcheck", "racecheck", "synccheck"):
        for name in small:
            if end - time.monotonic() < SANITIZER_S:
                found[f"{tool} {name}"] = "no time was left"
                continue
            command = [program, "--tool", tool, "--error-exitcode", "9", sys.executable, "-m", "benchmarks.cuda"]
            command += ["once", str(folder / name)]
            try:
                done = subprocess.run(command, capture_output=True, text=True, timeout=SANITIZER_S, check=False)
            except subprocess.TimeoutExpired:
                found[f"{tool} {name}"] = "took too long"
                continue
            last = (done.stdout + done.stderr).strip().splitlines()[-1:] or [""]
            found[f"{tool} {name}"] = f"status {done.returncode}: {last[0]}"
    return found


def once(place: Path) -> int:
    """Run a bundle once and compare; for tools that watch."""
    made = Made.read(place)
    (output,) = load(place / "net").run({"input": made.drawn.array()}).values()
    return int(not made.compared(output)["right"])


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cuda", description="Measure qcompiler on a GPU.")
    commands = parser.add_subparsers(dest="command", required=True)
    making = commands.add_parser("make", help="compile the bundles, where nvcc is")
    making.add_argument("folder", type=Path)
    making.add_argument("--mcpu", nargs="+", default=[])
    making.add_argument("--rows", nargs="+", default=list(ROWS), metavar="ROW", help=f"such as {', '.join(ROWS)}")
    running = commands.add_parser("run", help="check and time them, where the GPU is")
    running.add_argument("folder", type=Path)
    running.add_argument("--json", type=Path, required=True, metavar="FILE")
    running.add_argument("--seconds", type=float, default=0.5, help="for each time")
    running.add_argument("--minutes", type=float, default=8.5, help="for all; rows that do not fit are left out")
    running.add_argument("--dry-run", action="store_true", help="the processor stands for the GPU; small rows only")
    watched = commands.add_parser("once", help="run one bundle once")
    watched.add_argument("folder", type=Path)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Make or run; the exit status."""
    options = _options(arguments)
    try:
        if options.command == "make":
            return make(options.folder, options.mcpu, options.rows)
        if options.command == "once":
            return once(options.folder)
        return run(options.folder, options.json, options.seconds, options.minutes, options.dry_run)
    except QCompilerError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
