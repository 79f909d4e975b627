"""Finding the fastest kernels of a network by measuring, here or on devices, and keeping what was measured."""
