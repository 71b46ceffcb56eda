"""A Python that has a vendor's module where this one has not: what the system's is on a Pi."""

import sys
from pathlib import Path

import numpy as np

from edge_agent.models.shipped import shipped

_HERE = Path(__file__).parent


def make(folder: Path, *, with_runtimes: bool = False) -> Path:
    """A program that starts such a Python; it has the stand-ins and numpy, and no other package.

    Args:
        folder: for the program.
        with_runtimes: it has all packages of this Python as well.
    """
    packages = folder / "dist-packages"
    packages.mkdir(parents=True, exist_ok=True)
    installed = Path(np.__file__).parents[1]
    for name in ("numpy", "numpy.libs"):
        if (installed / name).exists() and not (packages / name).exists():
            (packages / name).symlink_to(installed / name)
    path = [str(_HERE), str(packages), *([str(installed)] if with_runtimes else [])]
    program = folder / "python3"
    program.write_text(
        f"#!/bin/sh\nEDGE_AGENT_DIGITS={shipped('digits/digits.onnx')} PYTHONPATH={':'.join(path)} "
        f'exec {sys.executable} -S "$@"\n'
    )
    program.chmod(0o755)
    return program
