"""Train CIFAR-10's published networks of few bits on a GPU, at most five minutes each.

    python -m benchmarks.cuda_training RUNS [--data-dir DIR] [--minutes 5] [--networks NAME ...] [-o KEY=VALUE ...]

Images lie on the device, and layers compute in bf16. A few steps are timed first: as many epochs as fit into four
fifths of the minutes are trained, at most those of the recipe, so that the rate falls to its end whatever the device.
Where the minutes are over before, the whole epochs are kept, and the same command goes on with them. Checkpoints,
curves and logs lie in RUNS as qtrain leaves them: `qtrain RUNS/NAME/seed0 --deploy` compiles them anywhere, and
`python -m qcompiler.train.results` makes their table.

Without a GPU, narrower networks are trained on two threads, in float32, under names of their own.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from qcompiler.errors import QCompilerError, UsageError
from qcompiler.train.config import TrainConfig, load_config
from qcompiler.train.data import Data, load_data
from qcompiler.train.distributed import Group, choose_device
from qcompiler.train.loop import LAST, run_directory, train
from qcompiler.train.networks import Network
from qcompiler.train.progress import Bars
from qcompiler.train.runlog import RunLog
from qcompiler.train.trainer import Trainer, training_settings


@dataclass(frozen=True)
class Recipe:
    """A shipped config, and what makes its network small enough for two cores."""

    config: str
    narrow: tuple[str, ...]


RECIPES = {
    "binarynet": Recipe("cifar10_binarynet_short", ("width=16", "hidden=128")),
    "xnornet": Recipe("cifar10_xnornet_short", ("width=16", "hidden=128")),
    "moons": Recipe("cifar10_moons_short", ("nla=1", "nfa=32", "nlb=1", "nfb=64", "nlc=1", "nfc=128")),
    "resnet18": Recipe("cifar10_resnet18_short", ("width=8",)),
}
"""By label."""

ON_GPU, ON_CPU = ("amp=bf16",), ("threads=2",)
# of the minutes, for epochs; the rest is for the test and for epochs that take longer than the timed steps
SHARE = 0.8
# steps before those that are timed, and how long these take; chosen
WARM_STEPS, TIMED_S = 10, 8.0


class Deadline(Bars):
    """Bars that end the training when its time is over."""

    def __init__(self, end: float, minutes: float) -> None:
        super().__init__()
        self._end, self._minutes = end, minutes

    def step(self) -> None:
        """Move the bar. Raises QCompilerError when the time is over."""
        super().step()
        if time.monotonic() > self._end:
            message = f"the {self._minutes:g} minutes were over before the last epoch"
            raise QCompilerError(message, remedy="whole epochs are kept: the same command goes on with them")


def settings(label: str, runs: Path, overrides: Sequence[str]) -> tuple[TrainConfig, Network]:
    """The recipe of a label for this machine, or that of its run where there is one. Raises UsageError."""
    recipe, places = RECIPES[label], [f"output={runs}"]
    config, network = load_config(recipe.config, [*ON_GPU, *places, *overrides])
    if choose_device(config.device).type == "cpu":
        name = f"name={recipe.config.removesuffix('_short')}_narrow"
        config, network = load_config(recipe.config, [*ON_CPU, *recipe.narrow, *places, name, *overrides])
    if (run_directory(config) / LAST).exists():
        config, network = load_config(run_directory(config), [*places, f"data_dir={config.data_dir}"])
    return config, network


def fitted(config: TrainConfig, network: Network, data: Data, end: float) -> TrainConfig:
    """The config with as many epochs as fit before a time of `time.monotonic`, at most its own; 1 at least."""
    group = Group(choose_device(config.device))
    with training_settings(config, group.device):
        trainer = Trainer(config, network, data, group)
        timed = min(TIMED_S, (end - time.monotonic()) / 10)
        seconds = _step_seconds(trainer, timed) * len(trainer.batches) + _seconds(trainer.validate)
    epochs = int((end - time.monotonic()) * SHARE / seconds)
    return replace(config, epochs=max(1, min(config.epochs, epochs)))


def _seconds(call: Callable[[], object]) -> float:
    start = time.monotonic()
    call()
    return time.monotonic() - start


def _step_seconds(trainer: Trainer, timed: float) -> float:
    """Mean seconds of a step, over those of at least `timed` seconds, behind WARM_STEPS; an epoch waits at its end."""
    steps, start = 0, time.monotonic()

    def on_step() -> None:
        nonlocal steps, start
        steps += 1
        if steps == WARM_STEPS:
            _finish(trainer)
            start = time.monotonic()

    epoch = 1
    while steps <= WARM_STEPS or time.monotonic() - start < timed:
        trainer.run_epoch(epoch, on_step, lambda: steps > WARM_STEPS and time.monotonic() - start > timed)
        epoch += 1
    _finish(trainer)
    return (time.monotonic() - start) / (steps - WARM_STEPS)


def _finish(trainer: Trainer) -> None:
    """Wait for what was started on the device."""
    if trainer.group.device.type == "cuda":
        torch.cuda.synchronize()


def run(label: str, runs: Path, overrides: Sequence[str], minutes: float) -> RunLog:
    """Train one network, or what is left of it, in so many minutes. Raises QCompilerError where they do not do."""
    end = time.monotonic() + minutes * 60
    config, network = settings(label, runs, overrides)
    data = load_data(config.dataset, config.data_dir, config.validation, image_size=config.image_size)
    if not (run_directory(config) / LAST).exists():
        config = fitted(config, network, data, end)
    log = train(config, network, resume=True, progress=Deadline(end, minutes), data=data)
    if not log.finished:
        raise KeyboardInterrupt
    return log


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cuda_training", description="Train on a GPU.")
    parser.add_argument("runs", type=Path, metavar="RUNS", help="directory for checkpoints and logs")
    parser.add_argument("--data-dir", metavar="DIR", help="where CIFAR-10 is; default: download")
    parser.add_argument("--minutes", type=float, default=5.0, help="for each network (default: 5)")
    parser.add_argument("--networks", nargs="+", default=list(RECIPES), choices=list(RECIPES))
    parser.add_argument("-o", "--override", nargs="+", default=[], metavar="KEY=VALUE", help="other settings")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Train one network after the other; status 1 where one of them failed, 130 after an interrupt."""
    options = _options(arguments)
    overrides = [*options.override, *([f"data_dir={options.data_dir}"] if options.data_dir else [])]
    failed = False
    for label in options.networks:
        try:
            if not options.minutes > 0:
                raise UsageError(f"--minutes {options.minutes:g}", remedy="give a number above 0")
            log = run(label, options.runs, overrides, options.minutes)
        except QCompilerError as error:
            print(f"{label}: {error}", file=sys.stderr)
            failed = True
        except KeyboardInterrupt:
            print(f"{label}: interrupted; whole epochs are kept, the same command goes on with them", file=sys.stderr)
            return 130
        else:
            assert log.test is not None
            print(f"{label}: test accuracy {log.test['accuracy']:.2%} after {len(log.epochs)} epochs", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
