"""The symbols of ELF files, from the listings of readelf, which loads no linker plugins as nm does at every start."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

# number: value size type binding visibility [what a processor family adds] section name@version
_LINE = re.compile(r"\s*\d+:\s+[0-9a-f]+\s+\S+\s+\S+\s+(\S+)\s+\S+\s+(?:\[[^]]*\]\s+)?(\S+)\s+([^\s@]+)")
_LOCAL, _WEAK, _UNDEFINED = "LOCAL", "WEAK", "UND"


@dataclass(frozen=True)
class Symbol:
    """A global symbol that a file defines, or needs from elsewhere; without a weak one it does."""

    name: str
    defined: bool
    weak: bool


def parse(listing: str) -> Iterator[Symbol]:
    """The global symbols in what `readelf --syms --wide` or `readelf --dyn-syms --wide` prints."""
    for binding, section, name in (match.groups() for match in map(_LINE.match, listing.splitlines()) if match):
        if binding != _LOCAL:
            yield Symbol(name, section != _UNDEFINED, binding == _WEAK)
