"""The finished product: a bare C library in a directory, written by `write`, loaded by `load`."""
