"""Inputs that end where memory ends: a kernel that reads behind its input dies."""

from __future__ import annotations

import ctypes
import mmap
import multiprocessing
from typing import Any

import numpy as np

from qcompiler.targets.problem import Problem
from qcompiler.targets.target import Array, Kernel, Variant
from qcompiler.targets.vector.kernel_runner import KernelRunner, empty_outputs
from tests.targets.problems import constants, values


def survives(kernel: Kernel, variant: Variant, problem: Problem) -> bool:
    """Whether a kernel without run-time operands runs on an input right in front of a page that must not be read."""
    rng = np.random.default_rng(0)
    x, runner = values(rng, problem.x), KernelRunner(kernel, variant, constants(rng, problem))
    child = multiprocessing.get_context("fork").Process(target=_run, args=(runner, x, empty_outputs(problem)))
    child.start()
    child.join(60)
    return child.exitcode == 0


def _run(runner: KernelRunner, x: Array, outputs: list[Array]) -> None:
    page = mmap.PAGESIZE
    size = -(-x.nbytes // page) * page
    memory = mmap.mmap(-1, size + page)
    whole = np.frombuffer(memory, np.uint8)
    mprotect: Any = ctypes.CDLL(None).mprotect
    assert mprotect(ctypes.c_void_p(whole.ctypes.data + size), ctypes.c_size_t(page), 0) == 0
    last = whole[size - x.nbytes : size].view(x.dtype).reshape(x.shape)
    last[...] = x
    runner.call(runner.bind(last, [], outputs), 0, runner.items)
