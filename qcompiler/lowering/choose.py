"""Whether a layer on codes reads them in bit planes or as floats: whichever the kernels' estimates say is faster."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

import onnx_ir as ir

from qcompiler.ir.storage import Buffer
from qcompiler.lowering.forms import Form
from qcompiler.lowering.problems import layer_problem
from qcompiler.targets.problem import Step
from qcompiler.targets.target import Variant


class Chooser:
    """Compares the forms of an operand on all variants of a bundle, which share their buffers."""

    def __init__(self, variants: Sequence[Variant]) -> None:
        self._variants = variants

    def packs(self, node: ir.Node, planes: Form, floats: Form) -> bool:
        """Whether `node` reads its operand in bit planes."""
        return self._cost(node, planes) <= self._cost(node, floats)

    def _cost(self, node: ir.Node, form: Form) -> float:
        """Estimated time on all variants; infinite where one has no kernel."""
        assert form.buffer is not None
        problem = layer_problem(node, form.buffer, ())
        out = Buffer(form.buffer.n, *problem.out_hw, problem.out_channels, "float32")
        problem = layer_problem(node, form.buffer, (Step("store", into=out),))
        return sum(min((kernel.cost for kernel in variant.kernels(problem)), default=inf) for variant in self._variants)
