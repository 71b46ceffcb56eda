"""Starts the agent in Home Assistant's add-on: asks the Supervisor for the broker, and becomes the agent's user.

The Supervisor's side: https://developers.home-assistant.io/docs/apps/communication#services-api. Standard library only.
"""

import json
import os
import pwd
import shutil
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

SERVICE = "http://supervisor/services/mqtt"
TIMEOUT_S = 30.0
LARGEST_ANSWER = 65_536
USER = "edge-agent"
CONFIG, STATE = Path("/config"), Path("/data/edge-agent")
EXAMPLE = Path(__file__).with_name("agent.yaml")
# Where devices are that a user can have access to by their group.
DEVICES = (
    "video*",
    "media*",
    "dri/*",
    "ttyUSB*",
    "ttyACM*",
    "ttyAMA*",
    "ttyS*",
    "gpiochip*",
    "apex_*",
    "hailo*",
    "bus/usb/*/*",
    "snd/*",
)


def broker(service: str, token: str) -> dict[str, str]:
    """Home Assistant's broker, as environment variables; none, and a warning, if there is none.

    agent.yaml may name another broker.

    Args:
        service: URL of the Supervisor's answer.
        token: by which the Supervisor knows this add-on.
    """
    request = urllib.request.Request(service, headers={"Authorization": f"Bearer {token}"})  # noqa: S310 - http
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310 - http
            found: Any = json.loads(answer.read(LARGEST_ANSWER))["data"]
        scheme, host = "mqtts" if found["ssl"] else "mqtt", found["host"]
        address = f"{scheme}://{host}:{found['port']}"
        return {"MQTT_URL": address} | {f"MQTT_{key.upper()}": found.get(key) or "" for key in ("username", "password")}
    except urllib.error.HTTPError as error:
        problem = f"there is none for add-ons (answer {error.code}): install and start the add-on Mosquitto broker"
    except OSError as error:
        problem = f"the Supervisor does not answer: {error}"
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        problem = f"{service} does not answer with host and port as JSON: {error!r}"
    print(f"Home Assistant's MQTT broker: {problem}", file=sys.stderr, flush=True)
    return {}


def device_groups(devices: Path) -> list[int]:
    """The groups of the devices that the Supervisor has passed in, root's left out: their numbers are the host's."""
    found = {path.stat().st_gid for pattern in DEVICES for path in devices.glob(pattern) if path.exists()}
    return sorted(found - {0})


def prepare(config: Path, state: Path, owner: tuple[int, int]) -> None:
    """Makes the folders and, at the first start, the configuration, and gives them to the agent's user."""
    config.mkdir(exist_ok=True)
    state.mkdir(0o700, parents=True, exist_ok=True)
    file = config / "agent.yaml"
    if not file.exists():
        shutil.copyfile(EXAMPLE, file)
    for path in (config, file, state):
        os.chown(path, *owner)


def main(environment: Mapping[str, str]) -> None:
    """Becomes the agent."""
    user = pwd.getpwnam(USER)
    prepare(CONFIG, STATE, (user.pw_uid, user.pw_gid))
    variables = broker(SERVICE, environment.get("SUPERVISOR_TOKEN", ""))
    kept = {name: value for name, value in environment.items() if name not in ("SUPERVISOR_TOKEN", "HASSIO_TOKEN")}
    os.setgroups(device_groups(Path("/dev")))
    os.setgid(user.pw_gid)
    os.setuid(user.pw_uid)
    program = "/usr/bin/edge-agent"
    arguments = [program, "run", "-c", str(CONFIG / "agent.yaml")]
    own = {"HOME": user.pw_dir, "STATE_DIRECTORY": str(STATE)}
    os.execve(program, arguments, kept | variables | own)  # noqa: S606 - without a shell on purpose


if __name__ == "__main__":
    main(os.environ)
