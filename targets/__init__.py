"""What kernels compute (`problem`), what a machine offers (`target`), and one folder per machine."""

from __future__ import annotations

from importlib import import_module

from qcompiler.errors import UsageError
from qcompiler.targets.target import Target

TARGETS = ("x86", "arm", "wasm", "cortex-m", "rv64", "cuda")


def check_name(name: str) -> None:
    """Raise UsageError for an unknown target, listing the known."""
    if name not in TARGETS:
        raise UsageError(f"unknown target '{name}'", remedy=f"choose one of: {', '.join(TARGETS)}")


def get(name: str) -> Target:
    """The target that `--target` names. Raises UsageError for an unknown one."""
    check_name(name)
    target: Target = import_module(f"qcompiler.targets.{name.replace('-', '_')}").TARGET
    return target
