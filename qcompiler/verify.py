"""Every compile is verified: the bundle against onnxruntime, step by step and end to end.

Step by step: the final graph runs in onnxruntime with every stored value as an output, the bundle runs one step at a
time, and after each step what it stored is compared: codes exactly, floats within `BOUND` of the largest magnitude of
the value. A sign taken of a real number that lies within the rounding of zero (`TIE` of the largest magnitude) can fall
either way in correct code; such codes are counted, and set to the reference's, so that the following steps are
compared on equal inputs.

End to end: the outputs of the undisturbed run against those of the original file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir

from qcompiler.bundle.load import Bundle
from qcompiler.errors import QCompilerError, VerificationFailed
from qcompiler.ir import ops, oracle
from qcompiler.ir.program import Program, StoredValue

Array = npt.NDArray[Any]
Inputs = Mapping[str, Array]

BOUND = 1e-4
TIE = 1e-5


@dataclass(frozen=True)
class Reference:
    """The original file where onnxruntime can run it, else what the front end made of it."""

    path: Path
    canonical: onnx.ModelProto
    name: str = "onnxruntime"

    def outputs(self, inputs: Inputs) -> dict[str, Array]:
        """Outputs by name, optimisations disabled."""
        try:
            return oracle.run(onnx.load(self.path), inputs)
        except QCompilerError:
            return oracle.run(self.canonical, inputs)


@dataclass(frozen=True)
class Verification:
    """What was compared and how it came out; differences are relative to the largest magnitude of the reference."""

    codes: int
    ties: int
    steps: int
    largest: float
    worst_output: str
    reference: str

    def summary(self) -> str:
        """One line for the user."""
        tied = f", {self.ties} signs within rounding of zero" if self.ties else ""
        return (
            f"verified: {self.codes} codes of {self.steps} steps equal{tied}; largest difference from {self.reference} "
            f"{self.largest:.2g} of the largest value (bound {BOUND:g})"
        )


def verify(bundle: Bundle, program: Program, final: ir.Model, reference: Reference, inputs: Inputs) -> Verification:
    """Compare a bundle with its final graph step by step, and with the reference model end to end.

    Raises VerificationFailed where codes differ, or floats by more than BOUND, other than through ties.
    """
    codes, ties = _steps(bundle, program, final, inputs)
    expected = reference.outputs(inputs)
    found = bundle.run(dict(inputs))
    differences = {name: relative_difference(found[name], expected[name]) for name in expected}
    worst = max(differences, key=lambda name: differences[name])
    if differences[worst] > BOUND and not ties:
        raise VerificationFailed(
            f"output '{worst}' differs from {reference.name} by {differences[worst]:.3g} of its largest value, "
            f"more than {BOUND:g}",
            remedy="please report the model; --save-ir shows the graph after each pass",
        )
    return Verification(codes, ties, len(program.steps), differences[worst], worst, reference.name)


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


def _steps(bundle: Bundle, program: Program, final: ir.Model, inputs: Inputs) -> tuple[int, int]:
    """Codes compared, and ties among them."""
    sources = _sign_sources(final)
    names = {value.name for step in program.steps for value in step.values}
    reference = oracle.run(final, inputs, sorted(names | {sources[n] for n in names & sources.keys()}))
    codes = ties = 0
    stepper = bundle.stepper(inputs)
    for index, step in enumerate(program.steps):
        stepper.run_steps(index, index + 1)
        for value in step.values:
            expected = reference[value.name].reshape(value.shape)
            found = stepper.value(value)
            if value.layout != "bit-nhwc":
                _compare_floats(program, index, value, found, expected)
                continue
            codes += found.size
            before = reference[sources[value.name]].reshape(value.shape) if value.name in sources else None
            tied = _compare_codes(program, index, value, found, expected, before)
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
    if before is not None:
        limit = TIE * float(np.abs(before[np.isfinite(before)]).max(initial=0.0))
        if bool(np.all(np.abs(before[wrong]) <= limit)):
            return count
    raise _failure(program, index, f"{count} of {wrong.size} codes of '{value.name}' are wrong")


def _failure(program: Program, index: int, what: str) -> QCompilerError:
    nodes = program.steps[index].nodes
    return VerificationFailed(
        f"step {index} ({program.steps[index].op}): {what}",
        node=nodes[0] if nodes else "",
        remedy="please report the model; --save-ir shows the graph after each pass",
    )
