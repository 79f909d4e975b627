"""Checkpoints: whole or not there, checked before they are believed, refused where they are of something else."""

from __future__ import annotations

import errno
import os
import pickle
import resource
import signal
import stat
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from qcompiler.errors import InvalidData, UsageError
from qcompiler.train.atomic import write_atomically
from qcompiler.train.checkpoint import Checkpoint, load_checkpoint
from qcompiler.train.config import TrainConfig
from qcompiler.train.runlog import EpochRecord

ROOT = Path(__file__).resolve().parents[2]


def checkpoint(epoch: int = 1, size: int = 3) -> Checkpoint:
    return Checkpoint(
        config={"network": "moons", "lr": 0.1, "threads": 1},
        shape=(1, 8, 8),
        classes=4,
        data="0" * 64,
        epoch=epoch,
        model={"weight": torch.full((size,), float(epoch))},
        best={"epoch": epoch, "accuracy": 0.5},
        epochs=[EpochRecord(epoch, 0.5, 0.5, 0.5, 0.1, 1.0)],
        wall_s=1.0,
        optimizer={"state": {0: {"step": torch.tensor(1.0)}}, "param_groups": [{"lr": 0.1, "betas": (0.9, 0.99)}]},
        rng=[{"torch": torch.get_rng_state()}],
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "last.pt"


@pytest.fixture
def small_files() -> Iterator[None]:
    """The disk refuses to make a file longer than 100 kB."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_what_is_saved_is_loaded(path: Path) -> None:
    saved = checkpoint()
    saved.save(path)
    loaded = load_checkpoint(path)
    assert torch.equal(loaded.model["weight"], saved.model["weight"])
    assert torch.equal(loaded.rng[0]["torch"], saved.rng[0]["torch"])
    assert loaded.optimizer == saved.optimizer
    plain = {"model": {}, "optimizer": None, "rng": None}
    assert replace(loaded, **plain) == replace(saved, **plain)
    assert os.listdir(path.parent) == ["last.pt"]


def test_disk_that_refuses_leaves_the_checkpoint_before(path: Path, small_files: None) -> None:
    checkpoint(1).save(path)
    with pytest.raises(UsageError, match=r"cannot write '.*last.pt': File too large; .*--resume"):
        checkpoint(2, size=200_000).save(path)
    assert load_checkpoint(path).epoch == 1
    assert os.listdir(path.parent) == ["last.pt"]


def test_full_disk_leaves_the_checkpoint_before(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint(1).save(path)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UsageError, match="No space left on device"):
        checkpoint(2).save(path)
    monkeypatch.undo()
    assert load_checkpoint(path).epoch == 1
    assert os.listdir(path.parent) == ["last.pt"]


def test_the_name_reaches_the_disk_after_the_bytes(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[tuple[bool, bool]] = []
    flush = os.fsync

    def watched(descriptor: int) -> None:
        flushed.append((stat.S_ISDIR(os.fstat(descriptor).st_mode), path.exists()))
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    write_atomically(path, lambda file: file.write(b"content"))
    assert flushed == [(False, False), (True, True)]


def test_interrupt_while_writing_leaves_the_file_before(path: Path) -> None:
    write_atomically(path, lambda file: file.write(b"before"))

    def interrupted(file: Any) -> None:
        file.write(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, interrupted)
    assert path.read_bytes() == b"before"
    assert os.listdir(path.parent) == ["last.pt"]


def test_unwritable_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot write .*file/last.pt"):
        checkpoint().save(tmp_path / "file" / "last.pt")


WRITER = """
import sys
from pathlib import Path
import torch
from tests.train.test_checkpoint import checkpoint
torch.set_num_threads(1)
epoch = 0
while True:
    epoch += 1
    checkpoint(epoch, size=300_000).save(Path(sys.argv[1]))
    if epoch == 1:
        print("ready", flush=True)
"""


def test_killed_writer_leaves_a_whole_checkpoint(path: Path) -> None:
    command = [sys.executable, "-c", WRITER, str(path)]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)}
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"ready\n"
        time.sleep(0.2)
        writer.send_signal(signal.SIGKILL)
    loaded = load_checkpoint(path)
    assert loaded.model["weight"].unique().tolist() == [float(loaded.epoch)]


def test_truncated_at_any_place(path: Path) -> None:
    checkpoint().save(path)
    content = path.read_bytes()
    for length in (0, 1, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(InvalidData, match="not a whole checkpoint"):
            load_checkpoint(path)


def test_flipped_bit_in_a_weight(path: Path) -> None:
    saved = checkpoint(1, size=1000)
    saved.save(path)
    content = bytearray(path.read_bytes())
    content[content.index(saved.model["weight"].numpy().tobytes()) + 400] ^= 1
    path.write_bytes(content)
    # torch itself does not look
    assert not torch.equal(torch.load(path, weights_only=True)["model"]["weight"], saved.model["weight"])
    with pytest.raises(InvalidData, match="checksum"):
        load_checkpoint(path)


class Hostile:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("hostile",)


def test_pickled_code_is_not_run(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parent)
    torch.save({"schema": 1, "model": Hostile()}, path)
    with pytest.raises(InvalidData):
        load_checkpoint(path)
    path.write_bytes(pickle.dumps(Hostile()))
    with pytest.raises(InvalidData):
        load_checkpoint(path)
    assert not Path("hostile").exists()


PAYLOAD: dict[str, Any] = {"schema": 1, **vars(checkpoint()), "epochs": []}


def test_payload_of_the_tests_below_is_good(path: Path) -> None:
    torch.save(PAYLOAD, path)
    assert load_checkpoint(path).epochs == []


@pytest.mark.parametrize(
    "payload",
    [
        [1, 2],
        {},
        {"schema": 2},
        {**PAYLOAD, "schema": 2},
        {"schema": 1, "model": {}},
        {**PAYLOAD, "model": 7},
        {**PAYLOAD, "config": {1: 2}},
        {**PAYLOAD, "shape": ["a"]},
        {**PAYLOAD, "epochs": [3]},
        {**PAYLOAD, "best": {}},
        {**PAYLOAD, "model": {"weight": 3}},
        {**PAYLOAD, "more": 7},
    ],
)
def test_other_content(path: Path, payload: Any) -> None:
    torch.save(payload, path)
    with pytest.raises(InvalidData):
        load_checkpoint(path)


def test_archive_of_something_else(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme", "no tensors here")
    with pytest.raises(InvalidData):
        load_checkpoint(path)


def test_missing_file_and_directory(tmp_path: Path) -> None:
    for path in (tmp_path / "none.pt", tmp_path):
        with pytest.raises(UsageError, match="cannot read checkpoint"):
            load_checkpoint(path)


def test_other_settings_are_named(path: Path) -> None:
    saved = checkpoint()
    saved.require_same({"network": "moons", "lr": 0.1, "threads": 2}, path)
    with pytest.raises(UsageError, match=r"made with lr=0.1, this run has lr=0.2; set lr back"):
        saved.require_same({"network": "moons", "lr": 0.2}, path)
    with pytest.raises(UsageError, match="made with more=nothing, this run has more=64"):
        saved.require_same({"network": "moons", "lr": 0.1, "more": 64}, path)


def test_settings_that_a_checkpoint_is_too_old_for_are_the_defaults(path: Path) -> None:
    """Checkpoints from before two stages and teachers were there go on as what they are."""
    saved = checkpoint()
    saved.require_same({"network": "moons", "lr": 0.1, "stages": 1, "distill": 0.0, "nfa": 64}, path)
    for key, other in (("stages", 2), ("distill", 0.5), ("nfa", 32)):
        with pytest.raises(UsageError, match=f"made with {key}=.*, this run has {key}={other}; set {key} back"):
            saved.require_same({"network": "moons", "lr": 0.1, key: other}, path)


def test_every_setting_that_decides_a_result_is_compared(path: Path) -> None:
    free = {"data_dir", "output", "device", "threads", "compile", "baseline"}
    flat = dict.fromkeys((field.name for field in fields(TrainConfig)), 1)
    saved = replace(checkpoint(), config=flat)
    for key in flat:
        if key in free:
            saved.require_same({**flat, key: 2}, path)
        else:
            with pytest.raises(UsageError, match=f"made with {key}=1, this run has {key}=2"):
                saved.require_same({**flat, key: 2}, path)


def test_weights_of_another_network_are_named(path: Path) -> None:
    with pytest.raises(UsageError, match=r"'bias' is missing, expected \(1,\)"):
        checkpoint().load_model(torch.nn.Linear(3, 1), path)
