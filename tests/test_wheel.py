"""The wheel is whole: installed in an environment of its own, with no checkout beside it, everything works."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from importlib.metadata import packages_distributions
from pathlib import Path
from zipfile import ZipFile

import pytest

from edge_agent import __version__
from edge_agent.models.shipped import shipped
from tests.command_line import PROJECT

TIMEOUT_S = 110.0


def succeed(*command: str | Path, cwd: Path) -> str:
    """Runs a command that must succeed; returns what it prints."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "EDGE_AGENT"))}
    run = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    succeed(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, PROJECT, cwd=folder)
    (path,) = folder.glob("edge_agent_runtime-*.whl")
    return path


@pytest.fixture(
    scope="module",
    params=[
        "with the dependencies of the tests",
        pytest.param("with dependencies of its own", marks=pytest.mark.faults),
    ],
)
def programs(request: pytest.FixtureRequest, wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of programs of an environment in which nothing but the wheel has been installed."""
    environment = tmp_path_factory.mktemp("environment")
    python = environment / "bin" / "python"
    succeed(sys.executable, "-m", "venv", "--without-pip", environment, cwd=environment)
    # The environment of the tests may have no pip of its own; the Python that it was made with has.
    base_python = Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}"
    pip = (base_python, "-m", "pip", "--disable-pip-version-check", "--python", python, "install")
    if request.param == "with dependencies of its own":
        succeed(*pip, "-c", PROJECT / "constraints.txt", f"{wheel}[tflite]", cwd=environment)
    else:
        succeed(*pip, "--no-deps", wheel, cwd=environment)
        (site_packages,) = environment.glob("lib/python*/site-packages")
        (site_packages / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    return environment / "bin"


def test_what_is_imported_is_the_installed_package(programs: Path, tmp_path: Path) -> None:
    path = succeed(programs / "python", "-c", "import edge_agent; print(edge_agent.__file__)", cwd=tmp_path)
    assert Path(path).is_relative_to(programs.parent)
    assert succeed(programs / "edge-agent", "--version", cwd=tmp_path) == f"edge-agent {__version__}\n"


def test_schema_works(programs: Path, tmp_path: Path) -> None:
    assert "properties" in json.loads(succeed(programs / "edge-agent", "schema", cwd=tmp_path))


def test_the_shipped_model_and_the_registry_are_there(programs: Path, tmp_path: Path) -> None:
    models = json.loads(succeed(programs / "edge-agent", "models", "list", "--json", cwd=tmp_path))
    by_name = {model["name"]: model for model in models}
    assert Path(by_name["digits"]["path"]).is_relative_to(programs.parent)
    assert "mobilenet-v2" in by_name


def test_predict_works(programs: Path, tmp_path: Path) -> None:
    for path in shipped("digits").glob("golden/7_*.png"):
        shutil.copy(path, tmp_path / "7.png")
    (document,) = json.loads(succeed(programs / "edge-agent", "predict", "digits", "7.png", "--json", cwd=tmp_path))
    assert document["predictions"][0]["label"] == "7"


def test_the_demo_works(programs: Path, tmp_path: Path) -> None:
    document = json.loads(succeed(programs / "edge-agent", "demo", "--seconds", "3", "--json", cwd=tmp_path))
    assert document["readings"]


def test_the_service_s_commands_work(programs: Path, tmp_path: Path) -> None:
    (tmp_path / "agent.yaml").write_text(
        "models: {m: {path: digits}}\npipelines: {p: {source: {type: mqtt, topic: a}, model: m}}\n"
    )
    assert "agent.yaml is valid" in succeed(programs / "edge-agent", "check", "-c", "agent.yaml", cwd=tmp_path)


def test_the_wheel_holds_the_licence_and_no_tests(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        names = archive.namelist()
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert {"edge_agent/py.typed", "edge_agent/shipped/agent.yaml", "edge_agent/shipped/edge-agent.service"} <= {*names}
    assert {name.partition("/")[0] for name in names} == {"edge_agent", f"edge_agent_runtime-{__version__}.dist-info"}
    assert not [name for name in names if "__pycache__" in name or "recipes" in name]


def imports(source: bytes) -> set[str]:
    """The packages that a module imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    return {name.partition(".")[0] for name in names}


# Of the chips; they are installed for the Python of the system.
VENDORS = {"hailo_platform", "rknnlite"}
PARTS = {"pydantic_core"}  # of pydantic


def test_everything_that_the_package_imports_is_a_requirement(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        used = set().union(*(imports(archive.read(name)) for name in archive.namelist() if name.endswith(".py")))
        metadata = archive.read(f"edge_agent_runtime-{__version__}.dist-info/METADATA").decode()
    required = {_normal(name) for name in re.findall(r"^Requires-Dist: ([\w-]+)", metadata, re.MULTILINE)}
    providers = packages_distributions()
    for package in (
        used - {*sys.stdlib_module_names, "edge_agent", "pydantic_core"} - VENDORS
    ):  # pydantic_core is a part of pydantic
        # Of the two TFLite runtimes only one is installed.
        assert required & {_normal(name) for name in providers.get(package, [package])}, package


def _normal(distribution: str) -> str:
    return distribution.lower().replace("_", "-")
