"""Brings kept samples from devices to this machine, by rsync over ssh."""

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from edge_agent.errors import ConfigError, EdgeAgentError
from edge_agent.sample_store.labels import NAME as LABELS
from edge_agent.sample_store.labels import merge_labels

# Seconds without any data after which rsync gives up.
IDLE = 60
# [USER@]HOST, which no program may take for an option.
_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(@[A-Za-z0-9_][A-Za-z0-9_.-]*)?")


def check_host(host: str) -> None:
    """Refuses what is no host.

    Raises:
        ConfigError: it is none.
    """
    if not _HOST.fullmatch(host):
        raise ConfigError([f"--devices: expected [USER@]HOST, found {host!r}"])


def pull(host: str, into: Path, remote: str, max_rate: int | None = None, *, sudo: bool = False) -> int:
    """Brings the stores of a device; what was interrupted goes on where it was. Labels that are here stay.

    Args:
        host: `[USER@]HOST`, to which ssh gets without a password.
        into: a folder; the stores go to `HOST/PIPELINE` in it.
        remote: folder of the stores on the device.
        max_rate: bytes a second.
        sudo: whether the files are read as root there, which sudo must allow without a password.

    Returns:
        The number of stores that are here now.

    Raises:
        EdgeAgentError: rsync or ssh fails; what has come stays, and the next call goes on from there.
    """
    place = into / host.rpartition("@")[2]
    place.mkdir(parents=True, exist_ok=True)
    options = ["-rt", "--protect-args", f"--timeout={IDLE}", "-e", "ssh -o BatchMode=yes -o ConnectTimeout=20"]
    options += [f"--bwlimit={max(1, max_rate // 1000)}"] if max_rate else []
    options += ["--rsync-path=sudo -n rsync"] if sudo else []
    source = f"{host}:{remote.rstrip('/')}/"
    # Beside its place, what has come would be lost if rsync is killed. A part of a segment is a segment with a cut end.
    segments = ["--inplace", "--include=*/", "--include=*.samples", "--include=*.index", "--exclude=*"]
    _rsync(host, [*options, *segments, source, f"{place}/"])
    with tempfile.TemporaryDirectory() as folder:
        _rsync(host, [*options, "--include=*/", f"--include={LABELS}", "--exclude=*", source, f"{folder}/"])
        for file in sorted(Path(folder).glob(f"*/{LABELS}")):
            merge_labels(place / file.parent.name, file)
    return sum(any(one.glob("*.samples")) for one in place.iterdir() if one.is_dir())


def _rsync(host: str, arguments: list[str]) -> None:
    program = shutil.which("rsync")
    if program is None:
        raise EdgeAgentError("rsync: is not installed: `apt-get install rsync`")
    # No shell here; the host has been checked, and all else is the operator's own.
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        first = (done.stderr.strip().splitlines() or ["no message"])[0]
        raise EdgeAgentError(f"{host}: rsync ended with exit code {done.returncode}: {first}")
