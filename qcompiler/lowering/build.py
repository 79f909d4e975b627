"""From functions to the code of a variant; what the code generator refuses is named by the node it is for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qcompiler.errors import InternalError, QCompilerError, UnsupportedModel
from qcompiler.lowering.importer import REMEDY
from qcompiler.lowering.work import KernelWork, Work
from qcompiler.targets.target import Variant


def object_code(functions: Mapping[str, Any], works: Mapping[str, Work], variant: Variant) -> bytes:
    """One object or module of all functions, by symbol; works: what each of them is for.

    Raises UnsupportedModel where the code generator refuses a function that TVM made, InternalError for one of ours.
    """
    try:
        return variant.platform.compile(functions, variant.tvm_target)
    except Exception as error:
        raise _named(functions, works, variant, error) from error


def _named(
    functions: Mapping[str, Any], works: Mapping[str, Work], variant: Variant, error: Exception
) -> QCompilerError:
    """The error for the first function that cannot be built alone."""
    for symbol, function in functions.items():
        try:
            variant.platform.compile({symbol: function}, variant.tvm_target)
        except Exception as reason:
            work = works[symbol]
            node = (work.nodes[0].name or "") if work.nodes else ""
            text = next((line for line in str(reason).splitlines() if line.strip()), type(reason).__name__)
            if isinstance(work, KernelWork):
                return InternalError(f"no code for kernel {work.op} ({text})", node=node)
            return UnsupportedModel(f"no kernel for {work.op} (no code: {text})", node=node, remedy=REMEDY)
    return InternalError(f"the kernels cannot be built together ({error})")
