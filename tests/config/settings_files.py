"""Settings files that tests write."""

from pathlib import Path

import pytest

from edge_agent.config import loader
from edge_agent.config.loader import Config
from edge_agent.errors import ConfigError


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "agent.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def load(folder: Path, text: str | bytes) -> Config:
    return loader.load(write(folder, text))


def problems(folder: Path, text: str | bytes) -> list[str]:
    """What is wrong with a file, without the file's name."""
    path = write(folder, text)
    with pytest.raises(ConfigError) as caught:
        loader.load(path)
    assert all(problem.startswith(f"{path}:") for problem in caught.value.problems)
    return [problem.removeprefix(f"{path}:") for problem in caught.value.problems]


def pipeline(source: str) -> str:
    return f"models: {{m: {{path: x}}}}\npipelines: {{p: {{model: m, source: {source}}}}}\n"
