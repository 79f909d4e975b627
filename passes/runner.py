"""Run passes in order, time them, and prove them on data."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import ShapeInferencePass

from qcompiler.errors import InvalidModel
from qcompiler.ir import oracle
from qcompiler.ir.ops import attach_functions
from qcompiler.ir.samples import RANDOM, Sample, samples
from qcompiler.passes.checking import Array, Evaluated, check_bound, check_exact, watched
from qcompiler.passes.editing import forget_names
from qcompiler.passes.result import Pass, PassResult

# for the samples of a pass, of which there is a least and a largest number; chosen
_SECONDS = 0.1
_LEAST_SAMPLES, _MOST_SAMPLES = 3, 12

Callback = Callable[[ir.Model, PassResult, float], None]


def run_passes(
    model: ir.Model,
    passes: Sequence[Pass],
    *,
    check: bool = False,
    seed: int = 0,
    callback: Callback | None = None,
) -> tuple[PassResult, ...]:
    """Apply `passes` to `model` in place; after each, call callback(model, result, seconds).

    check: run the graph before and after each pass on samples from `seed` (ir/samples.py); VerificationFailed names the
    pass that exceeds its bound.
    """
    _infer_missing_shapes(model)
    checker = _Checker.of(model, seed) if check else None
    results = []
    for apply in passes:
        start = time.perf_counter()
        forget_names(model.graph)
        result = apply(model)
        attach_functions(model)
        elapsed = time.perf_counter() - start
        results.append(result)
        if checker is not None:
            checker.check(apply, result, model)
        if callback is not None:
            callback(model, result, elapsed)
    return tuple(results)


def _infer_missing_shapes(model: ir.Model) -> None:
    if any(value.shape is None or value.dtype is None for node in model.graph for value in node.outputs):
        attach_functions(model)
        ShapeInferencePass(check_type=False, strict_mode=False)(model)


@dataclass
class _Checker:
    """Samples, and what the graph before the next pass gives on each of them."""

    samples: list[Sample]
    before: list[Evaluated]

    @classmethod
    def of(cls, model: ir.Model, seed: int) -> _Checker:
        """As many samples as can be evaluated within a tenth of a second, but at least a few.

        Raises InvalidModel where the graph refuses all of them.
        """
        evaluate, start = _evaluator(model), time.perf_counter()
        given: list[Sample] = []
        before: list[Evaluated] = []
        refusal: InvalidModel | None = None
        for sample in itertools.islice(samples(model, seed), _MOST_SAMPLES):
            if len(given) >= _LEAST_SAMPLES and time.perf_counter() - start > _SECONDS:
                break
            try:
                found = evaluate(sample)
            except InvalidModel as error:
                refusal = error
                continue
            if not given or all(map(_finite, found.outputs.values())):
                given.append(sample)
                before.append(found)
        if refusal is not None and not given:
            raise refusal
        return cls(given, before)

    def check(self, apply: Pass, result: PassResult, model: ir.Model) -> None:
        if not result.rewrites:
            return
        evaluate = _evaluator(model)
        after = [evaluate(sample) for sample in self.samples]
        for sample, expected, found in zip(self.samples, self.before, after, strict=True):
            if apply.bound == 0:
                check_exact(apply.name, expected.outputs, found.outputs)
            # a bound is relative to the largest value, which special samples can make as small as they like
            elif sample.kind == RANDOM:
                check_bound(apply.name, apply.bound, expected, found, sample.inputs)
        self.before = after


def _evaluator(model: ir.Model) -> Callable[[Sample], Evaluated]:
    """What a graph, as it is now, gives on samples: of random ones all that bounds are about, else its outputs."""
    copy = model.clone()
    session = oracle.Session(copy, watched(copy))

    def evaluate(sample: Sample) -> Evaluated:
        found = Evaluated(copy, session.run(sample.inputs))
        return found if sample.kind == RANDOM else Evaluated(copy, found.outputs)

    return evaluate


def _finite(array: Array) -> bool:
    return array.dtype.kind != "f" or bool(np.isfinite(array).all())
