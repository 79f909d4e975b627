"""How many threads a pool has: as many as asked for, but no more than there are processors."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from qcompiler.bundle import glue
from qcompiler.bundle.load import load
from tests.bundle import programs

ROOT = Path(__file__).parents[2]
ASKED = (1, 2, 3, 4, 8, 128)
THREADS_OF_POOLS = f"""
import json, os, sys
os.sched_setaffinity(0, {{int(word) for word in sys.argv[2].split(",")}})
import numpy as np
from qcompiler.bundle.load import load
from tests.bundle import programs

def running():
    return len(os.listdir("/proc/self/task"))

bundle, found = load(sys.argv[1]), []
for threads in {ASKED}:
    before = running()
    for seed in range(5):
        given = programs.inputs(seed)
        for name, array in bundle.run(given, threads=threads).items():
            np.testing.assert_array_equal(array, programs.expected(given)[name])
    timed = bundle.benchmark(given, threads=threads, seconds=0.01)
    profiled = bundle.profile(given, threads=threads, repeats=2)
    found.append([threads, running() - before, timed.threads, profiled.threads])
print(json.dumps(found))
"""


@pytest.mark.parametrize("most", [1, 2, 3])
def test_a_pool_has_no_more_threads_than_processors(pristine: Path, most: int) -> None:
    """Threads in /proc of a process that may run on some processors alone, and what its times say."""
    allowed = sorted(os.sched_getaffinity(0))[:most]
    if len(allowed) < most:
        pytest.skip(f"this process may run on {len(allowed)} processors")
    command = [sys.executable, "-c", THREADS_OF_POOLS, str(pristine), ",".join(map(str, allowed))]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    counts = {threads: min(threads, most) for threads in ASKED}
    assert json.loads(done.stdout) == [[threads, count - 1, count, count] for threads, count in counts.items()]


@pytest.mark.usefixtures("as_many_threads")
def test_a_pool_of_exactly_so_many_threads(pristine: Path) -> None:
    more = len(os.sched_getaffinity(0)) + 2
    bundle, before = load(pristine), len(os.listdir("/proc/self/task"))
    assert bundle.profile(programs.inputs(), repeats=2, threads=more).threads == more
    assert len(os.listdir("/proc/self/task")) - before == more - 1


OTHER_SYSTEM = "#undef __linux__\n"
SAYS_NOTHING = "#include <unistd.h>\n#define sysconf(name) -1\n"
MAIN = '#include "threads.c"\n#include <stdio.h>\nint main(void) { return printf("%d", processors()) < 0; }\n'


@pytest.mark.parametrize("system", ["", OTHER_SYSTEM, OTHER_SYSTEM + SAYS_NOTHING], ids=["here", "posix", "untold"])
def test_processors_are_counted_as_the_system_tells(folder: Path, system: str) -> None:
    """Where it does not tell, a pool has as many threads as it is asked for."""
    for name, text in {**glue.sources(programs.tiny(), "x86_64"), "main.c": system + MAIN}.items():
        (folder / name).write_text(text)
    command = [
        "cc",
        "-std=gnu11",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-pthread",
        "main.c",
        "libtiny.a",
        "-lm",
        "-o",
        "main",
    ]
    subprocess.run(command, cwd=folder, check=True)
    found = int(subprocess.run(["./main"], cwd=folder, check=True, capture_output=True, text=True).stdout)
    assert found == {"": len(os.sched_getaffinity(0)), OTHER_SYSTEM: os.cpu_count()}.get(system, 128)
