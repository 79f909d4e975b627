"""The harness itself: what ends badly is never counted as a pass."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx.parser
import pytest

import qcompiler
from qcompiler.bundle.load import Bundle
from qcompiler.errors import QCompilerError
from tests.onnx_nodes.cases import Case, all_cases
from tests.onnx_nodes.outcomes import Kind, Outcome, outcome
from tests.onnx_nodes.workers import Workers

X = np.array([[0.5, -1.0, 2.0]], np.float32)
TEXT = '<ir_version: 10, opset_import: ["" : 21]> g (float[1, 3] x) => ({type}[1, 3] y) {{ y = {op} (x) }}'


def case(op: str, expected: object, kind: str = "float", name: str = "sample") -> Case:
    model = onnx.parser.parse_model(TEXT.format(op=op, type=kind)).SerializeToString()
    return Case(name, "node", model, (((X,), (expected,)),), 1e-3, 1e-7, 20)


@pytest.mark.parametrize(
    ("sample", "kind", "words"),
    [
        (case("Relu", np.maximum(X, 0)), Kind.PASS, ""),
        (case("Relu", X), Kind.WRONG, "1 of 3 differ, first at [0, 1]: 0.0, expected -1.0"),
        (case("Relu", np.full_like(X, np.nan)), Kind.WRONG, "3 of 3"),
        (case("Relu", np.maximum(X, 0).astype(np.float64)), Kind.WRONG, "float32[1, 3], expected float64[1, 3]"),
        (case("Relu", np.maximum(X, 0)[0]), Kind.WRONG, "expected float32[3]"),
        (case("Relu", [np.maximum(X, 0)]), Kind.WRONG, "expected list"),
        (case("Cast <to = 7>", X.astype(np.int64) + np.int64(1), "int64"), Kind.WRONG, "3 of 3"),
        (replace(case("Relu", X), data=()), Kind.FOREIGN, "no data"),
        (replace(case("Relu", X), data=(((X,), ()),)), Kind.WRONG, "1 outputs, expected 0"),
        (case("Relu", X, "double"), Kind.INVALID, "declared with type"),
        (case("NoSuchOp", X), Kind.UNSUPPORTED, "NoSuchOp is unknown"),
        (replace(case("Relu", X), data=(((X.astype(np.float64),), (X,)),)), Kind.USAGE, "float64"),
    ],
)
def test_every_ending_has_its_kind(sample: Case, kind: Kind, words: str) -> None:
    found = outcome(sample)
    assert found.kind == kind, found
    assert words in found.reason


@pytest.mark.parametrize(
    ("error", "kind"),
    [(RuntimeError("of somebody else"), Kind.FOREIGN), (QCompilerError("ours, unspecified"), Kind.FOREIGN)],
)
def test_foreign_exceptions(monkeypatch: pytest.MonkeyPatch, error: Exception, kind: Kind) -> None:
    def fail(*args: object, **settings: object) -> None:
        raise error

    monkeypatch.setattr(qcompiler, "compile", fail)
    assert outcome(case("Relu", X)).kind == kind


def test_a_broken_kernel_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same cases pass, and are wrong once every compiled network computes one bit more."""
    samples = [all_cases()[name] for name in ("relu", "add", "sign")]
    assert all(outcome(sample).kind == Kind.PASS for sample in samples)
    honest = Bundle.run

    def run(bundle: Bundle, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {name: array + np.float32(0.01) for name, array in honest(bundle, inputs).items()}

    monkeypatch.setattr(Bundle, "run", run)
    assert all(outcome(sample).kind == Kind.WRONG for sample in samples)


def ending(sample: Case) -> Outcome:
    """What the name of the case says."""
    if sample.name == "hang":
        time.sleep(60)
    elif sample.name == "crash" or (sample.name.startswith("/") and not Path(sample.name).exists()):
        if sample.name != "crash":
            Path(sample.name).touch()
        os.kill(os.getpid(), signal.SIGSEGV)
    return Outcome(Kind.PASS)


def test_workers_survive_crashes_and_hangs(tmp_path: Path) -> None:
    pool = Workers(ending)
    with pool.open():
        sample = replace(case("Relu", X), seconds=2)
        found = [pool.run(replace(sample, name=name)) for name in ("good", "crash", "good", "hang", "good")]
        once = pool.run(case("Relu", X, name=str(tmp_path / "once")))
    assert [result.kind for result in found] == [Kind.PASS, Kind.CRASH, Kind.PASS, Kind.HANG, Kind.PASS]
    assert once.kind == Kind.CRASH
    assert "after earlier cases only" in once.reason
