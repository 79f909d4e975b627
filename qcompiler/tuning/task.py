"""What there is to tune in a network: a problem for every kind of layer on integers, and data to try kernels on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from qcompiler.ir import ops
from qcompiler.ir.codes import Codes
from qcompiler.ir.storage import Buffer, store
from qcompiler.ir.view import is_quantized_op
from qcompiler.lowering.common_storage import CommonStorage
from qcompiler.lowering.forms import Form
from qcompiler.lowering.module import planned, platform_of
from qcompiler.lowering.problem_builder import layer_constants
from qcompiler.lowering.work import KernelWork
from qcompiler.targets import reference
from qcompiler.targets.problem import Conv2d, tensors_of
from qcompiler.targets.target import Array, Constants, Variant
from qcompiler.targets.tuned import UNTUNED, Tuned, problem_key

_SEED = 0
_DIGEST = 32


@dataclass(frozen=True, eq=False)
class Task:
    """A problem of a network on one variant.

    codes: what x holds, also where it is stored as floats. node: the first layer with this problem; steps: how many
    have it; 0 where its times only decide how layers store their input.
    """

    variant: Variant
    problem: Conv2d
    constants: Constants
    codes: Codes
    node: str
    steps: int

    @property
    def key(self) -> str:
        """See `problem_key`."""
        return problem_key(self.problem)

    @property
    def widths(self) -> str:
        """As "w1a4"."""
        return f"w{self.problem.weights.bits}a{self.codes.bits}"

    @property
    def label(self) -> str:
        """The problem for people."""
        problem = self.problem
        (kh, kw), x = problem.kernel, problem.x
        stored = x.packing if x.packed else "floats"
        groups = f", {problem.groups} groups" if problem.groups > 1 else ""
        what = f"{kh}x{kw}/{problem.strides[0]} {x.c}-{problem.out_channels} {x.h}x{x.w}{groups}"
        return f"{what} {self.widths} in {stored}"


@dataclass(frozen=True)
class Data:
    """Stored arrays of a trial; see `trial.Trial`."""

    x: Array
    tensors: tuple[Array, ...]
    expected: tuple[Array, ...]


def data_of(task: Task) -> Data:
    """Made-up operands, and what the reference makes of them."""
    random = np.random.default_rng(_SEED)
    x = _stored(replace(task.problem.x), task.codes, random)
    tensors = tuple(_stored(buffer, buffer.codes, random) for buffer in tensors_of(task.problem))
    return Data(x, tensors, reference.run(task.problem, x, task.constants, tensors))


def _stored(buffer: Buffer, codes: Codes | None, random: np.random.Generator) -> Array:
    """Random codes, or floats of the normal distribution, as they lie in memory."""
    shape = (buffer.n, buffer.c, buffer.h, buffer.w)
    if codes is None:
        return store(buffer, random.standard_normal(shape).astype(np.float32))
    return store(buffer, (codes.low + codes.step * random.integers(0, codes.levels, shape)).astype(np.float32))


@dataclass(frozen=True)
class Tasks:
    """All that there is to tune in a network, and a digest of it, which names the network in records.

    groups: tasks of which one alone is of use, the fastest: the storages of a layer, or one task; longest first.
    """

    groups: tuple[tuple[Task, ...], ...]
    digest: str


def tasks_of(graph: ir.Graph, variants: Sequence[Variant], variant: Variant, tuned: Tuned = UNTUNED) -> Tasks:
    """The problems of a rewritten graph on one of the variants of its bundle.

    They are those of its steps, as layers store their inputs by what `tuned` says, and those that decide about that.
    """
    storage = _Listening(variants, tuned)
    _, works = planned(graph, storage, platform_of(variants))
    steps: dict[Conv2d, Task] = {}
    for each in _steps(works, storage, variant):
        known = steps.get(each.problem)
        steps[each.problem] = each if known is None else replace(known, steps=known.steps + 1)
    groups: list[tuple[Task, ...]] = [(task,) for task in steps.values()]
    groups += _deciding(storage, variant)
    text = "\n".join(sorted(f"{task.key} {task.steps}" for task in steps.values()))
    ordered = sorted(groups, key=lambda group: -group[0].problem.macs * max(group[0].steps, 1))
    return Tasks(tuple(ordered), hashlib.sha256(text.encode()).hexdigest()[:_DIGEST])


class _Listening(CommonStorage):
    """Remembers which layers asked how to store their input."""

    def __init__(self, variants: Sequence[Variant], tuned: Tuned) -> None:
        super().__init__(variants, tuned)
        self.asked: dict[ir.Node, tuple[Form, Codes | None]] = {}

    def operand(self, node: ir.Node, floats: Form, codes: Codes | None) -> Form:
        """See `CommonStorage`."""
        self.asked[node] = (floats, codes)
        return super().operand(node, floats, codes)


def _steps(works: Sequence[object], storage: _Listening, variant: Variant) -> Iterator[Task]:
    """The layers on integers as they are computed."""
    for work in works:
        if not isinstance(work, KernelWork) or not isinstance(work.problem, Conv2d):
            continue
        node = next((node for node in work.nodes if is_quantized_op(node, *ops.INTEGER_LAYERS)), None)
        codes = None if node is None else storage.asked.get(node, (None, None))[1]
        if node is not None and codes is not None:
            yield Task(variant, work.problem, work.constants, codes, node.name or "", 1)


def _deciding(storage: _Listening, variant: Variant) -> Iterator[tuple[Task, ...]]:
    """The layers as every storage would have them, each kind of layer once."""
    seen: set[tuple[Conv2d, ...]] = set()
    for node, (floats, codes) in storage.asked.items():
        if codes is None or not is_quantized_op(node, *ops.INTEGER_LAYERS):
            continue
        problems = tuple(storage.layers(node, floats, codes))
        if problems and problems not in seen:
            seen.add(problems)
            constants = layer_constants(node, matrix=floats.matrix)
            yield tuple(Task(variant, problem, constants, codes, node.name or "", 0) for problem in problems)
