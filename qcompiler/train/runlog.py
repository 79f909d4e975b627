"""The record of a run: settings, machine, versions, data, every epoch, and the one test at the end."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Self

import torch

from qcompiler.errors import InvalidData, UsageError
from qcompiler.train.atomic import write_atomically
from qcompiler.version import version

SCHEMA = 1
FILE_NAME = "run.json"
_PACKAGES = ("torch", "numpy")


@dataclass(frozen=True)
class EpochRecord:
    """One epoch; `loss` and `train_accuracy` are means over its steps as they were taken, `lr` is that of its start."""

    epoch: int
    loss: float
    train_accuracy: float
    validation_accuracy: float
    lr: float
    seconds: float


@dataclass(frozen=True)
class RunLog:
    """What run.json holds.

    `test` is None until the test set has been touched, which happens once. `baseline` is the float twin's result,
    `fixed` and `deploy` are added by those who measure them.
    """

    name: str
    config: dict[str, Any]
    network: str
    seed: int
    hardware: dict[str, Any]
    versions: dict[str, str]
    data: dict[str, str]
    parameters: int
    wall_s: float = 0.0
    epochs: list[EpochRecord] = field(default_factory=list)
    best_epoch: int = 0
    validation_accuracy: float = 0.0
    test: dict[str, Any] | None = None
    fixed: dict[str, Any] | None = None
    baseline: dict[str, Any] | None = None
    deploy: dict[str, Any] | None = None

    @property
    def tested(self) -> bool:
        """Whether the network has been trained to the end and the test set touched."""
        return self.test is not None

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do: tested, and the float twin too where the config asks for one."""
        return self.tested and (self.baseline is not None or not self.config.get("baseline"))

    def write(self, directory: Path) -> None:
        """Write run.json in `directory`, which is made where there is none, whole or not at all."""
        directory.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"schema": SCHEMA, **asdict(self)}, indent=1) + "\n"
        write_atomically(directory / FILE_NAME, lambda file: file.write(text.encode()))

    @classmethod
    def read(cls, directory: Path) -> Self:
        """The log in `directory`; raises UsageError where there is none, InvalidData where it is damaged."""
        path = directory / FILE_NAME
        try:
            payload = json.loads(path.read_bytes())
            if payload.pop("schema") != SCHEMA:
                raise InvalidData(f"'{path}' has another schema than {SCHEMA}", remedy="read it with its own version")
            epochs = [EpochRecord(**each) for each in payload.pop("epochs")]
            return cls(**payload, epochs=epochs)
        except OSError as error:
            raise UsageError(f"cannot read '{path}': {error.strerror or error}") from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InvalidData(f"'{path}' is not a whole log of a run: {error}", remedy="train again") from None


def describe_hardware(device: torch.device, processes: int) -> dict[str, Any]:
    """The processor, how many cores this process may use, torch's threads, the device, and how many processes."""
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    return {
        "cpu": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "device": gpu,
        "processes": processes,
    }


def describe_versions() -> dict[str, str]:
    """Versions of Python, of qcompiler and of the packages that decide a result."""
    versions = {"python": platform.python_version(), "qcompiler": version()}
    return {**versions, **{package: metadata.version(package) for package in _PACKAGES}}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
