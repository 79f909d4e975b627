"""Run passes in order, time them, and prove them on data."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import onnx_ir as ir
from onnx_ir.passes.common import ShapeInferencePass

from qcompiler.ir import oracle
from qcompiler.ir.ops import attach_functions
from qcompiler.passes.checking import Arrays, check_bound, check_exact
from qcompiler.passes.editing import forget_names
from qcompiler.passes.result import Pass, PassResult

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

    check: run the graph before and after each pass on random inputs from `seed`; VerificationFailed names the pass
    that exceeds its bound.
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
    """The graph before the next pass, and its outputs."""

    inputs: Arrays
    before: ir.Model
    outputs: Arrays

    @classmethod
    def of(cls, model: ir.Model, seed: int) -> _Checker:
        inputs = oracle.random_inputs(model, seed)
        return cls(inputs, model.clone(), oracle.run(model, inputs))

    def check(self, apply: Pass, result: PassResult, model: ir.Model) -> None:
        if not result.rewrites:
            return
        outputs = oracle.run(model, self.inputs)
        if apply.bound == 0:
            check_exact(apply.name, self.outputs, outputs)
        else:
            check_bound(apply.name, apply.bound, self.before, model, self.inputs)
        self.before, self.outputs = model.clone(), outputs
