"""Run the cases of ONNX's own backend tests and say how they end.

    python -m tests.onnx_nodes [--match TEXT] [--names FILE] [--workers N] [--verify] [--list FILE] [--write]

--match: only cases with this text in their names. --names: only those that the file lists. --list: one line per case,
with its reason. --write: bring docs/onnx_ops.md up to date; meant for all cases.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from functools import partial
from pathlib import Path

from tests.onnx_nodes.cases import Case, all_cases, light_models
from tests.onnx_nodes.listing import page
from tests.onnx_nodes.outcomes import FAULTS, Outcome, outcome
from tests.onnx_nodes.workers import outcomes

PAGE = Path(__file__).resolve().parents[2] / "docs" / "onnx_ops.md"


def main() -> int:
    """Exit status 1 where a case ends as none may."""
    options = _options()
    cases = [case for name, case in {**all_cases(), **light_models()}.items() if _wanted(name, options)]
    results: dict[str, tuple[Case, Outcome]] = {}
    for case, result in outcomes(cases, workers=options.workers, run=partial(outcome, verify=options.verify)):
        results[case.name] = case, result
        if result.kind in FAULTS:
            print(f"{case.name}: {result.kind}: {result.reason}", flush=True)
    if options.list:
        lines = [f"{name}\t{result.kind}\t{result.reason}\n" for name, (_, result) in results.items()]
        options.list.write_text("".join(lines))
    if options.write:
        PAGE.write_text(page(list(results.values())), encoding="utf-8")
    counts = Counter(result.kind for _, result in results.values())
    print(f"{len(results)} cases: " + ", ".join(f"{count} {kind}" for kind, count in counts.most_common()))
    return int(any(result.kind in FAULTS for _, result in results.values()))


def _wanted(name: str, options: argparse.Namespace) -> bool:
    names = options.names.read_text().split() if options.names else [name]
    return options.match in name and name in names


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--match", default="")
    parser.add_argument("--names", type=Path)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--verify", action="store_true")
    parser.add_argument("--list", type=Path)
    parser.add_argument("--write", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
