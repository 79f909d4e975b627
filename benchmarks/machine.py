"""The machine under test: its name, its clock as measured, and what its instructions can reach at each width."""

from __future__ import annotations

import ctypes
import os
import platform
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

# half a millisecond, which is less than a system gives a process at a time
ADDS = 2_000_000

# each addition waits for the one before it and takes one cycle on every CPU this runs on
_SOURCE = """
#include <stdint.h>
#include <time.h>
#define ADD "add $1, %0\\n"
#define TEN ADD ADD ADD ADD ADD ADD ADD ADD ADD ADD
double seconds_for(int64_t adds) {
    struct timespec a, b;
    uint64_t x = 0;
    clock_gettime(CLOCK_MONOTONIC, &a);
    for (int64_t i = 0; i < adds; i += 10) __asm__ volatile(TEN : "+r"(x));
    clock_gettime(CLOCK_MONOTONIC, &b);
    return (double)(b.tv_sec - a.tv_sec) + 1e-9 * (double)(b.tv_nsec - a.tv_nsec);
}
"""


@dataclass(frozen=True)
class Machine:
    """macs_per_cycle: limits of one core by widths as in "w2a4", for the best form of each; empty if not known."""

    cpu: str
    processors: int
    ghz: float
    macs_per_cycle: Mapping[str, float]


def clock_ghz() -> float:
    """Clock of one busy core in GHz, from a loop of dependent additions: the best of many, as others may run too."""
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder) / "clock.c", Path(folder) / "clock.so"
        source.write_text(_SOURCE)
        subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
        function = ctypes.CDLL(str(library)).seconds_for
    function.restype, function.argtypes = ctypes.c_double, [ctypes.c_int64]
    return max(ADDS / float(function(ADDS)) / 1e9 for _ in range(300))


def cpu_name() -> str:
    """The name of the processor; "unknown" where the system does not tell."""
    lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


# by instruction timings: xor and population count, lookups of six inputs, of four times four, of six in
# words (w1a8), products of bytes
_ZEN4 = {"w1a1": 341, "w1a2": 265, "w1a3": 227, "w1a4": 186, "w1a8": 145, "w2a2": 132, "w2a4": 93, "w3a3": 76,
         "w4a4": 64, "w8a8": 64, "ta8": 64}  # fmt: skip
# the same with AVX2, by a loop of each: lookups of whole codes, of four inputs in tables of bytes, products of pairs in
# 16 bits, and of bytes in 16 bits, exact
_ZEN3 = {"w1a1": 215, "w1a2": 215, "w1a3": 215, "w1a4": 215, "w1a8": 107, "w2a2": 107, "w2a4": 107, "w3a3": 72,
         "w4a4": 51, "w8a8": 31, "ta8": 51}  # fmt: skip
CEILINGS: Mapping[str, Mapping[str, float]] = {
    "znver3": _ZEN3,
    "znver4": _ZEN4,
    "znver5": {widths: 2 * limit for widths, limit in _ZEN4.items()},
}


def ceilings() -> Mapping[str, float]:
    """Multiply-adds per cycle that this machine can reach by widths; none where that is not known."""
    from tvm.target import codegen

    return CEILINGS.get(codegen.llvm_get_system_cpu(), {})


def inspect() -> Machine:
    """Measure and describe this machine; x86 only."""
    if platform.machine() != "x86_64":
        raise SystemExit(f"the benchmarks run on x86_64, this machine is {platform.machine()}")
    return Machine(cpu_name(), len(os.sched_getaffinity(0)), clock_ghz(), ceilings())
