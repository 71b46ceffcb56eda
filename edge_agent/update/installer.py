"""Installs the release of the agent that the agent has downloaded; run as root, by edge-agent-update.service.

Nothing that the agent's user can write is trusted: the lists are verified again from the pinned root.json, the archive
is copied and compared with its signed hash. The installation itself is `install.sh`: it builds the new environment
beside the old one without network, has it check the configuration with the service's user and reach the broker,
switches, watches the service, and goes back.
"""

import contextlib
import hashlib
import logging
import shutil
import socket
import subprocess
import tempfile
import zipfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from tuf.api import exceptions
from tuf.ngclient.fetcher import FetcherInterface
from tuf.ngclient.updater import Updater

from edge_agent.config.loader import resolve
from edge_agent.config.validation import validate, value_at
from edge_agent.config.yaml_lines import Problems, read
from edge_agent.errors import ConfigError, UpdateError
from edge_agent.settings.update import Update
from edge_agent.system.regular_file import open_regular
from edge_agent.system.text import TextError, parse_json, read_file, read_text
from edge_agent.system.units import format_size
from edge_agent.system.zip_files import DAMAGES, RefusedError, check_directory, checked
from edge_agent.update.agent_release import BOUNDS, REQUEST, WHEEL, this_platform
from edge_agent.update.releases import Release, choose, is_revoked, of_machine
from edge_agent.update.repository import MAX_TARGETS, client_config, verified
from edge_agent.update.store import Store

# The archive, its wheels, and the environment that is made of them, in multiples of the archive.
ROOM = 6
# Prefix of the folder in which a release is unpacked.
SCRATCH = ".update-"
TIMEOUT = 3 * 3600.0
# Bytes of what the agent asks for.
MAX_REQUEST = 1000

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Device:
    """What the installer knows of a device, from the file that belongs to root.

    Attributes:
        device_id: of the device.
        update: the section of that name.
        root: the pinned root.json.
        downloads: where the agent keeps what it has fetched, `updates` of its state.
    """

    device_id: str
    update: Update
    root: Path
    downloads: Path


def device_of(config: Path, state: Path) -> Device | None:
    """The device; None if its agent is not to be updated.

    Only what is needed is read, and no variable is replaced: secrets are the agent's.

    Args:
        config: the configuration file.
        state: folder of the agent's state.

    Raises:
        ConfigError: the section `update` can't be used.
    """
    problems = Problems(config)
    try:
        raw = read(config, problems, {})
    except OSError as error:
        raise ConfigError([f"{config}: can't be read: {error.strerror}"]) from None
    if value_at(raw, ("update", "agent")) is None:
        return None
    update = validate(Update, value_at(raw, ("update",)), problems)
    if update is None or problems.texts():
        raise ConfigError(problems.texts())
    folder = config.parent
    downloads = state / "updates" if update.path is None else resolve(update.path, folder)
    device_id = str(value_at(raw, ("device_id",)) or socket.gethostname())
    return Device(device_id, update, resolve(update.root, folder), downloads)


class Installer:
    """Does what the signed lists say about the agent of a device.

    Args:
        device: whose agent.
        folder: of all installed versions.
        script: install.sh.
        watch: seconds for which a new version must stay up.
    """

    def __init__(self, device: Device, folder: Path, script: Path, watch: float) -> None:
        self._device, self._folder, self._script, self._watch = device, folder, script, watch
        self.store = Store(folder / "updates")

    def run(self) -> str:
        """Installs the release that is wanted, or goes back from one that has been revoked; returns what was done.

        Raises:
            UpdateError: the lists or the archive can't be used.
        """
        for left in self._folder.glob(f"{SCRATCH}*"):
            shutil.rmtree(left, ignore_errors=True)
        channel = self._device.update.agent
        if (active := self.store.state().active) is not None and active == self._to_leave():
            return self._leave(active, "by command")
        releases = [one for one in self._releases() if one.channel == channel]
        state = self.store.state()
        if state.active is not None and is_revoked(releases, state.active):
            revoked = {release.key for release in releases if release.revoked}
            return self._leave(state.active, "it has been revoked", revoked)
        usable = [one for one in of_machine(releases, [this_platform()]) if one.variant]
        labels = self._device.update.labels
        release = choose(usable, self._device.device_id, labels, state.active, state.refused)
        return "there is nothing to install" if release is None else self._install(release)

    def _to_leave(self) -> str | None:
        """The key of the version that the agent asks to leave; None if it asks for nothing of the kind.

        This is all that is taken from it: it can't name the version that is used then.
        """
        try:
            with open_regular(self._device.downloads / "agent" / REQUEST) as file:
                request = parse_json(file.read(MAX_REQUEST))
        except (OSError, ValueError):
            return None
        leave = request.get("leave") if isinstance(request, dict) else None
        return leave if isinstance(leave, str) else None

    def _releases(self) -> list[Release]:
        """The releases, from the lists that the agent has fetched, as far as they are signed."""
        trusted = self._folder / "updates" / "metadata"
        trusted.mkdir(parents=True, exist_ok=True)
        try:
            fetcher = _Fetched(self._device.downloads / "metadata")
            root = self._device.root.read_bytes()
            Updater(str(trusted), "file:///", fetcher=fetcher, config=client_config(), bootstrap=root).refresh()
            return verified(trusted)
        except (exceptions.DownloadError, exceptions.RepositoryError) as error:
            raise UpdateError(f"{self._device.downloads}: {' '.join(str(error).split())}") from None
        except OSError as error:
            raise UpdateError(f"{error.filename or trusted}: {error.strerror}") from None

    def _install(self, release: Release) -> str:
        scratch = Path(tempfile.mkdtemp(prefix=SCRATCH, dir=self._folder))
        try:
            archive = self._copied(release, scratch)
            with self.store.changing() as state:
                state.versions[release.key], state.trying = release.as_dict(), release.key
            said = self._installed(release, archive, scratch)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        if said:
            self._refuse(release, said)
            return f"{release.name}: not installed: {said}"
        with self.store.changing() as state:
            state.good = [key for key in [state.active] if key]
            state.active, state.trying = release.key, None
            state.note("committed", release.key)
            state.keep_what_is_needed()
        return f"{release.name}: installed"

    def _installed(self, release: Release, archive: Path, scratch: Path) -> str:
        """Unpacks the archive and runs install.sh; returns why the version is not in use, or ""."""
        wheels = scratch / "wheels"
        wheels.mkdir()
        try:
            _unzip(archive, wheels)
        except RefusedError as error:
            return str(error)
        except DAMAGES as error:
            return f"the archive is damaged ({error})"
        archive.unlink()
        mine = list(wheels.glob(WHEEL))
        if len(mine) != 1:
            return f"expected one wheel of edge-agent in {release.name}, found {len(mine)}"
        code, said = self._call("--wheelhouse", str(wheels), *self._extras(), "--check-broker", str(mine[0]))
        return (said or f"install.sh ended with exit code {code}") if code else ""

    def _refuse(self, release: Release, reason: str) -> None:
        with self.store.changing() as state:
            state.refuse(release.key, reason)
            state.note("refused", release.key, reason)
            state.trying = None
            state.keep_what_is_needed()

    def _leave(self, left: str, reason: str, revoked: Collection[str] = ()) -> str:
        """Goes back to the version before the active one."""
        code, said = self._call("--back")
        if code:
            raise UpdateError(f"the version before was not taken back: {said}")
        with self.store.changing() as state:
            name = state.name(left)
            state.refuse(left, reason)
            state.note("rolled back", left, reason)
            state.good = [key for key in state.good if key not in revoked and key != left]
            state.active = state.good[-1] if state.good else None
            state.keep_what_is_needed()
        return f"{name}: {reason}: back to the version before"

    def _copied(self, release: Release, scratch: Path) -> Path:
        """The archive that the agent has downloaded, copied and compared with what was signed.

        Raises:
            UpdateError: it is not there, or is not what was signed.
        """
        free = shutil.disk_usage(scratch).free
        if free < release.size * ROOM:
            needed = format_size(release.size * ROOM)
            raise UpdateError(f"{self._folder}: {format_size(free)} are free, {release.name} needs {needed}: make room")
        source, copy = self._device.downloads / "agent" / f"{release.key}.zip", scratch / "wheels.zip"
        try:
            with open_regular(source) as file, copy.open("wb") as out:
                _copy(file, out, release.size)
            with copy.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise UpdateError(f"{error.filename or source}: {error.strerror}") from None
        if found != release.sha256:
            raise UpdateError(f"{source}: is not what was signed as {release.name}")
        return copy

    def _extras(self) -> list[str]:
        """With what extras the version in use was installed."""
        with contextlib.suppress(OSError, TextError):
            return ["--extras", read_text(self._folder / "current" / ".extras", 1000).strip()]
        return []

    def _call(self, *arguments: str) -> tuple[int, str]:
        """Runs install.sh; returns its exit code and the last line that it wrote to standard error."""
        command = ["sh", str(self._script), "--watch", f"{self._watch:.0f}", *arguments]
        try:
            done = subprocess.run(  # noqa: S603 - our own script; no shell interprets the arguments
                command, capture_output=True, text=True, errors="replace", timeout=TIMEOUT, check=False,
                stdin=subprocess.DEVNULL,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            raise UpdateError(f"install.sh: {error}") from None
        for line in [*done.stdout.splitlines(), *done.stderr.splitlines()]:
            log.info("%s", line)
        return done.returncode, next((line for line in reversed(done.stderr.splitlines()) if line.strip()), "")


def _copy(file: BinaryIO, out: BinaryIO, size: int) -> None:
    """Copies up to `size` bytes."""
    while block := file.read(min(size, 1 << 20)):
        out.write(block)
        size -= len(block)


def _unzip(path: Path, folder: Path) -> None:
    """Unpacks the wheels of an archive."""
    with path.open("rb") as file:
        check_directory(file, BOUNDS)
        with zipfile.ZipFile(file) as archive:
            for entry in checked(archive, BOUNDS):
                if "/" not in entry.filename and entry.filename.endswith(".whl"):
                    with archive.open(entry) as content, (folder / entry.filename).open("wb") as out:
                        shutil.copyfileobj(content, out)


class _Fetched(FetcherInterface):
    """The lists that the agent has fetched, in place of a server."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def _fetch(self, url: str) -> Iterator[bytes]:
        name = url.rpartition("/")[2]
        number, _, role = name.partition(".")
        path = self._folder / (role if number.isdigit() else name)
        if role == "root.json":
            path = self._folder / "root_history" / name
        try:
            return iter([read_file(path, MAX_TARGETS)])
        except (OSError, TextError, ValueError) as error:
            raise exceptions.DownloadHTTPError(f"{path}: {error}", 404) from None
