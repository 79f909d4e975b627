"""Products of bytes in WebAssembly: by i32x4.dot_i16x8_s, where there are vectors."""

from __future__ import annotations

from qcompiler.targets.vector.multiply_words import MultiplyWords

DOT = MultiplyWords(4, "dot", "llvm.wasm.dot")
