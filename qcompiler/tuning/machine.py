"""What is known of the machine on which a kernel was timed: the facts that decide whether its times hold elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from qcompiler.targets.architecture import host
from qcompiler.targets.target import Variant

_CPUINFO = Path("/proc/cpuinfo")
# fields of the first processor in /proc/cpuinfo by which its make is known: x86's, then ARM's, then RISC-V's
_FIELDS = (
    ("vendor_id", "cpu family", "model"),
    ("CPU implementer", "CPU part"),
    ("uarch",),
)
UNKNOWN = "unknown"


def machine_name(architecture: str, cpuinfo: str) -> str:
    """A processor family and the make of its CPU, as "x86_64/AuthenticAMD.25.17", from the text of /proc/cpuinfo."""
    first = cpuinfo.partition("\n\n")[0]
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in first.splitlines())}
    for names in _FIELDS:
        if all(name in fields for name in names):
            return f"{architecture}/{'.'.join(fields[name].replace(' ', '_') for name in names)}"
    return f"{architecture}/{UNKNOWN}"


def runnable(variants: Sequence[Variant]) -> Variant | None:
    """The most demanding of variants that this machine runs; None where it runs none."""
    if variants[0].architecture.name != host():
        return None
    words = set(_cpuinfo().replace(":", " ").split())
    return next((each for each in variants if all(feature.name in words for feature in each.features)), None)


def here() -> str:
    """The name of this machine."""
    return machine_name(host(), _cpuinfo())


def _cpuinfo() -> str:
    try:
        return _CPUINFO.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
