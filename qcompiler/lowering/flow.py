"""Which steps read what other steps wrote, for people who look at the network."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from qcompiler.lowering.work import External, Location, Work, place_of, reads_of


@dataclass(frozen=True)
class Flow:
    """Numbers of the steps whose results a step reads, and of the network inputs that it reads."""

    steps: tuple[int, ...]
    inputs: tuple[int, ...]


def flows(works: Sequence[Work]) -> list[Flow]:
    """Of every work, in order; a slot that several works fill comes from all of them."""
    writers: defaultdict[Location, list[int]] = defaultdict(list)
    result = []
    for index, work in enumerate(works):
        places = [place_of(item) for item in reads_of(work)]
        steps = {writer for place in places for writer in writers[place]}
        inputs = {place.position for place in places if isinstance(place, External) and place.kind == "input"}
        result.append(Flow(tuple(sorted(steps)), tuple(sorted(inputs))))
        for item in work.writes:
            writers[place_of(item)].append(index)
    return result
