"""Imports TVM, and keeps it from importing torch.

tvm_ffi imports torch wherever it is installed, to convert its tensors. That takes seconds, and nothing here hands TVM a
torch tensor. A program that has imported torch itself keeps it.
"""

from __future__ import annotations

import sys

if "torch" in sys.modules:
    import tvm
else:
    # an entry of None makes `import torch` raise ImportError, which tvm_ffi expects where torch is not installed
    sys.modules["torch"] = None  # type: ignore[assignment]
    try:
        import tvm
    finally:
        del sys.modules["torch"]

__all__ = ["tvm"]
