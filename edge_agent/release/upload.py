"""Uploads a repository, in the order that its clients need: archives, lists, and timestamp.json at last.

Until timestamp.json is there, clients go on with what it named before. Keys are never uploaded.
"""

import shutil
import subprocess
from pathlib import Path

from edge_agent.errors import ReleaseError

TIMEOUT = 3600.0
FOLDERS = ("targets", "metadata")
LAST = Path("metadata") / "timestamp.json"


def upload(repository: Path, destination: str) -> None:
    """Uploads what is not there yet; may be repeated after any interruption.

    Args:
        repository: its folder.
        destination: a folder, or `[USER@]HOST:FOLDER`, by rsync over ssh.

    Raises:
        ReleaseError: it failed; what clients see is complete all the same.
    """
    if ":" in destination.partition("/")[0]:
        _by_rsync(repository, destination.rstrip("/"))
    else:
        try:
            _to_folder(repository, Path(destination))
        except OSError as error:
            raise ReleaseError(f"{error.filename or destination}: can't be uploaded to: {error.strerror}") from None


def _to_folder(repository: Path, destination: Path) -> None:
    files = [path.relative_to(repository) for folder in FOLDERS for path in sorted((repository / folder).rglob("*.*"))]
    for file in [file for file in files if file != LAST and file.suffix in (".zip", ".json")]:
        place = destination / file
        # Only timestamp.json ever changes.
        if not place.is_file() or place.stat().st_size != (repository / file).stat().st_size:
            _copy(repository / file, place)
    _copy(repository / LAST, destination / LAST)


def _copy(source: Path, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    part = place.with_name(f"{place.name}.part")
    shutil.copyfile(source, part)
    part.replace(place)


def _by_rsync(repository: Path, destination: str) -> None:
    """One run for each stage. rsync writes each file beside its place and renames it."""
    stages = (
        [f"{repository}/targets"],
        ["--exclude=timestamp.json", f"{repository}/metadata"],
        [f"{repository}/metadata"],
    )
    for stage in stages:
        command = ["rsync", "-rt", "--exclude=*.part", "-e", "ssh -o BatchMode=yes", *stage, f"{destination}/"]
        try:
            # No shell here; the destination is the operator's own argument.
            done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)  # noqa: S603
        except FileNotFoundError:
            raise ReleaseError("rsync: is not installed: `apt-get install rsync`") from None
        except subprocess.TimeoutExpired:
            raise ReleaseError(f"{destination}: rsync did not end within {TIMEOUT:.0f} s") from None
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[0]
            raise ReleaseError(f"{destination}: rsync ended with exit code {done.returncode}: {last}")
