"""Writes the trained model as a folder for ONNX Runtime GenAI, its weights as numbers of eight bits."""

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

from edge_agent.language.intents.vocabulary import FILE
from models.recipes.intents import words
from models.recipes.intents.export import TEMPLATE, Trained
from models.recipes.intents.shape import SPECIAL
from models.recipes.llama import write_folder

from .clauses import vocabulary
from .shape import SHAPE

# What devices are called, beside the words of the bundle `intents`.
MORE = {"light": ("lighting",), "blinds": ("blind", "shades", "drapes")}


def main() -> None:
    """Writes the folder, without what measure.py writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", type=Path, required=True, help="folder of what train.py has written")
    parser.add_argument("--out", type=Path, required=True, help="folder of the bundle")
    options = parser.parse_args()

    write_folder(options.out, SHAPE, Trained(options.build / "weights.pt"), SPECIAL, TEMPLATE)
    shutil.copyfile(options.build / "tokenizer.json", options.out / "tokenizer.json")
    known = {
        "words": vocabulary(),
        "devices": [_device(name, said) for name, said in words.DEVICES.items()],
        "places": [{"name": name} | _also(name, said) for name, said in words.PLACES.items()],
    }
    (options.out / FILE).write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")


def _device(name: str, said: tuple[str, ...]) -> dict[str, Any]:
    opens = {"opens": True} if name in words.OPENED else {}
    degrees = {"values": [5, 30], "unit": "degrees"} if name == "heating" else {}
    return {"name": name} | _also(name, (*said, *MORE.get(name, ()))) | opens | degrees


def _also(name: str, said: tuple[str, ...]) -> dict[str, list[str]]:
    return {"also": [one for one in said if one != name.replace("_", " ")]}


if __name__ == "__main__":
    main()
