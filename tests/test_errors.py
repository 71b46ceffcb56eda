"""A package that is missing is named with the command that brings it to this installation."""

import importlib.util
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata
from itertools import chain
from pathlib import Path

import pytest

from edge_agent import errors
from edge_agent.errors import MissingExtraError, install_extra

ROOT = Path(__file__).parents[1]

EXTRAS = {
    "tflite": "install 'ai-edge-litert>=2.0'",
    "onnx": "install 'onnxruntime>=1.20'",
    "openvino": "install 'onnxruntime-openvino>=1.24'",
    "serial": "install 'pyserial>=3.5'",
    "metrics": "install 'prometheus-client>=0.20' 'waitress>=3.0.1'",
    "http": "install 'waitress>=3.0.1'",
    "s3": "install 'botocore>=1.34'",
}


@pytest.fixture(autouse=True)
def _environment_is_of_this_project() -> None:
    """One that was made before the distribution had its name knows no extras."""
    assert any(metadata.distributions(name=errors.DISTRIBUTION)), "install again: make .venv/.installed-dev"


@pytest.mark.parametrize("extra", EXTRAS)
def test_its_packages_are_named_since_edge_agent_on_the_index_is_another_project(extra: str) -> None:
    command = install_extra(extra)
    assert command.endswith(EXTRAS[extra])
    assert "edge-agent[" not in command
    assert sys.executable in command


def test_every_extra_has_packages() -> None:
    provided = metadata.metadata(errors.DISTRIBUTION).get_all("Provides-Extra") or []
    assert all(" install " in install_extra(extra) for extra in provided)


@pytest.mark.parametrize("has_pip", [True, False])
def test_the_environment_is_named_also_where_it_has_no_pip(has_pip: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name if has_pip else None)
    monkeypatch.setattr(sys, "executable", "/home/pi/env/bin/python")
    expected = "/home/pi/env/bin/python -m pip" if has_pip else "python3 -m pip --python /home/pi/env/bin/python"
    assert install_extra("serial") == f"{expected} install 'pyserial>=3.5'"


def test_an_environment_of_install_sh_is_made_again_with_all_its_extras(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    (tmp_path / ".installed").touch()
    assert " -m pip " in install_extra("serial")  # not complete, or of another tool
    (tmp_path / ".installed").write_text("complete\n")
    monkeypatch.setattr(errors, "_installed_extras", lambda: iter(["tflite", "http"]))
    assert install_extra("serial") == "run `sh install.sh --extras tflite,http,serial WHEEL` again"
    (tmp_path / ".installed").write_text("package\n")  # Debian's: it has no pip, and dpkg would not know of the files
    assert "install.sh" in install_extra("plot")


def test_extras_count_as_installed_when_all_their_packages_are() -> None:
    assert {"tflite", "http", "metrics"} <= set(errors._installed_extras())
    assert "dev" not in errors._installed_extras()


def test_on_32_bit_it_is_the_packages_of_that_or_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(errors, "_IS_32_BIT", True)
    assert install_extra("tflite").endswith("install 'tflite-runtime>=2.14'")
    assert install_extra("update").endswith("install 'tuf>=6.0'")
    assert install_extra("onnx") == "it exists for 64-bit systems only"
    assert errors.install_opencv() == "apt-get install python3-opencv"


def test_a_package_that_is_there_and_does_not_load_is_not_called_missing() -> None:
    why = "libgomp.so.1: cannot open shared object file"
    assert str(MissingExtraError("running .onnx models", "onnx", ImportError(why))) == (
        f"running .onnx models needs a package that can't be loaded: {why}"
    )
    assert "not installed" in str(MissingExtraError("x", "onnx", ModuleNotFoundError("No module named 'onnxruntime'")))


def test_no_advice_names_a_package_that_is_not_ours_or_one_that_we_need() -> None:
    """In messages, pages and scripts, what pip is asked for is a file or folder of ours, or one of our requirements."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["name"] == errors.DISTRIBUTION
    requirements = [*project["dependencies"], *chain(*project["optional-dependencies"].values())]
    known = {"torch", "transformers"}  # with which language models are made, on another machine
    known |= {"rknn-toolkit-lite2"}  # Rockchip's library, for the Python that the agent starts for it
    known |= {re.split(r"[^\w.-]", requirement)[0].lower() for requirement in requirements}
    for file, text in _advice():
        for command in re.findall(r"\bpip3? (?:install|download|wheel) ([^`\n&|;)]*)", text):
            for named in _named(command):
                assert named in known, f"{file}: pip install {command}"
        assert not re.search(r"(?<![./\w])edge-agent\[", text), f"{file}: an extra of edge-agent is asked for"


def _advice() -> Iterator[tuple[Path, str]]:
    parts = ("edge_agent", "docs", "deploy", "models", "systemd", "README.md", "CONTRIBUTING.md", "SECURITY.md")
    for part in parts:
        found = [ROOT / part] if (ROOT / part).is_file() else (ROOT / part).rglob("*")
        for file in found:
            if "decisions" not in file.parts and file.suffix in {
                ".md",
                ".py",
                ".sh",
                ".yaml",
                ".js",
                ".html",
                ".service",
                ".txt",
            }:
                yield file, file.read_text()


def _named(command: str) -> Iterator[str]:
    """The packages that a pip command names, without options, files, folders and placeholders."""
    for word in re.sub(r"(^| )(-[a-z]|--platform|--python-version|--only-binary) \S+", " ", command).split():
        bare = word.strip("'\"")
        if re.match(r"[A-Za-z]", bare) and not re.search(r"[/{}$]|\.whl|\.txt", bare):
            yield re.split(r"[^\w.-]", bare)[0].lower()
