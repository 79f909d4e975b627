"""Everything that is measured on a GPU, in two commands: bundles are made where nvcc is, and run where the GPU is.

    python -m benchmarks.cuda make DIR [--mcpu sm_80 sm_90a] [--rows conv64 ...]
    python -m benchmarks.cuda run DIR --json FILE [--seconds 1]

The second needs numpy, and torch for times of its fp16. It holds the outputs of every bundle against those of
onnxruntime, which `make` left beside it, and times whole runs and steps. A row that fails says why; the others go on.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from qcompiler.bundle.load import Bundle, load
from qcompiler.errors import QCompilerError

ROWS = ("conv64", "conv128", "conv256", "conv512", "product1024", "fc4096", "network", "conv128-w2a2", "resnet18-w2a2")
ARRAYS, BOUND = "arrays.npz", 1e-4
SHAPES = {"conv64": (64, 56), "conv128": (128, 28), "conv256": (256, 14), "conv512": (512, 7)}
"""Channels and size of the layers that torch is timed on."""
BATCHES, SIZES = (1, 32, 128), (1024, 2048, 4096, 8192)


def make(folder: Path, mcpu: Sequence[str], rows: Sequence[str]) -> int:
    """Write a bundle, its input and what onnxruntime makes of it for every row."""
    import onnx

    import qcompiler
    from benchmarks.graphs import float_model
    from qcompiler.ir import oracle

    for row in rows:
        workload, place = _workload(row), folder / row
        place.mkdir(parents=True, exist_ok=True)
        model = float_model(workload.network, workload.x)
        onnx.save(model, place / "model.onnx")
        qcompiler.compile(place / "model.onnx", "cuda", mcpu=mcpu, output=place / "net", force=True)
        expected = oracle.Session(model).run({"input": workload.x})
        arrays: dict[str, Any] = {"input": workload.x, "macs": workload.macs * workload.repeats, **expected}
        np.savez(place / ARRAYS, **arrays)
        print(f"{row}: {place / 'net'}", flush=True)
    return 0


def _workload(row: str) -> Any:
    """The network of few bits of a row."""
    from benchmarks.models import quantized_chain
    from benchmarks.workloads import CHAIN, FEW_BIT_NETWORKS, FEW_BITS, LAYERS, NETWORKS
    from benchmarks.workloads import SHAPES as LAYER_SHAPES

    if row in FEW_BITS:
        shape, w, a = FEW_BITS[row]
        return quantized_chain(LAYER_SHAPES[shape], CHAIN, w, a)
    if row in FEW_BIT_NETWORKS:
        few, _ = FEW_BIT_NETWORKS[row]
        assert few is not None
        return few()
    return {**LAYERS, **NETWORKS}[row](True)


def run(folder: Path, file: Path, seconds: float) -> int:
    """Check and time every bundle, then torch; status 1 where anything failed."""
    results: dict[str, Any] = {"bundles": {}, "torch": {}}
    for place in sorted(each.parent for each in folder.glob(f"*/{ARRAYS}")):
        results["bundles"][place.name] = _guarded(partial(_bundle, place, seconds))
    if importlib.util.find_spec("torch") is not None:
        results["torch"] = _guarded(partial(_torch, seconds))
    file.write_text(json.dumps(results, indent=1) + "\n")
    failures = {name: row["error"] for name, row in results["bundles"].items() if "error" in row}
    for name, why in failures.items():
        print(f"{name}: {why}", file=sys.stderr)
    wrong = [name for name, row in results["bundles"].items() if not row.get("right", True)]
    return int(bool(failures or wrong) or not results["bundles"])


def _guarded(measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return measure()
    except (QCompilerError, OSError, RuntimeError) as error:
        return {"error": str(error)}


def _bundle(place: Path, seconds: float) -> dict[str, Any]:
    """Differences and times of one bundle."""
    bundle, held = load(place / "net"), np.load(place / ARRAYS)
    inputs = {"input": held["input"]}
    found, differences = bundle.run(inputs), {}
    for name, array in found.items():
        largest = float(np.abs(held[name]).max()) or 1.0
        differences[name] = float(np.abs(array - held[name]).max()) / largest
    timed = bundle.benchmark(inputs, seconds=seconds)
    return {
        "variant": bundle.variant,
        "right": max(differences.values()) <= BOUND,
        "differences": differences,
        "seconds": {"median": timed.median, "least": timed.minimum, "runs": timed.runs},
        "macs": int(held["macs"]),
        "steps": _steps(bundle, inputs),
    }


def _steps(bundle: Bundle, inputs: dict[str, Any]) -> list[dict[str, Any]]:
    profile = bundle.profile(inputs, repeats=20)
    return [
        {"op": step.op, "kernel": step.kernels[0], "macs": step.macs, "seconds": timed.seconds}
        for step, timed in zip(bundle.steps, profile.steps, strict=True)
    ]


def _torch(seconds: float) -> dict[str, Any]:
    """Median seconds of torch's fp16, and int8 where it multiplies matrices of it, on the same shapes."""
    import torch

    if not torch.cuda.is_available():
        return {"error": "torch finds no GPU"}
    times: dict[str, Any] = {"device": torch.cuda.get_device_name(), "version": torch.__version__}
    for size in SIZES:
        a = torch.randn(size, size, device="cuda", dtype=torch.float16)
        b = torch.randint(-1, 2, (size, size), device="cuda", dtype=torch.int8)
        times[f"product{size}-fp16"] = _median(partial(torch.matmul, a, a), seconds, torch.cuda.synchronize)
        times[f"product{size}-int8"] = _median(partial(torch._int_mm, b, b), seconds, torch.cuda.synchronize)
    for name, (channels, size) in SHAPES.items():
        weights = torch.randn(channels, channels, 3, 3, device="cuda", dtype=torch.float16)
        for batch in BATCHES:
            x = torch.randn(batch, channels, size, size, device="cuda", dtype=torch.float16)
            x = x.to(memory_format=torch.channels_last)
            times[f"{name}-batch{batch}-fp16"] = _median(
                partial(torch.nn.functional.conv2d, x, weights, padding=1), seconds, torch.cuda.synchronize
            )
    return times


def _median(call: Callable[[], object], seconds: float, wait: Callable[[], None], batch: int = 10) -> float:
    """Median seconds of a call, of which `batch` are started before they are waited for."""
    call()
    wait()
    found: list[float] = []
    end = time.perf_counter() + seconds
    while not found or time.perf_counter() < end:
        start = time.perf_counter()
        for _ in range(batch):
            call()
        wait()
        found.append((time.perf_counter() - start) / batch)
    return float(np.median(found))


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cuda", description="Measure qcompiler on a GPU.")
    commands = parser.add_subparsers(dest="command", required=True)
    making = commands.add_parser("make", help="compile the bundles, where nvcc is")
    making.add_argument("folder", type=Path)
    making.add_argument("--mcpu", nargs="+", default=[])
    making.add_argument("--rows", nargs="+", default=ROWS, metavar="ROW", help=f"such as {', '.join(ROWS)}")
    running = commands.add_parser("run", help="check and time them, where the GPU is")
    running.add_argument("folder", type=Path)
    running.add_argument("--json", type=Path, required=True, metavar="FILE")
    running.add_argument("--seconds", type=float, default=1.0, help="for each time")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Make or run; the exit status."""
    options = _options(arguments)
    if options.command == "make":
        return make(options.folder, options.mcpu, options.rows)
    return run(options.folder, options.json, options.seconds)


if __name__ == "__main__":
    sys.exit(main())
