from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.broker import Mosquitto
from tests.update.kit import Scene, scene


@pytest.fixture
def stage(mosquitto: Mosquitto, tmp_path: Path, cache: Path) -> Iterator[Scene]:
    """An empty repository, and a daemon that is not started yet."""
    with scene(mosquitto, tmp_path, cache) as stage:
        yield stage
