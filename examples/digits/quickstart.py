"""Compile the digits network, run the held-out digits through it, and hold it against onnxruntime.

    python examples/digits/quickstart.py

Needs nothing but qcompiler's own dependencies, and a few seconds.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime

import qcompiler

HERE = Path(__file__).parent
FloatArray = npt.NDArray[np.float32]
SECONDS_PER_ROUND = 0.1
ROUNDS = 5


def open_reference(model: Path, exact: bool) -> onnxruntime.InferenceSession:
    """A session on one thread; `exact` switches its optimisations off, for it to compute what the file says."""
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1
    if exact:
        settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model, settings, providers=["CPUExecutionProvider"])


def median_seconds(run: Callable[[], object]) -> float:
    """Median time of a call over one round."""
    marks = [time.perf_counter()]
    while marks[-1] < marks[0] + SECONDS_PER_ROUND:
        run()
        marks.append(time.perf_counter())
    return float(np.median(np.diff(marks)))


def compare_speed(bundle: qcompiler.Bundle, session: onnxruntime.InferenceSession, image: FloatArray) -> None:
    """Print median latencies on one thread, taken in alternating rounds after both outputs were compared."""
    ours, theirs = bundle.run({"image": image})["scores"], session.run(None, {"image": image})[0]
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)
    binding = session.io_binding()
    binding.bind_cpu_input("image", image)
    binding.bind_output("scores")
    rounds = [
        (
            bundle.benchmark({"image": image}, seconds=SECONDS_PER_ROUND).median,
            median_seconds(lambda: session.run_with_iobinding(binding)),
        )
        for _ in range(ROUNDS)
    ]
    mine, other = np.median(rounds, axis=0) * 1e6
    print(f"speed        {mine:.1f} µs per digit, onnxruntime {other:.1f} µs (float32, one thread each)")


def show_sizes(bundle: qcompiler.Bundle, model: Path) -> None:
    """Print the size of the library, with its share of weights, beside that of the float32 weights in the file."""
    initializers = onnx.load(model).graph.initializer
    floats = sum(4 * int(np.prod(tensor.dims)) for tensor in initializers if tensor.data_type == onnx.TensorProto.FLOAT)
    library = (bundle.directory / bundle.manifest.library).stat().st_size
    constants = bundle.report["constant_bytes"]
    sets = len(bundle.variants)
    print(f"size         {constants / 1024:.0f} KiB of weights and thresholds, {floats / 1024:.0f} KiB as float32")
    print(f"             {(library - constants) / 1024:.0f} KiB of code for {sets} instruction sets, in one library")


def main() -> None:
    """Compile, check all held-out digits, time one of them."""
    parser = argparse.ArgumentParser(description="Compile and run the digits network.")
    parser.add_argument("--output", type=Path, help="keep the bundle in this new directory")
    options = parser.parse_args()
    model = HERE / "model.onnx"
    held = np.load(HERE / "heldout.npz")
    images = held["pixels"].astype(np.float32) / 16
    with tempfile.TemporaryDirectory() as scratch:
        started = time.perf_counter()
        bundle = qcompiler.compile(model, target="x86", output=options.output or Path(scratch) / "digits")
        print(f"compiled     in {time.perf_counter() - started:.1f} s, runs with {bundle.variant} here")
        session = open_reference(model, exact=True)
        scores = np.concatenate([bundle.run({"image": image[None]})["scores"] for image in images])
        expected = np.concatenate([session.run(None, {"image": image[None]})[0] for image in images])
        agreement = (scores.argmax(1) == expected.argmax(1)).mean()
        print(f"accuracy     {(scores.argmax(1) == held['labels']).mean():.2%} of {len(images)} held-out digits")
        print(f"onnxruntime  {agreement:.2%} equal predictions, largest difference {np.abs(scores - expected).max():g}")
        show_sizes(bundle, model)
        compare_speed(bundle, open_reference(model, exact=False), images[:1])


if __name__ == "__main__":
    main()
