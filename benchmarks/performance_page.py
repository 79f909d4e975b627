"""The page of speeds, in Markdown, from what `python -m benchmarks --json` wrote.

python -m benchmarks.performance_page results.json [later.json ...] -o docs/performance.md

Rows of a later file replace those of the same name.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.arena import Result
from benchmarks.machine import CEILINGS, Machine
from benchmarks.markdown import table
from benchmarks.table import micros, per_cycle, share, widths
from benchmarks.workloads import is_network, label_of, title

HEAD = """# Speed{where}

{machine}, {ghz:.2f} GHz. Made by `python -m benchmarks --json results.json` and
`python -m benchmarks.performance_page`; `benchmarks/README.md` says how. Every output is held
against numpy before anything is timed, and all engines of a row take turns in one run; rows may be of several runs.
Layers are in chains of eight: µs per layer, with signs, quantizers and changes of layout. MAC/cycle is by the engine's
own clock of its kernels; "of limit" is the share of what the best known form of the width can reach by instruction
timings. "best peer" is the fastest other engine, in 8 bits where the row is in few bits, which no other engine computes
in.

Engines: {engines}.
"""

PLOTS = """
The plots are of a run on the machine that they name; less is faster. Made by
`python -m benchmarks.plots results.json -o docs/pictures/`.

![One layer by width beside other engines in 8 bits, and whole networks](pictures/speed.svg)

![Every layer by width](pictures/speed_layers.svg)
"""

ZEN_4 = """
## What keeps rows from their limits

Limits are of products alone, on Zen 4. Where a layer of many products reaches less than 85 %, it is for this:

- **1 by 2 bits on 64 channels.** Eight pixels of a kernel row take 264 lookups with an addition each, at 1.27 cycles
  the pair, 110 additions that find rows of tables, and 72 that widen sums, at half a cycle: 426 cycles, as measured.
  The thresholds of eight pixels take 58 ([adr/0024](adr/0024-lookups-in-tables-of-64.md)).
- **1x1 on 256 channels, and 1 by 4 bits on 64 channels.** To scale, round and store sixteen outputs of 4 bits takes
  11 cycles, as long as sums of 128 products ([adr/0026](adr/0026-tables-of-four.md)).
- **1 by 3 bits** are done as 1 by 4, by lookups of four inputs, whose limit is 186. Those of six inputs, whose limit is
  given, made 80 to 181: bytes hold the sums of one word only, and are widened behind each.
- **1 by 8 bits.** The limit is that of tables of 64 words, which would take longer to make than they save. Two lookups
  in tables of bytes, one for each half of an activation, have a limit of 93.
- **2 by 2 bits** were measured before whole codes are looked up, of which no limit is given yet: llvm-mca's model takes
  a sixth fewer cycles for them, and nobody has timed them here ([adr/0048](adr/0048-whole-codes-everywhere.md)).
- **3 by 3 bits** are done in bytes, whose limit is 64, or by lookups, as fast: 63 and 60 in kernels of 3x3 on 64
  channels.
- **Channel by channel** no input serves more than one output channel, as all limits assume. Of sixteen channels one
  instruction multiplies a column of up to four rows, and 2.5 to 4 put it together.
- **FC at batch 1** reads each weight once: what counts is the bandwidth of the cache that holds them.

Where a row is no more than a tenth faster than the best peer, it is for this:

- **8 by 8 bits, 4 by 4 bits and ternary by 8** are products of bytes, 64 a cycle at most on this processor. Ours reach
  90 to 100 % of that, and so do the best peers' in 8 bits: no kernel can be a tenth faster than they are. Weights of
  fewer bits than eight took less memory, and in these layers no less time; since these rows were measured they lie in
  whole bytes, of which 4 by 4 bits and ternary by 8 gain what taking them apart took
  ([adr/0052](adr/0052-whole-bytes-on-x86.md)).
- **Eight rows in blocks.** Of 886 µs at 4 bits, products are 568; to scale sums of 32 products and add them to totals
  takes 4.3 cycles for sixteen outputs, beside eight for the products. At 8 bits indices came from memory in steps of
  1 KiB; since these rows were measured they lie in the order in which they are read
  ([adr/0027](adr/0027-weights-of-few-bits.md)).
- **Depthwise as one operator** reads and writes plain floats or bytes and reorders them itself; in a chain it is 1.5
  times as fast as the best peer.
"""

ZEN_3 = """
## What keeps rows from their limits

Limits are of products alone, on Zen 3: eight of vpshufb and vpaddb take 4.75 cycles, of vpmaddubsw and vpaddw 4.97, of
vpmaddwd and vpaddd 4.92 ([adr/0046](adr/0046-avx2.md)).

- **8 by 8 bits** are exact here. vpmaddubsw saturates, and with it peers' products of bytes; its limit is 31 a cycle,
  that of vpmaddwd 26. Steps whose weights cannot overflow go by vpmaddubsw, if most are such
  ([adr/0050](adr/0050-sorted-steps.md)). What is lost is finding them in a list, and the others. The networks in int8
  have weights of a normal distribution, whose largest of a few hundred is 3.2 deviations: in half of their layers too
  many weights are large for that. Of trained weights, as in the rows w8a8, fewer are.
- **Few bits.** Two of the four vector units shuffle. Additions, masks and what widens sums may go to all of them, and
  take the places of shuffles in those two: kernels take about half as many cycles as there are shuffles and half of
  the others. A word of 2 by 2 bits for four pixels and 32 channels has 192 shuffles and 330 others, 178 cycles, and
  took 190 before indices lay apart ([adr/0052](adr/0052-whole-bytes-on-x86.md)).
"""


@dataclass(frozen=True)
class About:
    """What the page says of a processor: in its title, of plots, and at its end."""

    title: str = ""
    plots: str = ""
    reasons: str = ""


ABOUT = {"znver4": About(plots=PLOTS, reasons=ZEN_4), "znver3": About(title=" with AVX2", reasons=ZEN_3)}

PEERS = {"binary": ("binary", "int8"), "few bits": ("int8",)}
"""In what peers compute beside ours, where it is not the same."""


@dataclass(frozen=True)
class Line:
    """A row of a run: ours, and the fastest peer."""

    ours: Result
    peer: Result | None
    machine: Machine

    @property
    def times(self) -> str:
        """How many times faster."""
        if self.peer is None or not self.peer.median or not self.ours.median:
            return "-"
        return f"{self.peer.median / self.ours.median:.2f}"


def lines(results: Sequence[Result], machine: Machine) -> list[Line]:
    """One for each arithmetic of ours in each row."""
    found = []
    for ours in results:
        if not ours.ours or ours.failure or not ours.median:
            continue
        if ours.precision == "int8" and label_of(ours.row):
            continue  # the layer's own row has it
        alike = PEERS.get(ours.precision, (ours.precision,))
        peers = [
            other for other in results
            if (other.row, other.threads) == (ours.row, ours.threads) and other.precision in alike
            and not other.ours and other.median and not other.failure
        ]  # fmt: skip
        found.append(Line(ours, min(peers, key=lambda peer: peer.median or 0, default=None), machine))
    return found


def page(results: Sequence[Result], machine: Machine) -> str:
    """The whole page."""
    versions = {result.contestant.split()[0]: result.version for result in results if result.median}
    engines = ", ".join(f"{name} {version}" for name, version in versions.items())
    about = next((text for name, text in ABOUT.items() if CEILINGS[name] == machine.macs_per_cycle), About())
    head = HEAD.format(where=about.title, machine=machine.cpu, ghz=machine.ghz, engines=engines)
    parts = [head, about.plots]
    for threads in sorted({result.threads for result in results}):
        for networks in (False, True):
            chosen = [r for r in results if r.threads == threads and is_network(r.row) == networks]
            if chosen:
                what = "Networks" if networks else "Layers"
                parts.append(f"\n## {what}, {threads} thread{'s' if threads > 1 else ''}\n\n")
                parts.append(_table(lines(chosen, machine)))
    return "".join([*parts, about.reasons])


def _table(found: Sequence[Line]) -> str:
    def reached(line: Line) -> str:
        value = per_cycle(line.ours, line.machine)
        return "-" if value is None or not widths(line.ours) else f"{value:.0f}"

    def part(line: Line) -> str:
        value = share(line.ours, line.machine)
        return "-" if value is None else f"{value:.0%}"

    columns = {
        "row": lambda line: title(line.ours.row),
        "in": lambda line: line.ours.precision,
        "µs": lambda line: micros(line.ours.median),
        "MAC/cycle": reached,
        "of limit": part,
        "best peer": lambda line: "-" if line.peer is None else line.peer.contestant,
        "its µs": lambda line: "-" if line.peer is None else micros(line.peer.median),
        "times faster": lambda line: line.times,
    }
    return table(columns, found)


def read(path: Path) -> tuple[list[Result], Machine]:
    """What a run wrote."""
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return [Result(**each) for each in content["results"]], Machine(**content["machine"])


def latest(runs: Sequence[Sequence[Result]]) -> list[Result]:
    """The results of every row, those of the last run that has it, in the order in which rows first came."""
    rows: dict[tuple[str, int], Sequence[Result]] = {}
    for results in runs:
        for key in dict.fromkeys((result.row, result.threads) for result in results):
            rows[key] = [result for result in results if (result.row, result.threads) == key]
    return [result for found in rows.values() for result in found]


def main() -> int:
    """Write the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.performance_page", description=__doc__)
    parser.add_argument("results", nargs="+", type=Path, metavar="RESULTS.json")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="PAGE.md")
    options = parser.parse_args()
    runs = [read(path) for path in options.results]
    options.output.write_text(page(latest([results for results, _ in runs]), runs[-1][1]), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
