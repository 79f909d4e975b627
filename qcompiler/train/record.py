"""One run.json as the table of results needs it, read without trust."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qcompiler.errors import InvalidData, UsageError
from qcompiler.train.runlog import SCHEMA

MAX_BYTES = 1 << 26


@dataclass(frozen=True)
class Record:
    """What is shown of a run; accuracies are shares of 1, None where not measured. `deploy` is checked when read.

    planned: the epochs of its recipe, of which `epochs` were trained.
    """

    path: Path
    name: str
    network: str
    seed: int
    data: Mapping[str, str]
    machine: str
    versions: Mapping[str, str]
    parameters: int
    wall_s: float
    epochs: int
    planned: int
    best_epoch: int
    validation: float
    test: float | None
    fixed: float | None
    baseline: float | None
    deploy: Mapping[str, Any] | None

    def deployed(self, key: str) -> Any:
        """A field of the deployment; None where it was not measured."""
        return (self.deploy or {}).get(key)

    def number(self, key: str) -> float | None:
        """A field of the deployment that is a number."""
        value = self.deployed(key)
        return None if value is None else float(value)


def read_record(path: Path) -> Record:
    """Read one run.json; UsageError if there is none, InvalidData naming what is wrong in it."""
    fields = _Fields(_load(path), path)
    if fields.values.get("schema") != SCHEMA:
        found = fields.values.get("schema")
        raise InvalidData(
            f"'{path}' has schema {found!r}, expected {SCHEMA}", remedy="use the version of qcompiler that wrote it"
        )
    hardware = fields.inner("hardware")
    deploy = fields.optional("deploy")
    config = fields.inner("config")
    epochs = len(fields.checked("epochs", list))
    return Record(
        path=path,
        name=fields.text("name"),
        network=fields.text("network"),
        seed=fields.count("seed"),
        data={key: fields.inner("data").text(key) for key in ("name", "version", "sha256")},
        machine=_machine(hardware),
        versions={key: fields.inner("versions").text(key) for key in fields.inner("versions").values},
        parameters=fields.count("parameters"),
        wall_s=fields.number("wall_s"),
        epochs=epochs,
        planned=config.count("epochs") if "epochs" in config.values else epochs,
        best_epoch=fields.count("best_epoch"),
        validation=fields.share("validation_accuracy"),
        test=_accuracy(fields.optional("test"), "accuracy"),
        fixed=_accuracy(fields.optional("fixed"), "accuracy"),
        baseline=_accuracy(fields.optional("baseline"), "test_accuracy"),
        deploy=None if deploy is None else _checked_deployment(deploy),
    )


class _Fields:
    """A JSON object whose values are asked for by type."""

    def __init__(self, values: Mapping[str, Any], path: Path, prefix: str = "") -> None:
        self.values = values
        self._path = path
        self._prefix = prefix

    def checked(self, key: str, *kinds: type) -> Any:
        value = self.values.get(key)
        # not isinstance: True is an int there
        if type(value) not in kinds:
            raise self.wrong(key, " or ".join(each.__name__ for each in kinds))
        return value

    def wrong(self, key: str, expected: str) -> InvalidData:
        found = repr(self.values[key])[:60] if key in self.values else "missing"
        return InvalidData(f"'{self._path}': {self._prefix}{key} is {found}, expected {expected}")

    def text(self, key: str) -> str:
        return str(self.checked(key, str))

    def number(self, key: str) -> float:
        value = self.checked(key, int, float)
        if not (math.isfinite(value) and value >= 0):
            raise self.wrong(key, "a number of at least 0")
        return float(value)

    def count(self, key: str) -> int:
        value = int(self.checked(key, int))
        if value < 0:
            raise self.wrong(key, "a number of at least 0")
        return value

    def share(self, key: str) -> float:
        if self.number(key) > 1:
            raise self.wrong(key, "a share between 0 and 1")
        return self.number(key)

    def inner(self, key: str) -> _Fields:
        return _Fields(self.checked(key, dict), self._path, f"{self._prefix}{key}.")

    def optional(self, key: str) -> _Fields | None:
        return None if self.values.get(key) is None else self.inner(key)


def _load(path: Path) -> Mapping[str, Any]:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InvalidData(f"'{path}' is larger than {MAX_BYTES} bytes, expected the log of a run")
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read '{path}': {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise InvalidData(f"'{path}' is not JSON: {error}", remedy="train again") from error
    if not isinstance(values, dict):
        raise InvalidData(f"'{path}' is a JSON {type(values).__name__}, expected the object of a run")
    return values


def _accuracy(fields: _Fields | None, key: str) -> float | None:
    return None if fields is None or fields.values.get(key) is None else fields.share(key)


def _machine(hardware: _Fields) -> str:
    """Device, or processor, cores and threads."""
    device, processor = hardware.text("device"), hardware.text("cpu")
    threads = f"{hardware.count('threads')} of {hardware.count('cores')} cores"
    processes = hardware.values.get("processes", 1)
    times = f"{processes} x " if processes != 1 else ""
    return f"{times}{device}" if device != "cpu" else f"{times}{processor}, {threads}"


def _checked_deployment(fields: _Fields) -> Mapping[str, Any]:
    for key, value in fields.values.items():
        if value is None:
            continue
        if key == "exact":
            fields.checked(key, bool)
        elif key == "lacks":
            fields.text(key)
        else:
            fields.number(key)
    return fields.values
