"""What a bundle has to compute: the original file in onnxruntime, and what the front end made of it.

Files with 16-bit floats are evaluated in float32, from the numbers that they store (docs/adr/0018-half-and-double.md);
how far that is from the file's own results is found beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir

from qcompiler.errors import QCompilerError, VerificationFailed
from qcompiler.frontend.float32 import HALVES, holds_halves, to_float32
from qcompiler.frontend.reference import drop_allowances
from qcompiler.frontend.rounded_products import spell_out_rounding
from qcompiler.ir import oracle
from qcompiler.ir.cutting import computed_names
from qcompiler.ir.file_types import file_types, from_file_type, to_file_type
from qcompiler.ties import BOUND, Aligned, relative_difference

Array = npt.NDArray[Any]
Inputs = Mapping[str, Array]
Values = dict[str, Array]

REMEDY = "please report the model; --save-ir shows the graph after each pass"


class Reference:
    """The original file where onnxruntime can run it, and what the front end made of it."""

    def __init__(self, path: Path, canonical: ir.Model) -> None:
        self._model = canonical
        self._names = [str(value.name) for value in canonical.graph.outputs]
        self._canonical = oracle.Session(canonical, self._names)
        self._aligned = Aligned(canonical, [*self._names, *computed_names(canonical)])
        types = file_types(canonical.graph)
        self._original = _Original(path, {name: kind for name, kind in types.items() if kind == "float64"})
        self._in_halves = _Original(path, types, in_halves=True) if self._original.holds_halves else None

    def outputs(self, inputs: Inputs) -> Values:
        """Outputs by name.

        Raises VerificationFailed where the front end changed the results of a file that onnxruntime can run.
        """
        expected = self.expected(inputs)
        self.check(inputs, expected)
        return expected

    def expected(self, inputs: Inputs) -> Values:
        """Outputs of the file, or of what the front end made of it where onnxruntime cannot run the file."""
        expected = self._original.outputs(inputs)
        return self._canonical.run(inputs) if expected is None else expected

    def check(self, inputs: Inputs, expected: Values) -> None:
        """Raise VerificationFailed where the front end changed the outputs that the file gives."""
        if self._original.runs and not within_bound(self._canonical.run(inputs), expected):
            require("reading the model", self.values(inputs), expected)

    def values(self, inputs: Inputs) -> Values:
        """All values of the canonical graph by name, with ties decided as in the original file."""
        known = self._original.values(inputs, computed_names(self._model)) or {}
        return {**self._aligned.values({**known, **inputs}), **inputs}

    @property
    def holds_halves(self) -> bool:
        """Whether there are 16-bit floats in the file, which are evaluated in float32 here."""
        return self._in_halves is not None

    def off_halves(self, inputs: Inputs, expected: Values) -> float | None:
        """The largest difference of `expected` from what a file with 16-bit floats gives, of its largest value.

        Where the file's numbers are finite; None where it has no 16-bit floats, or onnxruntime cannot run it.
        """
        found = self._in_halves.outputs(inputs) if self._in_halves is not None else None
        if found is None:
            return None
        return max(_finite_difference(expected[name], array) for name, array in found.items())


class _Original:
    """The file in onnxruntime, if that can run it, with float32 for its 16-bit floats or, `in_halves`, as it is.

    types: those that inputs and outputs have in the file and not here, by name. holds_halves: whether there are 16-bit
    floats in the file.
    """

    def __init__(self, path: Path, types: Mapping[str, str], *, in_halves: bool = False) -> None:
        self._types = types
        self._file = onnx.load(path)
        self.holds_halves = holds_halves(self._file)
        if not in_halves:
            to_float32(self._file, HALVES)
            spell_out_rounding(self._file)
        drop_allowances(self._file)
        self._sessions: dict[tuple[str, ...] | None, oracle.Session | None] = {}

    @property
    def runs(self) -> bool:
        """Whether onnxruntime has run the file, so far always."""
        return self._sessions.get(None) is not None

    def outputs(self, inputs: Inputs) -> Values | None:
        """Outputs by name; None where onnxruntime does not run the file."""
        return self._run(inputs, None)

    def values(self, inputs: Inputs, names: Sequence[str]) -> Values | None:
        """Those of the named values that the file computes."""
        own = {name for node in self._file.graph.node for name in node.output}
        return self._run(inputs, tuple(name for name in names if name in own))

    def _run(self, inputs: Inputs, names: tuple[str, ...] | None) -> Values | None:
        try:
            if names not in self._sessions:
                self._sessions[names] = None
                self._sessions[names] = oracle.Session(self._file, names)
            session = self._sessions[names]
            if session is None:
                return None
            given = {name: to_file_type(array, self._types.get(name, "")) for name, array in inputs.items()}
            found = session.run(given)
        except QCompilerError:
            self._sessions[names] = None
            return None
        return {name: from_file_type(array) for name, array in found.items()} if self._types else found


def within_bound(found: Inputs, expected: Inputs) -> bool:
    """Whether no output differs by more than the bound."""
    return all(relative_difference(found[name], array) <= BOUND for name, array in expected.items())


def require(what: str, found: Inputs, expected: Inputs) -> None:
    """Raise VerificationFailed where an output differs by more than the bound."""
    for name, array in expected.items():
        difference = relative_difference(found[name], array)
        if difference > BOUND:
            raise VerificationFailed(
                f"{what} changed output '{name}' by {difference:.3g} of its largest value", remedy=REMEDY
            )


def _finite_difference(found: Array, expected: Array) -> float:
    finite = np.isfinite(expected)
    return relative_difference(np.where(finite, found, 0), np.where(finite, expected, 0))
