"""Kernels for processors with vector registers: direct convolutions, pooling and maps over sixteen logical lanes.

LLVM cuts sixteen lanes into as many registers as a machine needs; how many accumulators then fit is for the target's
tilings to say.
"""

from __future__ import annotations

from qcompiler.targets import import_tvm

__all__ = ["import_tvm"]
