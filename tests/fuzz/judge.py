"""Compile one network, run it, compare it with onnxruntime, and say how that came out."""

from __future__ import annotations

import re
import tempfile
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir

import qcompiler
from qcompiler import passes, targets
from qcompiler.bundle.isolated import AtVariant, IsolatedBundle
from qcompiler.errors import InvalidModel, QCompilerError, UnsupportedModel, VerificationFailed
from qcompiler.frontend import canonicalize
from qcompiler.ir import oracle
from qcompiler.lowering.module import lower
from qcompiler.passes.result import PassResult
from qcompiler.passes.runner import run_passes
from qcompiler.reference import Reference
from qcompiler.targets.target import Variant
from qcompiler.verify import verify
from tests.fuzz import isolated, library
from tests.fuzz.case import Case
from tests.fuzz.net import Array
from tests.fuzz.samples import Sample

# where results are rounded: of the largest magnitude, or of 1, which is what the values of these networks are about
BOUND = 1e-5
NAME = "net"
RIGHT = ("equal", "rounded")
FINE = (*RIGHT, "refused")
# what such an error may grow to on the way through a network, if every step by itself is within the bound
GROWN = 1e-3
ACCEPTED = "a step, but verification accepts it"
THREADS = (1, 2)
VARIANTS = {
    "x86": ("avx2", "baseline", "avx512vpopcntdq", "avx512bw"),
    "arm": ("generic", "i8mm", "dotprod", "armv7", "cortex_a72"),
}
_SECONDS = 120
_LONGEST = 110
_NUMBERS = re.compile(r"\d+(\.\d+)?(e[+-]?\d+)?")
_QUOTED = re.compile(r"'[^']*'")


@dataclass(frozen=True)
class Outcome:
    """How a network came out.

    kind: "equal", "rounded" (floats that differ a little, though every step by itself is right), "refused"
    (unsupported, or a valid file called invalid), "wrong", "crash", "unverified" (the verification of a compile fails),
    or "foreign" for an exception that is none of ours or speaks of an internal error. reason: without the names and
    numbers of the network, so that equal reasons can be counted. close: a wrong result is one of floats, and near.
    """

    kind: str
    reason: str = ""
    detail: str = ""
    close: bool = False


def judge(case: Case, variant: str, *, explain: bool = True) -> Outcome:
    """Compile for one instruction-set variant and compare the outputs on every sample, on one thread and two.

    variant: its name, or several joined by commas, of which all that the processor has are run.
    explain: give the place where a wrong result comes from as the reason.
    All of it happens in forks of this process, which has to be free of threads.
    """
    try:
        outcome = isolated.call(lambda: _judge(case, variant), _SECONDS)
        if outcome.kind != "wrong" or not explain:
            return outcome
        return _explained(outcome, isolated.call(lambda: culprit(case, variant), _SECONDS))
    except isolated.Ended as error:
        return Outcome("crash", f"compiler ended with {error}")


def _explained(outcome: Outcome, reason: str) -> Outcome:
    """A wrong result with its reason; errors of rounding grow where large sums end in a function of small range."""
    rounded = outcome.close and reason == ACCEPTED
    return replace(outcome, kind="rounded" if rounded else "wrong", reason=reason)


def judge_compile(case: Case, variant: str) -> Outcome:
    """Compile as a user does, verification and all."""
    try:
        return isolated.call(lambda: _judge_compile(case, variant), _SECONDS)
    except isolated.Ended as error:
        return Outcome("crash", f"compiler ended with {error}")


def _judge_compile(case: Case, variant: str) -> Outcome:
    with tempfile.TemporaryDirectory(prefix="qcompiler-fuzz-") as folder:
        try:
            path, out = _written(case, folder), Path(folder) / "out"
            qcompiler.compile(path, target_of(variant), mcpu=(variant,), output=out)
        except VerificationFailed as error:
            return Outcome("unverified", general(str(error)), str(error))
        except (UnsupportedModel, InvalidModel) as error:
            return Outcome("refused", general(str(error)), str(error))
        except Exception as error:
            return Outcome("foreign", _foreign(error), "".join(traceback.format_exception(error)))
    return Outcome("equal")


def _judge(case: Case, variant: str) -> Outcome:
    expected = _expected(case)
    with tempfile.TemporaryDirectory(prefix="qcompiler-fuzz-") as folder:
        try:
            bundle = _compile(_written(case, folder), variant)
        except (UnsupportedModel, InvalidModel) as error:
            return Outcome("refused", general(str(error)), str(error))
        except Exception as error:
            return Outcome("foreign", _foreign(error), "".join(traceback.format_exception(error)))
        with bundle:
            return _run(bundle, case, expected)


def general(message: str) -> str:
    """A message without the names and numbers of one network."""
    first = message.splitlines()[0].split("; ")[0] if message else ""
    return _NUMBERS.sub("#", _QUOTED.sub("'.'", first))[:_LONGEST]


def compare(found: Array, expected: Array, exact: bool, bound: float = BOUND) -> str:
    """What is wrong with an output; empty where it is right."""
    if found.shape != expected.shape or found.dtype != expected.dtype:
        return f"{found.dtype}{list(found.shape)} instead of {expected.dtype}{list(expected.shape)}"
    if exact:
        count = int(np.sum(found != expected))
        return f"{count} of {found.size} elements differ" if count else ""
    finite = np.isfinite(expected)
    if not np.array_equal(finite, np.isfinite(found)):
        return "infinite or NaN in other places"
    largest = float(np.abs(expected[finite]).max(initial=0))
    difference = float(np.abs(found[finite].astype(np.float64) - expected[finite]).max(initial=0))
    return f"differs by {difference:.3g} of {largest:.3g}" if difference > bound * max(largest, 1.0) else ""


def _expected(case: Case) -> list[Sample]:
    session = oracle.Session(case.model)
    return [session.run(sample) for sample in case.samples]


def _compile(path: Path, variant: str) -> IsolatedBundle:
    graph = canonicalize(path, {})
    run_passes(graph, passes.DEFAULT)
    return library.isolated_bundle(lower(graph, target_of(variant), _variants(variant), NAME), path.parent)


def target_of(variant: str) -> str:
    """The target that has a variant."""
    return next(target for target, names in VARIANTS.items() if variant.split(",")[0] in names)


def _variants(name: str) -> list[Variant]:
    return list(targets.get(target_of(name)).variants(tuple(name.split(","))))


def _run(bundle: IsolatedBundle, case: Case, expected: list[Sample]) -> Outcome:
    usable = [number for number in range(len(bundle.manifest.variants)) if bundle.supports(number)]
    outcomes = (_run_variant(bundle.at(number), case, expected) for number in usable)
    return next((outcome for outcome in outcomes if outcome.kind != "equal"), Outcome("equal"))


def _run_variant(bundle: AtVariant, case: Case, expected: list[Sample]) -> Outcome:
    name = bundle.bundle.manifest.variants[bundle.variant].name
    for index, (sample, right) in enumerate(zip(case.samples, expected, strict=True)):
        for threads in THREADS:
            try:
                found = bundle.run(sample, threads)
            except QCompilerError as error:
                return Outcome("crash", general(str(error)), f"{name}, sample {index}, {threads} threads: {error}")
            for output, array in right.items():
                complaint = compare(found[output], array, output in case.exact)
                if complaint:
                    close = output not in case.exact and not compare(found[output], array, False, GROWN)
                    where = f"{name}, sample {index}, {threads} threads, output {output}"
                    return Outcome("wrong", "", f"{where}: {complaint}", close)
    return Outcome("equal")


def _foreign(error: Exception) -> str:
    """The type, the message and the innermost place in our own code."""
    ours = [frame for frame in traceback.extract_tb(error.__traceback__) if "/qcompiler/" in frame.filename]
    place = f" at {Path(ours[-1].filename).name}:{ours[-1].name}" if ours else ""
    kind = "QCompilerError" if isinstance(error, QCompilerError) else type(error).__name__
    return f"{kind}{place}: {general(str(error))}"


def culprit(case: Case, variant: str) -> str:
    """Where a network goes wrong: the front end, a pass, or the step of the program."""
    expected = _expected(case)

    def differs(graph: ir.Model) -> bool:
        session = oracle.Session(graph.clone())
        pairs = ((session.run(sample), right) for sample, right in zip(case.samples, expected, strict=True))
        return any(compare(v[name], a, name in case.exact) for v, right in pairs for name, a in right.items())

    with tempfile.TemporaryDirectory(prefix="qcompiler-fuzz-") as folder:
        try:
            return _stage(_written(case, folder), variant, differs, case.samples)
        except Exception as error:
            return f"unknown ({general(str(error))})"


def _stage(path: Path, variant: str, differs: Callable[[ir.Model], bool], given: Sequence[Sample]) -> str:
    graph = canonicalize(path, {})
    if differs(graph):
        return "front end"
    source = graph.clone()
    wrong: list[str] = []

    def check(current: ir.Model, result: PassResult, _: float) -> None:
        if not wrong and differs(current):
            wrong.append(f"pass {result.name}")

    run_passes(graph, passes.DEFAULT, callback=check)
    return wrong[0] if wrong else _step(path, variant, graph, source, given)


def _step(path: Path, variant: str, final: ir.Model, source: ir.Model, given: Sequence[Sample]) -> str:
    """What the verification of a compile says of the program."""
    program = lower(final, target_of(variant), _variants(variant), NAME)
    stacked = {name: np.concatenate([sample[name] for sample in given]) for name in given[0]}
    try:
        with library.isolated_bundle(program, path.parent) as bundle:
            verify(bundle, program, final, Reference(path, source), stacked)
    except VerificationFailed as error:
        return general(str(error))
    return ACCEPTED


def _written(case: Case, folder: str) -> Path:
    path = Path(folder) / f"{NAME}.onnx"
    path.write_bytes(case.model.SerializeToString())
    return path


def warm_up() -> None:
    """Load and start what every compile needs, so that forks find it ready."""
    text = """<ir_version: 10, opset_import: ["" : 17]> g (float[1,2,4] x) => (float[1,2,4] y) { y = Softmax (x) }"""
    case = Case(onnx.parser.parse_model(text), ({"x": np.zeros((1, 2, 4), np.float32)},), frozenset())
    outcome = _judge(case, "baseline")
    assert outcome.kind == "equal", outcome
