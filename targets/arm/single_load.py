"""A load that LLVM keeps to itself, which TIR cannot ask for.

LLVM makes one load of two neighbouring vectors. Models of Cortex-A72 count three operations for that, so a loop that
loads a vector for every exclusive or would wait for dispatch, not for the vector pipes.
"""

from __future__ import annotations

from contextlib import AbstractContextManager

from tvm.script.ir_builder import tirx as T

from qcompiler.targets.vector.emit import Expr

_DEFINITION = """
define linkonce_odr hidden <4 x i32> @load_single(ptr %at) alwaysinline nounwind {
  %words = load volatile <4 x i32>, ptr %at, align 16
  ret <4 x i32> %words
}
"""


def single_loads() -> AbstractContextManager[None]:
    """The statements within may use `load_single`."""
    frame: AbstractContextManager[None] = T.attr(T.int32(0), "pragma_import_llvm", _DEFINITION)
    return frame


def load_single(words: Expr, at: Expr) -> Expr:
    """uint32x4 at `at`, aligned to 16 bytes, by an instruction of its own."""
    return T.call_pure_extern("uint32x4", "load_single", words.access_ptr("r", offset=at))
