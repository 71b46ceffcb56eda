"""Writes the trained model as a folder for ONNX Runtime GenAI, its weights as numbers of eight bits."""

import argparse
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.recipes.llama import BLOCK, Packed, write_folder

from .shape import ANSWER, SHAPE, SPECIAL

TEMPLATE = "{{ messages[-1]['content'] | trim | lower }}" + ANSWER
"""It was trained on single requests in small letters."""


class Trained:
    """The weights that train.py has written; see `Weights`."""

    def __init__(self, file: Path) -> None:
        self._weights = {name: values.numpy() for name, values in torch.load(file, weights_only=True).items()}

    def words(self) -> NDArray[Any]:
        """In half the bytes: nothing is computed with them."""
        return self._weights["words.weight"].astype(np.float16)

    def norm(self, name: str) -> NDArray[np.float32]:
        """As trained."""
        return self._weights[f"{name}.weight"]

    def linear(self, name: str, rows: int, columns: int) -> Packed:
        """Eight bits each, 128 stands for 0."""
        blocks = self._weights[f"{name}.weight"].reshape(rows, columns // BLOCK, BLOCK)
        scales = np.maximum(np.abs(blocks).max(-1), 1e-8) / 127
        return Packed((np.rint(blocks / scales[..., None]) + 128).astype(np.uint8), scales.astype(np.float32), 8)


def main() -> None:
    """Writes the folder, without what measure.py writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", type=Path, required=True, help="folder of what train.py has written")
    parser.add_argument("--out", type=Path, required=True, help="folder of the bundle")
    options = parser.parse_args()

    write_folder(options.out, SHAPE, Trained(options.build / "weights.pt"), SPECIAL, TEMPLATE)
    shutil.copyfile(options.build / "tokenizer.json", options.out / "tokenizer.json")


if __name__ == "__main__":
    main()
