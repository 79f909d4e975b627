"""The training loop: epochs, validation, checkpoints, the float twin beside it, and one test at the end."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from qcompiler.errors import InvalidData, UsageError
from qcompiler.nn.convert import LAYERS
from qcompiler.place import check_directory
from qcompiler.train.atomic import write_atomically
from qcompiler.train.checkpoint import Checkpoint, load_checkpoint
from qcompiler.train.config import PLACES, TrainConfig, to_flat
from qcompiler.train.data import Data, load_data
from qcompiler.train.distributed import Group, join_group
from qcompiler.train.interruption import Interruption
from qcompiler.train.networks import Network
from qcompiler.train.progress import Quiet, TrainingProgress
from qcompiler.train.runlog import EpochRecord, RunLog, describe_hardware, describe_versions
from qcompiler.train.trainer import Trainer, training_settings

LAST, BEST, CONFIG, BASELINE = "last.pt", "best.pt", "config.yaml", "baseline"
EVENTS = "events.out.tfevents.*"


def train(
    config: TrainConfig,
    network_config: Network,
    *,
    resume: bool = False,
    progress: TrainingProgress | None = None,
    data: Data | None = None,
    finished: Callable[[Path, Data], object] | None = None,
) -> RunLog:
    """Train a network as `config` says, in the directory OUTPUT/NAME/seedN, and its float twin where it asks for it.

    resume: go on after the last epoch of the run in that directory, or begin where there is none; a finished run is
    left alone. progress: told of every step. data: use these images instead of loading the config's data set.
    finished: called once with the directory and the data of the finished run, by the leading process.

    SIGINT ends the run after the current step: the log returned, that of the twin where it was its turn, is not
    `finished`, and the epochs done are kept.
    Raises UsageError where the directory holds a run and resume is not set, or one with other settings;
    InvalidData for a damaged checkpoint.
    """
    group = join_group(config.device)
    with training_settings(config, group.device), Interruption() as stop:
        directory = run_directory(config)
        if not resume:
            _require_fresh(directory)
        if group.leads:
            check_directory(directory)
        loaded = data if data is not None else group.leader_first(lambda: _load(config))
        shown = progress if progress is not None and group.leads else Quiet()
        twin_config = replace(config, network=network_config.baseline().name, baseline=False, stages=1, distill=0.0)

        def twin() -> _Run:
            # made when it is its turn: making a run seeds the generators
            return _Run(twin_config, network_config.baseline(), loaded, group, directory / BASELINE, stop)

        teacher = None
        if config.distill:
            taught = twin()
            log = taught.finish(shown)
            if not log.tested:
                return log
            teacher = taught.best_model()
        log = _Run(config, network_config, loaded, group, directory, stop, teacher).finish(shown)
        if (config.baseline or config.distill) and log.tested:
            log = replace(log, baseline=_summary(twin().finish(shown)))
            if group.leads:
                log.write(directory)
        if finished is not None and log.finished and group.leads:
            finished(directory, loaded)
        return log


def _require_fresh(directory: Path) -> None:
    for folder in (directory, directory / BASELINE):
        if (folder / LAST).exists():
            message = f"'{folder}' holds a run already"
            raise UsageError(message, remedy="go on with --resume, remove it, or choose another name or output")


def run_directory(config: TrainConfig) -> Path:
    """OUTPUT/NAME/seedN."""
    return Path(config.output) / config.name / f"seed{config.seed}"


class _Run:
    """One network from its first epoch, or from its last checkpoint, to its test."""

    def __init__(
        self,
        config: TrainConfig,
        network: Network,
        data: Data,
        group: Group,
        directory: Path,
        stop: Interruption,
        teacher: nn.Module | None = None,
    ) -> None:
        self._config = config
        self._flat = to_flat(config, network)
        self._group = group
        self._directory = directory
        self._stop = stop
        self._data = data
        self._trainer = Trainer(config, network, data, group, teacher)
        self._log = RunLog(
            name=config.name,
            config={key: value for key, value in self._flat.items() if key not in PLACES},
            network=network.name,
            seed=config.seed,
            hardware=describe_hardware(group.device, group.size),
            versions=describe_versions(),
            data={"name": config.dataset, "version": data.version, "sha256": data.sha256},
            parameters=sum(parameter.numel() for parameter in self._trainer.model.parameters()),
        )

    def finish(self, progress: TrainingProgress) -> RunLog:
        """Train what is left, then test; the log is not `tested` where the run was interrupted."""
        self._begin()
        if self._log.tested:
            return self._log
        done = len(self._log.epochs)
        progress.start(self._config.name, self._config.epochs, len(self._trainer.batches), done)
        events = SummaryWriter(str(self._directory), purge_step=done + 1) if self._group.leads else None
        try:
            whole = all(self._epoch(epoch, progress, events) for epoch in range(done + 1, self._config.epochs + 1))
        finally:
            progress.stop()
            if events is not None:
                events.close()
        if whole and not self._group.any(self._stop.requested):
            self._test()
        return self._log

    def best_model(self) -> nn.Module:
        """The network with the weights of its best epoch, in eval mode, once the run is tested."""
        path = self._directory / BEST
        load_checkpoint(path).load_model(self._trainer.model, path)
        model: nn.Module = self._trainer.model.eval()
        return model

    def _begin(self) -> None:
        last = self._directory / LAST
        if last.exists():
            self._restore(load_checkpoint(last), last)
        elif self._group.leads:
            self._directory.mkdir(parents=True, exist_ok=True)
            for curves in self._directory.glob(EVENTS):
                curves.unlink()
            text = OmegaConf.to_yaml(OmegaConf.create(self._flat))
            write_atomically(self._directory / CONFIG, lambda file: file.write(text.encode()))
            self._log.write(self._directory)
        # nobody looks for the checkpoint after the leader has begun to write
        self._group.barrier()

    def _restore(self, checkpoint: Checkpoint, path: Path) -> None:
        checkpoint.require_same(self._flat, path)
        if checkpoint.data != self._data.sha256:
            message = f"checkpoint '{path}' was made with other images or labels"
            raise UsageError(message, remedy="resume with the data set as it was")
        checkpoint.load_model(self._trainer.model, path)
        try:
            self._trainer.restore(checkpoint.optimizer, checkpoint.scheduler, checkpoint.scaler, checkpoint.rng)
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            message = f"'{path}' does not hold the state of a training: {error}"
            raise InvalidData(message, remedy="remove the run and train again") from None
        before = RunLog.read(self._directory)
        self._log = replace(
            self._log,
            wall_s=checkpoint.wall_s,
            epochs=checkpoint.epochs,
            best_epoch=checkpoint.best["epoch"],
            validation_accuracy=checkpoint.best["accuracy"],
        )
        if before.tested:
            self._log = before

    def _epoch(self, epoch: int, progress: TrainingProgress, events: SummaryWriter | None) -> bool:
        """Train and keep an epoch; False where it was interrupted."""
        start = time.perf_counter()
        totals = self._trainer.run_epoch(epoch, progress.step, lambda: self._stop.requested)
        if totals is None:
            return False
        validation = self._trainer.validate()
        rate, seconds = self._trainer.learning_rate(epoch), time.perf_counter() - start
        record = EpochRecord(epoch, totals.loss, totals.accuracy, validation, rate, seconds)
        best = not self._log.epochs or validation > self._log.validation_accuracy
        self._keep(record, best, start)
        progress.epoch(record, best)
        if events is not None:
            _write_events(events, record, self._trainer.model)
        return True

    def _keep(self, record: EpochRecord, best: bool, start: float) -> None:
        """Save the best model, then the state, then the log: each is whole, and an older state finds its best model."""
        log = replace(self._log, epochs=[*self._log.epochs, record])
        if best:
            log = replace(log, best_epoch=record.epoch, validation_accuracy=record.validation_accuracy)
        state = self._trainer.state()
        model = self._checkpoint(log)
        if best and self._group.leads:
            model.save(self._directory / BEST)
        log = replace(log, wall_s=log.wall_s + time.perf_counter() - start)
        if self._group.leads:
            replace(model, wall_s=log.wall_s, **state).save(self._directory / LAST)
            log.write(self._directory)
        self._log = log

    def _checkpoint(self, log: RunLog) -> Checkpoint:
        return Checkpoint(
            config=self._flat,
            shape=self._data.shape,
            classes=self._data.classes,
            data=self._data.sha256,
            epoch=len(log.epochs),
            model=self._trainer.model.state_dict(),
            best={"epoch": log.best_epoch, "accuracy": log.validation_accuracy},
            epochs=log.epochs,
            wall_s=log.wall_s,
        )

    def _test(self) -> None:
        """Test the best model, once; with its BN statistics taken anew where that does not lower its validation."""
        start = time.perf_counter()
        self._group.barrier()
        path = self._directory / BEST
        best = load_checkpoint(path)
        best.require_same(self._flat, path)
        if best.epoch != self._log.best_epoch:
            message = f"'{path}' is of epoch {best.epoch}, the best epoch is {self._log.best_epoch}"
            raise InvalidData(message, remedy="remove the run and train again")
        best.load_model(self._trainer.model, path)
        if self._config.recalibrate:
            self._recalibrate(best, path)
        result = {"accuracy": self._trainer.test(), "images": len(self._data.test)}
        self._log = replace(self._log, test=result, wall_s=self._log.wall_s + time.perf_counter() - start)
        if self._group.leads:
            self._log.write(self._directory)

    def _recalibrate(self, best: Checkpoint, path: Path) -> None:
        self._trainer.recalibrate()
        validation = self._trainer.validate()
        if validation < self._log.validation_accuracy:
            best.load_model(self._trainer.model, path)
            return
        self._log = replace(self._log, validation_accuracy=validation)
        if self._group.leads:
            replace(best, model=self._trainer.model.state_dict()).save(path)


def _load(config: TrainConfig) -> Data:
    return load_data(config.dataset, config.data_dir, config.validation, image_size=config.image_size)


def _summary(log: RunLog) -> dict[str, Any] | None:
    """The float twin's result for its partner's log, once it has been tested."""
    if log.test is None:
        return None
    return {
        "validation_accuracy": log.validation_accuracy,
        "test_accuracy": log.test["accuracy"],
        "wall_s": log.wall_s,
        "epochs": len(log.epochs),
    }


def _write_events(events: SummaryWriter, record: EpochRecord, model: nn.Module) -> None:
    events.add_scalar("loss", record.loss, record.epoch)
    events.add_scalar("accuracy/train", record.train_accuracy, record.epoch)
    events.add_scalar("accuracy/validation", record.validation_accuracy, record.epoch)
    events.add_scalar("lr", record.lr, record.epoch)
    for name, layer in model.named_modules():
        if isinstance(layer, LAYERS):
            events.add_histogram(f"weights/{name}", layer.weight, record.epoch)
    events.flush()
