"""A real browser: Debian's Chromium, headless, steered over the DevTools protocol.

https://chromedevtools.github.io/devtools-protocol/
"""

import base64
import itertools
import json
import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
from websockets.sync.client import ClientConnection, connect

from tests.broker import PATIENCE, wait_until

START_TIMEOUT_S = 60.0
ANSWER_TIMEOUT_S = 30.0 * PATIENCE
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--hide-scrollbars",
    "--mute-audio",
    "--remote-debugging-port=0",
)


class Browser:
    """One page of a browser with a profile of its own.

    Args:
        folder: for the profile.

    Attributes:
        events: what the browser has told so far: method and parameters.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ids = itertools.count(1)
        self.events: list[tuple[str, dict[str, Any]]] = []

    def __enter__(self) -> Self:
        if (program := shutil.which("chromium")) is None:
            pytest.skip("no browser: apt-get install chromium")
        self._folder.mkdir(parents=True, exist_ok=True)
        told = self._folder / "DevToolsActivePort"
        self._log = (self._folder / "log").open("wb")
        self._process = subprocess.Popen(
            [program, *FLAGS, f"--user-data-dir={self._folder}", "about:blank"], stdout=self._log, stderr=self._log
        )
        wait_until(lambda: told.exists() and len(told.read_text().split()) == 2, START_TIMEOUT_S, "Chromium is up")
        port, path = told.read_text().split()
        self._socket: ClientConnection = connect(f"ws://127.0.0.1:{port}{path}", max_size=None)
        self._session = ""
        target = self.do("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.do("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in "Page", "Runtime", "Log", "Network":
            self.do(f"{domain}.enable")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()
        self._process.terminate()
        self._process.wait(30 * PATIENCE)
        self._log.close()

    def do(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Sends a command and waits for its answer."""
        number = next(self._ids)
        command = {"id": number, "method": method, "params": parameters}
        self._socket.send(json.dumps(command | ({"sessionId": self._session} if self._session else {})))
        deadline = time.monotonic() + ANSWER_TIMEOUT_S
        while True:
            message = json.loads(self._socket.recv(timeout=deadline - time.monotonic()))
            if message.get("id") == number:
                assert "error" not in message, message
                result: dict[str, Any] = message["result"]
                return result
            if "method" in message:
                self.events.append((message["method"], message["params"]))

    def open(self, address: str, headers: Mapping[str, str] | None = None) -> None:
        """Goes to a page; what its scripts do comes later. What the page before has done is forgotten."""
        self.do("Page.navigate", url="about:blank")
        self.wait_for("location.href === 'about:blank'")
        self.events.clear()
        self.do("Network.setExtraHTTPHeaders", headers=dict(headers or {}))
        self.do("Page.navigate", url=address)

    def ask(self, expression: str) -> Any:
        """The value of a JavaScript expression, evaluated in the page."""
        answer = self.do("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait_for(self, expression: str, timeout: float = 60.0) -> None:
        """Waits until a JavaScript expression is true; as long as it fails, it is not."""
        guarded = f"(() => {{ try {{ return {expression}; }} catch {{ return false; }} }})()"
        wait_until(lambda: self.ask(guarded) is True, timeout, expression)

    def resize(self, width: int, height: int, *, phone: bool = False) -> None:
        """Gives the page another size, in CSS pixels; a phone has two of its own for each, and a finger."""
        scale = 2 if phone else 1
        self.do("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=phone)

    def screenshot(self, file: Path) -> None:
        """Writes what is seen, and what can be scrolled to, as PNG."""
        file.parent.mkdir(parents=True, exist_ok=True)
        answer = self.do("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        file.write_bytes(base64.b64decode(answer["data"]))

    def complaints(self) -> list[str]:
        """What the browser has to say against the page: errors, refused content, exceptions."""
        return [
            json.dumps(facts)
            for method, facts in self.events
            if method == "Runtime.exceptionThrown"
            or (method == "Log.entryAdded" and facts["entry"]["level"] == "error")
        ]

    def asked_for(self) -> list[str]:
        """The addresses that the page has asked for."""
        return [facts["request"]["url"] for method, facts in self.events if method == "Network.requestWillBeSent"]
