"""Comparing two evaluations of the same network although signs and roundings may fall either way in both.

A tie is an element that rounding errors alone keep from a jump (analysis/jumps.py). It excuses what can come of it: the
element's value on the other side of the jump, and nothing else. What follows is compared with the tie decided alike.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.analysis.jumps import jumping_operands, sources, steps
from qcompiler.ir.cutting import Pieces, computed_names
from qcompiler.ir.view import dtype_of, shape_of

Array = npt.NDArray[Any]
Values = Mapping[str, Array]
Mask = npt.NDArray[np.bool_]

# of the largest magnitude of a tensor: what sums in another order may differ by; chosen
BOUND = 1e-4
# of the largest magnitude of what jumps
TIE = 1e-5
# share of codes that ties may decide; chosen
_FEW = 1 / 16
# elements that tell whether all are to be compared; chosen
_LOOKED_AT = 4096
# all up, all down, the smallest to 0, and the rest at random
_PATTERNS = 9


def relative_difference(found: Array, expected: Array) -> float:
    """Largest difference over the largest finite magnitude of `expected`; infinite where NaN or infinity disagree."""
    if found.shape != expected.shape or found.dtype.kind != expected.dtype.kind:
        return float("inf")
    if expected.dtype.kind != "f":
        return 0.0 if np.array_equal(found, expected) else float("inf")
    found, expected = _masked(found), _masked(expected)
    finite = np.isfinite(expected)
    if finite.all() and np.isfinite(found).all():
        return _relative(found, expected)
    if not np.array_equal(finite, np.isfinite(found)) or not np.array_equal(
        expected[~finite], found[~finite], equal_nan=True
    ):
        return float("inf")
    return _relative(found[finite], expected[finite])


def _relative(found: Array, expected: Array) -> float:
    """The largest difference of finite numbers over the largest magnitude of `expected`."""
    largest = float(np.abs(expected).max(initial=0.0))
    return float(np.abs(found.astype(np.float64) - expected).max(initial=0.0) / max(largest, 1e-30))


def wrong_elements(found: Array, expected: Array, *, exactly: bool) -> Mask:
    """The elements that differ, or unless `exactly` or not real by more than BOUND of the largest magnitude."""
    if exactly or expected.dtype.kind != "f":
        return np.asarray((found != expected) & ~(_nan(found) & _nan(expected)))
    found, expected = _masked(found), _masked(expected)
    largest = _largest(expected)
    with np.errstate(invalid="ignore"):
        wrong = ~(np.abs(found.astype(np.float64) - expected) <= BOUND * max(largest, 1e-30))
    return np.asarray(wrong & (found != expected) & ~(_nan(found) & _nan(expected))) if wrong.any() else wrong


def _largest(array: Array) -> float:
    """The largest finite magnitude, 0 if there is none."""
    largest = float(np.abs(array).max(initial=0.0))
    return largest if np.isfinite(largest) else float(np.abs(array[np.isfinite(array)]).max(initial=0.0))


class Ties:
    """What the values `given` of a graph become where jumps between them fall the other way.

    exact: whether that may happen at exact values too, because they are compared with those of a graph that rounds.
    """

    def __init__(self, model: ir.Model, given: Collection[str], *, exact: bool = False) -> None:
        self._model = model
        self._given = frozenset(given)
        self._wanted = sorted(self._given & set(computed_names(model)))
        found = sources(model.graph, exact=exact)
        self._steps = steps(model.graph)
        behind_others = {name for name, value in found.items() if self._behind_a_jump(value, found)}
        # a jump behind another one tips by itself, or because of the other
        self._levels = [sorted(found), sorted(found.keys() - behind_others)][: 2 if behind_others else 1]
        self._pieces: list[Pieces] = []

    @property
    def sources(self) -> list[str]:
        """The values that `others` needs beside the given ones: where rounding errors may decide."""
        return self._levels[0]

    def others(self, values: Values, computed: Values | None = None) -> Iterator[dict[str, Array]]:
        """What given values can be instead, by name; values: of all inputs, given values and sources.

        computed: what the graph makes of them without ties, if that is not what is given. What equals it is left out.
        """
        if not self.sources:
            return
        if not self._pieces:
            self._pieces = [Pieces(self._model, {*self._given, *each}, self._wanted) for each in self._levels]
        random = np.random.default_rng(0)
        for pieces, level in zip(self._pieces, self._levels, strict=True):
            for pattern in range(_PATTERNS):
                moved = {name: _moved(values[name], pattern, random, self._steps[name]) for name in level}
                found = pieces.run({**values, **moved})
                known = values if computed is None else {**values, **computed}
                yield {name: array for name, array in found.items() if not np.array_equal(array, known[name])}

    def _behind_a_jump(self, start: ir.Value, others: Collection[str]) -> bool:
        """Whether a source is computed from another jump without passing a given value."""
        seen, waiting = {start}, [start]
        while waiting:
            value = waiting.pop()
            node = value.producer() if value.name not in self._given or value is start else None
            if node is None:
                continue
            if any(each.name in others for each in jumping_operands(node)):
                return True
            new = [each for each in node.inputs if each is not None and each not in seen]
            seen.update(new)
            waiting += new
        return False


def _moved(values: Array, pattern: int, random: np.random.Generator, step: float) -> Array:
    """All values up, all down, to 0, or each either way, as far as rounding errors may carry them.

    step: between jumps; no further than half of it, so that a code becomes none but a neighbour.
    """
    size = min(TIE * _largest(values), step / 2)
    if pattern == 2:
        return np.where(np.abs(values) <= size, np.zeros((), values.dtype), values)
    sides = (1.0, -1.0)[pattern] if pattern < 2 else random.choice((-1.0, 1.0), values.shape)
    return np.asarray(values + np.asarray(size * sides, values.dtype), values.dtype)


class Aligned:
    """A graph evaluated beside another one of the same meaning, with every tie decided as there.

    What both compute is compared, given that all before it is equal, and the other's is used from there on. A value
    that differs by more than ties explain is not taken for the same, and is left to what follows. Codes that have
    another name or zero point in the other graph are known by their values.
    """

    def __init__(self, model: ir.Model, wanted: Sequence[str]) -> None:
        self._model = model
        self._wanted = list(wanted)
        outputs = {str(value.name) for value in model.graph.outputs}
        self._values = {
            str(value.name): value for node in model.graph for value in node.outputs if value.name not in outputs
        }

    def values(self, upstream: Values) -> dict[str, Array]:
        """All that is wanted, from `upstream`: the graph's inputs, and what the other graph computes by name."""
        shared = {name for name, array in upstream.items() if self._fits(name, array)}
        unknown = [name for name in self._wanted if name not in shared]
        while True:
            ties = Ties(self._model, shared, exact=True)
            wanted = list(dict.fromkeys([*self._wanted, *sorted(shared), *ties.sources]))
            values = Pieces(self._model, shared, wanted).run(upstream)
            decided = {**values, **{name: upstream[name] for name in shared}}
            suspects = _suspects(shared, values, upstream)
            if not suspects:
                return decided
            renamed = _renamed({name: values[name] for name in unknown}, upstream)
            unknown = []
            if renamed:
                upstream, shared = {**upstream, **renamed}, shared | renamed.keys()
                continue
            unlike = _unlike(suspects, values, upstream, ties, decided)
            if not unlike:
                return decided
            shared -= unlike

    def _fits(self, name: str, array: Array) -> bool:
        value = self._values.get(name)
        return value is not None and (shape_of(value), dtype_of(value)) == (array.shape, array.dtype)


def _suspects(shared: Collection[str], values: Values, upstream: Values) -> dict[str, Mask]:
    """The values that are not the same in both, with the elements where they differ."""
    wrong = {name: wrong_elements(values[name], upstream[name], exactly=False) for name in shared}
    return {name: mask for name, mask in wrong.items() if mask.any()}


def _unlike(suspects: Mapping[str, Mask], values: Values, upstream: Values, ties: Ties, decided: Values) -> set[str]:
    """Names of the suspects that ties do not explain."""
    others = Kept(ties.others({**upstream, **decided}, values))
    return {name for name, mask in suspects.items() if not explained(upstream[name], mask, name, others, exactly=False)}


def _renamed(values: Values, upstream: Values) -> dict[str, Array]:
    """Codes as the other graph has them, for `values` that have another name or zero point there."""
    codes = {name: array for name, array in values.items() if _is_whole(array)}
    others = [array for array in upstream.values() if _is_whole(array)] if codes else []
    found = {}
    for name, array in codes.items():
        alike = [each for other in others if (each := _less_zero_point(other, array)) is not None]
        if alike:
            found[name] = min(alike, key=lambda each: int((each != array).sum()))
    return found


def _less_zero_point(other: Array, codes: Array) -> Array | None:
    """The other codes less what they are most often above these; None unless few elements then differ."""
    if (other.shape, other.dtype) != (codes.shape, codes.dtype):
        return None
    pace = max(1, codes.size // _LOOKED_AT)
    some, same = other.reshape(-1)[::pace], codes.reshape(-1)[::pace]
    zero = np.median(some - same).astype(codes.dtype)
    if np.mean(some - zero != same) > _FEW:
        return None
    moved = np.asarray(other - zero)
    return moved if np.mean(moved != codes) <= _FEW else None


def _is_whole(array: Array) -> bool:
    """Whether there are several numbers in an array, and no fractions."""
    if array.dtype.kind != "f" or array.size < 2 or not np.isfinite(array).all():
        return False
    return bool((np.rint(array) == array).all() and np.ptp(array) > 0)


class Kept:
    """What an iterator gives, as often as asked for, and evaluated no further than that."""

    def __init__(self, source: Iterator[Values]) -> None:
        self._source = source
        self._known: list[Values] = []

    def __iter__(self) -> Iterator[Values]:
        for position in itertools.count():
            if position == len(self._known):
                more = next(self._source, None)
                if more is None:
                    return
                self._known.append(more)
            yield self._known[position]


def explained(found: Array, wrong: Mask, name: str, others: Iterable[Values], *, exactly: bool) -> bool:
    """Whether every wrong element is what a tie can make of it; others: see `Ties.others`, as far as needed."""
    left = wrong.copy()
    for values in others:
        if name in values:
            left &= wrong_elements(found, values[name].reshape(found.shape), exactly=exactly)
        if not left.any():
            return True
    return not left.any()


def _masked(array: Array) -> Array:
    """Numbers with the largest finite ones as infinities.

    Both mean "never" in a mask: masked scores are -infinity in ONNX's Attention, and the lowest number in
    onnxruntime's. As a magnitude to which differences are relative, it would excuse all of them.
    """
    largest = np.finfo(array.dtype).max
    if np.abs(array).max(initial=0.0) < largest:
        return array
    return np.where(np.abs(array) == largest, np.copysign(np.asarray(np.inf, array.dtype), array), array)


def _nan(array: Array) -> Mask:
    return np.isnan(array) if array.dtype.kind == "f" else np.zeros(array.shape, np.bool_)
