"""Kernels that a row asks for by name, as records that a compile goes by as if they had been measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from qcompiler import targets
from qcompiler.options import Options
from qcompiler.pipeline import rewritten
from qcompiler.tuning.database import append
from qcompiler.tuning.record import KernelRecord
from qcompiler.tuning.session import Network


def record_wanted(model: Path, mcpu: Sequence[str], family: str, file: Path) -> int:
    """Write a record for each kernel of a family that a model can use into a new file; how many there are.

    family: what the kernels' names begin with.
    """
    variants = targets.get("cuda").variants(mcpu)
    network = Network(rewritten(model, Options("cuda", mcpu)), "cuda", variants, "wanted")
    found = []
    for variant in variants:
        for task in {task.key: task for group in network.tasks(variant).groups for task in group}.values():
            names = [each.name for each in variant.kernels(task.problem) if each.name.startswith(family)]
            found += [
                KernelRecord(name, task.key, task.label, task.widths, "wanted", variant.name, 1.0, 0.0, 1.0, 1)
                for name in names
            ]
    append(file, found)
    return len(found)
