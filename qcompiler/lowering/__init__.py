"""From the canonical graph to a program: groups, forms of values, kernels, memory plan, object code."""

from __future__ import annotations

from qcompiler.targets import import_tvm

__all__ = ["import_tvm"]
