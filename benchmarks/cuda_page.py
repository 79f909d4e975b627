"""The page of speeds on a GPU, in Markdown, from what `python -m benchmarks.cuda run` wrote.

python -m benchmarks.cuda_page cuda.json -o docs/performance_cuda.md

Without a file the page says that no speed is known, what will be measured, and what kernels are chosen by until then.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.cuda_rows import ROWS
from benchmarks.markdown import table
from qcompiler.errors import InvalidData, QCompilerError, UsageError

if TYPE_CHECKING:
    from qcompiler.targets.cuda import CudaVariant

HEAD = """# Speed on a GPU

{device}. Made by `python -m benchmarks.cuda` and `python -m benchmarks.cuda_page`;
`benchmarks/README.md` says how. Every output is held against onnxruntime's. Times are of CUDA
graphs of whole networks, on arrays that lie on the device, with signs, quantizers and changes of layout; layers are in
chains of eight, µs per layer. "best peer" is the fastest of torch's fp16 and int8 on the same shape, without what
stands around it. Convolutions of bytes are not in torch: its int8 is the product alone.
"""
PEAKS = """
## What the device reaches at most

Out of registers, or for wgmma out of the memory of the block.

"""
UNMEASURED = """# Speed on a GPU

**No speed is known**: nobody has run this on a GPU yet, and no number here is one of ours. Where there is one,

```bash
python -m benchmarks.cuda make bundles --mcpu sm_90a    # where nvcc is, or carry `bundles` to the GPU
python -m benchmarks.cuda run bundles --json cuda.json  # numpy, and torch for what stands beside; 8.5 minutes
python -m benchmarks.cuda_page cuda.json -o docs/performance_cuda.md
```

measure and make this page anew; `benchmarks/README.md` says how. This one is made by
`python -m benchmarks.cuda_page -o docs/performance_cuda.md`.

## What it will show

What the device reaches at most (population counts, b1, u4 and u8 `mma`, b1 `wgmma`), and of each row whether its
outputs are onnxruntime's, its time as a CUDA graph, and that of the fastest of torch's fp16 and int8 on the same shape.

"""
CHOICE = """
## What kernels are chosen by

Multiply-adds per clock of a multiprocessor, published or chosen, in `targets/cuda/machine.py`; "-" where ptxas emulates
the instruction. Behind them, what is taken for a 3x3 layer of 128 channels on 28x28 pixels at a batch of 8, by
widths of weights and activations.

"""
MAX_BYTES = 1 << 24

Line = tuple[str, Mapping[str, Any]]


def page(results: Mapping[str, Any]) -> str:
    """The whole page. results: as `benchmarks.cuda.run` writes them."""
    rows = list(results["rows"].items())
    parts = [HEAD.format(device=results.get("device", {}).get("name", "An unknown GPU"))]
    peaks = results.get("peaks", {})
    if peaks and "error" not in peaks:
        columns: dict[str, Callable[[tuple[str, float]], str]] = {
            "instruction": lambda line: line[0],
            "T multiply-adds/s": lambda line: f"{line[1] / 1e12:,.1f}",
        }
        parts += [PEAKS, table(columns, peaks.items())]
    parts += ["\n## Rows\n\n", table(_COLUMNS, [line for line in rows if "error" not in line[1]])]
    failed = [(name, row["error"]) for name, row in rows if "error" in row]
    if failed:
        parts += ["\n## What failed\n\n", *(f"- {name}: {why}\n" for name, why in failed)]
    if results.get("dropped"):
        parts.append(f"\nNo time was left for {', '.join(results['dropped'])}.\n")
    sanitizer = results.get("sanitizer", {})
    if sanitizer:
        parts += ["\n## compute-sanitizer\n\n", *(f"- {what}: {said}\n" for what, said in sanitizer.items())]
    return "".join(parts)


def unmeasured() -> str:
    """The page while no speed is known. It needs TVM, as kernels are asked for."""
    return "".join([UNMEASURED, table(_PLANNED, _planned()), CHOICE, table(_chosen_columns(), _chosen())])


def _planned() -> list[tuple[str, list[str]]]:
    """Titles of what is measured, and their batches."""
    found: dict[str, list[str]] = {}
    for row in ROWS.values():
        found.setdefault(row.title, []).append(str(row.batch))
    return list(found.items())


_PLANNED: dict[str, Callable[[tuple[str, list[str]]], str]] = {
    "row": lambda line: line[0],
    "batches": lambda line: ", ".join(line[1]),
}
LAYERS = {"w1a1": (1, 1), "w2a2": (2, 2), "w4a4": (4, 4), "w8a8": (8, 8)}


def _chosen() -> list[Mapping[str, str]]:
    """A line per architecture."""
    from qcompiler.targets.cuda import TARGET

    lines: list[Mapping[str, str]] = []
    for variant in reversed(TARGET.variants(())):
        gpu = variant.gpu
        rates = {"b1": gpu.bit_rate, "4 bits": gpu.nibble_rate, "bytes": gpu.byte_rate}
        said = {"architecture": gpu.name, **{what: str(rate or "-") for what, rate in rates.items()}}
        lines.append({**said, **{name: _fastest(variant, *widths) for name, widths in LAYERS.items()}})
    return lines


def _chosen_columns() -> dict[str, Callable[[Mapping[str, str]], str]]:
    names = ("architecture", "b1", "4 bits", "bytes", *LAYERS)
    return {name: partial(lambda name, line: line[name], name) for name in names}


def _fastest(variant: CudaVariant, w_bits: int, a_bits: int) -> str:
    """The kernel that is taken for a layer."""
    from qcompiler.ir.codes import BINARY, Codes
    from qcompiler.ir.storage import Buffer
    from qcompiler.targets.problem import Conv2d, Operation

    inputs = BINARY if a_bits == 1 else Codes(0, 2**a_bits - 1)
    weights = BINARY if w_bits == 1 else Codes(-(2 ** (w_bits - 1)), 2 ** (w_bits - 1) - 1)
    x = Buffer(8, 28, 28, 128, inputs)
    layer = Conv2d(x, 128, (3, 3), pads=(1, 1, 1, 1), padding="kernel", pad_value=inputs.low, weights=weights)
    layer = replace(layer, epilogue=(Operation("threshold", into=x),))
    both = (layer, replace(layer, x=replace(x, packing="bytes")))
    return min((kernel for each in both for kernel in variant.kernels(each)), key=lambda kernel: kernel.cost).name


def _micros(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1e6:,.1f}"


def _ours(row: Mapping[str, Any]) -> float | None:
    return row["seconds"] / row.get("repeats", 1) if "seconds" in row else None


def _best(row: Mapping[str, Any]) -> tuple[str, float] | None:
    found = row.get("peers", {}).get("seconds", {})
    return min(found.items(), key=lambda item: float(item[1])) if found else None


def _times(line: Line) -> str:
    best, ours = _best(line[1]), _ours(line[1])
    return "-" if best is None or not ours else f"{best[1] / ours:.2f}"


def _rate(line: Line) -> str:
    seconds = line[1].get("seconds")
    return f"{line[1]['macs'] / seconds / 1e12:,.1f}" if seconds and line[1].get("macs") else "-"


_COLUMNS: dict[str, Callable[[Line], str]] = {
    "row": lambda line: line[1]["title"],
    "batch": lambda line: str(line[1]["batch"]),
    "right": lambda line: "yes" if line[1]["right"] else "**no**",
    "µs": lambda line: _micros(_ours(line[1])),
    "T multiply-adds/s": _rate,
    "best peer": lambda line: "-" if (best := _best(line[1])) is None else best[0],
    "its µs": lambda line: _micros(None if (best := _best(line[1])) is None else best[1]),
    "times faster": _times,
}


def read(path: Path) -> Mapping[str, Any]:
    """What a run wrote. Raises UsageError where there is no file, InvalidData where it is another."""
    try:
        with path.open("rb") as file:
            content = json.loads(file.read(MAX_BYTES))
    except OSError as error:
        raise UsageError(f"cannot read '{path}': {error.strerror or error}") from error
    except ValueError as error:
        raise InvalidData(f"'{path}' is not JSON: {error}", remedy="run the benchmark again") from error
    if not isinstance(content, dict) or not isinstance(content.get("rows"), dict):
        raise InvalidData(f"'{path}' holds no rows", remedy="name what python -m benchmarks.cuda run wrote")
    if content.get("dry"):
        raise UsageError(f"'{path}' is of a dry run, which times nothing", remedy="run it where there is a GPU")
    return content


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cuda_page", description="The page of a GPU's speeds.")
    parser.add_argument("results", type=Path, nargs="?", metavar="FILE.json", help="nothing: no speed is known")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="PAGE.md")
    options = parser.parse_args(arguments)
    try:
        text = unmeasured() if options.results is None else page(read(options.results))
        options.output.write_text(text, encoding="utf-8")
    except QCompilerError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
