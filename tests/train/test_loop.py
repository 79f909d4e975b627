"""The training loop: what it keeps, how it ends, and how it goes on."""

from __future__ import annotations

import os
import platform
import random
import resource
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from qcompiler.errors import InvalidData, UsageError
from qcompiler.train import checkpoint, loop, runlog
from qcompiler.train.atomic import write_atomically
from qcompiler.train.checkpoint import load_checkpoint
from qcompiler.train.config import TrainConfig
from qcompiler.train.data import Data, Split
from qcompiler.train.evaluate import evaluate
from qcompiler.train.loop import EVENTS, run_directory, train
from qcompiler.train.networks import Network
from qcompiler.train.progress import Quiet
from qcompiler.train.runlog import EpochRecord, RunLog
from qcompiler.train.trainer import Trainer
from qcompiler.version import version
from tests.train import files
from tests.train.tiny import config, conv, data, mlp, split


class AtStep(Quiet):
    """Does something after the step of a number, counted over all epochs."""

    def __init__(self, number: int, action: Callable[[], None]) -> None:
        self.left = number
        self.action = action

    def step(self) -> None:
        self.left -= 1
        if not self.left:
            self.action()


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def disturb_generators() -> None:
    """As a new process would: every generator stands elsewhere."""
    torch.manual_seed(12345)
    np.random.seed(54321)
    random.seed(99)


def assert_same(first: Any, second: Any, where: str = "checkpoint") -> None:
    """Equal bit for bit, times apart."""
    assert type(first) is type(second), where
    if isinstance(first, torch.Tensor):
        assert first.dtype == second.dtype and torch.equal(first, second), where
    elif isinstance(first, dict):
        assert first.keys() == second.keys(), where
        for key in first:
            if key not in ("wall_s", "seconds", "output"):
                assert_same(first[key], second[key], f"{where}.{key}")
    elif isinstance(first, list | tuple):
        assert len(first) == len(second), where
        for index, pair in enumerate(zip(first, second, strict=True)):
            assert_same(*pair, f"{where}[{index}]")
    else:
        assert first == second, where


def assert_same_run(first: TrainConfig, second: TrainConfig) -> None:
    for name in ("last.pt", "best.pt"):
        states = [torch.load(run_directory(each) / name, weights_only=True) for each in (first, second)]
        assert_same(*states, name)
    logs = [vars(RunLog.read(run_directory(each))) for each in (first, second)]
    for log in logs:
        log["epochs"] = [vars(each) for each in log["epochs"]]
    assert_same(*logs, "run.json")


HARD: dict[str, Any] = {"augment": "flip_shift", "shift": 1, "scale_updates": True}
RUNS: dict[str, tuple[Network, dict[str, Any]]] = {
    "adam": (mlp(), HARD),
    "sgd": (conv(), {**HARD, "optimizer": "sgd", "amp": "bf16", "schedule": "onecycle", "recalibrate": True}),
    "stages": (conv(), {**HARD, "stages": 2, "distill": 0.5, "schedule": "cosine"}),
}


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("steps", [3, 5, 12, 15])
def test_resumed_run_equals_an_uninterrupted_one(tmp_path: Path, run: str, steps: int) -> None:
    network, settings = RUNS[run]
    whole = config(tmp_path / "whole", network, **settings)
    parts = config(tmp_path / "parts", network, **settings)
    assert train(whole, network, data=data()).finished

    log = train(parts, network, data=data(), progress=AtStep(steps, interrupt))
    # five steps an epoch; a wish that comes with an epoch's last step is heard after it, even before the test
    assert len(log.epochs) == steps // 5
    assert not log.finished
    disturb_generators()
    assert train(parts, network, data=data(), resume=True).finished
    assert_same_run(whole, parts)


def test_runs_of_one_seed_are_equal_and_of_two_are_not(tmp_path: Path) -> None:
    first, second = config(tmp_path / "a", epochs=1), config(tmp_path / "b", epochs=1)
    for each in (first, second):
        train(each, mlp(), data=data())
        disturb_generators()
    assert_same_run(first, second)
    other = train(replace(first, seed=1), mlp(), data=data())
    assert other.epochs[0].loss != RunLog.read(run_directory(first)).epochs[0].loss


def test_full_disk_loses_no_checkpoint(tmp_path: Path) -> None:
    network = mlp(hidden=64)
    whole, parts = config(tmp_path / "whole", network), config(tmp_path / "parts", network)
    train(whole, network, data=data())
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill_disk() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))

    try:
        with pytest.raises(UsageError, match="cannot write .*pt': File too large"):
            train(parts, network, data=data(), progress=AtStep(7, fill_disk))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert load_checkpoint(run_directory(parts) / "last.pt").epoch == 1
    assert train(parts, network, data=data(), resume=True).finished
    assert_same_run(whole, parts)


@pytest.mark.parametrize("number", [1, 6, 7, 8, 11])
def test_any_failed_write_leaves_a_run_to_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """The writes: config, log; of two epochs best model, state, log, of the third state and log; the tested log."""
    # the second epoch is the best, so that no later one makes up for its model
    accuracies = {5: 0.5, 10: 0.7, 15: 0.6}
    monkeypatch.setattr(Trainer, "validate", lambda trainer: accuracies[trainer.scheduler.last_epoch])
    whole, parts = config(tmp_path / "whole"), config(tmp_path / "parts")
    train(whole, mlp(), data=data())
    left = iter(range(number - 1, -1, -1))

    def fails_once(path: Path, write: Callable[..., object]) -> None:
        if not next(left, 1):
            raise UsageError(f"cannot write '{path}'")
        write_atomically(path, write)

    for module in (loop, checkpoint, runlog):
        monkeypatch.setattr(module, "write_atomically", fails_once)
    with pytest.raises(UsageError, match="cannot write"):
        train(parts, mlp(), data=data())
    assert train(parts, mlp(), data=data(), resume=True).finished
    assert_same_run(whole, parts)


def test_test_set_is_touched_once(tmp_path: Path) -> None:
    chosen = config(tmp_path, epochs=1)
    log = train(chosen, mlp(), data=data())
    assert log.test is not None and log.test["images"] == 41
    # a second look would not find the same accuracy
    shuffled = replace(data(), test=Split(split(41, 3).images, split(41, 4).labels))
    assert train(chosen, mlp(), data=shuffled, resume=True) == log == RunLog.read(run_directory(chosen))


def test_best_model_is_the_one_tested(tmp_path: Path) -> None:
    chosen = config(tmp_path, conv(), epochs=4, lr=0.03)
    log = train(chosen, conv(), data=data())
    accuracies = [each.validation_accuracy for each in log.epochs]
    assert log.best_epoch == 1 + accuracies.index(max(accuracies))
    assert log.validation_accuracy == max(accuracies)
    assert evaluate(run_directory(chosen), data().validation) == log.validation_accuracy
    assert log.test is not None
    assert evaluate(run_directory(chosen) / "best.pt", data().test) == log.test["accuracy"]


class WeightsUnderTest:
    """Weights of the model that a trainer tests."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.state: dict[str, torch.Tensor] = {}
        test = Trainer.test

        def watched(trainer: Trainer) -> float:
            self.state = {key: value.clone() for key, value in trainer.model.state_dict().items()}
            return test(trainer)

        monkeypatch.setattr(Trainer, "test", watched)

    def are_of(self, path: Path) -> bool:
        model = load_checkpoint(path).model
        return all(torch.equal(model[key], self.state[key]) for key in model)


def test_first_of_the_best_epochs_is_kept_and_tested(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    accuracies = {5: 0.5, 10: 0.7, 15: 0.7, 20: 0.6}
    monkeypatch.setattr(Trainer, "validate", lambda trainer: accuracies[trainer.scheduler.last_epoch])
    tested = WeightsUnderTest(monkeypatch)
    chosen = config(tmp_path, epochs=4)
    log = train(chosen, mlp(), data=data())
    assert (log.best_epoch, log.validation_accuracy) == (2, 0.7)
    directory = run_directory(chosen)
    assert load_checkpoint(directory / "best.pt").epoch == 2
    assert tested.are_of(directory / "best.pt") and not tested.are_of(directory / "last.pt")


@pytest.mark.parametrize("recalibrated", [0.4, 0.5, 0.6])
def test_recalibrated_statistics_are_kept_where_they_are_not_worse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recalibrated: float
) -> None:
    accuracies = iter([0.5, recalibrated])
    monkeypatch.setattr(Trainer, "validate", lambda trainer: next(accuracies))
    tested = WeightsUnderTest(monkeypatch)
    chosen = config(tmp_path, conv(), epochs=1, recalibrate=True)
    log = train(chosen, conv(), data=data())
    directory = run_directory(chosen)
    assert tested.are_of(directory / "best.pt")
    assert tested.are_of(directory / "last.pt") == (recalibrated < 0.5)
    assert log.validation_accuracy == max(0.5, recalibrated)


def test_network_learns(tmp_path: Path) -> None:
    network = mlp(hidden=64, stochastic=False, dropout_hidden=0.0, head="batchnorm")
    log = train(config(tmp_path, network, epochs=2), network, data=data())
    assert log.test is not None and log.test["accuracy"] > 0.9


def test_float_twin_is_trained_beside(tmp_path: Path) -> None:
    chosen = config(tmp_path, epochs=2, baseline=True)
    log = train(chosen, mlp(), data=data())
    twin = RunLog.read(run_directory(chosen) / "baseline")
    assert twin.test is not None and log.baseline is not None
    assert twin.config["weights"] == "float"
    assert {**twin.config, "weights": "binary"} == {
        **log.config,
        "activation": twin.config["activation"],
        "stochastic": False,
        "baseline": False,
    }
    assert log.baseline["test_accuracy"] == twin.test["accuracy"]
    assert log.baseline["validation_accuracy"] == twin.validation_accuracy
    assert log.baseline["epochs"] == 2
    assert log.baseline["wall_s"] == twin.wall_s


def test_interrupted_twin_goes_on(tmp_path: Path) -> None:
    chosen = config(tmp_path, epochs=2, baseline=True)
    log = train(chosen, mlp(), data=data(), progress=AtStep(17, interrupt))
    assert log.tested and not log.finished
    resumed = train(chosen, mlp(), data=data(), resume=True)
    assert resumed.finished
    assert resumed.test == log.test


@pytest.mark.parametrize(("filters", "rate", "better"), [(8, 0.01, True), (4, 1e-6, False)])
def test_recalibration_keeps_the_better_statistics(tmp_path: Path, filters: int, rate: float, better: bool) -> None:
    network = conv(nfa=filters, nfb=filters, nfc=filters)
    chosen = config(tmp_path, network, epochs=1, lr=rate, lr_final=1e-7)
    plain = train(chosen, network, data=data())
    fresh = replace(chosen, name="fresh", recalibrate=True)
    log = train(fresh, network, data=data())
    means = [
        next(value for key, value in load_checkpoint(run_directory(each) / "best.pt").model.items() if "mean" in key)
        for each in (chosen, fresh)
    ]
    assert (log.validation_accuracy > plain.validation_accuracy) == better
    assert torch.equal(*means) != better
    assert evaluate(run_directory(fresh), data().validation) == log.validation_accuracy


def test_run_is_not_overwritten(tmp_path: Path) -> None:
    train(config(tmp_path, epochs=1), mlp(), data=data())
    with pytest.raises(UsageError, match="seed0' holds a run already; go on with --resume"):
        train(config(tmp_path, epochs=1), mlp(), data=data())


def test_twin_is_not_overwritten(tmp_path: Path) -> None:
    chosen = config(tmp_path, epochs=1, baseline=True)
    train(chosen, mlp(), data=data())
    (run_directory(chosen) / "last.pt").unlink()
    with pytest.raises(UsageError, match="baseline' holds a run already"):
        train(chosen, mlp(), data=data())


@pytest.mark.parametrize(
    ("network", "settings", "message"),
    [
        (mlp(), {"lr": 0.5}, "made with lr=0.01, this run has lr=0.5"),
        (mlp(), {"epochs": 9}, "made with epochs=1, this run has epochs=9"),
        (mlp(hidden=8), {}, "made with hidden=16, this run has hidden=8"),
        (conv(), {"network": "moons"}, "made with .*=.*, this run has"),
    ],
)
def test_checkpoint_of_another_run_is_refused(
    tmp_path: Path, network: Network, settings: dict[str, Any], message: str
) -> None:
    chosen = config(tmp_path, epochs=1)
    train(chosen, mlp(), data=data())
    with pytest.raises(UsageError, match=message):
        train(replace(chosen, **settings), network, data=data(), resume=True)


def test_checkpoint_of_other_data_is_refused(tmp_path: Path) -> None:
    train(config(tmp_path, epochs=1), mlp(), data=data())
    with pytest.raises(UsageError, match="made with other images or labels"):
        train(config(tmp_path, epochs=1), mlp(), data=data(train=170), resume=True)


@pytest.mark.parametrize("name", ["last.pt", "run.json"])
def test_damaged_files_of_a_run(tmp_path: Path, name: str) -> None:
    chosen = config(tmp_path, epochs=1)
    train(chosen, mlp(), data=data())
    path = run_directory(chosen) / name
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(InvalidData, match="not a whole"):
        train(chosen, mlp(), data=data(), resume=True)


def test_checkpoint_without_the_state_of_a_training(tmp_path: Path) -> None:
    chosen = config(tmp_path, epochs=1)
    train(chosen, mlp(), data=data())
    directory = run_directory(chosen)
    os.replace(directory / "best.pt", directory / "last.pt")
    with pytest.raises(InvalidData, match="does not hold the state of a training"):
        train(chosen, mlp(), data=data(), resume=True)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"epoch": 9}, InvalidData, "best.pt' is of epoch 9, the best epoch is 1"),
        ({"config": {"network": "moons"}}, UsageError, "best.pt' was made with .*=nothing"),
    ],
)
def test_best_model_of_another_run(
    tmp_path: Path, changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    chosen = config(tmp_path, epochs=1)
    train(chosen, mlp(), data=data(), progress=AtStep(5, interrupt))
    path = run_directory(chosen) / "best.pt"
    replace(load_checkpoint(path), **changes).save(path)
    with pytest.raises(error, match=message):
        train(chosen, mlp(), data=data(), resume=True)


def test_loss_that_is_not_finite(tmp_path: Path) -> None:
    network = mlp(weights="float", stochastic=False)
    with pytest.raises(UsageError, match="the loss of epoch 1 is .*; train with a lower lr"):
        train(config(tmp_path, network, lr=1e38), network, data=data())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"amp": "fp16"}, "amp=fp16 needs a GPU"),
        ({"amp": "fp8"}, "unknown amp 'fp8'"),
        ({"batch_size": 161}, "batch_size is 161, expected 1 to the 160 training images"),
        ({"augment": "mixup"}, "unknown augment 'mixup'"),
    ],
)
def test_settings_that_cannot_be(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        train(config(tmp_path, **settings), mlp(), data=data())


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is there")
def test_missing_gpu(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="device is cuda, but torch finds no GPU"):
        train(config(tmp_path, device="cuda"), mlp(), data=data())


def test_callers_settings_are_left_as_they_were(tmp_path: Path) -> None:
    threads, handler = torch.get_num_threads(), signal.getsignal(signal.SIGINT)
    inside: list[tuple[int, bool]] = []
    chosen = config(tmp_path, epochs=1, threads=2 if threads == 1 else 1)

    def look() -> None:
        inside.append((torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()))

    train(chosen, mlp(), data=data(), progress=AtStep(1, look))
    assert inside == [(chosen.threads, True)]
    assert torch.get_num_threads() == threads
    assert signal.getsignal(signal.SIGINT) is handler
    assert not torch.are_deterministic_algorithms_enabled()


def test_second_interrupt_ends_at_once(tmp_path: Path) -> None:
    def twice() -> None:
        interrupt()
        interrupt()

    with pytest.raises(KeyboardInterrupt):
        train(config(tmp_path), mlp(), data=data(), progress=AtStep(7, twice))
    assert load_checkpoint(run_directory(config(tmp_path)) / "last.pt").epoch == 1


def test_termination_is_a_wish_too(tmp_path: Path) -> None:
    def twice() -> None:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGTERM)

    log = train(config(tmp_path), mlp(), data=data(), progress=AtStep(7, twice))
    assert len(log.epochs) == 1 and not log.finished


def test_training_outside_of_the_main_thread(tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as executor:
        log = executor.submit(train, config(tmp_path, epochs=1), mlp(), data=data()).result()
    assert log.finished


class Told(Quiet):
    def __init__(self) -> None:
        self.calls: list[Any] = []

    def start(self, name: str, epochs: int, steps: int, done: int) -> None:
        self.calls.append((name, epochs, steps, done))

    def step(self) -> None:
        self.calls.append("step")

    def epoch(self, record: EpochRecord, best: bool) -> None:
        self.calls.append((record.epoch, best))

    def stop(self) -> None:
        self.calls.append("stop")


def test_progress_is_told(tmp_path: Path) -> None:
    told = Told()
    train(config(tmp_path, epochs=1), mlp(), data=data(), progress=told)
    assert told.calls == [("tiny", 1, 5, 0), *["step"] * 5, (1, True), "stop"]


def test_resumed_run_counts_what_was_done(tmp_path: Path) -> None:
    chosen = config(tmp_path, epochs=2)
    train(chosen, mlp(), data=data(), progress=AtStep(5, interrupt))
    path = run_directory(chosen) / "last.pt"
    replace(load_checkpoint(path), wall_s=1000.0).save(path)
    told = Told()
    log = train(chosen, mlp(), data=data(), resume=True, progress=told)
    assert 1000 < log.wall_s < 1500
    assert told.calls[0] == ("tiny", 2, 5, 1)


def test_images_are_loaded_in_the_size_of_the_config(tmp_path: Path) -> None:
    files.write_images(tmp_path / "data")
    settings = {"dataset": "images", "image_size": 8, "data_dir": str(tmp_path / "data"), "validation": 2}
    chosen = config(tmp_path, conv(), epochs=1, batch_size=4, **settings)
    train(chosen, conv())
    assert load_checkpoint(run_directory(chosen) / "best.pt").shape == (3, 8, 8)


def test_tensorboard_has_every_epoch_once(tmp_path: Path) -> None:
    chosen = config(tmp_path)
    train(chosen, mlp(), data=data(), progress=AtStep(8, interrupt))
    train(chosen, mlp(), data=data(), resume=True)
    # once more from the start: what the first run has shown goes away
    (run_directory(chosen) / "last.pt").unlink()
    log = train(chosen, mlp(), data=data())
    assert len(list(run_directory(chosen).glob(EVENTS))) == 1
    events = EventAccumulator(str(run_directory(chosen)))
    events.Reload()
    for tag, field in {
        "loss": "loss",
        "accuracy/train": "train_accuracy",
        "accuracy/validation": "validation_accuracy",
        "lr": "lr",
    }.items():
        scalars = events.Scalars(tag)
        assert [each.step for each in scalars] == [1, 2, 3]
        assert [each.value for each in scalars] == pytest.approx([getattr(each, field) for each in log.epochs])
    layers = [name for name, layer in mlp().build((1, 8, 8), 4).named_modules() if hasattr(layer, "in_features")]
    assert events.Tags()["histograms"] == [f"weights/{name}" for name in layers] and layers
    weights = load_checkpoint(run_directory(chosen) / "last.pt").model[f"{layers[0]}.weight"]
    last = events.Histograms(f"weights/{layers[0]}")[-1]
    assert last.step == 3 and last.histogram_value.num == weights.numel()
    assert last.histogram_value.max == pytest.approx(float(weights.max()))


def test_the_end_of_a_run_is_told_once_it_is_whole(tmp_path: Path) -> None:
    told: list[tuple[Path, int]] = []

    def finished(directory: Path, images: Data) -> None:
        assert RunLog.read(directory).finished
        told.append((directory, len(images.test)))

    chosen = config(tmp_path, epochs=2, baseline=True)
    train(chosen, mlp(), data=data(), progress=AtStep(8, interrupt), finished=finished)
    assert told == []
    train(chosen, mlp(), data=data(), resume=True, finished=finished)
    assert told == [(run_directory(chosen), 41)]


def test_log_says_what_happened_where(tmp_path: Path) -> None:
    chosen = config(tmp_path, epochs=2)
    log = train(chosen, mlp(), data=data())
    assert RunLog.read(run_directory(chosen)) == log
    assert log.hardware["device"] == "cpu" and log.hardware["threads"] == 1 and log.hardware["cores"] >= 1
    assert log.versions == {
        "python": platform.python_version(),
        "qcompiler": version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }
    assert log.data == {"name": "mnist", "version": "tiny", "sha256": data().sha256}
    assert log.parameters == sum(each.numel() for each in mlp().build((1, 8, 8), 4).parameters())
    assert [each.lr for each in log.epochs] == pytest.approx([0.01, 0.01 * 1e-4**0.5])
    assert 0 < sum(each.seconds for each in log.epochs) <= log.wall_s


@pytest.mark.slow
def test_compiled_network_trains(tmp_path: Path) -> None:
    network = mlp(stochastic=False, dropout_hidden=0.0)
    plain = train(config(tmp_path / "plain", network, epochs=1), network, data=data())
    compiled = train(config(tmp_path / "compiled", network, epochs=1, compile=True), network, data=data())
    assert compiled.epochs[0].loss == pytest.approx(plain.epochs[0].loss, rel=0.02)
    assert evaluate(run_directory(config(tmp_path / "compiled")), data().validation) == compiled.validation_accuracy
