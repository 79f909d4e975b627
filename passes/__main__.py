"""python -m qcompiler.passes MODEL.onnx [-p NAME,NAME...] [--time] [-o OUT.onnx]: see --help."""

from qcompiler.cli_passes import command

if __name__ == "__main__":
    command()
