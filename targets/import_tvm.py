"""Imports TVM without what takes long and is not needed.

tvm_ffi imports torch wherever it is installed, to convert its tensors. That takes seconds, and nothing here hands TVM a
torch tensor. A program that has imported torch itself keeps it. TVM also loads its code generators for devices; who
makes code for one loads it by name (`tvm.backend.loader.load`).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_DEVICES = "TVM_DEVICE_BACKEND_AUTOLOAD"


@contextmanager
def _torch_hidden() -> Iterator[None]:
    """`import torch` raises ImportError, which tvm_ffi expects where torch is not installed."""
    if "torch" in sys.modules:
        yield
        return
    sys.modules["torch"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules["torch"]


@contextmanager
def _no_devices() -> Iterator[None]:
    before = os.environ.get(_DEVICES)
    os.environ.setdefault(_DEVICES, "0")
    try:
        yield
    finally:
        if before is None:
            del os.environ[_DEVICES]


with _torch_hidden(), _no_devices():
    import tvm

__all__ = ["tvm"]
