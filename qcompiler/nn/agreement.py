"""A frozen torch model against its exported file in onnxruntime, quantizer by quantizer.

Sums of real numbers differ between the two by float rounding, and a number that lies on the edge between two codes then
gives another code, which can change everything after it. So both are compared at every quantizer: what goes in may
differ by `BOUND` of its largest magnitude; torch then goes on with onnxruntime's numbers, and what comes out must be
equal.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from torch import Tensor, nn

from qcompiler.errors import VerificationFailed
from qcompiler.ir import oracle
from qcompiler.nn.fixed import Fixed

Array = npt.NDArray[Any]

BOUND = 1e-4


@dataclass(frozen=True)
class QuantizerNode:
    """Where a quantizer module stands in the file: its name in the model and the values before and after it."""

    module: str
    source: str
    result: str


def largest_difference(
    model: nn.Module, example: Sequence[Tensor], file: onnx.ModelProto, nodes: Sequence[QuantizerNode]
) -> float:
    """Largest difference of an output between torch and onnxruntime, over the output's largest magnitude.

    model: frozen, on the CPU. nodes: the quantizers of activations in the order of execution.
    Raises VerificationFailed naming the quantizer or the output that differs.
    """
    outputs = [value.name for value in file.graph.output]
    inputs = {value.name: tensor.numpy(force=True) for value, tensor in zip(file.graph.input, example, strict=True)}
    between = [name for node in nodes for name in (node.source, node.result)]
    values = oracle.Session(file, [*outputs, *(name for name in between if name not in inputs)]).run(inputs)
    results = _Comparison(model, nodes, {**inputs, **values}).outputs(example)
    if len(results) != len(outputs):
        raise VerificationFailed(f"the file has {len(outputs)} outputs, the model {len(results)}")
    return max(
        (_checked(f"output '{name}'", result, values[name]) for name, result in zip(outputs, results, strict=True)),
        default=0.0,
    )


@dataclass
class _Comparison:
    """One run of the torch model beside the values of onnxruntime."""

    model: nn.Module
    nodes: Sequence[QuantizerNode]
    values: Mapping[str, Array]
    _waiting: dict[nn.Module, list[QuantizerNode]] = field(default_factory=lambda: defaultdict(list))
    _running: dict[nn.Module, QuantizerNode] = field(default_factory=dict)

    def outputs(self, example: Sequence[Tensor]) -> list[Tensor]:
        """The outputs of torch, as long as every quantizer agrees."""
        # one module may stand in several places, under several names
        modules = dict(self.model.named_modules(remove_duplicate=False))
        for node in self.nodes:
            self._waiting[modules[node.module]].append(node)
        fixed = [module for module in self.model.modules() if isinstance(module, Fixed)]
        hooks = [module.register_forward_pre_hook(self._before) for module in fixed]
        hooks += [module.register_forward_hook(self._after) for module in fixed]
        try:
            with torch.no_grad():
                result = self.model(*example)
        finally:
            for hook in hooks:
                hook.remove()
        return [result] if isinstance(result, Tensor) else list(result)

    def _before(self, module: nn.Module, arguments: tuple[Tensor]) -> tuple[Tensor] | None:
        if not self._waiting[module]:
            return None
        node = self._running[module] = self._waiting[module].pop(0)
        _checked(f"the input of quantizer '{node.module}'", arguments[0], self.values[node.source])
        return (torch.from_numpy(self.values[node.source]),)

    def _after(self, module: nn.Module, _: tuple[Tensor], result: Tensor) -> None:
        node = self._running.pop(module, None)
        if node is None:
            return
        wrong = int((result.numpy(force=True) != self.values[node.result]).sum())
        if wrong:
            raise VerificationFailed(
                f"quantizer '{node.module}' gives {wrong} of {result.numel()} other values in onnxruntime than in torch"
            )


def _checked(what: str, found: Tensor, expected: Array) -> float:
    array = found.numpy(force=True)
    if array.shape != expected.shape:
        shapes = f"{list(expected.shape)} in onnxruntime, {list(array.shape)} in torch"
        raise VerificationFailed(f"{what} has shape {shapes}")
    difference = _relative_difference(array, expected)
    if not difference <= BOUND:
        raise VerificationFailed(
            f"{what} differs between onnxruntime and torch by {difference:.3g} of its largest magnitude,"
            f" more than {BOUND:g}"
        )
    return difference


def _relative_difference(found: Array, expected: Array) -> float:
    if np.array_equal(found, expected, equal_nan=found.dtype.kind == "f"):
        return 0.0
    difference = np.abs(found.astype(np.float64) - expected).max()
    return float(difference / max(float(np.abs(found).max()), float(np.finfo(np.float32).tiny)))
