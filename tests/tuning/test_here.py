"""Trials on this machine: what is right is timed, and what dies, hangs or is wrong is told apart."""

from __future__ import annotations

import os
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import qcompiler
from qcompiler.child import Child, ChildLost
from qcompiler.errors import UsageError
from qcompiler.targets.target import Constants
from qcompiler.tuning import database
from qcompiler.tuning.builder import Builder
from qcompiler.tuning.here import Here
from qcompiler.tuning.machine import machine_name
from qcompiler.tuning.record import NetworkRecord
from qcompiler.tuning.search import Search
from qcompiler.tuning.trial import PlaceLost, Timed, Trial, Wrong
from tests.networks import lenet
from tests.tuning.test_fleet import task


def ones() -> Constants:
    return Constants(weights=np.ones((16, 32, 1, 1), np.float32))


def test_right_results_are_timed_wrong_ones_are_not_and_a_crash_ends_the_process_alone(tmp_path: Path) -> None:
    search = Search([replace(task(32), constants=ones())], 2, {})
    (candidate, *_) = search.waiting
    place = Here(patience=2)
    try:
        with Builder() as builder:
            trial = builder.trial([candidate], 3)
            (subject,) = trial.subjects
            (timed,) = place.run(trial)
            assert isinstance(timed, Timed) and len(timed.rounds) == 3 and 0 < timed.nanoseconds < 1e7
            altered = replace(subject, expected=(subject.expected[0] + 1,))
            both = place.run(Trial((altered, subject), 3))
            assert both[0] == Wrong("output 0 differs from the reference") and isinstance(both[1], Timed)
            for body, reason in (("__builtin_trap();", "died of SIG"), ("for (;;) ;", "no answer within 2 s")):
                source = tmp_path / "bad.c"
                source.write_text(f"int trial_run(void) {{ {body} return 0; }} void trial_time(void) {{}}")
                library = tmp_path / f"bad{len(body)}.so"
                subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
                with pytest.raises(PlaceLost, match=reason):
                    place.run(Trial((replace(subject, library=library),), 3))
            assert isinstance(place.run(trial)[0], Timed)
    finally:
        place.close()


def test_a_child_sends_back_what_functions_raise_and_may_be_closed_while_it_works() -> None:
    child = Child()
    assert child.ask(os.path.join, "a", "b", seconds=20) == "a/b"
    with pytest.raises(ZeroDivisionError):
        child.ask(divmod, 1, 0, seconds=20)
    with pytest.raises(ChildLost, match="no answer within 0 s"):
        child.ask(time.sleep, 60, seconds=0.1)
    child.close()
    with pytest.raises(ChildLost, match="it was ended"):
        child.ask(os.getpid, seconds=20)


def test_names_of_machines() -> None:
    x86 = "processor\t: 0\nvendor_id\t: AuthenticAMD\ncpu family\t: 25\nmodel\t\t: 17\n\nprocessor\t: 1\nmodel\t: 99\n"
    arm = "processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd08\n"
    assert machine_name("x86_64", x86) == "x86_64/AuthenticAMD.25.17"
    assert machine_name("aarch64", arm) == "aarch64/0x41.0xd08"
    assert machine_name("aarch64", "") == "aarch64/unknown"


@pytest.mark.parametrize(("ratio", "goes_on"), [(1.0, False), (0.5, False), (5.0, True)])
def test_a_search_stops_where_the_gain_left_is_below_the_noise(ratio: float, goes_on: bool) -> None:
    search = Search([task(96)], 100, {})
    (first,) = search.next_candidates()
    search.add(first, first.expected * ratio, 0.01, 5)
    assert bool(search.next_candidates(take=False)) == goes_on
    assert search.best is first and search.done != goes_on


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of records of a small network, which was compiled with them."""
    folder = tmp_path_factory.mktemp("tuned")
    says: list[str] = []
    qcompiler.compile(
        lenet(folder / "lenet.onnx"), mcpu=("baseline",), output=folder / "out", tune=2, tune_db=folder / "db",
        progress=says.append,
    )  # fmt: skip
    assert any("kernels timed; timing whole networks" in line for line in says)
    return folder


def test_a_compile_tunes_and_the_next_one_repeats_nothing(tuned: Path) -> None:
    before = database.read(tuned / "db")
    kernels = list(before.kernels())
    (network,) = (each for each in before.records if isinstance(each, NetworkRecord))
    assert kernels and network.nanoseconds <= network.default_nanoseconds * 1.01
    says: list[str] = []
    options: dict[str, Any] = {"mcpu": ("baseline",), "force": True, "verify": False, "tune_db": tuned / "db"}
    bundle = qcompiler.compile(tuned / "lenet.onnx", output=tuned / "out", tune=2, progress=says.append, **options)
    assert "0 kernels timed; timing whole networks" in says
    assert list(database.read(tuned / "db").kernels()) == kernels
    assert bundle.run({t.name: np.zeros(t.shape, t.dtype) for t in bundle.inputs})


def test_a_kernel_that_is_none_any_more_is_reported(tuned: Path) -> None:
    path = tuned / "old"
    records = [
        replace(each, kernel="kernel_of_old") if not isinstance(each, NetworkRecord) else replace(each, choice="all")
        for each in database.read(tuned / "db").records
    ]
    database.append(path, records)
    says: list[str] = []
    qcompiler.compile(
        tuned / "lenet.onnx",
        mcpu=("baseline",),
        output=tuned / "again",
        tune_db=path,
        progress=says.append,
        verify=False,
    )
    assert any("names kernel_of_old, which is no kernel for its problem any more" in line for line in says)


def test_options_that_cannot_be(tuned: Path, tmp_path: Path) -> None:
    model = tuned / "lenet.onnx"
    with pytest.raises(UsageError, match="--tune 0: expected 1 to 10000"):
        qcompiler.compile(model, output=tmp_path / "o", tune=0)
    with pytest.raises(UsageError, match="this machine runs none of .* of aarch64.*; tune on a device"):
        qcompiler.compile(model, "arm", mcpu=("generic",), output=tmp_path / "o", tune=1)
    with pytest.raises(UsageError, match="cannot read '.*none': No such file"):
        qcompiler.compile(model, output=tmp_path / "o", tune_db=tmp_path / "none")
    (tmp_path / "db").write_bytes(b"{\n")
    says: list[str] = []
    qcompiler.compile(
        model, mcpu=("baseline",), output=tmp_path / "o", tune_db=tmp_path / "db", progress=says.append, verify=False
    )
    text = "\n".join(says)
    assert "1 line is skipped (line 1 is not JSON)" in text and "holds no record for baseline: default kernels" in text
