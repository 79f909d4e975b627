"""The machine under test: its name, its clock as measured, and the port limit of its binary kernels."""

from __future__ import annotations

import ctypes
import os
import platform
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

ADDS = 20_000_000

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
    """macs_per_cycle: port limit of xor + popcount + add on one core, None where it is not known."""

    cpu: str
    processors: int
    ghz: float
    macs_per_cycle: float | None


def clock_ghz() -> float:
    """Clock of one busy core in GHz, from a loop of dependent additions; the best of five."""
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder) / "clock.c", Path(folder) / "clock.so"
        source.write_text(_SOURCE)
        subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
        function = ctypes.CDLL(str(library)).seconds_for
    function.restype, function.argtypes = ctypes.c_double, [ctypes.c_int64]
    return max(ADDS / float(function(ADDS)) / 1e9 for _ in range(5))


def _cpu_name() -> str:
    lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def _port_limit() -> float | None:
    from tvm.target import codegen

    from qcompiler.targets.x86.machine import ISAS, PORT_LIMITS, host_features, supports

    limits = PORT_LIMITS.get(codegen.llvm_get_system_cpu())
    level = next(isa.level for isa in ISAS if supports(isa, host_features()))
    return limits.word[level] if limits else None


def inspect() -> Machine:
    """Measure and describe this machine; x86 only."""
    if platform.machine() != "x86_64":
        raise SystemExit(f"the benchmarks run on x86_64, this machine is {platform.machine()}")
    return Machine(_cpu_name(), len(os.sched_getaffinity(0)), clock_ghz(), _port_limit())
