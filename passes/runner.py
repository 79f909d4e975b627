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
from qcompiler.passes.checking import Array, Arrays, Evaluated, check_bound, check_exact
from qcompiler.passes.editing import forget_names
from qcompiler.passes.result import Pass, PassResult

# for the samples of a pass, of which there is a least and a largest number; chosen
_SECONDS = 0.1
_LEAST_SAMPLES, _MOST_SAMPLES = 4, 12

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
    """The graph before the next pass, samples, and its outputs on each of them."""

    samples: list[Sample]
    before: ir.Model
    outputs: list[Arrays]

    @classmethod
    def of(cls, model: ir.Model, seed: int) -> _Checker:
        """As many samples as can be evaluated within a tenth of a second, but at least a few.

        Raises InvalidModel where the graph refuses all of them.
        """
        session, start = oracle.Session(model), time.perf_counter()
        given: list[Sample] = []
        outputs: list[Arrays] = []
        refusal: InvalidModel | None = None
        for sample in itertools.islice(samples(model, seed), _MOST_SAMPLES):
            if len(given) >= _LEAST_SAMPLES and time.perf_counter() - start > _SECONDS:
                break
            try:
                found = session.run(sample.inputs)
            except InvalidModel as error:
                refusal = error
                continue
            if not given or all(map(_finite, found.values())):
                given.append(sample)
                outputs.append(found)
        if refusal is not None and not given:
            raise refusal
        return cls(given, model.clone(), outputs)

    def check(self, apply: Pass, result: PassResult, model: ir.Model) -> None:
        if not result.rewrites:
            return
        session = oracle.Session(model)
        outputs = [session.run(sample.inputs) for sample in self.samples]
        for sample, expected, found in zip(self.samples, self.outputs, outputs, strict=True):
            if apply.bound == 0:
                check_exact(apply.name, expected, found)
            # a bound is relative to the largest value, which special samples can make as small as they like
            elif sample.kind == RANDOM:
                before, after = Evaluated(self.before, expected), Evaluated(model, found)
                check_bound(apply.name, apply.bound, before, after, sample.inputs)
        self.before, self.outputs = model.clone(), outputs


def _finite(array: Array) -> bool:
    return array.dtype.kind != "f" or bool(np.isfinite(array).all())
