import logging
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge_agent.modelfile import inspect
from edge_agent.modelfile.facts import ModelFile
from tests.broker import Mosquitto
from tests.delegates import TestDelegate, compiled
from tests.settlements import every_input_ends_once

# Tests reach servers of their own only, whatever proxy this machine has.
for _name in [name for name in os.environ if name.lower().endswith("_proxy")]:
    del os.environ[_name]
# Each program that a test starts would compile the whole package again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# A shell has what runs in its background ignore Ctrl-C, and so would each program that a test starts and interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_xdist_auto_num_workers() -> int:
    """Tests spend half of their time waiting for other processes."""
    return max(2, (os.cpu_count() or 1) * 3 // 2)


@pytest.fixture(autouse=True)
def _every_input_ends_once() -> Iterator[None]:
    with every_input_ends_once():
        yield


@pytest.fixture(autouse=True)
def _logging_is_as_before() -> Iterator[None]:
    """`edge-agent run` in this process sends the log to a standard error that is closed after the test."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    for handler in root.handlers[:]:
        if handler not in handlers:
            root.removeHandler(handler)
    root.setLevel(level)


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    """A broker of the test's own."""
    with Mosquitto(tmp_path / "mosquitto") as broker:
        yield broker


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    """A broker that a module's tests share: what one leaves retained, the next one sees."""
    with Mosquitto(tmp_path_factory.mktemp("broker")) as shared:
        yield shared


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of test data, which is no part of the project."""
    beside_the_project = Path(__file__).parents[2] / "shared" / "data"
    # Tests compare paths with those that the program has resolved.
    folder = Path(os.environ.get("EDGE_AGENT_TEST_DATA", beside_the_project)).resolve()
    if not folder.is_dir():
        pytest.skip(f"no test data in {folder}: set EDGE_AGENT_TEST_DATA")
    return folder


@pytest.fixture(scope="session")
def _delegate_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(tmp_path_factory.mktemp("delegate"))


@pytest.fixture
def delegate(_delegate_library: Path, tmp_path: Path) -> TestDelegate:
    """A TFLite delegate of the test's own, which has no past."""
    return TestDelegate(Path(shutil.copy(_delegate_library, tmp_path)), tmp_path / "harm")


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where models that have passed their trial are remembered, for all tests of updates."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def reading(tmp_path: Path) -> Callable[[bytes], ModelFile]:
    """Writes bytes to a file and reads it as a model."""

    def read_bytes(content: bytes) -> ModelFile:
        path = tmp_path / "model.bin"
        path.write_bytes(content)
        return inspect.read(path)

    return read_bytes
