"""Measure qcompiler beside other engines in one run.

    pip install ".[bench]"
    python -m benchmarks [--peers-python PYTHON] [--threads 1 2] [--rows conv64 network] [--json FILE]

Every engine runs in a process of its own with its threads bound to the same processors; every output is held against
numpy before anything is timed; the engines take turns in short rounds, so that a slow moment hits all alike.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rich.console import Console

from benchmarks.arena import Result, Settings, compete
from benchmarks.contestants import CONTESTANTS
from benchmarks.machine import inspect
from benchmarks.table import TABLE_WIDTH, row_table, show_machine, show_versions, write_json
from benchmarks.workloads import FEW_BIT_NETWORKS, FEW_BITS, LAYERS, NETWORKS, PRODUCTS


def _options() -> argparse.Namespace:
    rows = [*LAYERS, *NETWORKS, *FEW_BITS, *FEW_BIT_NETWORKS, *PRODUCTS]
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure qcompiler beside other engines.")
    parser.add_argument("--rows", nargs="+", choices=rows, default=rows, metavar="ROW", help=f"of {', '.join(rows)}")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--engines", nargs="+", default=[], metavar="NAME", help="only engines whose name has one of")
    parser.add_argument("--peers-python", default=sys.executable, help="interpreter that has the other engines")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.25, help="length of a round")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured to FILE")
    return parser.parse_args()


def main() -> int:
    """Measure, print row by row, and write the JSON file; status 1 if a contestant failed."""
    options = _options()
    chosen = [one for one in CONTESTANTS if not options.engines or any(e in one.name for e in options.engines)]
    settings = Settings(options.peers_python, options.rounds, options.seconds)
    console = Console(width=max(Console().width, TABLE_WIDTH))
    machine = inspect()
    show_machine(console, machine)
    results: list[Result] = []

    def finished(row: list[Result]) -> None:
        results.extend(row)
        console.print(row_table(row, machine))
        if options.json:
            write_json(options.json, machine, settings, results)

    for threads in options.threads:
        compete(chosen, options.rows, threads, settings, finished)
    show_versions(console, results)
    return 1 if any(result.failure for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
