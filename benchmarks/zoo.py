"""Every network of qcompiler.train in each of its kinds, and the images that it is measured on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from qcompiler.train.networks import NETWORKS, Network

WIDTH_FIELDS = ("width", "hidden", "filters", "nfa", "nfb", "nfc")
"""Parameters of networks that are a number of channels."""
# what a network's own check asks of its width
_MULTIPLES = {("xnornet_alexnet", "width"): 3}
# scores beyond 17 are all 1 to a sigmoid in float32, and the last bit of its rounding would choose the class
_HEAD = {"head": "batchnorm"}
_IMAGENET: dict[str, Any] = {"data": "cifar10", "enlarge": 7, "classes": 1000, "images": 500}


@dataclass(frozen=True)
class Row:
    """A network of the published size; `kind` holds the parameters that tell it from others of its family.

    data: mnist or cifar10. enlarge: how many times the images are repeated along their sides; CIFAR-10's seven times
    stand for ImageNet's. classes: of the network. images: how many of the test set are compared; None is all.
    """

    name: str
    kind: Mapping[str, Any]
    data: str
    enlarge: int = 1
    classes: int = 10
    images: int | None = None

    @property
    def network(self) -> Network:
        """The network."""
        return NETWORKS[self.name](**self.kind)


def resized(network: Network, sizes: Mapping[str, Any]) -> Network:
    """`network` with those of `sizes`, by parameter, that it has."""
    return replace(network, **{field: size for field, size in sizes.items() if hasattr(network, field)})


def scaled(network: Network, factor: float) -> Network:
    """`network` with every number of channels times `factor`."""
    widths = {field: getattr(network, field) for field in WIDTH_FIELDS if hasattr(network, field)}
    return resized(network, {field: _scaled(network.name, field, widths[field] * factor) for field in widths})


def _scaled(name: str, field: str, width: float) -> int:
    multiple = _MULTIPLES.get((name, field), 1)
    return max(round(width / multiple), 1) * multiple


ROWS: dict[str, Row] = {
    "binarynet_mlp-binary": Row("binarynet_mlp", {"weights": "binary", "activation": "sign"}, "mnist"),
    "binarynet_mlp-ternary": Row("binarynet_mlp", {"weights": "ternary", "activation": "sign"}, "mnist"),
    "binarynet_vgg-binary": Row("binarynet_vgg", {"weights": "binary", "activation": "sign"}, "cifar10"),
    "binarynet_vgg-ternary": Row("binarynet_vgg", {"weights": "ternary", "activation": "sign"}, "cifar10"),
    "xnornet_mlp": Row("xnornet_mlp", {"binary": True, "k_map": True}, "mnist"),
    "xnornet_mlp-alpha": Row("xnornet_mlp", {"binary": True, "k_map": False}, "mnist"),
    "xnornet_vgg": Row("xnornet_vgg", {"binary": True, "k_map": True}, "cifar10"),
    "xnornet_vgg-alpha": Row("xnornet_vgg", {"binary": True, "k_map": False}, "cifar10"),
    "xnornet_alexnet": Row("xnornet_alexnet", {"binary": True, "k_map": True}, **_IMAGENET),
    "xnornet_alexnet-alpha": Row("xnornet_alexnet", {"binary": True, "k_map": False}, **_IMAGENET),
    "moons-float": Row("moons", {"network_type": "float"}, "cifar10"),
    "moons-qnn": Row("moons", {"network_type": "qnn", "wbits": 4}, "cifar10"),
    "moons-full-qnn-w2a2": Row("moons", {"network_type": "full-qnn", "wbits": 2, "abits": 2}, "cifar10"),
    "moons-full-qnn-w4a4": Row("moons", {"network_type": "full-qnn", "wbits": 4, "abits": 4}, "cifar10"),
    "moons-bnn": Row("moons", {"network_type": "bnn"}, "cifar10"),
    "moons-full-bnn": Row("moons", {"network_type": "full-bnn"}, "cifar10"),
    "lenet": Row("lenet", {"w_bits": 1, "a_bits": 1}, "mnist"),
    "resnet18-w1a1": Row("resnet18", {"w_bits": 1, "a_bits": 1}, "cifar10"),
    "resnet18-w2a2": Row("resnet18", {"w_bits": 2, "a_bits": 2}, "cifar10"),
    "resnet18-w4a4": Row("resnet18", {"w_bits": 4, "a_bits": 4}, "cifar10"),
    "lsq_resnet18-w2a2": Row("lsq_resnet18", {"w_bits": 2, "a_bits": 2}, "cifar10"),
    "lsq_resnet18-w4a4": Row("lsq_resnet18", {"w_bits": 4, "a_bits": 4}, "cifar10"),
    "reactnet18": Row("reactnet18", {"binary": True}, "cifar10"),
    "bireal18": Row("bireal18", {"binary": True}, **_IMAGENET),
    "quicknet": Row("quicknet", {"binary": True}, **_IMAGENET),
    "keras_mlp-binary": Row("keras_mlp", {"weights": "binary"}, "mnist"),
    "keras_mlp-ternary": Row("keras_mlp", {"weights": "ternary"}, "mnist"),
    "keras_mlp-w4a4": Row("keras_mlp", {"weights": "nbit", "wbits": 4, "abits": 4}, "mnist"),
    "keras_cnn-binary": Row("keras_cnn", {"weights": "binary"}, "mnist"),
    "keras_cnn-ternary": Row("keras_cnn", {"weights": "ternary"}, "mnist"),
    "keras_cnn-w4a4": Row("keras_cnn", {"weights": "nbit", "wbits": 4, "abits": 4}, "mnist"),
    "scratch_mlp-relu": Row("scratch_mlp", {"weights": "binary", "activation": "relu", **_HEAD}, "mnist"),
    "scratch_mlp-sign": Row("scratch_mlp", {"weights": "binary", "activation": "sign", **_HEAD}, "mnist"),
}
"""By label."""
