"""The device's side of a repository of releases: only what is signed by trusted keys is used.

Verification is The Update Framework's client workflow, done by python-tuf:
https://theupdateframework.github.io/specification/latest/#detailed-client-workflow. Archives are downloaded by
`models.download`, which resumes, and are checked against size and hash in the signed list.
"""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tuf.api import exceptions
from tuf.api.metadata import Metadata, Targets, Timestamp
from tuf.ngclient.config import UpdaterConfig
from tuf.ngclient.fetcher import FetcherInterface
from tuf.ngclient.updater import Updater
from urllib3 import BaseHTTPResponse, Timeout
from urllib3.exceptions import HTTPError

from edge_agent.config.http_identity import HttpIdentity
from edge_agent.config.loader import Config
from edge_agent.errors import EdgeAgentError, UpdateError
from edge_agent.models.download import CREDENTIALS, REFUSALS, fetch
from edge_agent.system.proxy import Connections, ProxyFailedError, RedirectError
from edge_agent.system.set_aside import set_aside, why_unusable
from edge_agent.update.releases import Release, read
from edge_agent.update.waves import WAVES, read_progress

log = logging.getLogger(__name__)

# Limits on the signed lists that a server sends: bytes, and seconds for one of them.
MAX_ROOT, MAX_TIMESTAMP, MAX_SNAPSHOT, MAX_TARGETS = 100_000, 20_000, 100_000, 2_000_000
SECONDS_FOR_A_LIST = 60.0
# Limits on all lists of one check: bytes and seconds. A device may have missed any number of roots, each of which
# vouches for the next; verified ones are kept, so that the next check goes on from there. MAX_ROOTS counts from the
# pinned one on, with those on the disk.
MAX_LISTS, SECONDS_FOR_LISTS = 20_000_000, 600.0
MAX_ROOTS = 100_000
PAUSE_S = 10.0
_BEGINNING = 200


def client_config() -> UpdaterConfig:
    """The limits on what a server sends, for the client."""
    return UpdaterConfig(
        max_root_rotations=MAX_ROOTS,
        root_max_length=MAX_ROOT,
        timestamp_max_length=MAX_TIMESTAMP,
        snapshot_max_length=MAX_SNAPSHOT,
        targets_max_length=MAX_TARGETS,
    )


def verified(folder: Path) -> list[Release]:
    """The releases in the lists that the client has verified and written to a folder.

    Raises:
        UpdateError: an entry is signed, and no release.
        RepositoryError, DownloadError: a list can't be read.
    """
    targets = Metadata[Targets].from_file(str(folder / "targets.json")).signed.targets
    timestamp = Metadata[Timestamp].from_file(str(folder / "timestamp.json")).signed
    progress = read_progress(timestamp.unrecognized_fields.get(WAVES))
    found = [read(path, target.length, target.hashes, target.custom) for path, target in targets.items()]
    return [release.at(progress.get(release.name)) for release in found]


class Repository:
    """A repository of releases.

    Args:
        url: of the repository.
        root: the pinned root.json.
        folder: keeps the lists that were verified last, for protection against rollback.
        connect: makes connections, which may identify themselves to the server.
    """

    def __init__(self, url: str, root: Path, folder: Path, connect: Callable[[], Connections] = Connections) -> None:
        self._url = url.rstrip("/")
        self._connect = connect
        self._root = root
        self._folder = folder

    def releases(self, check_stop: Callable[[], None] = lambda: None) -> list[Release]:
        """Fetches and verifies the lists, and returns all releases.

        Args:
            check_stop: called again and again; raises to cancel.

        Raises:
            UpdateError: the lists can't be fetched, or fail verification.
        """
        config = client_config()
        try:
            self._repair()
            self._folder.mkdir(parents=True, exist_ok=True)
            with self._connect() as connections:
                fetcher = _Fetcher(connections, check_stop)
                updater = Updater(
                    str(self._folder),
                    f"{self._url}/metadata/",
                    fetcher=fetcher,
                    config=config,
                    bootstrap=self._root.read_bytes(),
                )
                updater.refresh()
            if fetcher.timestamp != (self._folder / "timestamp.json").read_bytes():
                # The client keeps its own one where the version is the same.
                raise UpdateError(
                    f"{self._url}: timestamp.json has the version number of another one that this device knows: if the "
                    "repository was restored from a copy, run `edge-agent release renew` once for each time that it "
                    "was changed or renewed since that copy, and upload it"
                )
            # `refresh` writes only what it has verified.
            found = verified(self._folder)
        except (exceptions.DownloadError, exceptions.RepositoryError) as error:
            raise UpdateError(f"{self._url}: {_explained(error)}") from None
        except OSError as error:
            raise UpdateError(f"{error.filename or self._folder}: {error.strerror}") from None
        return found

    def _repair(self) -> None:
        """Sets aside what is in the place of the folder or a list and can't be used; lists are fetched again.

        What is damaged in the content of a list, the client finds itself.
        """
        roots = self._folder / "root_history"
        for folder in (self._folder.parent, self._folder, roots):
            if folder.exists() and not folder.is_dir():
                log.error("%s: is not a folder: set aside as %s", folder, set_aside(folder))
        kept = [path for folder in (self._folder, roots) if folder.is_dir() for path in folder.iterdir()]
        for path in kept:
            if path.name.startswith("tmp"):  # of the client, interrupted by a power cut
                path.unlink()
            elif path.suffix == ".json":
                why = why_unusable(path)
                if not why and path.exists() and path.stat().st_size > MAX_TARGETS:
                    why = "it is too large"
                if why:
                    log.error("%s: can't be used (%s): set aside as %s", path, why, set_aside(path))

    def fetch(self, release: Release, part: Path, max_rate: int | None, progress: Callable[[int], None]) -> None:
        """Downloads a release's archive to `part`; resumes a partial download.

        Args:
            release: of the verified list.
            part: the file to write to; its folder exists.
            max_rate: bytes a second; None: unlimited.
            progress: called with the number of bytes so far; raises to cancel.

        Raises:
            UpdateError: the download fails, or is not what was signed.
        """
        began, first = time.monotonic(), -1

        def report(have: int) -> None:
            nonlocal first
            first = have if first < 0 else min(first, have)
            progress(have)
            ahead = (have - first) / max_rate - (time.monotonic() - began) if max_rate else 0.0
            while ahead > 0:
                time.sleep(min(ahead, 0.2))
                ahead -= 0.2
                progress(have)

        try:
            address = f"{self._url}/targets/{quote(release.address)}"
            fetch(address, part, release.size, release.sha256, report, self._connect)
        except EdgeAgentError as error:
            raise UpdateError(str(error)) from None
        except OSError as error:
            raise UpdateError(f"{part}: {error.strerror}") from None


def repository_of(config: Config) -> Repository:
    """The repository that a configuration with an `update` section names."""
    update = config.settings.update
    assert update is not None  # noqa: S101 - for the type checker
    connect = HttpIdentity(update, config.path.parent, "update").connections
    return Repository(update.url, config.resolve(update.root), config.updates_path() / "metadata", connect)


class _LongWayError(exceptions.DownloadError):
    """All lists of a check together are too large, or take too long."""


class _CredentialsError(exceptions.DownloadError):
    """The device's credentials can't be read; the message says why."""


class _PageError(exceptions.DownloadError):
    """The answer is a web page."""


class _Fetcher(FetcherInterface):
    """Fetches the signed lists of one check, each within a time limit. The caller limits the length of each further.

    Args:
        connections: kept open for the next list.
        check_stop: called before each block; raises to cancel.

    Attributes:
        timestamp: the timestamp.json that was fetched.
    """

    def __init__(self, connections: Connections, check_stop: Callable[[], None]) -> None:
        self._connections = connections
        self._check_stop = check_stop
        self.timestamp = b""
        self._length, self._until = 0, time.monotonic() + SECONDS_FOR_LISTS

    def _fetch(self, url: str) -> Iterator[bytes]:
        # No compression: a small answer could expand to a huge one.
        headers = {"User-Agent": "edge-agent", "Accept-Encoding": "identity"}
        with closing(self._answer(url, headers)) as answer:
            blocks = list(self._blocks(answer))
            if answer.status != HTTPStatus.OK:
                message = f"the server answers {answer.status} {answer.reason}"
                raise exceptions.DownloadHTTPError(message, answer.status)
            if _is_page(answer, blocks):
                raise _PageError("a web page came in place of the signed list")
            if url.endswith("/timestamp.json"):
                self.timestamp = b"".join(blocks)
            return iter(blocks)

    def _answer(self, url: str, headers: dict[str, str]) -> BaseHTTPResponse:
        """The answer after redirects: only signatures are trusted."""
        try:
            return self._connections.follow(url, headers, Timeout(PAUSE_S))
        except RedirectError as error:
            raise exceptions.DownloadError(str(error)) from None
        except EdgeAgentError as error:
            raise _CredentialsError(str(error)) from None

    def _blocks(self, answer: BaseHTTPResponse) -> Iterator[bytes]:
        deadline, length = time.monotonic() + SECONDS_FOR_A_LIST, 0
        while block := answer.read1(1 << 16, decode_content=False):
            self._check_stop()
            length += len(block)
            self._length += len(block)
            now = time.monotonic()
            if length > MAX_TARGETS:
                raise exceptions.DownloadLengthMismatchError(f"more than {MAX_TARGETS} bytes")
            if now > deadline:
                raise exceptions.SlowRetrievalError(f"not done within {SECONDS_FOR_A_LIST:g} s")
            if self._length > MAX_LISTS or now > self._until:
                raise _LongWayError(f"the lists have more than {MAX_LISTS} bytes, or take {SECONDS_FOR_LISTS:g} s")
            yield block


def _is_page(answer: BaseHTTPResponse, blocks: Sequence[bytes]) -> bool:
    """Whether it is HTML, by what the server states or by its beginning; signed lists are JSON."""
    beginning = b"".join(blocks)[:_BEGINNING].lstrip().lower()
    return answer.headers.get("Content-Type", "").startswith("text/html") or beginning.startswith(b"<")


# What an error means and what to do about it; the first match counts.
_MEANINGS: dict[type[Exception], str] = {
    exceptions.ExpiredMetadataError: (
        "newer lists are held back, or the repository was not renewed (`edge-agent release renew`), or this device's "
        "clock is wrong"
    ),
    exceptions.UnsignedMetadataError: "signed with other keys than the pinned root trusts: is it the right repository?",
    exceptions.BadVersionNumberError: "older or other lists than those that this device knows already are refused",
    exceptions.LengthOrHashMismatchError: "not the file that was signed, or an upload that is not complete",
    exceptions.DownloadLengthMismatchError: "longer than the file that was signed can be",
    exceptions.SlowRetrievalError: "the server is too slow, or holds the list back",
    _PageError: "does this network want a login in a browser first (a captive portal), or is the address wrong?",
    _LongWayError: "what is verified is kept, and the next check goes on from there",
    exceptions.DownloadHTTPError: "is the address right, and the upload complete?",
    exceptions.RepositoryError: "this is no signed list",
}


def _explained(error: exceptions.DownloadError | exceptions.RepositoryError) -> str:
    """What has happened and what it means, in one sentence."""
    text = " ".join(str(error).split())
    if isinstance(error, _CredentialsError):
        return text
    if isinstance(error, exceptions.DownloadHTTPError) and error.status_code in REFUSALS:
        return f"{text}: {CREDENTIALS}"
    for kind, meaning in _MEANINGS.items():
        if isinstance(error, kind):
            return f"{text}: {meaning}"
    return f"can't be reached ({_cause(error)})"


def _cause(error: BaseException) -> Any:
    cause = error.__cause__ or error
    if isinstance(cause, HTTPError) and not isinstance(cause, ProxyFailedError):
        return type(cause).__name__
    return " ".join(str(cause).split()) or type(cause).__name__
