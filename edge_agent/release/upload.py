"""Uploads a repository, in the order that its clients need: archives, lists, and timestamp.json at last.

Until timestamp.json is there, clients go on with what it named before. Keys are never uploaded.
"""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from urllib3 import Timeout, exceptions

from edge_agent.config.http_identity import HttpIdentity
from edge_agent.errors import ConfigError, ReleaseError
from edge_agent.settings.http_access import HttpAccess
from edge_agent.system.proxy import Connections, NotConfirmedError

TIMEOUT = 3600.0
HTTP_TIMEOUT = Timeout(connect=10.0, read=300.0)
OK = 200
FOLDERS = ("targets", "metadata")
LAST = Path("metadata") / "timestamp.json"


def upload(repository: Path, destination: "str | HttpAccess") -> None:
    """Uploads what is not there yet; may be repeated after any interruption.

    Args:
        repository: its folder.
        destination: a folder; `[USER@]HOST:FOLDER`, by rsync over ssh; or a web server that takes PUT requests or an
            S3-compatible bucket.

    Raises:
        ReleaseError: it failed; what clients see is complete all the same.
    """
    if isinstance(destination, HttpAccess):
        _by_http(repository, destination)
    elif ":" in destination.partition("/")[0]:
        _by_rsync(repository, destination.rstrip("/"))
    else:
        try:
            _to_folder(repository, Path(destination))
        except OSError as error:
            raise ReleaseError(f"{error.filename or destination}: can't be uploaded to: {error.strerror}") from None


def _files(repository: Path) -> Iterator[Path]:
    """What is uploaded before `LAST`, in this order. None of these ever changes."""
    for folder in FOLDERS:
        for path in sorted((repository / folder).rglob("*.*")):
            file = path.relative_to(repository)
            if file != LAST and file.suffix in (".zip", ".json"):
                yield file


def _to_folder(repository: Path, destination: Path) -> None:
    for file in _files(repository):
        place = destination / file
        if not place.is_file() or place.stat().st_size != (repository / file).stat().st_size:
            _copy(repository / file, place)
    _copy(repository / LAST, destination / LAST)


def _copy(source: Path, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    part = place.with_name(f"{place.name}.part")
    shutil.copyfile(source, part)
    part.replace(place)


def _by_http(repository: Path, access: HttpAccess) -> None:
    with HttpIdentity(access, Path.cwd(), "upload").connections() as connections:
        try:
            for file in _files(repository):
                _put(connections, access.url, repository, file, only_if_missing=True)
            _put(connections, access.url, repository, LAST)
        except ConfigError as error:
            raise ReleaseError(str(error)) from None


def _put(connections: Connections, base: str, repository: Path, file: Path, *, only_if_missing: bool = False) -> None:
    url = f"{base.rstrip('/')}/{quote(file.as_posix())}"
    try:
        content = (repository / file).read_bytes()
        if only_if_missing:
            there = connections.head(url, {}, HTTP_TIMEOUT)
            if there.status == OK and there.headers.get("Content-Length") == str(len(content)):
                return
        # A cache between here and the devices must not keep what changes.
        headers = {"Content-Length": str(len(content))} | ({} if only_if_missing else {"Cache-Control": "no-cache"})
        connections.put(url, headers, [content], HTTP_TIMEOUT, content)
    except NotConfirmedError as error:
        hint = ": check the credentials, and what they allow" if error.may_not else ""
        raise ReleaseError(f"{error}{hint}") from None
    except OSError as error:
        raise ReleaseError(f"{error.filename or url}: {error.strerror}") from None
    except exceptions.HTTPError as error:
        raise ReleaseError(f"{url}: {getattr(error, 'reason', None) or error}") from None


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
