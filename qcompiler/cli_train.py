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

if TYPE_CHECKING:
    from torch import nn

    from qcompiler.train.checkpoint import Checkpoint
    from qcompiler.train.data import Data

_CONFIGS = sorted(path.stem for path in (Path(__file__).parent / "train" / "configs").glob("*.yaml"))

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
  qtrain mnist_lenet --test --mode fixed        the same in simulated fixed point
  qtrain mnist_lenet --test --bundle net.qc     test what qcompile made of it
  qtrain mnist_lenet --export model.onnx        write an ONNX file, compared in onnxruntime
  qtrain mnist_lenet --resume --deploy          train what is left; export, compile, compare
  torchrun --nproc-per-node 2 -m qcompiler.cli_train cifar10_moons      on two GPUs

\b
CONFIG is a YAML file with one 'key: value' a line, the directory of a run, or one that comes with qcompiler:
{textwrap.fill(", ".join(_CONFIGS), 78, initial_indent="  ", subsequent_indent="  ")}

KEY=VALUE overrides a key of the run (lr, epochs, batch_size, seed, dataset, device, ...) or of its network
(wbits, abits, ...); a misspelt one is answered with the nearest valid one. Data is read from --data-dir DIR, or
downloaded once. TensorBoard shows a run with: tensorboard --logdir runs

Exit status: 0 done, 2 usage, 3 unsupported network, 4 damaged file, 5 verification failed, 130 interrupted.
"""

_app = typer.Typer(add_completion=False, rich_markup_mode=None)


def qtrain() -> NoReturn:
    """Entry point of the command qtrain."""
    main(_app, "qtrain", kept="whole epochs are kept, go on with --resume")


@_app.command(help=_HELP)
def _train_command(
    words: Annotated[list[str], typer.Argument(metavar="CONFIG [KEY=VALUE ...]", show_default=False)],
    override: Annotated[
        list[str] | None, typer.Option("-o", "--override", metavar="KEY=VALUE ...", help="Other settings.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Train what is left of the run, if anything.")] = False,
    test: Annotated[bool, typer.Option("--test", help="Print the accuracy on the test images.")] = False,
    mode: Annotated[str, typer.Option(metavar="float|fixed", help="Arithmetic of --test.")] = "float",
    checkpoint: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Trained network; default: the best of the run.")
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
    config, overrides = split_words(words)
    overrides = [*(override or ()), *overrides, *([] if data_dir is None else [f"data_dir={data_dir}"])]
    asked = Asked(resume, test, mode, checkpoint, bundle, export, deploy, pack, energy, constants)
    asked.check()
    return partial(_run, config, overrides, asked)


@dataclass(frozen=True)
class Asked:
    """What to do, beside the config and its overrides."""

    resume: bool = False
    test: bool = False
    mode: str = "float"
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
            ("--bundle", self.bundle is not None, "--test", self.test),
            ("--constants", self.constants is not None, "--energy", self.energy),
        ):
            if given and not present:
                raise UsageError(f"{option} needs {needed}", remedy=f"add {needed}")
        if self.checkpoint is not None and self.trains:
            raise UsageError(
                "--checkpoint names a trained network, but the command would train one", remedy="add --test"
            )
        if self.bundle is not None and self.checkpoint is not None:
            raise UsageError("--bundle and --checkpoint both say what to test", remedy="give one of them")
        for written in (self.export, self.pack):
            if written is not None:
                check_file(written)


def split_words(words: Sequence[str]) -> tuple[str, list[str]]:
    """The config and the KEY=VALUE overrides among the positional words; an existing file is never an override."""
    overrides = [word for word in words if "=" in word and not Path(word).exists()]
    configs = [word for word in words if word not in overrides]
    if len(configs) != 1:
        found = "none" if not configs else f"{len(configs)}: {', '.join(configs)}"
        raise UsageError(
            f"expected one config, found {found}", remedy="write overrides as KEY=VALUE (see qtrain --help)"
        )
    return configs[0], overrides


def _run(source: str, overrides: Sequence[str], asked: Asked) -> None:
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

    def __init__(self, source: str, overrides: Sequence[str], asked: Asked) -> None:
        from qcompiler.train.config import load_config

        self._source = source
        self._asked = asked
        self._config, self._network = load_config(source, overrides)
        self._console = terminal()
        self._say = partial(self._console.print, markup=False, highlight=False, soft_wrap=True)

    @cached_property
    def _data(self) -> Data:
        from qcompiler.train.data import load_data

        config = self._config
        return load_data(config.dataset, config.data_dir, config.validation, image_size=config.image_size)

    @cached_property
    def _directory(self) -> Path:
        from qcompiler.train.loop import run_directory

        return run_directory(self._config)

    @cached_property
    def _path(self) -> Path:
        """The checkpoint to work with."""
        path = self._asked.checkpoint or self._directory / "best.pt"
        if not path.exists():
            remedy = f"train it first (qtrain {self._source}), or name one with --checkpoint"
            raise UsageError(f"no trained network at '{path}'", remedy=remedy)
        return path

    @cached_property
    def _trained(self) -> tuple[nn.Module, Checkpoint]:
        """The trained network in eval mode, which must be the config's, and its checkpoint."""
        from qcompiler.train.evaluate import load_network

        model, checkpoint = load_network(self._path)
        for key, expected in {"network": self._config.network, **dataclasses.asdict(self._network)}.items():
            if checkpoint.config.get(key) != expected:
                found = f"{key}={checkpoint.config.get(key)}"
                raise UsageError(
                    f"checkpoint '{self._path}' is of another network: {found}, the config says {key}={expected}",
                    remedy=f"set {found}, or name another checkpoint",
                )
        return model, checkpoint

    def train(self) -> None:
        """Train, and say how it went."""
        from qcompiler.train.loop import train
        from qcompiler.train.progress import Bars
        from qcompiler.train.runlog import RunLog

        resumed = self._asked.resume and (self._directory / "last.pt").exists()
        before = resumed and RunLog.read(self._directory).finished
        log = train(self._config, self._network, resume=self._asked.resume, progress=Bars())
        if not log.finished:
            raise KeyboardInterrupt
        if log.test is not None and _leads():
            left = "finished before:" if before else "wrote"
            self._say(
                f"test accuracy {log.test['accuracy']:.2%} on {log.test['images']} images "
                f"(validation {log.validation_accuracy:.2%} at epoch {log.best_epoch}); {left} {self._directory}/"
            )

    def test(self) -> None:
        """Print the accuracy of the bundle, or of the checkpoint in float or fixed point."""
        from qcompiler.train.evaluate import evaluate, evaluate_fixed
        from qcompiler.train.fixed_point import saturation_table

        path = self._asked.bundle
        if path is None:
            path, _ = self._path, self._trained
        if self._asked.mode == "float":
            accuracy = evaluate(path, self._data.test, device=self._config.device)
        else:
            accuracy, saturations = evaluate_fixed(path, self._data.test, self._data.train.images)
            self._console.print(saturation_table(saturations))
            self._note(fixed={"accuracy": accuracy})
        self._say(f"test accuracy {accuracy:.2%} on {len(self._data.test)} images ({path}, {self._asked.mode})")

    def export(self, path: Path) -> None:
        """Write the ONNX file."""
        from qcompiler.nn.export import export_onnx
        from qcompiler.train.data import to_input

        model, _ = self._trained
        written = export_onnx(model, to_input(self._data.test.images[:1]), path)
        self._say(f"wrote {path} ({written.bytes / 1024:.1f} KiB), the same in onnxruntime; try: qcompile {path}")

    def deploy(self) -> None:
        """Export, compile and compare, and print what came of it."""
        from qcompiler.train.deploy import deploy, deployment_lines

        model, _ = self._trained
        result = deploy(model, self._data, self._directory)
        self._note(deploy=result)
        for line in deployment_lines(result):
            self._say(line)

    def pack(self, path: Path) -> None:
        """Write the packed weights, and print the ratio of sizes."""
        from qcompiler.train.pack import pack

        model, checkpoint = self._trained
        self._say(f"wrote {path}: {pack(model, path, self._network, checkpoint.shape, checkpoint.classes)}")

    def energy(self) -> None:
        """Print the energy model's table."""
        import torch

        from qcompiler.train.energy import HOROWITZ, energy, energy_table, read_constants

        constants = HOROWITZ if self._asked.constants is None else read_constants(self._asked.constants)
        model, checkpoint = self._trained
        layers = energy(model, torch.zeros(1, *checkpoint.shape), constants)
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
