"""Many networks in batches, each of them the same whenever it is drawn again; failures shrunk and saved."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnx
from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.fuzz import judge
from tests.fuzz.judge import Outcome
from tests.fuzz.net import Network
from tests.fuzz.networks import networks
from tests.fuzz.samples import samples

BATCH = 25
VARIANTS = ("avx2", "baseline", "avx512vpopcntdq", "avx512bw")
_MOST_TRIES = 400


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


def run_batch(start: int, batch: int) -> list[dict[str, object]]:
    """Judge the networks of a batch; records as dicts, for a process pool and for JSON."""
    records: dict[str, Record] = {}

    def one(network: Network) -> None:
        digest = digest_of(network)
        if digest not in records:
            variant = variant_of(digest)
            outcome = judge.judge(network, variant)
            records[digest] = Record(batch, digest, variant, outcome.kind, outcome.reason, outcome.detail)

    drawn(one, start, batch, (Phase.generate,))
    return [asdict(record) for record in records.values()]


def shrink(start: int, batch: int, wanted: Record, known: dict[str, tuple[str, str]]) -> Network:
    """The smallest network of the same outcome that Hypothesis finds from one of a batch.

    known: outcomes of the networks of the batch by digest, which need not be judged again.
    """
    failing: list[Network] = []
    tries = 0

    def one(network: Network) -> None:
        nonlocal tries
        digest = digest_of(network)
        if digest not in known and tries < _MOST_TRIES:
            outcome = judge.judge(network, wanted.variant)
            known[digest] = outcome.kind, outcome.reason
            tries += 1
        if known.get(digest) == wanted.key:
            failing.append(network)
            raise AssertionError(wanted.reason)

    with contextlib.suppress(AssertionError):
        drawn(one, start, batch, (Phase.generate, Phase.shrink))
    return min(failing, key=size_of)


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


def variant_of(digest: str) -> str:
    """The instruction-set variant that a network is compiled for."""
    return VARIANTS[int(digest, 16) % len(VARIANTS)]


def size_of(network: Network) -> tuple[int, int]:
    """Number of nodes, then bytes."""
    return len(network.model.graph.node), network.model.ByteSize()


def save(network: Network, outcome: Outcome | Record, folder: Path, name: str) -> Path:
    """Write NAME.onnx, NAME.npz with all samples stacked, as `qcompile --inputs` reads them, and NAME.txt."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.onnx"
    onnx.save(network.model, path)
    given_ = samples(network)
    stacked = {key: np.concatenate([sample[key] for sample in given_]) for key in given_[0]}
    np.savez(path.with_suffix(".npz"), **stacked)
    text = f"{outcome.kind}: {outcome.reason}\n{outcome.detail}\n\n{onnx.printer.to_text(network.model)}\n"
    path.with_suffix(".txt").write_text(text, encoding="utf-8")
    return path
