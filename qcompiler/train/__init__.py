"""Training of quantized networks: recipes, data, the loop, and what is made of a trained network.

Names are imported on first use, so that asking for help or for a configuration does not load torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qcompiler.train.config import load_config
    from qcompiler.train.loop import train
    from qcompiler.train.networks import NETWORKS

__all__ = ["NETWORKS", "load_config", "train"]

_HOMES = {
    "NETWORKS": "qcompiler.train.networks",
    "load_config": "qcompiler.train.config",
    "train": "qcompiler.train.loop",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'qcompiler.train' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES[name]), name)
