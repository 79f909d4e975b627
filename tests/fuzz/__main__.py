"""Differential testing of random networks: `python -m tests.fuzz --graphs 5000 --seed 1 --workers 2`.

Outcomes are kept in a file as they come, and a run with the same file goes on where the last one ended.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from tests.fuzz import judge, sweep
from tests.fuzz.case import save
from tests.fuzz.sweep import BATCH, Record


def main() -> int:
    """Run the batches that are missing, print the table, cut down and save one failure of each kind and reason."""
    options = _options()
    suffix = "" if options.target == "x86" else f"-{options.target}"
    folder: Path = options.folder or Path("build") / f"fuzz-{options.seed}{suffix}"
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "outcomes.jsonl"
    done = _read(log)
    missing = sorted(set(range(-(-options.graphs // BATCH))) - {record.batch for record in done})
    with log.open("a", encoding="utf-8") as file:
        for record in _run(options, missing):
            file.write(json.dumps(record) + "\n")
            file.flush()
    records = _read(log)
    print(table(records))
    _reduce(options, records, folder)
    return int(any(record.kind not in judge.FINE for record in records))


def table(records: list[Record]) -> str:
    """Counts by kind and reason, most frequent first."""
    kinds = Counter(record.kind for record in records)
    lines = [f"{len(records)} networks: " + ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())]
    keys = Counter(record.key for record in records if record.kind != "equal")
    lines += [f"{count:5}  {kind:8}  {reason}" for (kind, reason), count in keys.most_common()]
    return "\n".join(lines)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--graphs", type=int, default=200, help="how many networks")
    parser.add_argument("--seed", type=int, default=0, help="another number draws other networks")
    parser.add_argument("--workers", type=int, default=1, help="processes")
    parser.add_argument("--whole", action="store_true", help="compile as a user does, with verification")
    parser.add_argument("--target", choices=judge.VARIANTS, default="x86", help="arm: cross compiled, under qemu")
    parser.add_argument("--every", type=int, default=1, help="judge one network in so many, for slow targets")
    parser.add_argument("--folder", type=Path, help="where outcomes and failures are kept (default: build/fuzz-SEED)")
    parser.add_argument(
        "--reduce", type=int, default=0, help="cut down and save that many failures of different reasons"
    )
    return parser.parse_args()


def _run(options: argparse.Namespace, batches: list[int]) -> Iterator[dict[str, Any]]:
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.workers, mp_context=spawn, initializer=judge.warm_up) as pool:
        how = (options.whole, options.target, options.every)
        running = [pool.submit(sweep.run_batch, options.seed, batch, *how) for batch in batches]
        for count, future in enumerate(as_completed(running), 1):
            records = future.result()
            yield from records
            odd = Counter(record["kind"] for record in records)
            print(f"batch {count} of {len(batches)}: {dict(odd)}", flush=True)


def _reduce(options: argparse.Namespace, records: list[Record], folder: Path) -> None:
    """Save one failure of each kind and reason, the most frequent first."""
    counts = Counter(record.key for record in records if record.kind != "equal")
    if options.reduce:
        judge.warm_up()
    for number, (key, count) in enumerate(counts.most_common(options.reduce)):
        path = folder / f"{number:02}-{key[0]}"
        if path.with_suffix(".onnx").exists():
            continue
        wanted = next(record for record in records if record.key == key)
        case = sweep.reduce(options.seed, wanted)
        judged = judge.judge_compile if options.whole else judge.judge
        outcome = judged(case, wanted.variant)
        text = f"{outcome.kind} ({wanted.variant}, {count} like it): {outcome.reason}\n{outcome.detail}"
        save(case, text, path)
        print(f"{path}.onnx: {case.nodes} nodes, {text}", flush=True)


def _read(log: Path) -> list[Record]:
    if not log.exists():
        return []
    return [Record(**json.loads(line)) for line in log.read_text(encoding="utf-8").splitlines()]


if __name__ == "__main__":
    raise SystemExit(main())
