"""Imports TVM without what takes long and is not needed.

tvm_ffi imports torch wherever it is installed, to convert its tensors. That takes seconds, and nothing here hands TVM a
torch tensor. A program that has imported torch itself keeps it. TVM also looks for its runtime for several machines,
which its wheels lack, and loads its code generators for devices; who makes code for one loads it by name
(`tvm.backend.loader.load`).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_DEVICES = "TVM_DEVICE_BACKEND_AUTOLOAD"


@contextmanager
def _hidden(name: str) -> Iterator[None]:
    """Importing the module raises ImportError meanwhile, which its importers expect where it is not installed."""
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[name]


@contextmanager
def _no_devices() -> Iterator[None]:
    before = os.environ.get(_DEVICES)
    os.environ.setdefault(_DEVICES, "0")
    try:
        yield
    finally:
        if before is None:
            del os.environ[_DEVICES]


with _hidden("torch"), _hidden("tvm.runtime.disco"), _no_devices():
    import tvm

__all__ = ["tvm"]
