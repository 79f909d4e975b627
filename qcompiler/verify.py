"""Every compile is verified: the bundle against onnxruntime, step by step and end to end.

Step by step: the final graph runs in onnxruntime with every stored value as an output, the bundle runs one step at a
time, and after each step what it stored is compared: codes exactly, floats within `BOUND` of the largest magnitude of
the value. Where rounding errors alone decide a sign or a rounding (qcompiler/ties.py), the bundle may have taken the
other side; such ties are counted and set to the reference's, so that what follows is compared on equal inputs.

End to end: the outputs after all steps, with ties decided as in the original file, are always within `BOUND` of its
outputs. Whole runs on one thread and on two give these outputs too, where no tie falls otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir

from qcompiler.bundle.stepping import Stepper
from qcompiler.errors import QCompilerError, UsageError, VerificationFailed
from qcompiler.ir import oracle
from qcompiler.ir.cutting import computed_names
from qcompiler.ir.program import Program, StoredValue, TensorInfo
from qcompiler.ties import BOUND, Aligned, Ties, explained, relative_difference, wrong_elements

Array = npt.NDArray[Any]
Inputs = Mapping[str, Array]
Values = dict[str, Array]

CODES = "bit-nhwc"
THREADS = 2
REMEDY = "please report the model; --save-ir shows the graph after each pass"


class Runnable(Protocol):
    """A bundle as verification uses it."""

    def run(self, inputs: Inputs, threads: int = 1) -> Values:
        """Outputs by name."""
        ...

    def stepper(self, inputs: Inputs) -> Stepper:
        """A run that can be stopped between steps."""
        ...


class Reference:
    """The original file where onnxruntime can run it, and what the front end made of it."""

    def __init__(self, path: Path, canonical: ir.Model) -> None:
        self._model = canonical
        self._names = [str(value.name) for value in canonical.graph.outputs]
        self._canonical = oracle.Session(canonical, self._names)
        self._aligned = Aligned(canonical, [*self._names, *computed_names(canonical)])
        self._original = _Original(path)

    def outputs(self, inputs: Inputs) -> Values:
        """Outputs by name.

        Raises VerificationFailed where the front end changed the results of a file that onnxruntime can run.
        """
        expected = self._original.outputs(inputs)
        found = self._canonical.run(inputs)
        if expected is None:
            return found
        if not _within_bound(found, expected):
            _require("reading the model", self.values(inputs), expected)
        return expected

    def values(self, inputs: Inputs) -> Values:
        """All values of the canonical graph by name, with ties decided as in the original file."""
        known = self._original.values(inputs, computed_names(self._model)) or {}
        return {**self._aligned.values({**known, **inputs}), **inputs}


class _Original:
    """The file as it is, in onnxruntime, if that can run it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._sessions: dict[tuple[str, ...] | None, oracle.Session | None] = {}

    def outputs(self, inputs: Inputs) -> Values | None:
        """Outputs by name; None where onnxruntime does not run the file."""
        return self._run(inputs, None)

    def values(self, inputs: Inputs, names: Sequence[str]) -> Values | None:
        """Those of the named values that the file computes."""
        model = onnx.load(self._path)
        own = {name for node in model.graph.node for name in node.output}
        return self._run(inputs, tuple(name for name in names if name in own))

    def _run(self, inputs: Inputs, names: tuple[str, ...] | None) -> Values | None:
        try:
            if names not in self._sessions:
                self._sessions[names] = None
                self._sessions[names] = oracle.Session(onnx.load(self._path), names)
            session = self._sessions[names]
            return session.run(inputs) if session is not None else None
        except QCompilerError:
            self._sessions[names] = None
            return None


@dataclass(frozen=True)
class Verification:
    """What was compared and how it came out; `largest` is relative to the largest magnitude of the reference."""

    samples: int
    codes: int
    ties: int
    steps: int
    largest: float

    def summary(self) -> str:
        """One line for the user."""
        tied = f", {self.ties} tie{'s' if self.ties > 1 else ''} decided by float rounding" if self.ties else ""
        times = f" on {self.samples} samples" if self.samples > 1 else ""
        return (
            f"verified{times}: {self.codes} codes of {self.steps} steps equal{tied}; largest difference from "
            f"onnxruntime {self.largest:.2g} of the largest value (bound {BOUND:g})"
        )


def verify(bundle: Runnable, program: Program, final: ir.Model, reference: Reference, inputs: Inputs) -> Verification:
    """Compare a bundle with its final graph step by step, and with the reference model end to end.

    inputs: by name, arrays of the model's shapes, or several samples stacked along the first axis.
    Raises VerificationFailed where codes differ, or floats by more than BOUND, other than through ties; UsageError for
    inputs of other shapes.
    """
    return verify_samples(bundle, program, final, reference, samples(inputs, program.inputs))


def verify_samples(
    bundle: Runnable, program: Program, final: ir.Model, reference: Reference, given: Iterable[Inputs]
) -> Verification:
    """As `verify`, on one dict of inputs per sample."""
    check = _Check(bundle, program, final, reference)
    results = [check(sample) for sample in given]
    return Verification(
        samples=len(results),
        codes=sum(each.codes for each in results),
        ties=sum(each.ties for each in results),
        steps=len(program.steps),
        largest=max(each.largest for each in results),
    )


def samples(inputs: Inputs, tensors: Sequence[TensorInfo]) -> Iterator[Values]:
    """One dict per sample; every array is [S * n, ...] for a tensor of shape [n, ...], with the same S throughout."""
    counts = set()
    for tensor in tensors:
        if tensor.name not in inputs:
            raise UsageError(f"no array for input '{tensor.name}'", remedy=f"inputs: {', '.join(inputs) or 'none'}")
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
        yield {
            t.name: inputs[t.name][index * t.shape[0] : (index + 1) * t.shape[0]] if t.shape else inputs[t.name]
            for t in tensors
        }


class _Check:
    """Runs a bundle beside its final graph and the reference, sample by sample."""

    def __init__(self, bundle: Runnable, program: Program, final: ir.Model, reference: Reference) -> None:
        self._bundle = bundle
        self._program = program
        self._reference = reference
        stored = {value.name for step in program.steps for value in step.values}
        self._ties = Ties(final, stored)
        self._ties_of_aligned = Ties(final, stored, exact=True)
        outputs = [tensor.name for tensor in program.outputs]
        wanted = list(dict.fromkeys([*outputs, *sorted(stored), *self._ties_of_aligned.sources]))
        self._final = oracle.Session(final, wanted)
        self._aligned = Aligned(final, wanted)

    def __call__(self, inputs: Inputs) -> Verification:
        """Verify one sample."""
        expected = self._reference.outputs(inputs)
        values, ties = self._final.run(inputs), self._ties
        if not _within_bound(values, expected):
            values, ties = self._aligned.values(self._reference.values(inputs)), self._ties_of_aligned
            _require("rewriting the graph", values, expected)
        stepper = self._bundle.stepper(inputs)
        codes, tied = self._steps(stepper, {**values, **inputs}, ties)
        largest = _largest_difference(stepper.outputs(), expected)
        whole = self._bundle.run(inputs)
        if not tied:
            largest = max(largest, _largest_difference(whole, expected))
        for name, array in self._bundle.run(inputs, THREADS).items():
            if not np.array_equal(array, whole[name], equal_nan=array.dtype.kind == "f"):
                raise VerificationFailed(f"output '{name}' depends on the number of threads", remedy=REMEDY)
        return Verification(1, codes, tied, len(self._program.steps), largest)

    def _steps(self, stepper: Stepper, reference: Inputs, ties: Ties) -> tuple[int, int]:
        """Codes compared, and ties set to the reference's."""
        codes = tied = 0
        others: list[Values] | None = None
        for index, step in enumerate(self._program.steps):
            stepper.run_steps(index, index + 1)
            for value in step.values:
                expected, found = reference[value.name].reshape(value.shape), stepper.value(value)
                exactly = value.layout == CODES
                codes += found.size if exactly else 0
                wrong = wrong_elements(found, expected, exactly=exactly)
                if not wrong.any():
                    continue
                others = list(ties.others(reference)) if others is None else others
                if not explained(found, wrong, value.name, others, exactly=exactly):
                    raise _failure(self._program, index, value, found, expected)
                stepper.overwrite(value, expected)
                tied += int(wrong.sum())
        return codes, tied


def _within_bound(found: Inputs, expected: Inputs) -> bool:
    return all(relative_difference(found[name], array) <= BOUND for name, array in expected.items())


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


def _require(what: str, found: Inputs, expected: Inputs) -> None:
    for name, array in expected.items():
        difference = relative_difference(found[name], array)
        if difference > BOUND:
            raise VerificationFailed(
                f"{what} changed output '{name}' by {difference:.3g} of its largest value", remedy=REMEDY
            )


def _failure(program: Program, index: int, value: StoredValue, found: Array, expected: Array) -> QCompilerError:
    step = program.steps[index]
    if value.layout == CODES:
        what = f"{int((found != expected).sum())} of {found.size} codes of '{value.name}' are wrong"
    else:
        what = f"value '{value.name}' differs by {relative_difference(found, expected):.3g} of its largest value"
    return VerificationFailed(
        f"step {index} ({step.op}): {what}", node=step.nodes[0] if step.nodes else "", remedy=REMEDY
    )
