"""The training for a GPU, on a processor: narrow networks, as many epochs as fit, whole epochs kept, errors told."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from benchmarks import cuda_training
from qcompiler.train.config import load_config
from qcompiler.train.data import load_data
from qcompiler.train.results import find_runs

# oneDNN of torch 2.13 writes beyond arrays of convolutions of four channels on processors with AVX2 alone
TINY = ["dataset=digits", "batch_size=50", "width=8", "threads=1", "device=cpu"]
NAME = "cifar10_resnet18_narrow"


def trained(runs: Path, *more: str, minutes: str = "600") -> int:
    options = ["--minutes", minutes, "--networks", "resnet18", "-o", *TINY, *more]
    return cuda_training.main([str(runs), *options])


def log(runs: Path) -> dict[str, object]:
    (path,) = find_runs([runs])
    assert path.parent == runs / NAME / "seed0"
    found: dict[str, object] = json.loads(path.read_text())
    return found


def test_a_narrow_network_is_trained_and_tested_where_there_is_no_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cuda_training, "TIMED_S", 0.0)
    assert trained(tmp_path, "epochs=2") == 0
    assert capsys.readouterr().out.startswith("resnet18: test accuracy ")
    first = log(tmp_path)
    assert isinstance(first["test"], dict) and isinstance(first["epochs"], list) and len(first["epochs"]) == 2
    assert (tmp_path / NAME / "seed0" / "best.pt").exists()
    assert trained(tmp_path) == 0 and log(tmp_path) == first, "a finished run is left alone"


@pytest.mark.parametrize(("share_of_an_epoch", "epochs"), [(1 / 3.6, 3), (100.0, 1), (1e-6, 200)])
def test_epochs_are_those_that_fit(
    share_of_an_epoch: float, epochs: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hours, of which an epoch takes a part: what this machine takes besides does not count."""
    config, network = cuda_training.settings("resnet18", tmp_path, TINY)
    data = load_data(config.dataset, config.data_dir, config.validation)
    seconds = 1e5 * cuda_training.SHARE * share_of_an_epoch
    monkeypatch.setattr(cuda_training, "_step_seconds", lambda trainer, timed: seconds / len(trainer.batches))
    monkeypatch.setattr(cuda_training, "_seconds", lambda call: 0.0)
    assert cuda_training.fitted(config, network, data, time.monotonic() + 1e5).epochs == epochs


def test_when_the_time_is_over_whole_epochs_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cuda_training, "fitted", lambda config, *given: config)
    assert trained(tmp_path, "epochs=200", minutes="0.03") == 1
    said = "resnet18: the 0.03 minutes were over before the last epoch; whole epochs are kept"
    assert capsys.readouterr().err.splitlines()[-1].startswith(said)
    assert log(tmp_path)["test"] is None


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--minutes", "0"], "resnet18: --minutes 0; give a number above 0"),
        (["-o", "wdith=4"], "resnet18: command line: unknown key 'wdith'"),
        (["-o", "dataset=cifar10", "--data-dir", "nowhere"], "resnet18: "),
    ],
)
def test_errors_are_one_line(options: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cuda_training.main([str(tmp_path / "runs"), "--networks", "resnet18", *options]) == 1
    assert capsys.readouterr().err.startswith(said)


def test_recipes_share_the_widths_that_were_published() -> None:
    for recipe, published in (("binarynet", "binarynet"), ("xnornet", "xnornet"), ("resnet18", "resnet18")):
        short, long = (load_config(f"cifar10_{name}")[1] for name in (f"{published}_short", published))
        assert short == long and cuda_training.RECIPES[recipe].config == f"cifar10_{published}_short"
