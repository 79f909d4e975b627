"""The command line qtrain: parse, call, print."""

from __future__ import annotations

import dataclasses
import os
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from qcompiler.command import Debug, Task, Version, main, terminal
from qcompiler.errors import QCompilerError, UsageError
from qcompiler.place import check_file
from qcompiler.train.trained import is_trained

if TYPE_CHECKING:
    from qcompiler.train.config import TrainConfig
    from qcompiler.train.data import Data, Split
    from qcompiler.train.networks import Network
    from qcompiler.train.trained import Trained

_CONFIGS = sorted(path.stem for path in (Path(__file__).parent / "train" / "configs").glob("*.yaml"))

_SEE_HELP = "see qtrain --help"
_NO_MEMORY = ("can't allocate memory", "out of memory")
"""In the messages of torch's allocators."""

_HELP = f"""Train a quantized network as a config file says, test it, and make it ready to run.

\b
Examples:
  qtrain mnist_lenet                            train, into runs/mnist_lenet/seed0/
  qtrain mnist_lenet -o lr=0.01 epochs=20       with other settings
  qtrain cifar10_moons.yaml -o wbits=4 abits=4 network_type=full-qnn seed=1
  qtrain mnist_lenet --resume                   go on after an interrupt
  qtrain mnist_lenet --test                     test the best checkpoint of the run
  qtrain runs/mnist_lenet/seed0 --test          the same, with all overrides as they were
  qtrain best.pt --test --images 1000           a checkpoint or packed file alone says what it is of
  qtrain mnist_lenet --test --mode fixed        the same in simulated fixed point
  qtrain mnist_lenet --test --bundle net.qc     test what qcompile made of it
  qtrain mnist_lenet --export model.onnx        write an ONNX file, compared in onnxruntime
  qtrain mnist_lenet --resume --deploy          train what is left; export, compile, compare
  torchrun --nproc-per-node 2 -m qcompiler.cli_train cifar10_moons      on two GPUs

\b
CONFIG is a YAML file with one 'key: value' a line, the directory of a run, a trained network (a checkpoint, or what
--pack wrote), which holds its settings, or one that comes with qcompiler:
{textwrap.fill(", ".join(_CONFIGS), 78, initial_indent="  ", subsequent_indent="  ")}

KEY=VALUE overrides a key of the run (lr, epochs, batch_size, seed, dataset, device, ...) or of its network
(wbits, abits, ...); a misspelt one is answered with the nearest valid one. Data is read from --data-dir DIR, or
downloaded once. TensorBoard shows a run with: tensorboard --logdir runs

Exit status: 0 done, 2 usage, 3 unsupported network, 4 damaged file, 5 verification failed, 130 interrupted.
"""

_app = typer.Typer(rich_markup_mode=None)


def complete_configs(incomplete: str) -> list[str]:
    """The configs that come with qcompiler of which the user's shell has the beginning."""
    return [name for name in _CONFIGS if name.startswith(incomplete)]


def qtrain() -> NoReturn:
    """Entry point of the command qtrain."""
    main(_app, "qtrain", kept="whole epochs are kept, go on with --resume")


@_app.command(help=_HELP)
def _train_command(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="CONFIG [KEY=VALUE ...]", show_default=False, autocompletion=complete_configs),
    ] = None,
    override: Annotated[
        list[str] | None, typer.Option("-o", "--override", metavar="KEY=VALUE ...", help="Other settings.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Train what is left of the run, if anything.")] = False,
    test: Annotated[bool, typer.Option("--test", help="Print the accuracy on the test images.")] = False,
    mode: Annotated[str, typer.Option(metavar="float|fixed", help="Arithmetic of --test.")] = "float",
    images: Annotated[int | None, typer.Option(metavar="N", help="Test on the first N images; default: all.")] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Trained network, a checkpoint or packed; default: the best of the run."),
    ] = None,
    bundle: Annotated[Path | None, typer.Option(metavar="DIR", help="Test this compiled network instead.")] = None,
    export: Annotated[Path | None, typer.Option(metavar="FILE.onnx", help="Write the trained network as ONNX.")] = None,
    deploy: Annotated[
        bool, typer.Option("--deploy", help="Export, compile, and compare on all test images, in the run's directory.")
    ] = False,
    pack: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the weights in as few bits as they have.")
    ] = None,
    energy: Annotated[bool, typer.Option("--energy", help="Print a model of the energy of one inference.")] = False,
    constants: Annotated[
        Path | None, typer.Option(metavar="FILE.json", help="Energies of operations and accesses for --energy.")
    ] = None,
    data_dir: Annotated[
        str | None, typer.Option(metavar="DIR", help="Where the data set is; default: download.")
    ] = None,
    debug: Debug = False,
    show_version: Version = False,
) -> Task:
    config, overrides = split_words(words or [], config_needed=checkpoint is None)
    overrides = [*(override or ()), *overrides, *([] if data_dir is None else [f"data_dir={data_dir}"])]
    if config is not None and is_trained(Path(config)):
        if checkpoint is not None:
            message = f"'{config}' and --checkpoint {checkpoint} both name a trained network"
            raise UsageError(message, remedy="give one of them")
        checkpoint = Path(config)
        config = None
    if config is not None and checkpoint is not None and bundle is not None:
        raise UsageError("--bundle and --checkpoint both say what to test", remedy="give one of them")
    asked = Asked(resume, test, mode, images, checkpoint, bundle, export, deploy, pack, energy, constants)
    asked.check()
    return partial(_run, config, overrides, asked)


@dataclass(frozen=True)
class Asked:
    """What to do, beside the config and its overrides."""

    resume: bool = False
    test: bool = False
    mode: str = "float"
    images: int | None = None
    checkpoint: Path | None = None
    bundle: Path | None = None
    export: Path | None = None
    deploy: bool = False
    pack: Path | None = None
    energy: bool = False
    constants: Path | None = None

    @property
    def trains(self) -> bool:
        """Whether to train: on --resume, and where nothing else is asked for."""
        return self.resume or not (self.test or self.export or self.deploy or self.pack or self.energy)

    def check(self) -> None:
        """Raise UsageError for options that mean nothing together."""
        if self.mode not in ("float", "fixed"):
            raise UsageError(f"--mode {self.mode}: expected float or fixed")
        for option, given, needed, present in (
            ("--mode", self.mode != "float", "--test", self.test),
            ("--images", self.images is not None, "--test", self.test),
            ("--bundle", self.bundle is not None, "--test", self.test),
            ("--constants", self.constants is not None, "--energy", self.energy),
        ):
            if given and not present:
                raise UsageError(f"{option} needs {needed}", remedy=f"add {needed}")
        if self.images is not None and self.images < 1:
            raise UsageError(f"--images {self.images}: expected at least 1", remedy="leave it out for all test images")
        if self.checkpoint is not None and self.trains:
            raise UsageError(
                "--checkpoint names a trained network, but the command would train one", remedy="add --test"
            )
        if self.bundle is not None and self.mode == "fixed":
            message = "--mode fixed: a compiled network computes as it was compiled"
            raise UsageError(message, remedy="leave --mode out, or leave --bundle out to simulate the trained network")
        for written in (self.export, self.pack):
            if written is not None:
                check_file(written)


def split_words(words: Sequence[str], *, config_needed: bool = True) -> tuple[str | None, list[str]]:
    """The config and the KEY=VALUE overrides among the positional words; an existing file is never an override.

    The config is None where none is named and none is needed.
    """
    overrides = [word for word in words if "=" in word and not Path(word).exists()]
    configs = [word for word in words if word not in overrides]
    if not configs and not config_needed:
        return None, overrides
    if not words:
        raise UsageError("Missing argument: a config, the directory of a run or a trained network", remedy=_SEE_HELP)
    if len(configs) != 1:
        found = "none" if not configs else f"{len(configs)}: {', '.join(configs)}"
        raise UsageError(f"expected one config, found {found}", remedy=f"write overrides as KEY=VALUE ({_SEE_HELP})")
    return configs[0], overrides


def _run(source: str | None, overrides: Sequence[str], asked: Asked) -> None:
    with _needing_extras(), _within_memory():
        session = _Session(source, overrides, asked)
        if asked.trains:
            session.train()
        if not _leads():
            return
        if asked.test:
            session.test()
        if asked.export is not None:
            session.export(asked.export)
        if asked.deploy:
            session.deploy()
        if asked.pack is not None:
            session.pack(asked.pack)
        if asked.energy:
            session.energy()


@contextmanager
def _needing_extras() -> Iterator[None]:
    """A missing package of the training extra as one clear line."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("qcompiler"):
            raise
        raise UsageError(
            f"qtrain needs {error.name}, which is missing", remedy="pip install 'qcompiler[train]'"
        ) from error


@contextmanager
def _within_memory() -> Iterator[None]:
    """What torch could not allocate, on the CPU or on a GPU, as one clear line."""
    try:
        yield
    except RuntimeError as error:
        if not any(sign in str(error) for sign in _NO_MEMORY):
            raise
        raise QCompilerError("out of memory", remedy="choose a smaller network or batch_size") from error


class _Session:
    """One run, and what is loaded of it only once."""

    def __init__(self, source: str | None, overrides: Sequence[str], asked: Asked) -> None:
        self._source = source
        self._asked = asked
        self._config, self._network = self._settings(overrides)
        self._console = terminal()
        self._say = partial(self._console.print, markup=False, highlight=False, soft_wrap=True)

    def _settings(self, overrides: Sequence[str]) -> tuple[TrainConfig, Network]:
        """Those of the config, or those that the trained network was made by."""
        from qcompiler.train.config import load_config, overridden, to_flat

        if self._source is not None:
            return load_config(self._source, overrides)
        trained = self._loaded
        if trained.config is None:
            message = f"'{trained.path}' does not hold the settings of its run"
            raise UsageError(message, remedy="name its config too: qtrain CONFIG --checkpoint FILE")
        return overridden(to_flat(trained.config, trained.network), f"'{trained.path}'", overrides)

    @cached_property
    def _data(self) -> Data:
        from qcompiler.train.data import load_data

        config = self._config
        return load_data(config.dataset, config.data_dir, config.validation, image_size=config.image_size)

    @cached_property
    def _directory(self) -> Path:
        """That of the run; that of the file where a trained network stands for itself."""
        from qcompiler.train.loop import run_directory

        return run_directory(self._config) if self._source is not None else self._path.parent

    @cached_property
    def _path(self) -> Path:
        """The trained network to work with."""
        path = self._asked.checkpoint or self._directory / "best.pt"
        if not path.exists():
            remedy = "name an existing one with --checkpoint"
            if self._source is not None:
                remedy = f"train it first (qtrain {self._source}), or name one with --checkpoint"
            raise UsageError(f"no trained network at '{path}'", remedy=remedy)
        return path

    @cached_property
    def _loaded(self) -> Trained:
        from qcompiler.train.trained import load_trained

        return load_trained(self._path)

    @cached_property
    def _trained(self) -> Trained:
        """The trained network, which must be the config's."""
        found = {"network": self._loaded.network.name, **dataclasses.asdict(self._loaded.network)}
        for key, expected in {"network": self._config.network, **dataclasses.asdict(self._network)}.items():
            if found.get(key) != expected:
                message = f"'{self._path}' is of another network: {key}={found.get(key)}"
                raise UsageError(
                    f"{message}, the config says {key}={expected}",
                    remedy=f"set {key}={found.get(key)}, or name another checkpoint",
                )
        return self._loaded

    def train(self) -> None:
        """Train, and say how it went."""
        from qcompiler.train.loop import train
        from qcompiler.train.plots import draw
        from qcompiler.train.progress import Bars
        from qcompiler.train.runlog import RunLog

        resumed = self._asked.resume and (self._directory / "last.pt").exists()
        before = resumed and RunLog.read(self._directory).finished
        pictures = None if before else draw
        log = train(self._config, self._network, resume=self._asked.resume, progress=Bars(), finished=pictures)
        if not log.finished:
            raise KeyboardInterrupt
        if log.test is not None and _leads():
            left = "finished before:" if before else "wrote"
            self._say(
                f"test accuracy {log.test['accuracy']:.2%} on {log.test['images']} images "
                f"(validation {log.validation_accuracy:.2%} at epoch {log.best_epoch}); {left} {self._directory}/"
            )

    def test(self) -> None:
        """Print the accuracy of the bundle, or of the trained network in float or fixed point."""
        from qcompiler.bundle.load import load
        from qcompiler.train.evaluate import bundle_accuracy, evaluate, evaluate_fixed
        from qcompiler.train.fixed_point import saturation_table

        # a place where nothing is, is named before data are looked for
        bundle = None if self._asked.bundle is None else load(self._asked.bundle)
        path = self._trained.path if bundle is None else bundle.directory
        split = self._test_images()
        if bundle is not None:
            accuracy = bundle_accuracy(bundle, split)
        elif self._asked.mode == "float":
            accuracy = evaluate(path, split, device=self._config.device)
        else:
            accuracy, saturations = evaluate_fixed(path, split, self._data.train.images)
            self._console.print(saturation_table(saturations))
            if self._asked.images is None:
                self._note(fixed={"accuracy": accuracy})
        self._say(f"test accuracy {accuracy:.2%} on {len(split)} images ({path}, {self._asked.mode})")

    def _test_images(self) -> Split:
        """The test images, or as many of them as were asked for."""
        split, count = self._data.test, self._asked.images
        if count is None:
            return split
        if count > len(split):
            message = f"--images {count}: the data set has {len(split)} test images"
            raise UsageError(message, remedy="ask for at most as many, or leave it out for all")
        return split.first(count)

    def export(self, path: Path) -> None:
        """Write the ONNX file."""
        from qcompiler.nn.export import export_onnx
        from qcompiler.train.data import noise, to_input

        trained = self._trained
        written = export_onnx(trained.model, to_input(noise(trained.shape)), path)
        self._say(f"wrote {path} ({written.bytes / 1024:.1f} KiB), the same in onnxruntime; try: qcompile {path}")

    def deploy(self) -> None:
        """Export, compile and compare, and print what came of it."""
        from qcompiler.train.deploy import deploy, deployment_lines

        result = deploy(self._trained.model, self._data, self._directory)
        self._note(deploy=result)
        for line in deployment_lines(result):
            self._say(line)

    def pack(self, path: Path) -> None:
        """Write the packed weights, and print the ratio of sizes."""
        from qcompiler.train.pack import pack

        trained = self._trained
        size = pack(trained.model, path, trained.network, trained.shape, trained.classes, trained.config)
        self._say(f"wrote {path}: {size}")

    def energy(self) -> None:
        """Print the energy model's table."""
        import torch

        from qcompiler.train.energy import HOROWITZ, energy, energy_table, read_constants

        constants = HOROWITZ if self._asked.constants is None else read_constants(self._asked.constants)
        trained = self._trained
        layers = energy(trained.model, torch.zeros(1, *trained.shape), constants)
        self._console.print(energy_table(layers, constants))

    def _note(self, **measured: Any) -> None:
        """Keep a measurement in the run's log; one of another checkpoint is not the run's."""
        from qcompiler.train.runlog import RunLog

        if self._asked.checkpoint is None:
            dataclasses.replace(RunLog.read(self._directory), **measured).write(self._directory)


def _leads() -> bool:
    """Whether this is the only process, or the one of torchrun's that prints and writes."""
    return os.environ.get("RANK", "0") == "0"


if __name__ == "__main__":
    qtrain()
