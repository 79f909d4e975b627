"""What came of a case: compiled, run, and compared with the outputs that the standard expects."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

import qcompiler
from qcompiler.errors import InvalidModel, QCompilerError, UnsupportedModel, UsageError, VerificationFailed
from tests.onnx_nodes.cases import Case

Array = npt.NDArray[Any]

# runs on every machine of the family
MCPU = ("x86-64",)


# The expected results of 16-bit floats are rounded after every node, those of a bundle at the end: for the few nodes of
# a case, four roundings of half a unit in the last place.
HALF_RTOL = {"float16": 4 * 2.0**-11, "bfloat16": 4 * 2.0**-8}


class Kind(StrEnum):
    """How a case ended."""

    PASS = "pass"
    UNSUPPORTED = "unsupported"
    USAGE = "refused: usage"
    INVALID = "refused: invalid"
    WRONG = "wrong"
    FOREIGN = "foreign exception"
    CRASH = "crash"
    HANG = "hang"


# Nothing may end so.
FAULTS = (Kind.WRONG, Kind.FOREIGN, Kind.CRASH, Kind.HANG)


@dataclass(frozen=True)
class Outcome:
    """How a case ended, and the line that says why, empty for a pass."""

    kind: Kind
    reason: str = ""


def outcome(case: Case, *, verify: bool = False) -> Outcome:
    """Compile the model of a case, run it on every set of inputs, and compare.

    verify: also compare with onnxruntime, as qcompile does.
    """
    try:
        with tempfile.TemporaryDirectory() as folder:
            return _ran(case, Path(folder), verify)
    except UnsupportedModel as error:
        return Outcome(Kind.UNSUPPORTED, str(error))
    except InvalidModel as error:
        return Outcome(Kind.INVALID, str(error))
    except UsageError as error:
        return Outcome(Kind.USAGE, str(error))
    except VerificationFailed as error:
        return Outcome(Kind.WRONG, str(error))
    except QCompilerError as error:
        return Outcome(Kind.FOREIGN, str(error))
    except BaseException as error:
        return Outcome(Kind.FOREIGN, f"{type(error).__name__}: {error}".replace("\n", " ")[:400])


def _ran(case: Case, folder: Path, verify: bool) -> Outcome:
    model = onnx.ModelProto.FromString(case.model)
    path = folder / "model.onnx"
    path.write_bytes(case.model)
    stored = {tensor.name for tensor in model.graph.initializer}
    names = [value.name for value in model.graph.input if value.name not in stored]
    results = [value.name for value in model.graph.output]
    if not case.data:
        return Outcome(Kind.FOREIGN, "the case holds no data")
    feeds = [_feed(names, inputs) for inputs, _ in case.data]
    shapes = {name: value.shape for name, value in feeds[0].items() if isinstance(value, np.ndarray) and value.ndim}
    bundle = qcompiler.compile(path, mcpu=MCPU, output=folder / "out", verify=verify, shapes=shapes)
    for feed, (_, expected) in zip(feeds, case.data, strict=True):
        given = bundle.run(feed)
        differences = _differences([given[name] for name in results], expected, case)
        if differences:
            return Outcome(Kind.WRONG, "; ".join(differences))
    return Outcome(Kind.PASS)


def _feed(names: Sequence[str], inputs: Sequence[Any]) -> dict[str, Any]:
    if len(inputs) > len(names):
        raise AssertionError(f"{len(inputs)} arrays for {len(names)} inputs")
    return dict(zip(names, inputs, strict=False))


def _differences(found: Sequence[Array], expected: Sequence[Any], case: Case) -> list[str]:
    """What sets `found` apart from `expected`, which are of the same order; empty where they agree."""
    if len(found) != len(expected):
        return [f"{len(found)} outputs, expected {len(expected)}"]
    pairs = enumerate(zip(found, expected, strict=True))
    return [f"output {index}: {line}" for index, (a, b) in pairs if (line := _difference(a, b, case))]


def _difference(found: Array, expected: Any, case: Case) -> str:
    if not isinstance(expected, (np.ndarray, np.generic)):
        return f"a tensor, expected {type(expected).__name__}"
    rtol = case.rtol
    if expected.dtype.name in HALF_RTOL:
        rtol = max(rtol, HALF_RTOL[expected.dtype.name])
        if expected.dtype.name == found.dtype.name or found.dtype == np.float32 and expected.dtype.name == "bfloat16":
            found, expected = found.astype(np.float32), np.asarray(expected).astype(np.float32)
    if found.dtype != expected.dtype or found.shape != expected.shape:
        return f"{found.dtype}{list(found.shape)}, expected {expected.dtype}{list(expected.shape)}"
    if found.dtype.kind == "f":
        equal = np.isclose(found, expected, rtol=rtol, atol=case.atol, equal_nan=True)
    else:
        equal = np.asarray(found == expected)
    if equal.all():
        return ""
    where = tuple(int(index) for index in np.argwhere(~equal)[0])
    return (
        f"{np.count_nonzero(~equal)} of {equal.size} differ, first at {list(where)}: {found[where]}, "
        f"expected {np.asarray(expected)[where]}"
    )
