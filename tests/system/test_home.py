"""Users without a home directory, as in containers."""

import os
from pathlib import Path

import pytest

from edge_agent.models import registry
from edge_agent.system import cache, home


@pytest.fixture
def homeless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "STATE_DIRECTORY", "EDGE_AGENT_MODELS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "getuid", lambda: 54321)  # has no entry in passwd


@pytest.mark.usefixtures("homeless")
def test_without_a_home_directory_no_folder_is_taken_from_the_current_one() -> None:
    for path in (home.home(), home.expand_user("~/x"), cache.cache_dir(), registry.models_dir()):
        assert path.is_relative_to(home.NO_HOME)


def test_a_home_directory_is_taken_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/pi")
    assert home.expand_user("~/models/a.tflite") == Path("/home/pi/models/a.tflite")
    assert home.expand_user("models/~a.tflite") == Path("models/~a.tflite")
    assert home.expand_user("~nobody-of-that-name/x") == Path("~nobody-of-that-name/x")
