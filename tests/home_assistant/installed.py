"""A real Home Assistant, as `make test-home-assistant` installs it, set up and asked over its REST API.

Source: https://developers.home-assistant.io/docs/api/rest/ and, for tokens, …/docs/auth_api/.
"""

import json
import re
import shutil
import subprocess
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import pytest
import urllib3

from tests.broker import free_port, wait_until

ROOT = Path(__file__).parents[2] / "build" / "home-assistant" / "root"
# At its first start it fetches its own web pages.
START_TIMEOUT_S = 300.0
CONFIGURATION = """\
http: {{server_host: 127.0.0.1, server_port: {port}}}
api:
config:
onboarding:
logger: {{default: warning}}
"""


class HomeAssistant:
    """One that knows nothing yet; a context manager starts and stops it.

    Args:
        further: configuration besides the least that it needs, as YAML.
        blueprints: of automations, each copied to the folder `edge-agent`.
    """

    def __init__(self, further: str = "", blueprints: Sequence[Path] = ()) -> None:
        if not (ROOT.parent / ".installed").exists():
            pytest.skip("needs Home Assistant: make test-home-assistant")
        self.port = free_port()
        self._folder = Path("srv") / f"test-{uuid.uuid4().hex}"
        self._http = urllib3.PoolManager(retries=False, timeout=120)
        self._token = ""
        self._further, self._blueprints = further, blueprints

    def __enter__(self) -> Self:
        folder = ROOT / self._folder
        folder.mkdir()
        (folder / "configuration.yaml").write_text(CONFIGURATION.format(port=self.port) + self._further)
        (folder / "automations.yaml").write_text("[]")  # those that are made over the API
        for blueprint in self._blueprints:
            place = folder / "blueprints" / "automation" / "edge-agent"
            place.mkdir(parents=True, exist_ok=True)
            shutil.copy(blueprint, place)
        self._output = (folder / "output.log").open("ab")
        command = ["chroot", str(ROOT), "/srv/home-assistant/bin/hass", "-c", f"/{self._folder}"]
        self._process = subprocess.Popen(command, stdout=self._output, stderr=subprocess.STDOUT)
        try:
            wait_until(self._answers, START_TIMEOUT_S, "Home Assistant answers")
            self._onboard()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._output.close()
        print(self.log())
        shutil.rmtree(ROOT / self._folder)

    def _answers(self) -> bool:
        if self._process.poll() is not None:
            raise AssertionError(f"Home Assistant ended\n{self.log()}")
        try:
            return self._http.request("GET", f"http://127.0.0.1:{self.port}/api/onboarding").status == 200
        except urllib3.exceptions.HTTPError:
            return False

    def _onboard(self) -> None:
        """Makes the first user, and a token in its name."""
        client = f"http://127.0.0.1:{self.port}/"
        user = {"client_id": client, "name": "Test", "username": "test", "password": uuid.uuid4().hex, "language": "en"}
        code = self.ask("onboarding/users", user)["auth_code"]
        fields = {"grant_type": "authorization_code", "code": code, "client_id": client}
        answer = self._http.request("POST", f"{client}auth/token", fields=fields, encode_multipart=False)
        self._token = answer.json()["access_token"]

    def ask(self, path: str, document: Any = None) -> Any:
        """The answer to a POST of a document, or to a GET."""
        return json.loads(self.fetch(path, document))

    def fetch(self, path: str, document: Any = None) -> bytes:
        """The same, as it came."""
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        url = f"http://127.0.0.1:{self.port}/api/{path}"
        if document is None:
            answer = self._http.request("GET", url, headers=headers)
        else:
            answer = self._http.request("POST", url, headers=headers, json=document)
        assert answer.status == 200, (path, answer.status, answer.data[:500])
        return answer.data

    def use_broker(self, port: int) -> None:
        """Sets up its MQTT integration."""
        form = self.ask("config/config_entries/flow", {"handler": "mqtt"})
        done = self.ask(f"config/config_entries/flow/{form['flow_id']}", {"broker": "127.0.0.1", "port": port})
        assert done["type"] == "create_entry", done

    def states(self, device: str) -> dict[str, str]:
        """The states of a device's entities, by their ids without the device's name, such as `sensor.lab`."""
        ids = ((one["entity_id"], one["state"]) for one in self.ask("states"))
        return {entity.replace(f".{device}_", "."): state for entity, state in ids if f".{device}_" in entity}

    def template(self, template: str) -> str:
        """What a template says there."""
        return self.fetch("template", {"template": template}).decode()

    def log(self) -> str:
        """What it has logged."""
        return (ROOT / self._folder / "output.log").read_text(errors="replace")

    def complaints(self) -> list[str]:
        """Warnings and errors about MQTT, templates and entities.

        When a device is removed, Home Assistant clears its discovery topic once for each entity that was off, and then
        complains of what it has published itself.
        """
        found = re.findall(
            r"^.*(?:WARNING|ERROR).*\[homeassistant\.(?:components|helpers)\..*$", self.log(), re.MULTILINE
        )
        subjects = "mqtt|template|entity|sensor|image|event|update|switch|number"
        about = [line for line in found if re.search(subjects, line)]
        return [line for line in about if "No device components to cleanup" not in line]
