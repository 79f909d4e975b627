"""Checkpoints: what resuming needs, in a file that is checked before it is believed."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from qcompiler.errors import InvalidData, UsageError
from qcompiler.train.atomic import write_atomically
from qcompiler.train.config import with_defaults
from qcompiler.train.runlog import EpochRecord

SCHEMA = 1
# where a run happens and what happens beside it change nothing in its result, or only its last bits
FREE_KEYS = frozenset({"data_dir", "output", "device", "threads", "compile", "baseline"})


@dataclass(frozen=True)
class Checkpoint:
    """A network after `epoch` epochs.

    config: the flat settings of the recipe and of the network. shape: (C, H, W) of an image. data: sha256 of the data
    set. model: state_dict. best: `epoch` and validation `accuracy` of the best model so far. epochs: the log.
    optimizer, scheduler, scaler: state_dicts; rng: a dict for each process. These four are None where the checkpoint
    keeps a model alone.
    """

    config: dict[str, Any]
    shape: tuple[int, int, int]
    classes: int
    data: str
    epoch: int
    model: dict[str, Any]
    best: dict[str, Any]
    epochs: list[EpochRecord]
    wall_s: float
    optimizer: dict[str, Any] | None = None
    scheduler: dict[str, Any] | None = None
    scaler: dict[str, Any] | None = None
    rng: list[dict[str, Any]] | None = None

    def save(self, path: Path) -> None:
        """Write to `path` whole or not at all; raises UsageError where the disk refuses."""
        payload = {"schema": SCHEMA, **{field.name: getattr(self, field.name) for field in fields(self)}}
        payload["epochs"] = [asdict(each) for each in self.epochs]
        write_atomically(path, lambda file: torch.save(payload, file))

    def require_same(self, config: Mapping[str, Any], path: Path) -> None:
        """Raise UsageError naming the first setting in which the checkpoint was made differently.

        A setting that was not there yet when it was made counts as its default.
        """
        made, wanted = with_defaults(self.config), with_defaults(config)
        for key in sorted((made.keys() | wanted.keys()) - FREE_KEYS):
            found, expected = made.get(key, "nothing"), wanted.get(key, "nothing")
            if found != expected:
                message = f"checkpoint '{path}' was made with {key}={found}, this run has {key}={expected}"
                raise UsageError(message, remedy=f"set {key} back, or choose another name or output for the new run")

    def load_model(self, model: Any, path: Path) -> None:
        """Copy the weights into `model`; raises UsageError naming the first tensor that does not fit."""
        _require_fit(self.model, model.state_dict(), path)
        model.load_state_dict(self.model)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint; raises UsageError where there is none, InvalidData where it is damaged or something else."""
    payload = _payload(path)
    schema = payload.pop("schema", None)
    if isinstance(schema, int) and schema > SCHEMA:
        message = f"checkpoint '{path}' is of a newer version: its schema is {schema}, this one reads {SCHEMA}"
        raise InvalidData(message, remedy="update qcompiler")
    if schema != SCHEMA:
        raise _damaged(path, f"its schema is {schema}, expected {SCHEMA}")
    expected = {field.name for field in fields(Checkpoint)}
    if payload.keys() != expected:
        raise _damaged(path, f"it lacks or adds '{min(map(str, payload.keys() ^ expected))}'")
    wrong = next((name for name, holds in _CHECKS.items() if not holds(payload[name])), None)
    if wrong is not None:
        raise _damaged(path, f"its '{wrong}' is no such thing")
    payload["epochs"] = [EpochRecord(**each) for each in payload["epochs"]]
    return Checkpoint(**{**payload, "shape": tuple(payload["shape"])})


def _is_state(value: Any) -> bool:
    return value is None or isinstance(value, dict)


def _is_record(value: Any, keys: set[str]) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() == keys
        and all(isinstance(each, int | float) for each in value.values())
    )


_RECORD = {field.name for field in fields(EpochRecord)}
_CHECKS: dict[str, Callable[[Any], bool]] = {
    "config": lambda value: isinstance(value, dict) and all(isinstance(key, str) for key in value),
    "shape": lambda value: isinstance(value, list | tuple) and [type(each) for each in value] == [int] * 3,
    "classes": lambda value: isinstance(value, int),
    "data": lambda value: isinstance(value, str),
    "epoch": lambda value: isinstance(value, int),
    "model": lambda value: isinstance(value, dict) and all(isinstance(each, Tensor) for each in value.values()),
    "best": lambda value: _is_record(value, {"epoch", "accuracy"}),
    "epochs": lambda value: isinstance(value, list) and all(_is_record(each, _RECORD) for each in value),
    "wall_s": lambda value: isinstance(value, float),
    "optimizer": _is_state,
    "scheduler": _is_state,
    "scaler": _is_state,
    "rng": lambda value: value is None or isinstance(value, list),
}


def _payload(path: Path) -> dict[str, Any]:
    try:
        # torch reads the archive without looking at its checksums
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
        if broken is not None:
            raise _damaged(path, f"the checksum of '{broken}' is wrong")
        payload = torch.load(path, map_location="cpu", weights_only=True)
    except (zipfile.BadZipFile, pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise _damaged(path, str(error).splitlines()[0] if str(error) else type(error).__name__) from None
    except OSError as error:
        raise UsageError(f"cannot read checkpoint '{path}': {error.strerror or error}") from None
    if not isinstance(payload, dict):
        raise _damaged(path, f"it holds a {type(payload).__name__}")
    return payload


def _damaged(path: Path, why: str) -> InvalidData:
    return InvalidData(f"'{path}' is not a whole checkpoint: {why}", remedy="use another checkpoint or train again")


def _require_fit(found: Mapping[str, Any], expected: Mapping[str, Any], path: Path) -> None:
    for key in sorted(found.keys() | expected.keys()):
        shapes = [tuple(state[key].shape) if key in state else "missing" for state in (found, expected)]
        if shapes[0] != shapes[1]:
            message = f"checkpoint '{path}' is of another network: '{key}' is {shapes[0]}, expected {shapes[1]}"
            raise UsageError(message, remedy="name the network and settings it was trained with")
