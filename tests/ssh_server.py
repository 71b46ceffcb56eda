"""Devices that are reached over a real ssh: an sshd of this user for each, on a loopback port."""

import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.broker import free_port, wait_until

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
# What sshd wants where it is started as root; Debian's service makes it as well.
PRIVILEGE_SEPARATION = Path("/run/sshd")
# Of the key exchanges, a fast one: the first choice takes half a second.
CONFIG = """
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/user_key.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
KexAlgorithms curve25519-sha256
ForceCommand {folder}/enter
"""
CLIENT = """
Host {name}
  HostName 127.0.0.1
  Port {port}
  IdentityFile {folder}/user_key
  IdentitiesOnly yes
  UserKnownHostsFile {folder}/known_hosts
  StrictHostKeyChecking yes
"""
# Commands run in the home of the device; what they write to the client is noted in `sent`.
ENTER = '#!/bin/sh\ncd {home} && sh -c "$SSH_ORIGINAL_COMMAND" | tee -a {folder}/sent\n'


def _generate(path: Path) -> str:
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)]
    subprocess.run(command, check=True)
    return path.with_suffix(".pub").read_text()


@contextmanager
def _server(name: str, home: Path, folder: Path) -> Iterator[str]:
    """Runs a server; gives what a client has to know of it."""
    folder.mkdir(parents=True)
    home.mkdir(parents=True, exist_ok=True)
    port = free_port()
    _generate(folder / "user_key")
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {_generate(folder / 'host_key')}")
    (folder / "sshd_config").write_text(CONFIG.format(folder=folder))
    (folder / "enter").write_text(ENTER.format(home=shlex.quote(str(home)), folder=shlex.quote(str(folder))))
    (folder / "enter").chmod(0o755)
    address = ["-o", f"ListenAddress=127.0.0.1:{port}"]
    assert SSHD is not None
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen([SSHD, "-D", "-e", "-f", str(folder / "sshd_config"), *address], stderr=log)
    try:
        wait_until(lambda: b"listening" in (folder / "log").read_bytes(), 10, f"sshd of {name} listens")
        yield CLIENT.format(name=name, port=port, folder=folder)
    finally:
        server.terminate()
        server.wait(10)


@contextmanager
def devices(homes: Mapping[str, Path], folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Has `ssh NAME` reach the home of each device, and nothing else, until the end of the `with` block.

    Args:
        homes: folders in which commands run, by name of the device.
        folder: for keys and logs; the bytes that a device has sent are in `NAME/sent`.
        monkeypatch: changes PATH.
    """
    ssh = shutil.which("ssh")
    if SSHD is None or ssh is None:
        pytest.skip("needs sshd and ssh: apt-get install openssh-server")
    if os.geteuid() == 0:
        PRIVILEGE_SEPARATION.mkdir(mode=0o755, exist_ok=True)
    with ExitStack() as stack:
        known = [stack.enter_context(_server(name, home, folder / name)) for name, home in homes.items()]
        (folder / "ssh_config").write_text("".join(known))
        (folder / "bin").mkdir()
        (folder / "bin" / "ssh").write_text(f'#!/bin/sh\nexec {ssh} -F {folder}/ssh_config "$@"\n')
        (folder / "bin" / "ssh").chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}/bin:{os.environ['PATH']}")
        _check_login(next(iter(homes)), folder)
        yield


def _check_login(name: str, folder: Path) -> None:
    command: Sequence[str] = [str(folder / "bin" / "ssh"), "-o", "BatchMode=yes", name, "true"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    log = (folder / name / "log").read_text()
    if done.returncode and "account is locked" in log:
        pytest.skip("the account of this user is locked: sshd lets it in with PAM only")
    assert done.returncode == 0, f"{done.stderr}\n{log}"
