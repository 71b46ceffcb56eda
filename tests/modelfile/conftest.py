from pathlib import Path
from typing import Any

import pytest

from edge_agent.modelfile.facts import ModelFile
from edge_agent.modelfile.inspect import read


@pytest.fixture
def reading(tmp_path: Path) -> Any:
    """Writes bytes to a file and reads it."""

    def read_bytes(content: bytes) -> ModelFile:
        path = tmp_path / "model.bin"
        path.write_bytes(content)
        return read(path)

    return read_bytes
