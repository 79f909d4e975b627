"""Networks whose second step does what its input says, and what every isolated bundle must make of that."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from qcompiler.bundle.isolated import IsolatedBundle
from qcompiler.errors import VerificationFailed
from tests.bundle.test_isolated import ELEMENTS, WORKSPACE_FLOATS, numbers


def one_of(deeds: Sequence[str]) -> str:
    """C that does deed number x[0], from 1 on, once a run."""
    cases = "".join(f"case {number}: {{ {body} break; }}\n" for number, body in enumerate(deeds, 1))
    cases = cases.replace("ELEMENTS", str(ELEMENTS)).replace("WORKSPACE", str(WORKSPACE_FLOATS))
    return f"if (begin == 0) switch ((int)x[0]) {{ {cases} }}"


def doing(deeds: Sequence[str], body: str) -> dict[str, np.ndarray]:
    """The input that asks for a deed."""
    return {"x": np.full((1, ELEMENTS), 1 + deeds.index(body), np.float32)}


def check_does_not_end(suspect: IsolatedBundle, given: dict[str, np.ndarray]) -> None:
    """A step that hangs is ended, and named."""
    stepper = suspect.stepper(given)
    stepper.run_steps(0, 1)
    with pytest.raises(VerificationFailed, match="node '/suspect': step 1 .Relu. does not end"):
        stepper.run_steps(1, 2)


def check_right_after_wrong(suspect: IsolatedBundle, wrong: dict[str, np.ndarray]) -> None:
    """Runs and steps of right code pass behind a run of wrong code."""
    with pytest.raises(VerificationFailed):
        suspect.run(wrong)
    given = {"x": numbers()["x"] - 100}
    for _ in range(3):
        np.testing.assert_array_equal(suspect.run(given)["z"], given["x"])
    stepper = suspect.stepper(given)
    stepper.run_steps(0, 2)
    stepper.overwrite("z", np.zeros((1, ELEMENTS), np.float32))
    np.testing.assert_array_equal(stepper.outputs()["z"], 0)
