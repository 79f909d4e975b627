"""Whether a layer on codes reads them in bit planes or as floats: whichever the kernels' estimates say is faster."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, log

import onnx_ir as ir

from qcompiler.ir.storage import Buffer
from qcompiler.lowering.forms import Form
from qcompiler.lowering.problems import layer_problem
from qcompiler.targets.problem import Step
from qcompiler.targets.target import Variant


class Chooser:
    """Compares the forms of an operand on all variants of a bundle, which share their buffers.

    What is faster on one variant may be slower on another. The variants come the most demanding first, which is what
    the machines of today run; each next one weighs half as much.
    """

    def __init__(self, variants: Sequence[Variant]) -> None:
        self._variants = variants

    def packs(self, node: ir.Node, planes: Form, floats: Form) -> bool:
        """Whether `node` reads its operand in bit planes."""
        one, other = self._costs(node, planes), self._costs(node, floats)
        if inf in one or inf in other:
            return inf not in one
        score = sum(log(a / b) / 2**place for place, (a, b) in enumerate(zip(one, other, strict=True)))
        return bool(score <= 0)

    def _costs(self, node: ir.Node, form: Form) -> list[float]:
        """Estimated time on every variant; infinite where it has no kernel."""
        assert form.buffer is not None
        problem = layer_problem(node, form.buffer, ())
        out = Buffer(form.buffer.n, *problem.out_hw, problem.out_channels, "float32")
        problem = layer_problem(node, form.buffer, (Step("store", into=out),))
        return [min((kernel.cost for kernel in variant.kernels(problem)), default=inf) for variant in self._variants]
