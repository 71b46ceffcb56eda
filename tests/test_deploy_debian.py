"""The Debian packages without a Debian: what each target takes, and a package that holds one wheel."""

import itertools
import shutil
import subprocess
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.debian_packages import builder
from tests.installation import UNIT

FILES = {
    "edge_agent/__init__.py": "",
    "edge_agent_runtime-{version}.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    "edge_agent_runtime-{version}.dist-info/RECORD": "",
}


def make_wheel(folder: Path, version: str, *requirements: str) -> Path:
    path = folder / f"edge_agent_runtime-{version}-py3-none-any.whl"
    metadata = f"Metadata-Version: 2.1\nName: edge-agent-runtime\nVersion: {version}\n"
    metadata += "".join(f"Requires-Dist: {requirement}\n" for requirement in requirements)
    with ZipFile(path, "w") as wheel:
        for name, text in FILES.items():
            wheel.writestr(name.format(version=version), text)
        wheel.writestr(f"edge_agent_runtime-{version}.dist-info/METADATA", metadata)
    return path


def dpkg_deb(*arguments: str | Path) -> str:
    return subprocess.run(["dpkg-deb", *arguments], capture_output=True, text=True, check=True).stdout


def test_requirements_are_those_of_the_target_and_not_of_this_machine(tmp_path: Path) -> None:
    wheel = make_wheel(
        tmp_path,
        "1.0",
        "everywhere",
        "not-on-32-bit; platform_machine != 'armv7l'",
        "old-python; python_version < '3.13'",
        "runtime; extra == 'tflite'",
        "other; extra == 'onnx'",
    )

    def needed(target: str) -> set[str]:
        return {one.name for one in builder().requirements(wheel, {"tflite"}, builder().TARGETS[target])}

    assert needed("12-armhf") == {"everywhere", "old-python", "runtime"}
    assert needed("13-arm64") == {"everywhere", "not-on-32-bit", "runtime"}


def test_what_is_not_pinned_is_refused(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "1.0", "package-of-nobody")
    with pytest.raises(SystemExit, match="package-of-nobody"):
        builder().wheelhouse(wheel, builder().TARGETS["12-amd64"], tmp_path / "wheels")


@pytest.mark.skipif(not shutil.which("dpkg"), reason="needs dpkg")
def test_debian_orders_the_versions_as_python_does() -> None:
    targets = builder().TARGETS["12-amd64"], builder().TARGETS["13-amd64"]
    python = ("0.1.0", "0.2.0.dev1", "0.2.0a1", "0.2.0rc1", "0.2.0", "0.2.0.post1", "0.10.0")
    wheels = [Path(f"edge_agent_runtime-{version}-py3-none-any.whl") for version in python]
    versions = [builder().debian_version(wheel, target) for wheel in wheels for target in targets]
    for older, newer in itertools.pairwise(versions):
        subprocess.run(["dpkg", "--compare-versions", older, "lt", newer], check=True)


@pytest.mark.skipif(not shutil.which("dpkg-deb"), reason="needs dpkg-deb")
@pytest.mark.parametrize("target", ["13-arm64", "12-armhf"])
def test_a_package_holds_the_environment_the_unit_and_its_scripts(target: str, tmp_path: Path) -> None:
    package = builder().build(make_wheel(tmp_path, "1.0"), builder().TARGETS[target], tmp_path)
    release, _, architecture = target.partition("-")
    assert package.name == f"edge-agent_1.0+deb{release}_{architecture}.deb"
    depends = dpkg_deb("--field", package, "Depends")
    assert dpkg_deb("--field", package, "Architecture").strip() == architecture
    if target == "12-armhf":
        assert {"python3-numpy", "python3-opencv", "python3-yaml"} <= set(depends.strip().split(", "))
    else:
        assert depends.startswith("python3 (>= 3.13~), python3 (<< 3.14~), ")
    scripts = {line.split()[-2] for line in dpkg_deb("--info", package).splitlines() if line.endswith("#!/bin/sh")}
    assert scripts == {"preinst", "postinst", "prerm", "postrm"}

    listed = [line.split(maxsplit=5) for line in dpkg_deb("--contents", package).splitlines()]
    assert {(owner, mode[5], mode[8]) for mode, owner, *_ in listed if mode[0] != "l"} == {("root/root", "-", "-")}
    dpkg_deb("--extract", package, tmp_path / "root")
    root, prefix = tmp_path / "root", tmp_path / "root" / "usr" / "lib" / "edge-agent"
    python = "3.11" if release == "12" else "3.13"
    assert (prefix / "bin" / "python").readlink() == Path(f"/usr/bin/python{python}")
    assert (prefix / "lib" / f"python{python}" / "site-packages" / "edge_agent" / "__init__.py").exists()
    assert (root / "usr" / "bin" / "edge-agent").resolve() == prefix / "bin" / "edge-agent"
    assert (f"include-system-site-packages = {str(target == '12-armhf').lower()}\n") in (
        prefix / "pyvenv.cfg"
    ).read_text()
    unit = (root / "usr/lib/systemd/system/edge-agent.service").read_text()
    assert unit.replace("/usr/lib/edge-agent/", "/opt/edge-agent/current/") == UNIT.read_text()
    assert "ExecStart=/usr/lib/edge-agent/bin/edge-agent run" in unit
