"""The training for a GPU, on a processor: narrow networks, as many epochs as fit, whole epochs kept, errors told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import cuda_training
from qcompiler.train.config import load_config
from qcompiler.train.results import find_runs

TINY = ["dataset=digits", "batch_size=50", "width=4", "threads=1", "device=cpu"]
NAME = "cifar10_resnet18_narrow"


def trained(runs: Path, *more: str, minutes: str = "0.2") -> int:
    options = ["--minutes", minutes, "--networks", "resnet18", "-o", *TINY, *more]
    return cuda_training.main([str(runs), *options])


def log(runs: Path) -> dict[str, object]:
    (path,) = find_runs([runs])
    assert path.parent == runs / NAME / "seed0"
    found: dict[str, object] = json.loads(path.read_text())
    return found


def test_a_narrow_network_is_trained_and_tested_where_there_is_no_gpu(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert trained(tmp_path, "epochs=2") == 0
    assert capsys.readouterr().out.startswith("resnet18: test accuracy ")
    first = log(tmp_path)
    assert isinstance(first["test"], dict) and isinstance(first["epochs"], list) and len(first["epochs"]) == 2
    assert (tmp_path / NAME / "seed0" / "best.pt").exists()
    assert trained(tmp_path) == 0 and log(tmp_path) == first, "a finished run is left alone"


def test_epochs_are_those_that_fit(tmp_path: Path) -> None:
    assert trained(tmp_path, minutes="0.05") == 0
    config, _ = load_config(tmp_path / NAME / "seed0")
    epochs = log(tmp_path)["epochs"]
    assert isinstance(epochs, list) and 1 <= len(epochs) == config.epochs < 200


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
