"""What Debian's package manager has installed."""

import re

from edge_agent.doctor.machine import Machine

MAX_DPKG_STATUS = 64_000_000
_FIELD = re.compile(r"^(Package|Status|Version): (.*)$", re.MULTILINE)


def packages(machine: Machine) -> dict[str, str]:
    """The installed packages with their versions; empty on other systems."""
    found = {}
    for entry in machine.read("/var/lib/dpkg/status", MAX_DPKG_STATUS).split("\n\n"):
        fields = dict(_FIELD.findall(entry))
        if fields.get("Status", "").endswith(" installed"):
            found[fields.get("Package", "")] = fields.get("Version", "")
    return found


def codename(machine: Machine) -> str:
    """The name of the release, such as `trixie`; "" where it is not known."""
    found = re.search(r'^VERSION_CODENAME="?([\w-]+)', machine.read("/etc/os-release"), re.MULTILINE)
    return found[1] if found else ""
