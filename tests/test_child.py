"""Processes that answer are kept, and those that do not are replaced."""

from __future__ import annotations

import os
import time

import pytest

from qcompiler.child import ChildLost, Children


def test_processes_are_kept_until_one_is_lost() -> None:
    children = Children()
    first = children.ask(os.getpid, seconds=60)
    assert children.ask(os.getpid, seconds=60) == first != os.getpid()
    with pytest.raises(ChildLost, match="no answer within 0 s"):
        children.ask(time.sleep, 60, seconds=0.1)
    assert children.ask(os.getpid, seconds=60) != first
