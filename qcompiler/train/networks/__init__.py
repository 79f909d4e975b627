"""The networks by name. A new one is a file with a `Network` here, and a line in the tuple below."""

from __future__ import annotations

from qcompiler.train.networks.binarynet import BinaryNetMlp, BinaryNetVgg
from qcompiler.train.networks.bmxnet import LeNet
from qcompiler.train.networks.moons import Moons
from qcompiler.train.networks.network import Network, Shape
from qcompiler.train.networks.scratch import ScratchMlp
from qcompiler.train.networks.xnornet import XnorNetMlp

__all__ = ["NETWORKS", "Network", "Shape"]

_ALL: tuple[type[Network], ...] = (BinaryNetMlp, BinaryNetVgg, XnorNetMlp, Moons, LeNet, ScratchMlp)

NETWORKS: dict[str, type[Network]] = {network.name: network for network in _ALL}
