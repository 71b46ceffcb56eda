"""A Debian 12 in a virtual machine: a real kernel, a real systemd, a camera, and a power supply that can be cut.

It reaches the loopback ports of this machine at 10.0.2.2, and nothing else; it is reached over ssh.

To cut the power is to kill qemu. What the guest has in memory is lost; what it has told its disk to keep (fsync) is
kept, since this machine's kernel lives on. Of what it has written and not told to keep, some is lost, as with a disk
that has a cache of its own: qemu keeps in memory where the new blocks of a qcow2 file lie, until the guest flushes.
What this does not show: torn sectors, and disks that lose what they have said to be kept.
"""

import subprocess
import time
from pathlib import Path
from typing import Self

from tests.broker import free_port, wait_until
from tests.devices.debian import run
from tests.pages import ROOT

IMAGE = ROOT / "build" / "machine"
RECIPE = Path(__file__).with_name("machine_image.sh")
HOST = "10.0.2.2"
# Emulated, on two cores that others may be using too.
BOOT_TIMEOUT_S = 300.0
COMMAND_TIMEOUT_S = 900.0


class Machine:
    """The virtual machine; a context manager, which switches it on.

    Args:
        folder: for its disk and the log of its console.
        stick: the folder that it finds as a read-only disk at /mnt.
        port: one of its TCP ports, to be reached here as `reached_at`.

    Attributes:
        on_since: when it was switched on, seconds on the monotonic clock.
    """

    def __init__(self, folder: Path, stick: Path, port: int) -> None:
        self._disk, self._stick = folder / "disk.qcow2", folder / "stick.img"
        self._console = folder / "console.log"
        self._ssh_port, self._port, self.reached_at = free_port(), port, free_port()
        self._qemu: subprocess.Popen[bytes] | None = None
        self.on_since = 0.0
        backing = ("-b", IMAGE / "disk.img", "-F", "raw")
        run("qemu-img", "create", "-q", "-f", "qcow2", *backing, self._disk)
        size = sum(file.stat().st_size for file in stick.rglob("*"))
        run("mkfs.ext4", "-q", "-d", stick, self._stick, f"{size // 1_000_000 + 64}M")

    def switch_on(self) -> None:
        """Power on; returns at once."""
        command = ["setpriv", "--pdeathsig", "KILL", "qemu-system-x86_64"]  # it does not outlive the tests
        command += ["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "1024", "-display", "none"]
        command += ["-monitor", "none", "-serial", f"file:{self._console}", "-device", "virtio-rng-pci"]
        command += ["-kernel", f"{IMAGE / 'kernel'}", "-initrd", f"{IMAGE / 'initrd'}"]
        command += ["-append", "root=/dev/vda rw console=ttyS0 quiet"]
        command += ["-drive", f"file={self._disk},if=virtio,format=qcow2,cache=writeback"]
        command += ["-drive", f"file={self._stick},if=virtio,format=raw,readonly=on"]
        ways_in = {self._ssh_port: 22, self.reached_at: self._port}
        forwarded = ",".join(f"hostfwd=tcp:127.0.0.1:{here}-10.0.2.15:{there}" for here, there in ways_in.items())
        command += ["-netdev", f"user,id=net,{forwarded}", "-device", "virtio-net-pci,netdev=net"]
        self._qemu = subprocess.Popen(command)
        self.on_since = time.monotonic()

    def cut_power(self) -> None:
        """From one instruction to the next, nothing happens in it any more."""
        assert self._qemu is not None
        self._qemu.kill()
        self._qemu.wait()
        self._qemu = None

    def run(self, *command: str, given: bytes | None = None, check: bool = True) -> subprocess.CompletedProcess[bytes]:
        """Runs a command in it, as root.

        Args:
            command: words for its shell.
            given: on standard input.
            check: it must work.
        """
        options = ("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR", "ConnectTimeout=60")
        done = subprocess.run(
            ["ssh", "-F", "none", "-i", str(IMAGE / "key"), "-p", str(self._ssh_port), "-o", "BatchMode=yes"]
            + [part for option in options for part in ("-o", option)]
            + ["root@127.0.0.1", *command],
            input=given,
            capture_output=True,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )
        assert not check or done.returncode == 0, f"{' '.join(command)}: {done.stdout!r} {done.stderr!r}"
        return done

    def says(self, *command: str) -> str:
        """What a command prints in it."""
        return self.run(*command, check=False).stdout.decode().strip()

    def wait_for_shell(self) -> None:
        """Waits until it takes commands; for the first time only, since it can be told by the console alone then."""
        wait_until(lambda: "login:" in self.console(), BOOT_TIMEOUT_S, "it boots")
        wait_until(lambda: self.says("echo", "up") == "up", BOOT_TIMEOUT_S, f"ssh; {self.console()}")

    def put(self, path: str, text: str) -> None:
        """Writes a file in it."""
        self.run("cat", ">", path, given=text.encode())

    def console(self) -> str:
        """The last that it has said to its console since it was switched on."""
        return self._console.read_text(errors="replace")[-2000:] if self._console.exists() else ""

    def __enter__(self) -> Self:
        self.switch_on()
        return self

    def __exit__(self, *_: object) -> None:
        if self._qemu is not None:
            # pytest shows what was printed for the tests that fail, and only for those.
            print(self.console(), self.says("journalctl", "-u", "edge-agent", "-n", "100", "--no-pager"))
            self.cut_power()
