"""Commands reuse the memory of what they drop."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

_ROUNDS = 8
_BYTES = 2**26
_SCRIPT = f"""
import resource
from qcompiler.command import keep_freed_memory
{{}}
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range({_ROUNDS}):
    len(b"x" * {_BYTES})
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) * resource.getpagesize())
"""


def _touched(setting: str) -> int:
    """Bytes of new pages touched by a process that makes and drops the same large object again and again."""
    script = _SCRIPT.format(setting)
    return int(subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc's")
def test_freed_memory_is_used_again() -> None:
    assert _touched("") > (_ROUNDS - 1) * _BYTES
    assert _touched("keep_freed_memory()") < 2 * _BYTES
