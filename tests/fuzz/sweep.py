"""Many networks in batches, each of them the same whenever it is drawn again; failures cut down."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass

from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.fuzz import judge
from tests.fuzz.case import Case, case_of, reduced
from tests.fuzz.net import Network
from tests.fuzz.networks import networks

BATCH = 25


@dataclass(frozen=True)
class Record:
    """The outcome of one network of a batch; `digest` names the network."""

    batch: int
    digest: str
    variant: str
    kind: str
    reason: str
    detail: str

    @property
    def key(self) -> tuple[str, str]:
        return self.kind, self.reason


def run_batch(
    start: int, batch: int, whole: bool = False, target: str = "x86", every: int = 1
) -> list[dict[str, object]]:
    """Judge the networks of a batch; records as dicts, for a process pool and for JSON.

    whole: compile as a user does, with verification, instead of comparing here. every: judge one network in so many.
    """
    judged = judge.judge_compile if whole else judge.judge
    records: dict[str, Record] = {}

    def one(network: Network) -> None:
        digest = digest_of(network)
        if digest not in records and is_chosen(digest, every):
            variant = variant_of(digest, target)
            outcome = judged(case_of(network), variant)
            records[digest] = Record(batch, digest, variant, outcome.kind, outcome.reason, outcome.detail)

    drawn(one, start, batch, (Phase.generate,))
    return [asdict(record) for record in records.values()]


def reduce(start: int, wanted: Record) -> Case:
    """A network of a batch, cut down to what still comes out as the record says."""
    found: list[Network] = []

    def one(network: Network) -> None:
        if not found and digest_of(network) == wanted.digest:
            found.append(network)

    drawn(one, start, wanted.batch, (Phase.generate,))
    return reduced(case_of(found[0]), lambda case: _still(case, wanted))


def _still(case: Case, wanted: Record) -> bool:
    """Whether a case comes out as wanted; where wrong results come from is not asked again."""
    if wanted.kind == "unverified":
        return judge.judge_compile(case, wanted.variant).kind == wanted.kind
    outcome = judge.judge(case, wanted.variant, explain=False)
    return outcome.kind == wanted.kind and outcome.kind in ("wrong", "crash") or outcome.reason == wanted.reason


def drawn(test: Callable[[Network], None], start: int, batch: int, phases: tuple[Phase, ...]) -> None:
    """Give the networks of a batch to `test`, the same ones for the same numbers."""
    options = settings(
        max_examples=BATCH,
        phases=phases,
        database=None,
        deadline=None,
        report_multiple_bugs=False,
        print_blob=False,
        suppress_health_check=list(HealthCheck),
    )
    seed(start * 1_000_003 + batch)(options(given(networks())(test)))()


def digest_of(network: Network) -> str:
    """A name for the network: equal files, equal names."""
    return hashlib.sha256(network.model.SerializeToString(deterministic=True)).hexdigest()[:16]


def variant_of(digest: str, target: str = "x86") -> str:
    """The instruction-set variant that a network is compiled for."""
    variants = judge.VARIANTS[target]
    return variants[int(digest, 16) % len(variants)]


def is_chosen(digest: str, every: int) -> bool:
    """True for one network in `every`."""
    return int(digest[:8], 16) % every == 0
