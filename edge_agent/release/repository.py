"""A repository of releases: a folder of static signed files, and how its owner changes it.

    metadata/N.root.json        which keys sign what; signed with the root key, which is kept offline
    metadata/N.targets.json     the releases: hash, size, number, share, groups; signed with the targets key
    metadata/N.snapshot.json    which list is the current one     } signed with the online key,
    metadata/timestamp.json     which snapshot is the current one } again every few days
    targets/CHANNEL/SHA256.VERSION.zip, and one SHA256.VERSION+VARIANT.zip for each variant of a bundle
    keys/*.pem                  never goes to the web server

It is a repository of The Update Framework, https://theupdateframework.github.io/specification/latest/, with consistent
snapshots: no file except timestamp.json ever changes, so that caches may keep them and a partial upload does no harm.
"""

import os
import shutil
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any

from securesystemslib.signer import CryptoSigner
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp

from edge_agent.errors import ReleaseError, UpdateError
from edge_agent.release import keys
from edge_agent.samples import timestamp
from edge_agent.system import atomic_file
from edge_agent.update.releases import NAME, Release, read
from edge_agent.update.waves import WAVES, Plan, Progress, as_document, read_progress

# Days for which a signature is valid. The short ones limit how long an attacker can withhold new releases.
VALID_DAYS = {Root.type: 730, Targets.type: 365, Snapshot.type: 14, Timestamp.type: 14}
# A signature is never due before half of its time is over, however early somebody wants to know.
_MIN_USED = 0.5
# Which key signs which role.
KEY_OF = {Root.type: "root", Targets.type: "targets", Snapshot.type: "online", Timestamp.type: "online"}
KEYS = ("root", "targets", "online")
ARCHIVES = "targets"
_REVOKED = "{}: has been revoked: release the bundle again as another version"


class SignedRepository:
    """The owner's side of a repository.

    Args:
        folder: of the repository.
        ask: returns the passphrase of a key.
    """

    def __init__(self, folder: Path, ask: keys.Ask) -> None:
        self._folder = folder
        self._metadata = folder / "metadata"
        self._ask = ask
        self._signers: dict[str, CryptoSigner] = {}

    @property
    def first_root(self) -> Path:
        """The root.json to be pinned on devices."""
        return self._metadata / "1.root.json"

    def init(self) -> None:
        """Creates the keys and an empty, signed repository.

        Raises:
            ReleaseError: there is a repository already, or a key.
        """
        if self._metadata.exists():
            raise ReleaseError(f"{self._folder}: there is a repository already")
        for file in map(self._key_file, KEYS):
            if file.exists():
                raise ReleaseError(f"{file}: is there already, and is not overwritten")
        new = {name: keys.make(self._key_file(name).name, self._ask) for name in KEYS}
        for name, key in new.items():
            key.write(self._key_file(name))
        self._signers = {name: key.signer for name, key in new.items()}
        (self._folder / ARCHIVES).mkdir()
        root = Root(consistent_snapshot=True)
        for role, name in KEY_OF.items():
            root.add_key(self._signers[name].public_key, role)
        self._sign(root, [self._signers["root"]], first=True)
        self._publish(Targets(), first=True)

    def unlock(self, names: Iterable[str] = ("targets", "online")) -> None:
        """Loads keys, by default those that a change of releases needs, so that passphrases are asked for first."""
        for name in names:
            self._signer(name)

    def releases(self) -> list[Release]:
        """All releases in the current list, by channel, the oldest first; each as far as its plan has come."""
        progress = self.progress()
        return [release.at(progress.get(release.name)) for release in self._listed()]

    def _listed(self) -> list[Release]:
        """The same as the list has them, without the progress of plans."""
        found = [read(path, t.length, t.hashes, t.custom) for path, t in self._current(Targets).targets.items()]
        return sorted(found, key=lambda release: (release.channel, release.number, release.variant))

    def progress(self) -> dict[str, Progress]:
        """How far each release with a plan has come, by its name."""
        return read_progress(self._current(Timestamp).unrecognized_fields.get(WAVES))

    def begin(self, name: str, plan: Plan) -> list[Release]:
        """Gives a release a plan, and begins with its first step; needs the targets key.

        Raises:
            ReleaseError: there is no such release, or it has been revoked.
        """
        releases = self.find(name)
        if any(release.revoked for release in releases):
            raise ReleaseError(_REVOKED.format(name))
        first = Progress(0, timestamp(time.time()))
        self._change([replace(release, share=0, groups=(), plan=plan) for release in releases], {name: first})
        return self.find(name)

    def advance(self, name: str, progress: Progress) -> None:
        """Signs how far a release has come in its plan; needs the online key alone."""
        self._sign_timestamp({name: progress})

    def find(self, name: str) -> list[Release]:
        """The archives of a release: one, or one for each variant.

        Raises:
            ReleaseError: there is no such release.
        """
        releases = self.releases()
        if found := [release for release in releases if release.name == name]:
            return found
        known = ", ".join(dict.fromkeys(release.name for release in releases)) or "none yet"
        raise ReleaseError(f"{name}: there is no such release in {self._folder}; there are: {known}")

    def newest(self, channel: str) -> Release | None:
        """The newest release of a channel that is not revoked, in its archive for the CPU; None if there is none."""
        found = [release for release in self.releases() if release.channel == channel and not release.revoked]
        return next((release for release in reversed(found) if not release.variant), None)

    def archive_of(self, release: Release) -> Path:
        """The archive of a release, if it is still here."""
        return self._folder / ARCHIVES / release.address

    def add(
        self, archives: Path | Mapping[str, Path], channel: str, version: str, share: int, groups: Iterable[str]
    ) -> list[Release]:
        """Adds a release.

        Args:
            archives: of a bundle, by the accelerators and chips that they are for; "" for the CPU, as for one alone.
            channel: an existing or a new one.
            version: of the bundle.
            share: of all devices, in ten thousandths.
            groups: the release is also for devices with one of these labels.

        Raises:
            ReleaseError: the version has been released already, or is not a valid name.
        """
        for name in (channel, version):
            if not NAME.fullmatch(name):
                raise ReleaseError(f"{name!r}: a channel and a version are of letters, digits, '.', '_' and '-' only")
        releases = [release for release in self.releases() if release.channel == channel]
        if any(release.version == version for release in releases):
            raise ReleaseError(f"{channel}/{version}: is released already: give the bundle another version")
        number = max((release.number for release in releases), default=0) + 1
        facts = Release(channel, version, number, "", 0, share, tuple(groups))
        files = archives if isinstance(archives, Mapping) else {"": archives}
        added = [self._store(replace(facts, variant=variant), file) for variant, file in files.items()]
        self._change(added)
        return added

    def _store(self, release: Release, archive: Path) -> Release:
        """Copies an archive to its place, and notes its size and hash."""
        target = TargetFile.from_file(release.path, str(archive), ["sha256"])
        release = read(target.path, target.length, target.hashes, release.facts())
        place = self.archive_of(release)
        place.parent.mkdir(parents=True, exist_ok=True)
        part = place.with_name(f"{place.name}.part")
        shutil.copyfile(archive, part)
        _to_disk(part)
        part.replace(place)
        return release

    def promote(self, name: str, share: int, groups: Iterable[str] | None = None) -> list[Release]:
        """Changes the devices that a release is for; a plan that it has ends.

        Raises:
            ReleaseError: there is no such release, or it has been revoked.
        """
        releases = self.find(name)
        if any(release.revoked for release in releases):
            raise ReleaseError(_REVOKED.format(name))
        stated = None if groups is None else tuple(groups)
        changed = [
            replace(one, share=share, groups=one.groups if stated is None else stated, plan=None) for one in releases
        ]
        self._change(changed)
        return changed

    def revoke(self, name: str) -> list[Release]:
        """Revokes a release; devices that use it roll back."""
        changed = [replace(release, revoked=True) for release in self.find(name)]
        self._change(changed)
        return changed

    def renew(self, *, all_lists: bool = False) -> None:
        """Signs snapshot and timestamp again before they expire.

        Args:
            all_lists: the list of releases as well, which needs the targets key.
        """
        if all_lists:
            self._publish(self._current(Targets))
        else:
            self._sign(self._current(Snapshot), [self._signer("online")])
            self._sign_timestamp()

    def change_key(self, name: str) -> Path | None:
        """Replaces a key; needs the root key. Returns the path of the old one; None if it was not here.

        Args:
            name: `root`, `targets` or `online`.
        """
        root, file = self._current(Root), self._key_file(name)
        old_root = self._signer("root")
        if name == "targets":
            self._signer("online")  # signs the new list as well: its passphrase is asked for before anything changes
        new, outdated = keys.make(file.name, self._ask), None
        if file.exists():
            outdated = file.rename(file.with_name(f"{name}-until-root-{root.version}.pem"))
        new.write(file)
        self._signers[name] = new.signer
        for role in (role for role, key in KEY_OF.items() if key == name):
            for key_id in list(root.roles[role].keyids):
                root.revoke_key(key_id, role)
            root.add_key(self._signers[name].public_key, role)
        # Devices accept a new root that is signed with the old root key: both keys sign.
        self._sign(root, [old_root, *([self._signers["root"]] if name == "root" else [])])
        if name != "root":
            self.renew(all_lists=name == "targets")
        return outdated

    def renew_root(self) -> None:
        """Signs root again, with a new expiry date."""
        self._sign(self._current(Root), [self._signer("root")])

    def keys(self) -> dict[str, list[str]]:
        """The roles that each key signs, by the beginning of its fingerprint."""
        found: dict[str, list[str]] = {}
        for role, what in self._current(Root).roles.items():
            for key_id in what.keyids:
                found.setdefault(key_id[:8], []).append(role)
        return found

    @staticmethod
    def is_due(role: str, left: timedelta, within: timedelta) -> bool:
        """Whether the signature of a role is to be renewed.

        Args:
            role: as in `expiries`.
            left: until it expires.
            within: how long before that it is due; for roles that are signed for a shorter time, half of that time.
        """
        return left < min(within, timedelta(days=VALID_DAYS[role]) * _MIN_USED)

    def expiries(self) -> dict[str, datetime]:
        """The expiry date of each role."""
        return {kind.type: self._current(kind).expires for kind in (Root, Targets, Snapshot, Timestamp)}

    def _change(self, releases: Iterable[Release], progress: Mapping[str, Progress] = MappingProxyType({})) -> None:
        targets = self._current(Targets)
        for release in releases:
            facts = {"custom": release.facts()}
            targets.targets[release.path] = TargetFile(release.size, {"sha256": release.sha256}, release.path, facts)
        self._publish(targets, progress)

    def _publish(
        self, targets: Targets, progress: Mapping[str, Progress] = MappingProxyType({}), *, first: bool = False
    ) -> None:
        """Signs a list of releases, snapshot and timestamp. The old list is current until the last file is written."""
        meta = self._sign(targets, [self._signer("targets")], first=first)
        snapshot = Snapshot() if first else self._current(Snapshot)
        snapshot.meta = {"targets.json": meta}
        self._sign(snapshot, [self._signer("online")], first=first)
        planned = {read(path, t.length, t.hashes, t.custom) for path, t in targets.targets.items()}
        self._sign_timestamp(progress, {release.name for release in planned if release.plan}, first=first)

    def _sign_timestamp(
        self,
        progress: Mapping[str, Progress] = MappingProxyType({}),
        planned: Collection[str] | None = None,
        *,
        first: bool = False,
    ) -> None:
        """Signs timestamp.json.

        Args:
            progress: of releases, in place of what is there of them.
            planned: the releases with a plan; what is there of others is removed. None: all of it stays.
            first: whether there is none yet.
        """
        document = Timestamp() if first else self._current(Timestamp)
        waves = read_progress(document.unrecognized_fields.get(WAVES)) | dict(progress)
        document.unrecognized_fields[WAVES] = as_document(waves, waves if planned is None else planned)
        snapshot = self._newest(Snapshot.type)
        document.snapshot_meta = MetaFile.from_data(int(snapshot.name.split(".")[0]), snapshot.read_bytes(), ["sha256"])
        self._sign(document, [self._signer("online")], first=first)

    def _sign(self, signed: Any, signers: Iterable[CryptoSigner], *, first: bool = False) -> MetaFile:
        """Signs and writes the next version of a role."""
        role = signed.type
        signed.version = 1 if first else signed.version + 1
        signed.expires = datetime.now(UTC).replace(microsecond=0) + timedelta(days=VALID_DAYS[role])
        document: Metadata[Any] = Metadata(signed)
        for signer in signers:
            document.sign(signer, append=True)
        content = document.to_bytes()
        self._metadata.mkdir(exist_ok=True)
        file = self._metadata / ("timestamp.json" if role == Timestamp.type else f"{signed.version}.{role}.json")
        atomic_file.write(file, content)
        return MetaFile.from_data(signed.version, content, ["sha256"])

    def _current(self, kind: type[Any]) -> Any:
        """The current document of a role, found through timestamp.json: an interrupted change may have left others."""
        try:
            if kind is Root:
                return self._read(self._newest(Root.type))
            timestamp = self._read(self._metadata / "timestamp.json")
            if kind is Timestamp:
                return timestamp
            snapshot = self._read(self._metadata / f"{timestamp.snapshot_meta.version}.snapshot.json")
            if kind is Snapshot:
                return snapshot
            return self._read(self._metadata / f"{snapshot.meta['targets.json'].version}.targets.json")
        except (FileNotFoundError, NotADirectoryError):
            raise ReleaseError(
                f"{self._folder}: there is no repository here: `edge-agent release init` makes one"
            ) from None

    def _read(self, file: Path) -> Any:
        try:
            return Metadata[Any].from_bytes(file.read_bytes()).signed
        except (RepositoryError, UpdateError) as error:
            raise ReleaseError(f"{file}: is damaged ({error}): bring it back from the web server") from None

    def _newest(self, role: str) -> Path:
        files = sorted(self._metadata.glob(f"*.{role}.json"), key=lambda file: int(file.name.split(".")[0]))
        if not files:
            raise FileNotFoundError
        return files[-1]

    def _signer(self, name: str) -> CryptoSigner:
        if name not in self._signers:
            self._signers[name] = keys.load(self._key_file(name), self._ask)
        return self._signers[name]

    def _key_file(self, name: str) -> Path:
        return self._folder / "keys" / f"{name}.pem"


def _to_disk(file: Path) -> None:
    with file.open("rb") as content:
        os.fsync(content.fileno())
