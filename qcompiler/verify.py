"""Every compile is verified: the bundle against onnxruntime, step by step and end to end.

Step by step: the final graph runs in onnxruntime with every stored value as an output, the bundle runs one step at a
time, and after each step what it stored is compared: codes exactly, floats within `BOUND` of the largest magnitude of
the value; those that have drifted by an eighth of that, or of 1, are set to the reference's, so that every step
answers for its own errors. Where rounding errors alone decide a sign or a rounding (qcompiler/ties.py) or what a closed
gate lets through (qcompiler/roundings.py), the bundle may have taken the other side; such ties are counted and set to
the reference's, so that what follows is compared on equal inputs. Where the final graph and the original file decide
them differently, every step is compared with what the final graph makes of the values before it as the file has them.

End to end: the outputs after all steps, with ties decided as in the original file, are always within `BOUND` of its
outputs. Whole runs on one thread and on two give these outputs too, where no tie falls otherwise.
"""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.bundle.stepping import Stepper
from qcompiler.bundle.tensors import in_dtype, part
from qcompiler.errors import InvalidModel, QCompilerError, UnsupportedModel, UsageError, VerificationFailed
from qcompiler.ir import oracle
from qcompiler.ir.cutting import Pieces
from qcompiler.ir.program import Program, StoredValue, TensorInfo
from qcompiler.ir.samples import RANDOM, Sample
from qcompiler.ir.storage import PACKED_LAYOUTS
from qcompiler.ir.view import dtype_of
from qcompiler.reference import REMEDY, Reference, require, within_bound
from qcompiler.roundings import rounding
from qcompiler.ties import BOUND, Aligned, Kept, Ties, explained, relative_difference, wrong_elements

Array = npt.NDArray[Any]
Inputs = Mapping[str, Array]
Values = dict[str, Array]
Mask = npt.NDArray[np.bool_]

# of the largest magnitude: sums of many steps that round alike would add up to more than the bound of one
DRIFT = BOUND / 8
# the least that can disagree
THREADS = 2
# samples for a variant that is not the best, and of any kind and speed
LEAST_OF_OTHERS = 2
MOST = 24
GIVEN = "given"


class Runnable(Protocol):
    """A bundle as verification uses it."""

    def run(self, inputs: Inputs, threads: int = 1) -> Values:
        """Outputs by name."""
        ...

    def stepper(self, inputs: Inputs) -> Stepper:
        """A run that can be stopped between steps."""
        ...


class RunsTogether(Protocol):
    """A bundle for a device, as verification uses it."""

    def run(self, inputs: Inputs, threads: int = 1) -> Values:
        """Outputs by name."""
        ...

    def together(self, inputs: Sequence[Inputs]) -> list[Values]:
        """Outputs of each of several runs that are launched together."""
        ...


@dataclass(frozen=True)
class Verification:
    """What was compared and how it came out; `largest` is relative to the largest magnitude of the reference.

    samples: how many; kinds: how many of which kind, where they were made up. holds_halves: whether the file
    has 16-bit floats, which are computed in float32. off_halves: how far that is from the file's own results, if known.
    """

    samples: int
    codes: int
    ties: int
    steps: int
    largest: float
    kinds: tuple[tuple[str, int], ...] = ()
    holds_halves: bool = False
    off_halves: float | None = None

    def summary(self) -> str:
        """One line for the user."""
        tied = f", {self.ties} tie{'s' if self.ties > 1 else ''} decided by float rounding" if self.ties else ""
        which = ", ".join(f"{count} {kind}" for kind, count in self.kinds if kind != GIVEN)
        times = f" on {self.samples} samples" if self.samples > 1 else ""
        return (
            f"verified: {self.codes} codes of {self.steps} steps equal{times}{f' ({which})' if times and which else ''}"
            f"{tied}; largest difference from onnxruntime {self.largest:.2g} of the largest value (bound {BOUND:g})"
            f"{self._halves()}"
        )

    def _halves(self) -> str:
        if not self.holds_halves:
            return ""
        known = self.off_halves is not None
        change = f"changes results by up to {self.off_halves:.2g}" if known else "onnxruntime cannot do otherwise"
        return f"; 16-bit floats are computed in float32, which {change}"


def verify(bundle: Runnable, program: Program, final: ir.Model, reference: Reference, inputs: Inputs) -> Verification:
    """Compare a bundle with its final graph step by step, and with the reference model end to end.

    inputs: by name, arrays of the model's shapes, or several samples stacked along the first axis.
    Raises VerificationFailed where codes differ, or floats by more than BOUND, other than through ties; UsageError for
    inputs of other shapes.
    """
    return verify_on_samples([bundle], program, final, reference, given(inputs, program.inputs))[0]


def verify_on_samples(
    bundles: Sequence[Runnable],
    program: Program,
    final: ir.Model,
    reference: Reference,
    made: Iterable[Sample],
    budget: Budget | None = None,
    threads: int = THREADS,
) -> list[Verification]:
    """As `verify`, for variants of a bundle, the best first, on as many samples as the budget allows, or on all.

    threads: on how many a run must give the bits of a run on one; 1 where a bundle has no more.
    """
    if not bundles:
        return []
    check = _Check(program, final, reference, threads)
    results: list[list[Verification]] = [[] for _ in bundles]
    for sample in made:
        known = check.known(sample, needed=not results[0])
        if known is not None:
            for bundle, found in zip(bundles, results, strict=True):
                if budget is None or bundle is bundles[0] or budget.allows(len(found), LEAST_OF_OTHERS):
                    found.append(check.compare(bundle, known))
        else:
            _survive(bundles[0], sample.inputs)
        if budget is not None and not budget.another(len(results[0])):
            break
    return [_sum(found) for found in results]


def verify_together(bundle: RunsTogether, runs: Sequence[Inputs]) -> None:
    """Runs that a device launches together give the bits that each gives alone. Raises VerificationFailed."""
    try:
        alone = [bundle.run(inputs) for inputs in runs]
    except VerificationFailed:
        raise
    except QCompilerError:
        # what the network itself refuses says nothing
        return
    for found, expected in zip(bundle.together(runs), alone, strict=True):
        for name, array in expected.items():
            if not np.array_equal(found[name], array, equal_nan=array.dtype.kind == "f"):
                what = f"output '{name}' of a run depends on others that are launched with it"
                raise VerificationFailed(what, remedy=REMEDY)


@dataclass
class Budget:
    """How much verification may cost: `seconds`, but at least `least` samples; at most MOST of any speed."""

    seconds: float
    least: int
    _times: list[float] = field(default_factory=lambda: [time.monotonic()])

    def another(self, done: int) -> bool:
        """Whether there may be another sample; to be asked after each, of which `done` were used."""
        self._times.append(time.monotonic())
        return len(self._times) <= MOST and self.allows(done, self.least)

    def allows(self, done: int, least: int) -> bool:
        """Whether `done` samples are too few, or there is time for one more like the slowest so far."""
        slowest = max((after - before for before, after in itertools.pairwise(self._times)), default=0.0)
        return done < least or time.monotonic() + slowest < self._times[0] + self.seconds


def _survive(bundle: Runnable, inputs: Inputs) -> None:
    """Run on inputs that the reference refuses: any error will do, but code that misbehaves is VerificationFailed."""
    try:
        bundle.run(inputs)
    except VerificationFailed:
        raise
    except QCompilerError:
        return


def _sum(results: Sequence[Verification]) -> Verification:
    kinds: Counter[str] = Counter()
    for each in results:
        kinds.update(dict(each.kinds))
    return Verification(
        samples=len(results),
        codes=sum(each.codes for each in results),
        ties=sum(each.ties for each in results),
        steps=results[0].steps,
        largest=max(each.largest for each in results),
        kinds=tuple(kinds.items()),
        holds_halves=results[0].holds_halves,
        off_halves=max((each.off_halves for each in results if each.off_halves is not None), default=None),
    )


def given(inputs: Inputs, tensors: Sequence[TensorInfo]) -> Iterator[Sample]:
    """The user's own samples; see `samples`."""
    return (Sample(GIVEN, sample) for sample in samples(inputs, tensors))


def samples(inputs: Inputs, tensors: Sequence[TensorInfo]) -> Iterator[Values]:
    """One dict per sample; every array is [S * n, ...] for a tensor of shape [n, ...], with the same S throughout."""
    counts = set()
    known = [tensor.name for tensor in tensors]
    if unknown := [name for name in inputs if name not in known]:
        raise UsageError(f"the array '{unknown[0]}' is for no input", remedy=f"the inputs are {', '.join(known)}")
    for tensor in tensors:
        if tensor.name not in inputs:
            raise UsageError(f"no array for input '{tensor.name}'", remedy=f"give one for each of {', '.join(known)}")
        shape = inputs[tensor.name].shape
        batch = tensor.shape[0] if tensor.shape else 1
        if len(shape) != len(tensor.shape) or shape[1:] != tensor.shape[1:] or (shape and shape[0] % batch):
            raise UsageError(
                f"input '{tensor.name}' has shape {list(shape)}, expected {list(tensor.shape)}",
                remedy="several samples may be stacked along the first axis",
            )
        counts.add(shape[0] // batch if shape else 1)
    if len(counts) > 1 or counts == {0}:
        raise UsageError(f"inputs hold {sorted(counts)} samples", remedy="give the same number, at least 1, for each")
    for index in range(counts.pop() if counts else 1):
        yield {t.name: in_dtype(part(inputs[t.name], t, index), t) for t in tensors}


@dataclass(frozen=True)
class _Known:
    """What is known of one sample: the outputs expected, all stored values, and where ties may be.

    values: with ties decided as in the original file. made: of each stored value what the final graph makes of those
    before it, which is the same unless a tie in between was decided otherwise there.
    """

    sample: Sample
    expected: Values
    values: Values
    made: Values
    ties: Ties
    off_halves: float | None = None

    @cached_property
    def others(self) -> Kept:
        """What stored values can be instead, the same for all variants."""
        return Kept(self.ties.others(self.values, self.made))


class _Check:
    """Runs bundles beside their final graph and the reference, sample by sample."""

    def __init__(self, program: Program, final: ir.Model, reference: Reference, threads: int) -> None:
        self._program = program
        self._threads = threads
        self._reference = reference
        stored = {value.name for step in program.steps for value in step.values}
        self._ties = Ties(final, stored)
        self._ties_of_aligned = Ties(final, stored, exact=True)
        outputs = [tensor.name for tensor in program.outputs]
        self._cast = _cast_to_integers(final)
        self._graph, self._stored = final, sorted(stored)
        self._wanted = list(dict.fromkeys([*outputs, *self._stored, *self._ties_of_aligned.sources, *self._cast]))
        self._final = oracle.Session(final, self._wanted)
        self._aligned = Aligned(final, self._wanted)
        self._computing = {str(value.name): node for node in final.graph for value in node.outputs}
        self._finite: set[str] = set()

    def known(self, sample: Sample, *, needed: bool) -> _Known | None:
        """The reference on a sample; None where it says nothing, unless it is `needed`."""
        special = not needed and sample.kind != GIVEN
        try:
            expected = self._reference.expected(sample.inputs)
            if special and self._undefined(expected):
                return None
            self._reference.check(sample.inputs, expected)
            known = self._evaluate(sample, expected)
        except (InvalidModel, UnsupportedModel):
            if special:
                return None
            raise
        if needed:
            # infinities of a network's own, as in masks, are in every sample
            self._finite = {name for name, array in known.values.items() if _finite(array)}
        return None if special and self._undefined(known.values) else known

    def _undefined(self, values: Values) -> bool:
        """Whether something became NaN, infinite, or too large for the integer that it is cast to."""
        lost = any(name in self._finite and not _finite(array) for name, array in values.items())
        return lost or any(name in values and not _within(values[name], kind) for name, kind in self._cast.items())

    def _evaluate(self, sample: Sample, expected: Values) -> _Known:
        inputs = sample.inputs
        values, ties = {**self._final.run(inputs), **inputs}, self._ties
        made = values
        if not within_bound(values, expected):
            decided, ties = self._aligned.values(self._reference.values(inputs)), self._ties_of_aligned
            require("rewriting the graph", decided, expected)
            made = {**self._steps_alone.run({**decided, **inputs}), **inputs}
            values = {**made, **{name: decided[name] for name in self._stored}}
        off = self._reference.off_halves(inputs, expected) if sample.kind in (GIVEN, RANDOM) else None
        return _Known(sample, expected, values, made, ties, off)

    @cached_property
    def _steps_alone(self) -> Pieces:
        """The final graph with every stored value given to those that read it."""
        return Pieces(self._graph, self._stored, self._wanted)

    def compare(self, bundle: Runnable, known: _Known) -> Verification:
        """Verify a bundle on one sample."""
        stepper = bundle.stepper(known.sample.inputs)
        codes, tied = self._steps(stepper, known)
        largest = _largest_difference(stepper.outputs(), known.expected)
        whole = bundle.run(known.sample.inputs)
        if not tied:
            largest = max(largest, _largest_difference(whole, known.expected))
        others = bundle.run(known.sample.inputs, self._threads) if self._threads > 1 else {}
        for name, array in others.items():
            if not np.array_equal(array, whole[name], equal_nan=array.dtype.kind == "f"):
                raise VerificationFailed(f"output '{name}' depends on the number of threads", remedy=REMEDY)
        return Verification(
            samples=1,
            codes=codes,
            ties=tied,
            steps=len(self._program.steps),
            largest=largest,
            kinds=((known.sample.kind, 1),),
            holds_halves=self._reference.holds_halves,
            off_halves=known.off_halves,
        )

    def _steps(self, stepper: Stepper, known: _Known) -> tuple[int, int]:
        """Codes compared, and ties set to the reference's."""
        codes = tied = 0
        for index, step in enumerate(self._program.steps):
            stepper.run_steps(index, index + 1)
            for value in step.values:
                expected, decided = (of[value.name].reshape(value.shape) for of in (known.made, known.values))
                found = stepper.value(value)
                exactly = value.layout in PACKED_LAYOUTS
                codes += found.size if exactly else 0
                wrong = wrong_elements(found, expected, exactly=exactly)
                left = wrong & ~self._rounded(value.name, found, expected, known.values) if wrong.any() else wrong
                if left.any() and not explained(found, left, value.name, known.others, exactly=exactly):
                    raise _failure(self._program, index, value, found, expected)
                ties = wrong
                if known.values is not known.made:
                    ties = ties | wrong_elements(decided, expected, exactly=exactly)
                if ties.any() or (not exactly and _drifted(found, decided)):
                    stepper.overwrite(value, decided)
                tied += int(ties.sum())
        return codes, tied

    def _rounded(self, name: str, found: Array, expected: Array, values: Values) -> Mask:
        """The elements that rounding in sums and gates accounts for."""
        node = self._computing.get(name)
        allowed = rounding(node, values) if node is not None else 0.0
        return np.asarray(np.abs(found.astype(np.float64) - expected) < allowed)


def _drifted(found: Array, expected: Array) -> bool:
    """Whether later steps are to go by the reference's values.

    Errors count beside the largest value, or beside 1 where values are larger: there tanh and its like saturate, and
    what is left of a sum that cancels decides what they give.
    """
    with np.errstate(all="ignore"):
        off = np.abs(found.astype(np.float64) - expected.astype(np.float64)) > DRIFT
    return bool(off.any()) or relative_difference(found, expected) > DRIFT


def _finite(array: Array) -> bool:
    return array.dtype.kind != "f" or bool(np.isfinite(array).all())


def _cast_to_integers(model: ir.Model) -> dict[str, np.dtype[Any]]:
    """Names of computed floats that are cast, and the integers that they become."""
    casts = [node for node in model.graph if node.op_type == "Cast" and node.domain == ""]
    operands = [(node.inputs[0], dtype_of(node.outputs[0])) for node in casts]
    return {
        str(value.name): kind
        for value, kind in operands
        if value is not None and value.producer() is not None and dtype_of(value).kind == "f" and kind.kind in "iu"
    }


def _within(array: Array, kind: np.dtype[Any]) -> bool:
    """Whether integers of a kind hold all that is left of the numbers without their fractions."""
    limits, whole = np.iinfo(kind), np.trunc(array)
    return bool(((whole >= float(limits.min)) & (whole < float(limits.max) + 1)).all())


def _largest_difference(found: Inputs, expected: Inputs) -> float:
    """The largest difference of an output, within the bound."""
    largest = 0.0
    for name, array in expected.items():
        difference = relative_difference(found[name], array)
        if difference > BOUND:
            raise VerificationFailed(
                f"output '{name}' differs from onnxruntime by {difference:.3g} of its largest value, "
                f"more than {BOUND:g}",
                remedy=REMEDY,
            )
        largest = max(largest, difference)
    return largest


def _failure(program: Program, index: int, value: StoredValue, found: Array, expected: Array) -> QCompilerError:
    step = program.steps[index]
    if value.layout in PACKED_LAYOUTS:
        what = f"{int((found != expected).sum())} of {found.size} codes of '{value.name}' are wrong"
    else:
        what = f"value '{value.name}' differs by {relative_difference(found, expected):.3g} of its largest value"
    return VerificationFailed(
        f"step {index} ({step.op}): {what}", node=step.nodes[0] if step.nodes else "", remedy=REMEDY
    )
