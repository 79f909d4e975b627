"""Image data sets as uint8 tensors, from files that are checked before they are believed."""

from __future__ import annotations

from qcompiler.train.data.dataset import Data, Split, load_data, noise, pixels_of, to_input

__all__ = ["Data", "Split", "load_data", "noise", "pixels_of", "to_input"]
