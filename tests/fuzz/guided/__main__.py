"""Coverage-guided search for files that the front end mistreats: `python -m tests.fuzz.guided --minutes 60`.

Needs the extra `fuzz` (atheris). The corpus is kept: another run goes on from it.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from tests.fuzz.guided.seeds import write_seeds
from tests.fuzz.guided.trial import MOST_SECONDS

_MEGABYTES = 3000
# instrumented and beside other work, a file takes several times as long
_HANG_SECONDS = 12 * MOST_SECONDS
_COVERED = re.compile(r"cov: (\d+) ft: (\d+) corp: (\d+)")


def main() -> int:
    """Search until the time is over, in as many processes as crash, and print what came of it."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.guided", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60, help="how long")
    parser.add_argument("--folder", type=Path, default=Path("build") / "guided", help="corpus and findings")
    options = parser.parse_args()
    corpus, findings = options.folder / "corpus", options.folder / "findings"
    if not corpus.exists():
        print(f"{write_seeds(corpus)} files to begin with", flush=True)
    findings.mkdir(parents=True, exist_ok=True)
    end, ends = time.monotonic() + 60 * options.minutes, Counter[int]()
    while (left := int(end - time.monotonic())) > 1:
        ends[_search(corpus, findings, left)] += 1
    return _report(findings, ends)


def _search(corpus: Path, findings: Path, seconds: int) -> int:
    """One process until it ends; its exit status."""
    limits = [f"-max_total_time={seconds}", f"-timeout={_HANG_SECONDS:g}", f"-rss_limit_mb={_MEGABYTES}"]
    places = [f"-artifact_prefix={findings}/", "-max_len=65536", "-print_final_stats=1", str(corpus)]
    command = [sys.executable, "-m", "tests.fuzz.guided.search", str(findings), *limits, *places]
    with (findings / "log.txt").open("ab") as log:
        return subprocess.run(command, stdout=log, stderr=log, check=False).returncode


def _report(findings: Path, ends: Counter[int]) -> int:
    counts = [json.loads(path.read_text(encoding="utf-8")) for path in findings.glob("counts-*.json")]
    faults: Counter[str] = Counter()
    for each in counts:
        faults.update(each["faults"])
    inputs, refused = (sum(each[key] for each in counts) for key in ("inputs", "refused"))
    print(f"{inputs} files, {refused} refused, {sum(faults.values())} mistreated in {len(faults)} ways")
    covered = _COVERED.findall((findings / "log.txt").read_text(encoding="utf-8", errors="replace"))
    if covered:
        print("edges {}, features {}, corpus {}".format(*covered[-1]))
    print(f"slowest {max((each['seconds'] for each in counts), default=0):.1f} s of processor time, instrumented")
    print(f"largest resident size of a process {max((each['kilobytes'] for each in counts), default=0) // 1024} MB")
    artifacts = Counter(path.name.split("-")[0] for path in findings.glob("*-*") if "." not in path.name)
    print(f"processes by exit status: {dict(ends)}; crashes, hangs and the like: {dict(artifacts) or 'none'}")
    for fault, count in faults.most_common():
        print(f"{count:6}  {fault}")
    return int(bool(faults or artifacts))


if __name__ == "__main__":
    raise SystemExit(main())
