"""Checks of the configuration, clock, disk, memory and temperature."""

import errno
import os
import re
import shutil
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from edge_agent.daemon.thermal import FIRMWARE, read_heat
from edge_agent.doctor.machine import Finding, Machine, failure, ok, warning
from edge_agent.samples import timestamp
from edge_agent.system.clock import Clock
from edge_agent.system.units import counted, format_size

# An earlier time is wrong: this was written later.
EARLIEST = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
PROBE_BYTES = 4096
# Bytes to spare beside the outbox, for logs and models.
SPARE_DISK = 100_000_000
LITTLE_DISK = 20_000_000
CLEAN = "sudo apt-get clean && sudo journalctl --vacuum-size=50M"
# Bytes that a model and its runtime commonly take.
LITTLE_MEMORY = 150_000_000
HOT = 80.0
# Bits of the Raspberry Pi's firmware; those that were set at some time since the start are 16 places higher:
# https://www.raspberrypi.com/documentation/computers/os.html#get_throttled
FLAGS = {0: "under-voltage", 1: "frequency capped", 2: "throttled", 3: "soft temperature limit"}
SINCE_START = 16
COOL = "better cooling (a fan, a heat sink); watch: vcgencmd measure_temp"
POWER = "a power supply of 5 V with the current that this model wants, and a short cable"


def configuration(machine: Machine) -> list[Finding]:
    """Whether the configuration is valid; its models are loaded by `check` only."""
    if machine.file is None:
        return [ok("none given: with -c FILE, its devices, its broker and its disk are looked at, too")]
    if machine.config is None:
        return [failure(problem, f"edge-agent check -c {machine.file}") for problem in machine.problems]
    options = machine.config.settings
    counts = f"{counted(len(options.models), 'model')}, {counted(len(options.pipelines), 'pipeline')}"
    return [ok(f"{machine.file}: device {options.device_id}, {counts}")]


def clock(machine: Machine) -> list[Finding]:
    """Whether the time is right; otherwise results carry wrong timestamps and certificates seem invalid."""
    del machine
    now = time.time()
    text = f"{timestamp(now)[:19].replace('T', ' ')} UTC"
    fix = "sudo timedatectl set-ntp true && timedatectl timesync-status"
    if now < EARLIEST:
        return [failure(f"{text}: this clock has lost the time: certificates will seem not yet valid", fix)]
    if not Clock().synced():
        return [warning(f"{text}: no time service keeps the clock right: results say so (clock_synced)", fix)]
    return [ok(f"{text}, kept right by a time service")]


def disk(machine: Machine) -> list[Finding]:
    """Whether the folder of the outbox can be written to, and has enough space."""
    if machine.config is None:
        here = Path.cwd()
        return _room(here, 0) or [ok(f"{here}: {format_size(shutil.disk_usage(here).free)} free")]
    folder = machine.config.outbox_path().absolute().parent
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".edge-agent-doctor-") as probe:
            probe.write(bytes(PROBE_BYTES))
            probe.flush()
            os.fsync(probe.fileno())
    except OSError as error:
        return [failure(f"{folder} can't be written to: {error.strerror}", _fix_folder(error, folder, machine.user))]
    found = _room(folder, machine.config.settings.outbox.max_size)
    return found or [ok(f"{folder}: {format_size(shutil.disk_usage(folder).free)} free, and can be written to")]


def _room(folder: Path, wanted: int) -> list[Finding]:
    """A finding if there is too little free space.

    Args:
        folder: on the file system.
        wanted: bytes.
    """
    free = shutil.disk_usage(folder).free
    text = f"{folder}: {format_size(free)} free"
    if free < LITTLE_DISK:
        return [failure(f"{text}: too little", CLEAN)]
    if free < wanted + SPARE_DISK:
        needs = f"{format_size(wanted)} for the outbox (outbox.max_size) and {format_size(SPARE_DISK)} to spare"
        return [warning(f"{text}: less than {needs}", CLEAN)]
    return []


def _fix_folder(error: OSError, folder: Path, user: str) -> str:
    match error:
        case FileNotFoundError():
            return f"sudo install -d -o {user} -m 700 {folder}"
        case PermissionError():
            return f"sudo chown {user} {folder}"
    if error.errno == errno.EROFS:
        return f"sudo mount -o remount,rw $(findmnt -no TARGET --target {folder}) && sudo dmesg | grep -i error"
    return CLEAN


def memory(machine: Machine) -> list[Finding]:
    """Available memory, and whether the kernel has killed processes for lack of it."""
    lines = re.findall(r"^(\w+): +(\d+) kB", machine.read("/proc/meminfo"), re.MULTILINE)
    sizes = {name: int(kib) * 1024 for name, kib in lines}
    if "MemAvailable" not in sizes:
        return [ok("not reported by this system")]
    text = f"{format_size(sizes['MemAvailable'])} of {format_size(sizes.get('MemTotal', 0))} available"
    found = [ok(text)]
    if sizes["MemAvailable"] < LITTLE_MEMORY:
        found = [warning(f"{text}: little for a model and its runtime", "ps -eo rss,comm --sort=-rss | head")]
    ended = re.search(r"^oom_kill (\d+)$", machine.read("/proc/vmstat"), re.MULTILINE)
    if ended and int(ended[1]):
        killed = f"since the start, the kernel has ended {ended[1]} processes for want of memory"
        found.append(warning(killed, "journalctl -k -b -g 'Out of memory'"))
    return found


def temperature(machine: Machine) -> list[Finding]:
    """The temperature, and whether the CPU is throttled, or was since the start."""
    heat = read_heat(machine.path("/sys"))
    word = machine.read(f"/sys/{FIRMWARE}")
    flags = int(word, 16) if re.fullmatch(r"(0x)?[0-9a-fA-F]{1,8}", word) else 0
    now = [name for bit, name in FLAGS.items() if flags >> bit & 1]
    before = [name for bit, name in FLAGS.items() if flags >> bit + SINCE_START & 1 and name not in now]
    found = []
    if heat.throttled:
        # Under-voltage also corrupts what is being written.
        found_now = failure if "under-voltage" in now else warning
        what = ", ".join(now) or "held back by the kernel"
        found.append(found_now(f"now: {what}: the processor runs slower", _cool_or_power(now)))
    if before:
        found.append(warning(f"since the start: {', '.join(before)}", _cool_or_power(before)))
    if heat.temperature is not None:
        text = f"{heat.temperature:.1f} °C"
        found.append(warning(text, COOL) if heat.temperature >= HOT else ok(text))
    return found or [ok("not reported by this machine")]


def _cool_or_power(flags: list[str]) -> str:
    return POWER if "under-voltage" in flags else COOL
