"""Every compile is verified: the bundle against onnxruntime, step by step and end to end.

Step by step: the final graph runs in onnxruntime with every stored value as an output, the bundle runs one step at a
time, and after each step what it stored is compared: codes exactly, floats within `BOUND` of the largest magnitude of
the value. A sign or a rounding of a real number that rounding errors alone keep from the jump (passes/jumps.py) can
fall either way in correct code; such ties are counted, and set to the reference's, so that the following steps are
compared on equal inputs.

End to end: the outputs of the undisturbed run against those of the original file. Where the original itself has ties,
its outputs are one of several right answers; then the comparison of the steps, and that of each pass
(passes/checking.py), is the proof.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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
from qcompiler.ir.program import Program, StoredValue, TensorInfo
from qcompiler.passes.jumps import jumps, jumps_before

Array = npt.NDArray[Any]
Inputs = Mapping[str, Array]
Mask = npt.NDArray[np.bool_]

BOUND = 1e-4
CODES = "bit-nhwc"


class Runnable(Protocol):
    """A bundle as verification uses it."""

    def run(self, inputs: Inputs) -> dict[str, Array]:
        """Outputs by name."""
        ...

    def stepper(self, inputs: Inputs) -> Stepper:
        """A run that can be stopped between steps."""
        ...


class Reference:
    """The original file where onnxruntime can run it, and what the front end made of it."""

    def __init__(self, path: Path, canonical: ir.Model) -> None:
        self._path = path
        self._jumps = jumps(canonical.graph)
        self._names = [str(value.name) for value in canonical.graph.outputs]
        self._canonical = oracle.Session(canonical, [*self._names, *(jump.source for jump in self._jumps)])
        self._original: oracle.Session | None = None

    def outputs(self, inputs: Inputs) -> tuple[dict[str, Array], int]:
        """Outputs by name, and how many signs and roundings hung on rounding errors.

        Raises VerificationFailed where the front end changed the results of a file that onnxruntime can run.
        """
        values = self._canonical.run(inputs)
        ties = sum(jump.undecided(values[jump.source]) for jump in set(self._jumps))
        expected = self._run_original(inputs)
        if expected is None:
            return {name: values[name] for name in self._names}, ties
        for name, array in expected.items():
            difference = relative_difference(values[name], array)
            if difference > BOUND and not ties:
                raise VerificationFailed(
                    f"reading the model changed output '{name}' by {difference:.3g} of its largest value",
                    remedy="please report the model",
                )
        return expected, ties

    def _run_original(self, inputs: Inputs) -> dict[str, Array] | None:
        try:
            if self._original is None:
                self._original = oracle.Session(onnx.load(self._path))
            return self._original.run(inputs)
        except QCompilerError:
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
    steps = _StepCheck(bundle, program, final)
    count, codes, ties, largest = 0, 0, 0, 0.0
    for sample in samples(inputs, program.inputs):
        compared, tied = steps.check(sample)
        (expected, near), found = reference.outputs(sample), bundle.run(sample)
        for name, array in expected.items():
            difference = relative_difference(found[name], array)
            if difference > BOUND and not tied + near:
                raise VerificationFailed(
                    f"output '{name}' differs from onnxruntime by {difference:.3g} of its largest value, "
                    f"more than {BOUND:g}",
                    remedy="please report the model; --save-ir shows the graph after each pass",
                )
            largest = max(largest, difference)
            # ties in the reference are worth a word only where they explain something
            tied += near if difference > BOUND else 0
        count, codes, ties = count + 1, codes + compared, ties + tied
    return Verification(count, codes, ties, len(program.steps), largest)


def samples(inputs: Inputs, tensors: Sequence[TensorInfo]) -> Iterator[dict[str, Array]]:
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


def relative_difference(found: Array, expected: Array) -> float:
    """Largest difference over the largest finite magnitude of `expected`; infinite where NaN or infinity disagree."""
    if expected.dtype.kind != "f":
        return 0.0 if np.array_equal(found, expected) else float("inf")
    finite = np.isfinite(expected)
    if not np.array_equal(finite, np.isfinite(found)) or not np.array_equal(
        expected[~finite], found[~finite], equal_nan=True
    ):
        return float("inf")
    if not finite.any():
        return 0.0
    difference = np.abs(found[finite].astype(np.float64) - expected[finite])
    return float(difference.max() / max(float(np.abs(expected[finite]).max()), 1e-30))


class _StepCheck:
    """Runs a bundle one step at a time beside its final graph."""

    def __init__(self, bundle: Runnable, program: Program, final: ir.Model) -> None:
        self._bundle = bundle
        self._program = program
        names = {value.name for step in program.steps for value in step.values}
        self._jumps = jumps_before(final.graph, names)
        sources = {jump.source for found in self._jumps.values() for jump in found}
        self._final = oracle.Session(final, sorted(names | sources))

    def check(self, inputs: Inputs) -> tuple[int, int]:
        """Codes compared, and ties among them."""
        reference = self._final.run(inputs)
        stepper = self._bundle.stepper(inputs)
        codes = ties = 0
        for index, step in enumerate(self._program.steps):
            stepper.run_steps(index, index + 1)
            for value in step.values:
                expected, found = reference[value.name].reshape(value.shape), stepper.value(value)
                wrong = _wrong(value, found, expected)
                codes += found.size if value.layout == CODES else 0
                if not wrong.any():
                    continue
                if not np.all(self._near(value, reference)[wrong]):
                    raise _failure(self._program, index, value, found, expected)
                stepper.overwrite(value, expected)
                ties += int(wrong.sum())
        return codes, ties

    def _near(self, value: StoredValue, reference: Mapping[str, Array]) -> Mask:
        """Elements of `value` that a tie may have tipped."""
        near = np.zeros(value.shape, np.bool_)
        for jump in self._jumps.get(value.name, ()):
            source = reference[jump.source]
            if source.size == near.size:
                near |= jump.near(source).reshape(value.shape)
        return near


def _wrong(value: StoredValue, found: Array, expected: Array) -> Mask:
    """The codes that differ, or the floats by more than BOUND; all True where NaN or infinity disagree."""
    wrong: Mask = np.ones(found.shape, np.bool_)
    if value.layout == CODES or expected.dtype.kind != "f":
        wrong = found != expected
    elif np.isfinite(difference := relative_difference(found, expected)):
        largest = np.abs(expected[np.isfinite(expected)]).max(initial=0.0)
        wrong = np.abs(found - expected) > (BOUND * largest if difference > BOUND else np.inf)
    return wrong


def _failure(program: Program, index: int, value: StoredValue, found: Array, expected: Array) -> QCompilerError:
    step = program.steps[index]
    if value.layout == CODES:
        what = f"{int((found != expected).sum())} of {found.size} codes of '{value.name}' are wrong"
    else:
        what = f"value '{value.name}' differs by {relative_difference(found, expected):.3g} of its largest value"
    return VerificationFailed(
        f"step {index} ({step.op}): {what}",
        node=step.nodes[0] if step.nodes else "",
        remedy="please report the model; --save-ir shows the graph after each pass",
    )
