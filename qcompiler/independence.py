"""Whether a run on a batch is a run on each of its parts (docs/adr/0019-batch.md).

Asked of the canonical graph, read for a batch and for one twice as large, in onnxruntime: whatever lies beside a part
in the larger batch, its results must be the same, and those of a run on the part alone. What lies beside it is random,
special, or NaN, which shows through almost all arithmetic.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.errors import QCompilerError
from qcompiler.frontend import canonicalize
from qcompiler.ir import oracle
from qcompiler.ir.samples import samples
from qcompiler.ir.view import shape_of
from qcompiler.ties import BOUND, relative_difference

Array = npt.NDArray[Any]
Values = Mapping[str, Array]

SEED = 1
# parts that are put beside each other, of different kinds; chosen
_PARTS = 5
# of the largest magnitude: sums of the same numbers may be cut into blocks elsewhere
_SAME = 1e-6


def dependence(path: Path, single: ir.Model) -> str:
    """What keeps runs on parts of a batch from giving the parts of a run on all of it; "" for nothing that was found.

    single: the canonical graph of the file at `path`, with a batch of open size as first axis of inputs and outputs.
    """
    shapes = {str(value.name): shape_of(value) for value in single.graph.inputs}
    if len({shape[0] for shape in shapes.values()}) > 1:
        return "the batches of its inputs differ"
    try:
        double = canonicalize(path, {name: (2 * shape[0], *shape[1:]) for name, shape in shapes.items()})
    except QCompilerError as error:
        return f"it cannot be read for twice the batch ({error.message})"
    return _compared(single, double)


def _compared(single: ir.Model, double: ir.Model) -> str:
    for one, two in zip(single.graph.outputs, double.graph.outputs, strict=True):
        whole = (2 * shape_of(one)[0], *shape_of(one)[1:]) if shape_of(one) else ()
        if shape_of(two) != whole or not whole:
            return f"output '{one.name}' is {list(shape_of(one))}, and {list(shape_of(two))} for twice the batch"
    parts = [each.inputs for each in itertools.islice(samples(single, SEED), _PARTS)]
    names = [str(value.name) for value in single.graph.outputs]
    alone, together = oracle.Session(single, names), oracle.Session(double, names)
    mixed = (_mixed(list(_beside_others(parts, together, half))) for half in (0, 1))
    return next(filter(None, mixed), "") or _depends_on_size(parts, alone, together)


def _beside_others(parts: Sequence[Values], together: oracle.Session, half: int) -> Iterator[Values]:
    """Results of the first part, as one half of the batch, beside each of the others and beside NaN."""
    for other in (*parts[1:], _nans(parts[0])):
        results = _run(together, _joined(other, parts[0]) if half else _joined(parts[0], other))
        if results is not None:
            yield _halves(results)[half]


def _mixed(results: Sequence[Values]) -> str:
    """Which output of a part changes with what lies beside it."""
    for other, name in itertools.product(results[1:], results[0] if results else ()):
        if relative_difference(other[name], results[0][name]) > _SAME:
            return f"a row of output '{name}' depends on other rows of the batch"
    return ""


def _depends_on_size(parts: Sequence[Values], alone: oracle.Session, together: oracle.Session) -> str:
    """Which output differs between a part alone and in a batch, on most parts: ties may fall otherwise on some."""
    differences = []
    for part in parts:
        small, large = _run(alone, part), _run(together, _joined(part, part))
        if small is not None and large is not None:
            half = _halves(large)[0]
            differences.append([n for n, array in small.items() if relative_difference(half[n], array) > BOUND])
    if not differences:
        return "onnxruntime runs none of the samples on twice the batch"
    wrong = [each for each in differences if each]
    return f"output '{wrong[0][0]}' depends on the size of the batch" if 2 * len(wrong) > len(differences) else ""


def _run(session: oracle.Session, inputs: Values) -> Values | None:
    """Outputs by name; None where the graph refuses the numbers, as indices that lie outside."""
    try:
        return session.run(inputs)
    except QCompilerError:
        return None


def _joined(one: Values, other: Values) -> Values:
    return {name: np.concatenate([array, other[name]]) for name, array in one.items()}


def _halves(results: Values) -> tuple[Values, Values]:
    pairs = {name: np.split(array, 2) for name, array in results.items()}
    return {name: pair[0] for name, pair in pairs.items()}, {name: pair[1] for name, pair in pairs.items()}


def _nans(part: Values) -> Values:
    return {name: np.full_like(array, np.nan) if array.dtype.kind == "f" else array for name, array in part.items()}
