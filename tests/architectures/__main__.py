"""A table of all blocks: `python -m tests.architectures [NAME...]`."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import torch

from qcompiler.errors import QCompilerError
from tests.architectures import trial
from tests.architectures.catalogue import BLOCKS


def main() -> int:
    """One line for each block, variant and exporter; the exit status says whether all came out right."""
    torch.set_num_threads(1)
    failed = 0
    print("| block | variant | exporter | from onnxruntime | from torch | verification |\n|---|---|---|---|---|---|")
    for name in sys.argv[1:] or BLOCKS:
        for binary in (False, True):
            for exporter in trial.EXPORTERS:
                row = _row(name, binary, exporter)
                failed += "FAILED" in row
                print(f"| {name} | {'binary' if binary else 'float'} | {exporter} | {row} |", flush=True)
    return int(failed > 0)


def _row(name: str, binary: bool, exporter: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        try:
            done = trial.run(name, binary, exporter, Path(folder))
        except QCompilerError as error:
            return f"FAILED | {type(error).__name__} | {error}"
        except Exception as error:
            return f"FAILED | {type(error).__name__} | {str(error)[:200]!r}"
    seen = done.verification
    return f"{done.from_onnxruntime:.2g} | {done.from_torch:.2g} | {seen.codes} codes, {seen.ties} ties"


if __name__ == "__main__":
    raise SystemExit(main())
