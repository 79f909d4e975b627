"""The networks by name. A new one is a file with a `Network` here, and a line in the tuple below."""

from __future__ import annotations

from qcompiler.train.networks.binarynet import BinaryNetMlp, BinaryNetVgg
from qcompiler.train.networks.bireal import BiReal18
from qcompiler.train.networks.bmxnet import LeNet, ResNet18
from qcompiler.train.networks.keras_style import KerasCnn, KerasMlp
from qcompiler.train.networks.lsq import LsqResNet18
from qcompiler.train.networks.moons import Moons
from qcompiler.train.networks.network import Network, Shape
from qcompiler.train.networks.quicknet import QuickNet
from qcompiler.train.networks.reactnet import ReActNet18
from qcompiler.train.networks.scratch import ScratchMlp
from qcompiler.train.networks.xnornet import XnorNetAlexNet, XnorNetMlp, XnorNetVgg

__all__ = ["NETWORKS", "Network", "Shape"]

_ALL: tuple[type[Network], ...] = (
    BinaryNetMlp, BinaryNetVgg, XnorNetMlp, XnorNetVgg, XnorNetAlexNet, Moons, LeNet, ResNet18, LsqResNet18, BiReal18,
    ReActNet18, QuickNet, KerasMlp, KerasCnn, ScratchMlp,
)  # fmt: skip

NETWORKS: dict[str, type[Network]] = {network.name: network for network in _ALL}
