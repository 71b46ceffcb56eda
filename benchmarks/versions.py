"""Two versions of the daemon: the one of this folder, and the one before, if needed in an environment of its own."""

import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).parents[1]
MADE = PROJECT / "build" / "versions"
# What the daemon is measured with; pip only warns of those that an old version does not have.
EXTRAS = "tflite,onnx,video,language"
FIGURES = "docs/benchmarks.json"


@dataclass(frozen=True, slots=True)
class Version:
    """A version of the daemon.

    Attributes:
        name: used in names of files and topics, and in the report.
        folder: its code.
        python: runs it.
    """

    name: str
    folder: Path
    python: str


PRESENT = Version("daemon", PROJECT, sys.executable)


def before(revision: str = "") -> Version:
    """The version that the present one is compared with.

    Args:
        revision: a tag or commit; default: the latest tag, or, without tags, the version whose figures docs/ has.

    Raises:
        SystemExit: there is no such revision.
    """
    if not revision:
        revision = _git("describe", "--tags", "--abbrev=0") or _git("log", "-1", "--format=%H", "--", FIGURES)
    commit = _git("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}")
    if not commit:
        raise SystemExit(f"git knows no revision {revision!r}: name a tag or a commit with --against, or `none`")
    folder = MADE / commit[:12]
    if not (folder / "constraints.txt").exists():
        _unpack(commit, folder)
    same = (folder / "constraints.txt").read_bytes() == (PROJECT / "constraints.txt").read_bytes()
    return Version("before", folder, sys.executable if same else _environment(folder))


def _unpack(commit: str, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile() as archive:
        subprocess.run(["git", "archive", commit], cwd=PROJECT, stdout=archive, check=True)
        archive.seek(0)
        with tarfile.open(fileobj=archive) as files:
            files.extractall(folder, filter="data")


def _environment(folder: Path) -> str:
    """Its libraries, as its own constraints state them."""
    environment = folder / ".venv"
    made, python = environment / ".made", str(environment / "bin" / "python")
    if not made.exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", environment], check=True)
        pip = [python, "-m", "pip", "--quiet", "--disable-pip-version-check", "install", "-c", "constraints.txt"]
        subprocess.run([*pip, "-e", f".[{EXTRAS}]"], cwd=folder, check=True)
        made.touch()
    return python


def _git(*arguments: str) -> str:
    """What git prints; empty if it refuses."""
    done = subprocess.run(["git", *arguments], cwd=PROJECT, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""
