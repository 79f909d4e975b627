"""A trained network from whichever file holds it: a checkpoint or a packed file.

Nothing is imported before a file is read, so that telling a config from a network needs no torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from qcompiler.train.container import is_container

if TYPE_CHECKING:
    from torch import nn

    from qcompiler.train.config import TrainConfig
    from qcompiler.train.networks import Network, Shape

_ARCHIVE = b"PK\x03\x04"
"""How a checkpoint begins, which is a zip archive."""


@dataclass(frozen=True)
class Trained:
    """A network with its weights, in eval mode, and how it was made.

    network: its parameters. shape, classes: of the images that it takes. config: the run that trained it, None where
    the file does not say.
    """

    path: Path
    model: nn.Module
    network: Network
    shape: Shape
    classes: int
    config: TrainConfig | None


def is_trained(path: Path) -> bool:
    """Whether `path` is a file that begins as a checkpoint or a packed network does."""
    try:
        with path.open("rb") as file:
            start = file.read(len(_ARCHIVE))
    except OSError:
        return False
    return start == _ARCHIVE or is_container(path)


def load_trained(path: Path) -> Trained:
    """The network in a checkpoint or a packed file; raises UsageError or InvalidData as their readers do."""
    from qcompiler.train.config import from_flat
    from qcompiler.train.evaluate import load_network
    from qcompiler.train.pack import read_packed

    if path.is_file() and is_container(path):
        return read_packed(path)
    model, checkpoint = load_network(path)
    config, network = from_flat(checkpoint.config, f"checkpoint '{path}'")
    return Trained(path, model, network, checkpoint.shape, checkpoint.classes, config)
