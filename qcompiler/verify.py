"""Every compile is verified: the bundle against onnxruntime, step by step and end to end.

Step by step: the final graph runs in onnxruntime with every stored value as an output, the bundle runs one step at a
time, and after each step what it stored is compared: codes exactly, floats within `BOUND` of the largest magnitude of
the value. A sign taken of a real number that lies within the rounding of zero (`TIE` of the largest magnitude) can fall
either way in correct code; such codes are counted, and set to the reference's, so that the following steps are
compared on equal inputs.

End to end: the outputs of the undisturbed run against those of the original file. Where the original itself takes signs
of numbers that rounding alone keeps from zero, its outputs are one of several right answers; then the comparison of
the steps, and that of each pass (qcompiler/passes/checking.py), is the proof.
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
from qcompiler.ir import ops, oracle
from qcompiler.ir.program import Program, StoredValue, TensorInfo

Array = npt.NDArray[Any]
Inputs = Mapping[str, Array]

BOUND = 1e-4
TIE = 1e-5


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
        self._signs = _sign_sources(canonical)
        self._names = [str(value.name) for value in canonical.graph.outputs]
        self._canonical = oracle.Session(canonical, [*self._names, *self._signs.values()])
        self._original: oracle.Session | None = None

    def outputs(self, inputs: Inputs) -> tuple[dict[str, Array], int]:
        """Outputs by name, and how many signs were taken of numbers within rounding of zero.

        Raises VerificationFailed where the front end changed the results of a file that onnxruntime can run.
        """
        values = self._canonical.run(inputs)
        ties = sum(_near_zero(values[name]) for name in set(self._signs.values()))
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
        tied = f", {self.ties} signs within rounding of zero" if self.ties else ""
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
        self._sources = _sign_sources(final)
        names = {value.name for step in program.steps for value in step.values}
        wanted = names | {self._sources[name] for name in names & self._sources.keys()}
        self._final = oracle.Session(final, sorted(wanted))

    def check(self, inputs: Inputs) -> tuple[int, int]:
        """Codes compared, and ties among them."""
        reference = self._final.run(inputs)
        stepper = self._bundle.stepper(inputs)
        codes = ties = 0
        for index, step in enumerate(self._program.steps):
            stepper.run_steps(index, index + 1)
            for value in step.values:
                expected, found = reference[value.name].reshape(value.shape), stepper.value(value)
                if value.layout != "bit-nhwc":
                    _compare_floats(self._program, index, value, found, expected)
                    continue
                codes += found.size
                source = self._sources.get(value.name)
                before = reference[source].reshape(value.shape) if source else None
                tied = _compare_codes(self._program, index, value, found, expected, before)
                if tied:
                    stepper.overwrite(value, expected)
                    ties += tied
        return codes, ties


def _sign_sources(final: ir.Model) -> dict[str, str]:
    """For every value that is the sign of a real number, the name of that number."""
    return {
        node.outputs[0].name or "": node.inputs[0].name or ""
        for node in final.graph
        if node.domain == ops.DOMAIN and node.op_type == "Binarize"
    }


def _compare_floats(program: Program, index: int, value: StoredValue, found: Array, expected: Array) -> None:
    difference = relative_difference(found, expected)
    if difference > BOUND:
        raise _failure(program, index, f"value '{value.name}' differs by {difference:.3g} of its largest value")


def _compare_codes(
    program: Program, index: int, value: StoredValue, found: Array, expected: Array, before: Array | None
) -> int:
    """The number of codes that differ, all of them ties; anything else raises."""
    wrong = found != expected
    count = int(wrong.sum())
    if not count:
        return 0
    if before is not None and bool(np.all(_is_near_zero(before)[wrong])):
        return count
    raise _failure(program, index, f"{count} of {wrong.size} codes of '{value.name}' are wrong")


def _is_near_zero(values: Array) -> npt.NDArray[np.bool_]:
    largest = float(np.abs(values[np.isfinite(values)]).max(initial=0.0))
    near: npt.NDArray[np.bool_] = np.abs(values) <= TIE * largest
    return near


def _near_zero(values: Array) -> int:
    """Numbers that are zero only by rounding, or would be."""
    return int(np.sum(_is_near_zero(values) & (values != 0)))


def _failure(program: Program, index: int, what: str) -> QCompilerError:
    nodes = program.steps[index].nodes
    return VerificationFailed(
        f"step {index} ({program.steps[index].op}): {what}",
        node=nodes[0] if nodes else "",
        remedy="please report the model; --save-ir shows the graph after each pass",
    )
