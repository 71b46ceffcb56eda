"""Downloads a file of known size and hash over connections that break.

The bytes received so far stay in a part file. The next attempt, or the next call after a crash, continues there
with an HTTP range request (RFC 9110, section 14). Only the hash is trusted.
"""

import hashlib
import logging
import os
import ssl
import time
from collections.abc import Callable, Generator
from contextlib import closing
from http import HTTPStatus
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit
from urllib.request import url2pathname

from urllib3 import BaseHTTPResponse, Timeout, exceptions

from edge_agent.errors import ModelError
from edge_agent.system.backoff import Backoff
from edge_agent.system.home import expand_user
from edge_agent.system.proxy import Connections, ProxyFailedError, RedirectError

ATTEMPTS = 5
FIRST_WAIT_S = 1.0
TIMEOUT = Timeout(connect=10.0, read=30.0)
BLOCK = 1 << 16
# An answer with a part of the file must have this share of it, or a block, for the next part to be asked for at once.
LEAST_SHARE = 1000
OTHER_FILE = "it is not the file that the registry means"
WEB_PAGE = (
    "a web page came in place of the file: does this network want a login in a browser first (a captive portal), or is "
    "the address wrong?"
)
# Answers to somebody who has not the right credentials, and what to do about it.
REFUSALS = (401, 403)
CREDENTIALS = "are the credentials for this server stated, and right?"
# Answers that mean "not now", https://www.rfc-editor.org/rfc/rfc9110#section-15
NOT_NOW = {408, 425, 429, 500, 502, 503, 504}

# (position in the file, the bytes there)
Blocks = Generator[tuple[int, bytes]]

_log = logging.getLogger(__name__)


class _BrokenOffError(Exception):
    """An attempt has failed; the next one may succeed."""


def fetch(
    source: str,
    part: Path,
    size: int,
    sha256: str,
    progress: Callable[[int], None],
    connect: Callable[[], Connections] = Connections,
) -> None:
    """Completes and verifies `part`, from the bytes that it holds already.

    Args:
        source: an https://, http:// or file:// address, or a path; a redirect from https to http is refused.
        part: the file to fill; its folder exists.
        size: of the file, in bytes; more than that is never written.
        sha256: of the file, in lower case hexadecimal digits.
        progress: called with the number of bytes in `part` as it grows.
        connect: makes the connections; what it raises is passed on.

    Raises:
        ModelError: the source can't be reached or read, or is another file; one of a wrong hash is removed.
        OSError: `part` can't be written.
    """
    resumed = part.exists() and part.stat().st_size > 0
    found = _completed(source, part, size, progress, connect)
    if found != sha256 and resumed:
        # After a power cut a part file can hold blocks that were never written: download it from the beginning.
        part.unlink()
        found = _completed(source, part, size, progress, connect)
    if found != sha256:
        part.unlink()
        raise ModelError(f"{source}: sha256 is {found}, expected {sha256}: {OTHER_FILE}")


def _completed(
    source: str, part: Path, size: int, progress: Callable[[int], None], connect: Callable[[], Connections]
) -> str:
    """Completes `part` in up to `ATTEMPTS` attempts, and returns its sha256."""
    backoff = Backoff(first=FIRST_WAIT_S)
    for attempt in range(1, ATTEMPTS + 1):
        try:
            _continue(source, part, size, progress, connect)
            break
        except _BrokenOffError as failure:
            if attempt == ATTEMPTS:
                raise ModelError(
                    f"{source}: {failure} (attempt {attempt} of {ATTEMPTS}): check the network or name a "
                    "mirror; the next pull goes on from here"
                ) from None
            wait = backoff.delay()
            _log.warning("%s: %s; trying again in %.1f s", source, failure, wait)
            time.sleep(wait)
    with part.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _continue(
    source: str, part: Path, size: int, progress: Callable[[int], None], connect: Callable[[], Connections]
) -> None:
    """One attempt to append the missing bytes."""
    with part.open("ab") as out:
        have = out.tell()
        if have > size:
            have = _cut(out, 0)
        progress(have)
        with closing(_blocks(source, have, size, connect)) as blocks:
            for position, block in blocks:
                if position < have:
                    have = _cut(out, position)
                if have + len(block) > size:
                    raise ModelError(f"{source}: longer than the {size} bytes expected: {OTHER_FILE}")
                out.write(block)
                have += len(block)
                progress(have)
        if have < size:
            raise _BrokenOffError(f"the file ended after {have} of {size} bytes")
        out.flush()
        os.fsync(out.fileno())


def _cut(out: BinaryIO, length: int) -> int:
    out.truncate(length)
    return out.seek(length)


def _blocks(source: str, offset: int, size: int, connect: Callable[[], Connections]) -> Blocks:
    """The file from `offset` on, or from 0 where the source can't start in the middle."""
    if offset == size:
        return
    if source.startswith(("https://", "http://")):
        try:
            yield from _blocks_over_http(source, offset, size, connect)
        except ProxyFailedError as error:
            raise _BrokenOffError(str(error)) from None
        except exceptions.HTTPError as error:
            raise _explained(source, error) from None
    else:
        path = url2pathname(urlsplit(source).path) if source.startswith("file://") else source
        yield from _blocks_of_file(expand_user(path), offset, size)


def _blocks_of_file(path: Path, offset: int, size: int) -> Blocks:
    if not path.is_file():
        raise ModelError(f"{path}: there is no such file; `models pull --into FOLDER` makes a mirror")
    try:
        with path.open("rb") as file:
            _check_length(str(path), os.fstat(file.fileno()).st_size, size)
            file.seek(offset)
            while block := file.read(BLOCK):
                yield offset, block
                offset += len(block)
    except OSError as error:
        raise ModelError(f"{path}: can't be read: {error.strerror}") from None


def _blocks_over_http(url: str, offset: int, size: int, connect: Callable[[], Connections]) -> Blocks:
    with connect() as connections:
        while offset < size:
            with closing(_answer(connections, url, offset)) as answer:
                position = began = _start(url, answer, offset, size)
                if began != offset:
                    yield 0, b""
                if began < 0:
                    raise _BrokenOffError("the server can't go on in the middle of the file")
                # A compressed transfer would have neither the size nor the hash.
                for block in answer.stream(BLOCK, decode_content=False):
                    yield position, block
                    position += len(block)
            # A server may send less than was asked for, https://www.rfc-editor.org/rfc/rfc9110#section-15.3.7
            if answer.status != HTTPStatus.PARTIAL_CONTENT or position - began < min(BLOCK, size / LEAST_SHARE):
                return
            offset = position


def _start(url: str, answer: BaseHTTPResponse, offset: int, size: int) -> int:
    """The position in the file of the answer's first byte; -1 if the server has no such part."""
    if answer.status in NOT_NOW:
        raise _BrokenOffError(f"the server answers {answer.status} {answer.reason}")
    found = answer.headers.get("Content-Range", "")
    if answer.status in (HTTPStatus.PARTIAL_CONTENT, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE):
        if not found.startswith(f"bytes {offset}-"):
            return -1
        whole = found.rpartition("/")[2]
        _check_length(url, int(whole) if whole.isdecimal() and len(whole) < 20 else size, size)  # noqa: PLR2004 - digits
        return offset
    if answer.status != HTTPStatus.OK:
        hint = CREDENTIALS if answer.status in REFUSALS else "is it the right mirror?"
        raise ModelError(f"{url}: the server answers {answer.status} {answer.reason}: {hint}")
    if answer.headers.get("Content-Type", "").startswith("text/html") and answer.length_remaining != size:
        raise ModelError(f"{url}: {WEB_PAGE}")
    if answer.length_remaining is not None:
        _check_length(url, answer.length_remaining, size)
    return 0


def _answer(connections: Connections, url: str, offset: int) -> BaseHTTPResponse:
    """The answer to a request for the file from `offset` on, after redirects."""
    headers = {"User-Agent": "edge-agent", "Accept-Encoding": "identity"}
    if offset:
        headers["Range"] = f"bytes={offset}-"
    try:
        return connections.follow(url, headers, TIMEOUT)
    except RedirectError as error:
        raise ModelError(f"{url}: {error}") from None


def _check_length(source: str, found: int, size: int) -> None:
    if found != size:
        raise ModelError(f"{source}: {found} bytes long, expected {size}: {OTHER_FILE}")


def _explained(url: str, error: exceptions.HTTPError) -> Exception:
    """An error with a message for the user: one that ends the download, or one after which it is tried again."""
    host = url.split("/")[2]
    if isinstance(error, exceptions.LocationValueError):
        return ModelError(f"{url}: not a valid address")
    if isinstance(error, exceptions.SSLError) and isinstance(error.args[0], ssl.SSLCertVerificationError):
        why = error.args[0].verify_message
        return ModelError(f"{url}: can't trust {host}: {why}: check this machine's clock and CA certificates")
    if isinstance(error, exceptions.NameResolutionError):
        return _BrokenOffError(f"the name {host} can't be resolved")
    if isinstance(error, exceptions.NewConnectionError):
        return _BrokenOffError(f"{host} can't be reached")
    if isinstance(error, exceptions.TimeoutError):
        return _BrokenOffError(f"{host} does not answer in time")
    return _BrokenOffError("the connection broke off")
