"""Settings of a training run: a flat YAML file, overridden key by key, checked against typed fields.

The keys of the run and those of its network stand side by side in one file; `network` says which fields the latter are.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from qcompiler.errors import InvalidData, UsageError

SHIPPED = Path(__file__).resolve().parent / "configs"
RUN_CONFIG = "config.yaml"
LARGEST_FILE = 64 * 1024
_FORM = "write one 'key: value' a line"

_OTHER_NAMES = {
    "arch": "network", "augmentation": "augment", "batch": "batch_size", "bs": "batch_size", "criterion": "loss",
    "cuda": "device", "data": "data_dir", "data_path": "data_dir", "final_lr": "lr_final", "gpu": "device",
    "l2": "weight_decay", "learning_rate": "lr", "lr_min": "lr_final", "min_lr": "lr_final", "mixed_precision": "amp",
    "model": "network", "output_dir": "output", "precision": "amp", "random_seed": "seed", "save_dir": "output",
    "scheduler": "schedule", "val_size": "validation", "wd": "weight_decay", "workers": "threads",
}  # fmt: skip
"""What other programs call a key."""

_OF_THE_DATA = frozenset(
    {
        "dim", "channels", "classes", "height", "image_shape", "in_channels", "input_channels", "input_shape",
        "input_size", "n_classes", "nb_classes", "num_channels", "num_classes",
    }
)  # fmt: skip
"""What other programs ask for, and the images and labels tell."""

PLACES = ("data_dir", "output")
"""Settings that say where files are on this machine, which logs and packed networks leave out."""

DATASETS = ("mnist", "fashion_mnist", "cifar10", "svhn", "digits", "images")


def number(default: Any, low: float, high: float) -> Any:
    """A field whose value must lie in [low, high]."""
    return field(default=default, metadata={"low": low, "high": high})


def choice(default: str, *choices: str) -> Any:
    """A field whose value must be one of `choices`."""
    return field(default=default, metadata={"choices": choices})


@dataclass(frozen=True)
class TrainConfig:
    """A training run. `name` names its directory and defaults to that of the config file.

    `validation` images are taken from the training set for every choice that is made; 0, the default, takes a sixth of
    it, at most the data set's usual number (`data.dataset.USUAL_VALIDATION`). `lr` falls to `lr_final` over `epochs` by
    `schedule`. `threads` 0 leaves the number to torch. `image_size` applies to image folders only.
    `stages` 2 trains real weights behind quantized activations in the first half of the epochs, quantized weights in
    the second, each by the whole schedule. `distill` above 0 trains the float twin first, which `baseline` does
    afterwards, and is the share of the loss that asks for the twin's classes instead of the labels.
    An empty `data_dir` downloads into the user's cache directory.
    """

    name: str = ""
    network: str = ""
    dataset: str = choice("mnist", *DATASETS)
    image_size: int = number(224, 8, 1024)
    epochs: int = number(100, 1, 100_000)
    batch_size: int = number(64, 1, 65_536)
    lr: float = number(1e-3, 1e-12, 100)
    lr_final: float = number(1e-6, 0, 100)
    schedule: str = choice("exponential", "constant", "exponential", "cosine", "step", "onecycle")
    optimizer: str = choice("adam", "adam", "sgd")
    momentum: float = number(0.9, 0, 1)
    weight_decay: float = number(0.0, 0, 1)
    loss: str = choice("squared_hinge", "squared_hinge", "cross_entropy")
    augment: str = choice("none", "none", "flip", "shift", "flip_shift")
    shift: int = number(4, 1, 64)
    validation: int = number(0, 0, 10_000_000)
    seed: int = number(0, 0, 2**31 - 1)
    amp: str = choice("none", "none", "bf16", "fp16")
    compile: bool = False
    threads: int = number(0, 0, 1024)
    device: str = choice("auto", "auto", "cpu", "cuda")
    scale_updates: bool = False
    clip_weights: bool = True
    recalibrate: bool = False
    stages: int = number(1, 1, 2)
    distill: float = number(0.0, 0, 1)
    baseline: bool = False
    data_dir: str = ""
    output: str = "runs"


def load_config(source: str | Path, overrides: Iterable[str] = ()) -> tuple[TrainConfig, Any]:
    """The run and the network's settings from a config file, or a shipped one of that name, and KEY=VALUE overrides.

    Raises UsageError for an unknown key (with the nearest valid one) and for a value of the wrong type or range, and
    InvalidData for a file that is no flat mapping.
    """
    path = find_config(source)
    flat = _read(path)
    flat.setdefault("name", path.stem)
    return overridden(flat, str(path), overrides)


def overridden(flat: Mapping[str, Any], source: str, overrides: Iterable[str]) -> tuple[TrainConfig, Any]:
    """As `from_flat`, with KEY=VALUE overrides from the command line."""
    given = dict(map(parse_override, overrides))
    return from_flat({**flat, **given}, source, given)


def from_flat(flat: Mapping[str, Any], source: str = "config", given: Collection[str] = ()) -> tuple[TrainConfig, Any]:
    """Inverse of `to_flat`, checked: `source` says in messages where the values come from, but those `given`."""
    sources = {key: "command line" if key in given else source for key in [*flat, "network"]}
    network = _network_type(flat.get("network"), sources["network"])
    mine, theirs = _fields(TrainConfig), _fields(network)
    unknown = next((key for key in flat if key not in mine and key not in theirs), None)
    if unknown is not None:
        if sources[unknown] != sources["network"] == "command line":
            _check_owner(unknown, source, network)
        raise UsageError(f"{sources[unknown]}: unknown key '{unknown}'", remedy=_nearest(unknown, [*mine, *theirs]))
    config = _fill(TrainConfig, {key: flat[key] for key in mine if key in flat}, sources)
    settings = _fill(network, {key: flat[key] for key in theirs if key in flat}, sources)
    _check_together(config, source)
    return config, settings


def to_flat(config: TrainConfig, network: Any) -> dict[str, Any]:
    """All keys of the run and of its network."""
    return {**dataclasses.asdict(config), **dataclasses.asdict(network)}


def with_defaults(flat: Mapping[str, Any]) -> dict[str, Any]:
    """`flat`, and of every key of the run and of its network that is not in it the default.

    Files that were written before a key was there mean its default.
    """
    from qcompiler.train.networks import NETWORKS

    network = NETWORKS.get(flat.get("network", ""))
    fields = [*dataclasses.fields(TrainConfig), *(dataclasses.fields(network) if network is not None else ())]
    return {**{field.name: field.default for field in fields}, **flat}


def find_config(source: str | Path) -> Path:
    """The file `source`, that of the run in the directory `source`, or the shipped one of that name.

    Raises UsageError where there is none.
    """
    path = Path(source)
    candidates = [path, path / RUN_CONFIG, SHIPPED / path.name, SHIPPED / f"{path.name}.yaml"]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    if path.exists():
        raise UsageError(f"config '{path}' is not a file", remedy="name a .yaml file, or the directory of a run")
    if len(path.parts) > 1 or path.suffix not in ("", ".yaml"):
        remedy = "name a config (qtrain --help lists them), the directory of a run, or a trained network"
        raise UsageError(f"there is no '{path}'", remedy=remedy)
    raise UsageError(f"config '{path}' does not exist", remedy=_nearest(path.stem, shipped_configs()))


def shipped_configs() -> list[str]:
    """Names of the configs that come with the package."""
    return sorted(path.stem for path in SHIPPED.glob("*.yaml"))


def parse_override(text: str) -> tuple[str, str]:
    """KEY=VALUE as (key, value)."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise UsageError(f"override '{text}': expected KEY=VALUE", remedy="for example lr=0.01")
    return key.strip(), value.strip()


class _UniqueKeys(yaml.SafeLoader):
    """Safe types only, and no key of a mapping twice: the last would win in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """The mapping; raises YAMLError for a key that comes again."""
        seen = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise yaml.YAMLError(f"key '{key.value}' again in line {key.start_mark.line + 1}")
            seen.add(key.value)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping


def _read(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file that may be hostile: small, safe types, scalars only."""
    try:
        with path.open("rb") as file:
            text = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise UsageError(f"cannot read config '{path}': {error.strerror or error}") from error
    if len(text) > LARGEST_FILE:
        raise InvalidData(f"config '{path}' is larger than {LARGEST_FILE} bytes", remedy="is it a config file?")
    try:
        data = yaml.load(text, _UniqueKeys)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InvalidData(f"config '{path}' is not valid YAML ({error})", remedy=_FORM) from error
    if data is None:
        return {}
    if not isinstance(data, dict) or not all(isinstance(key, str) for key in data):
        raise InvalidData(f"config '{path}' is not a mapping", remedy=_FORM)
    return data


def _network_type(name: Any, source: str) -> type:
    from qcompiler.train.networks import NETWORKS

    if name is None:
        raise UsageError(f"{source}: key 'network' is missing", remedy=f"set it to one of {', '.join(NETWORKS)}")
    if not isinstance(name, str) or name not in NETWORKS:
        raise UsageError(f"{source}: unknown network '{name}'", remedy=_nearest(str(name), NETWORKS))
    network: type = NETWORKS[name]
    return network


def _check_owner(key: str, source: str, network: type) -> None:
    """Refuse a key of the file that fits the network it was written for, but not the one that replaces it."""
    from qcompiler.train.networks import NETWORKS

    owners = [name for name, each in NETWORKS.items() if key in _fields(each)]
    if owners:
        found = next(name for name, each in NETWORKS.items() if each is network)
        message = f"{source}: key '{key}' is of another network ({', '.join(owners)}), {found} has none of that name"
        raise UsageError(message, remedy=f"choose or write a config for {found}")


def _fields(settings: type) -> dict[str, dataclasses.Field[Any]]:
    return {item.name: item for item in dataclasses.fields(settings)}


def _fill(settings: type, values: Mapping[str, Any], sources: Mapping[str, str]) -> Any:
    """An instance of a dataclass of scalars from untrusted values; `sources` says for each where it comes from."""
    filled = OmegaConf.structured(settings)
    OmegaConf.set_readonly(filled, False)
    fields = _fields(settings)
    for key, value in values.items():
        source = sources[key]
        _check_scalar(key, value, fields[key], source)
        try:
            OmegaConf.update(filled, key, None if value == "null" else value)
        except OmegaConfBaseException as error:
            raise UsageError(f"{source}: {key}={value}: expected {_expected(fields[key])}") from error
        if not _in_range(filled[key], fields[key]):
            raise UsageError(f"{source}: {key}={value}: expected {_expected(fields[key])}")
    return OmegaConf.to_object(filled)


def _check_scalar(key: str, value: Any, wanted: dataclasses.Field[Any], source: str) -> None:
    # "${" would start an interpolation, which could read the environment
    if not isinstance(value, str | int | float | bool | None) or (isinstance(value, str) and "${" in value):
        raise UsageError(f"{source}: key '{key}' is not a plain value", remedy=f"give {_expected(wanted)}")


def _in_range(value: Any, wanted: dataclasses.Field[Any]) -> bool:
    limits = wanted.metadata
    if isinstance(value, float) and not math.isfinite(value):
        return False
    if "low" in limits and not limits["low"] <= value <= limits["high"]:
        return False
    return value in limits.get("choices", (value,))


def _expected(wanted: dataclasses.Field[Any]) -> str:
    limits = wanted.metadata
    if "choices" in limits:
        return "one of " + ", ".join(limits["choices"])
    kinds = {"int": "an integer", "float": "a finite number", "bool": "true or false", "str": "text"}
    kind = kinds.get(str(wanted.type), str(wanted.type))
    return f"{kind} from {limits['low']} to {limits['high']}" if "low" in limits else kind


def _check_together(config: TrainConfig, source: str) -> None:
    if config.schedule in ("exponential", "step") and config.lr_final == 0:
        raise UsageError(f"{source}: lr_final=0: schedule={config.schedule} never gets there", remedy="try 1e-6")
    if config.stages > config.epochs:
        raise UsageError(f"{source}: stages={config.stages}: each takes an epoch", remedy=f"set epochs={config.stages}")
    if config.lr_final > config.lr and config.schedule != "constant":
        raise UsageError(f"{source}: lr_final={config.lr_final:g} is above lr={config.lr:g}", remedy="lower it too")
    if config.name in ("", ".", "..") or Path(config.name).name != config.name or "\0" in config.name:
        raise UsageError(f"{source}: name='{config.name}': expected the name of a directory, without slashes")


def _nearest(word: str, valid: Iterable[str]) -> str:
    valid = list(valid)
    word = word.lower().replace("-", "_")
    if word in _OF_THE_DATA and word not in valid:
        return "it is read from the data set; leave it out"
    close = [_OTHER_NAMES[word]] if _OTHER_NAMES.get(word) in valid else difflib.get_close_matches(word, valid, 1)
    return f"did you mean '{close[0]}'?" if close else f"valid are {', '.join(valid)}"
