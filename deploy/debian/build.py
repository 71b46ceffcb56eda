"""Builds the Debian packages, one for each release of Debian and each architecture.

    build.py [--wheel FILE] [--into FOLDER] [TARGET ...]    # a target is, for instance, 12-arm64; else all

Needs dpkg-deb, pip, packaging and the package index. Wheels of other processors are only unpacked, never run. A package
holds the whole environment, ready made, so that nothing is loaded or built on the device. Downloaded wheels stay in
build/wheelhouse.
"""

import argparse
import gzip
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from email import message_from_bytes
from email.message import Message
from email.utils import formatdate
from pathlib import Path
from zipfile import ZipFile

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
PREFIX = "usr/lib/edge-agent"
PROGRAM = """#!/usr/lib/edge-agent/bin/python
from sys import exit

from edge_agent.cli import main

exit(main())
"""


@dataclass(frozen=True)
class Target:
    """What a package is for.

    Attributes:
        release: of Debian.
        python: that release's.
        glibc: minor version of that release's.
        architecture: as Debian calls it.
        machine: as wheels and their markers call it.
        extras: those with wheels for it.
        from_debian: distributions that have no wheels for it -> Debian's packages.
    """

    release: int
    python: str
    glibc: int
    architecture: str
    machine: str
    extras: tuple[str, ...] = ("tflite", "onnx", "video", "serial", "gpio", "speech", "update", "metrics", "http")
    from_debian: tuple[tuple[str, str], ...] = ()

    @property
    def environment(self) -> dict[str, str]:
        """What the markers of requirements are evaluated in."""
        return {
            "implementation_name": "cpython",
            "os_name": "posix",
            "platform_machine": self.machine,
            "platform_python_implementation": "CPython",
            "platform_system": "Linux",
            "python_full_version": f"{self.python}.0",
            "python_version": self.python,
            "sys_platform": "linux",
        }

    @property
    def pip_options(self) -> list[str]:
        """Makes pip choose wheels for the target instead of for this machine."""
        tags = [f"manylinux_2_{minor}_{self.machine}" for minor in range(self.glibc, 4, -1)]
        platforms = [*tags, f"manylinux2014_{self.machine}", f"linux_{self.machine}"]
        options = [option for platform in platforms for option in ("--platform", platform)]
        return ["--only-binary=:all:", f"--python-version={self.python}", "--no-deps", *options]


_32_BIT = (("numpy", "python3-numpy"), ("opencv-python-headless", "python3-opencv"), ("pyyaml", "python3-yaml"))
TARGETS = {
    "12-amd64": Target(12, "3.11", 36, "amd64", "x86_64"),
    "12-arm64": Target(12, "3.11", 36, "arm64", "aarch64"),
    # Not for Debian 13: no runtime for models has wheels for its Python on 32 bit.
    "12-armhf": Target(
        *(12, "3.11", 36, "armhf", "armv7l"), ("tflite", "serial", "update", "metrics", "http"), _32_BIT
    ),
    "13-amd64": Target(13, "3.13", 41, "amd64", "x86_64"),
    "13-arm64": Target(13, "3.13", 41, "arm64", "aarch64"),
}


def run(*command: str | Path) -> None:
    """Runs a command, and ends this program with its output if it fails."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{command[0]} failed:\n{done.stdout}{done.stderr}")


def pip(*arguments: str | Path) -> None:
    """Runs the pip of the Python that this environment was made with: it may have none of its own."""
    run(
        Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}",
        "-m",
        "pip",
        "--quiet",
        "--disable-pip-version-check",
        *arguments,
    )


def metadata(wheel: Path) -> Message:
    """A wheel's METADATA."""
    with ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", name)]
        return message_from_bytes(archive.read(name))


def requirements(wheel: Path, extras: set[str], target: Target) -> Iterator[Requirement]:
    """What a wheel with these extras needs on the target."""
    for text in metadata(wheel).get_all("Requires-Dist", []):
        needed = Requirement(text)
        if not needed.marker or any(
            needed.marker.evaluate(target.environment | {"extra": extra}) for extra in {"", *extras}
        ):
            yield needed


def pins() -> dict[str, str]:
    """The versions in constraints.txt, by canonical name."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = [line.split("==") for line in lines if "==" in line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in pairs}


def wheelhouse(wheel: Path, target: Target, folder: Path) -> list[Path]:
    """The wheels of everything that the project's wheel needs on the target, downloaded unless they are there.

    pip would evaluate markers for the machine that it runs on; so they are evaluated here, and pip only loads.
    """
    folder.mkdir(parents=True, exist_ok=True)
    versions, wanted = pins(), {(str(wheel), frozenset(target.extras))}
    seen, found = set(wanted), {}
    while wanted:
        needed = [needed for path, extras in wanted for needed in requirements(Path(path), set(extras), target)]
        names = {canonicalize_name(one.name) for one in needed} - {name for name, _ in target.from_debian}
        if missing := names - versions.keys():
            sys.exit(f"constraints.txt does not say which version of {', '.join(sorted(missing))} to take")
        there = by_name(folder, versions)
        if absent := sorted(names - there.keys()):
            pinned = [f"{name}=={versions[name]}" for name in absent]
            pip("download", *target.pip_options, "-d", folder, *pinned)
            there = by_name(folder, versions)
        found |= {name: there[name] for name in names}
        wanted = {
            (str(there[name]), frozenset(one.extras))
            for one in needed
            if (name := canonicalize_name(one.name)) in names
        } - seen
        seen |= wanted
    return sorted(found.values())


def by_name(folder: Path, versions: dict[str, str]) -> dict[str, Path]:
    """The wheels in a folder that are of the pinned versions."""
    parsed = [(path, parse_wheel_filename(path.name)) for path in folder.glob("*.whl")]
    return {name: path for path, (name, version, *_) in parsed if versions.get(name) == str(version)}


def debian_version(wheel: Path, target: Target) -> str:
    """Such as 0.1.0+deb12; what comes before a release is older: 0.2.0~rc1+deb12."""
    version = str(parse_wheel_filename(wheel.name)[1])
    version = re.sub(r"(?<=[0-9])(?=(a|b|rc)[0-9])", "~", version.replace(".dev", "~~dev"))
    return f"{version}+deb{target.release}"


def make_environment(prefix: Path, wheels: list[Path], target: Target) -> None:
    """A virtual environment as `python -m venv` and pip would leave it on the target; bytecode is made there."""
    (prefix / "bin").mkdir(parents=True)
    system_site = str(bool(target.from_debian)).lower()
    (prefix / "pyvenv.cfg").write_text(
        f"home = /usr/bin\ninclude-system-site-packages = {system_site}\nversion = {target.python}\n", encoding="utf-8"
    )
    (prefix / ".installed").write_text("package\n", encoding="utf-8")  # for messages about missing extras
    (prefix / "bin" / "python").symlink_to(f"/usr/bin/python{target.python}")
    put(PROGRAM, prefix / "bin" / "edge-agent", 0o755)
    site = prefix / "lib" / f"python{target.python}" / "site-packages"
    links = [option for folder in {wheel.parent for wheel in wheels} for option in ("--find-links", str(folder))]
    named = [f"{name}=={version}" for name, version, *_ in (parse_wheel_filename(wheel.name) for wheel in wheels)]
    pip("install", "--no-compile", "--no-index", *links, *target.pip_options, "--target", site, *named)
    shutil.rmtree(site / "bin", ignore_errors=True)  # other projects' commands, for this machine's Python


def put(text: str, path: Path, mode: int = 0o644) -> None:
    """Writes a file with its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)


def control(wheel: Path, target: Target, folder: Path) -> str:
    """The package's control file."""
    major, minor = target.python.split(".")
    depends = [
        f"python3 (>= {target.python}~)",
        f"python3 (<< {major}.{int(minor) + 1}~)",
        *("libc6", "libgcc-s1", "libstdc++6", "passwd"),
        *(package for _, package in target.from_debian),
    ]
    size = sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir()) // 1024
    text = (HERE / "control").read_text(encoding="utf-8")
    values = {
        "version": debian_version(wheel, target),
        "architecture": target.architecture,
        "size": size,
        "depends": ", ".join(depends),
    }
    return text.format_map(values)


def build(wheel: Path, target: Target, into: Path) -> Path:
    """Builds one package and returns its path."""
    wheels = [wheel, *wheelhouse(wheel, target, ROOT / "build" / "wheelhouse" / f"{target.release}-{target.machine}")]
    version = debian_version(wheel, target)
    (ROOT / "build").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=ROOT / "build") as temporary:
        tree = Path(temporary)
        tree.chmod(0o755)
        make_environment(tree / PREFIX, wheels, target)
        put((ROOT / "deploy" / "install.sh").read_text(encoding="utf-8"), tree / PREFIX / "install.sh", 0o755)
        unit = (ROOT / "systemd" / "edge-agent.service").read_text(encoding="utf-8")
        put(unit.replace("/opt/edge-agent/current/", f"/{PREFIX}/"), tree / "usr/lib/systemd/system/edge-agent.service")
        (tree / "usr" / "bin").mkdir()
        (tree / "usr" / "bin" / "edge-agent").symlink_to("../lib/edge-agent/bin/edge-agent")
        document(tree, version)
        for name in ("preinst", "postinst", "prerm", "postrm"):
            put((HERE / name).read_text(encoding="utf-8"), tree / "DEBIAN" / name, 0o755)
        put(control(wheel, target, tree), tree / "DEBIAN" / "control")
        for path in (tree, *tree.rglob("*")):
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() or is_program(path) else 0o644)
        into.mkdir(parents=True, exist_ok=True)
        made = into / f"edge-agent_{version}_{target.architecture}.deb"
        unfinished = made.with_suffix(".part")  # an interrupted build leaves no package that looks whole
        run("dpkg-deb", "-Zgzip", "--root-owner-group", "--build", tree, unfinished)
        unfinished.replace(made)
    return made


def is_program(path: Path) -> bool:
    """Whether a file is to be executable: wheels say so of libraries and texts, too."""
    with path.open("rb") as file:
        head = file.read(4)
    return bool(path.stat().st_mode & 0o100) and (head[:2] == b"#!" or (head == b"\x7fELF" and ".so" not in path.name))


def document(tree: Path, version: str) -> None:
    """Licence, changelog, and what lintian is asked to accept."""
    folder = tree / "usr" / "share" / "doc" / "edge-agent"
    put((HERE / "copyright").read_text(encoding="utf-8"), folder / "copyright")
    date = formatdate(float(os.environ.get("SOURCE_DATE_EPOCH", (ROOT / "CHANGELOG.md").stat().st_mtime)))
    (entry,) = re.findall(r"^Maintainer: (.+)$", (HERE / "control").read_text(encoding="utf-8"), re.MULTILINE)
    changes = (
        f"edge-agent ({version}) stable; urgency=medium\n\n  * See the project's CHANGELOG.md.\n\n -- {entry}  {date}\n"
    )
    (folder / "changelog.gz").write_bytes(gzip.compress(changes.encode(), mtime=0))
    put(
        (HERE / "lintian-overrides").read_text(encoding="utf-8"),
        tree / "usr" / "share" / "lintian" / "overrides" / "edge-agent",
    )


def main() -> None:
    """Builds what the command line names."""
    parser = argparse.ArgumentParser(description="Builds the Debian packages.")
    parser.add_argument(
        "target", nargs="*", choices=[[], *TARGETS], help="a release and an architecture (default: all)"
    )
    parser.add_argument("--wheel", type=Path, help="the project's (default: built from this checkout)")
    parser.add_argument("--into", type=Path, default=ROOT / "dist", help="default: dist")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        wheel = options.wheel
        if wheel is None:
            pip("wheel", "--no-deps", "--wheel-dir", folder, ROOT)
            (wheel,) = Path(folder).glob("*.whl")
        for name in options.target or TARGETS:
            print(build(wheel.resolve(), TARGETS[name], options.into))


if __name__ == "__main__":
    main()
