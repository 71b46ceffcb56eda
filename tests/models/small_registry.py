"""A registry with two small models in place of the shipped one, and a mirror that has them."""

import hashlib
import random
from pathlib import Path
from typing import Any

import pytest
import yaml

from edge_agent.models import registry

MODEL = random.Random(2).randbytes(300_000)
LABELS = b"cat\ndog\n"


def published(name: str, content: bytes) -> dict[str, Any]:
    sha256 = hashlib.sha256(content).hexdigest()
    return {"name": name, "url": f"https://models.invalid/{name}", "size": len(content), "sha256": sha256}


ENTRY = {
    "description": "Cats and dogs",
    "task": "classification",
    "licence": "MIT",
    "source": "https://models.invalid/",
    "files": [published("pets.tflite", MODEL), published("pets.txt", LABELS)],
    "labels": "pets.txt",
    "preprocess": {"normalize": {"mean": 127, "std": 128}},
}
DIGIT = {
    **ENTRY,
    "files": [published("digit.onnx", MODEL)],
    "labels": ["0", "1"],
    "preprocess": {"color": "gray"},
}


@pytest.fixture
def pets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A registry of `pets` and `digit` in place of the shipped one; the folder where models go."""
    (tmp_path / "shipped").mkdir()
    entries = yaml.safe_dump({"pets": ENTRY, "digit": DIGIT}, sort_keys=False)
    (tmp_path / "shipped" / "registry.yaml").write_text(entries)
    monkeypatch.setattr(registry, "shipped", lambda name: tmp_path / "shipped" / name)
    monkeypatch.setenv("EDGE_AGENT_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    for path, content in {
        "pets/pets.tflite": MODEL,
        "pets/pets.txt": LABELS,
        "digit/digit.onnx": MODEL,
    }.items():
        (tmp_path / "mirror" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mirror" / path).write_bytes(content)
    return tmp_path / "mirror"
