"""The daemon as a process of its own, started, watched, reloaded and ended as systemd would.

`Daemon` listens on a notification socket, as the service manager does: that is how a test knows that the daemon is
ready, has reloaded, or goes down.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import yaml

from tests.broker import PATIENCE, Mosquitto, wait_until

PROJECT = Path(__file__).parents[1]
READY_TIMEOUT_S = 30.0
END_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class End:
    """How a process ended: its exit code (negative: the signal) and how long that took, in seconds."""

    code: int
    seconds: float


class Daemon:
    """`edge-agent run` on a configuration, from `start` to its end; a context manager starts and stops it.

    Args:
        folder: where configuration and log go; relative paths in the configuration are relative to it.
        config: what the configuration file holds.
        arguments: further ones for `run`.
        environment: further variables, for example WATCHDOG_USEC.
        module: what is started; one that makes faults in the program before it runs it, for example.
    """

    def __init__(
        self,
        folder: Path,
        config: Mapping[str, Any],
        *,
        arguments: tuple[str, ...] = (),
        environment: Mapping[str, str] | None = None,
        module: str = "edge_agent",
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.config_file = folder / "agent.yaml"
        self.log_file = folder / "daemon.log"
        self.notifications: list[tuple[float, str]] = []
        self._arguments = arguments
        self._module = module
        self.environment = dict(environment or {})
        self._process: subprocess.Popen[bytes] | None = None
        self.configure(config)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def configure(self, config: Mapping[str, Any]) -> None:
        """Write the configuration file anew; a running daemon takes no notice before `reload`."""
        self.config_file.write_text(yaml.safe_dump(dict(config), sort_keys=False))

    def start(self, *, ready: bool = True) -> Self:
        """Start the process.

        Args:
            ready: wait until it says that it is.

        Raises:
            AssertionError: it ended instead, or was not ready within 30 s.
        """
        self.notifications.clear()
        address = f"edge-agent-test-{uuid.uuid4().hex}"
        self._manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._manager.bind(f"\0{address}")
        self._manager.settimeout(0.1)
        self._listening = True
        self._listener = threading.Thread(target=self._listen, name="notifications", daemon=True)
        self._listener.start()
        environment = os.environ | {"NOTIFY_SOCKET": f"@{address}"} | self.environment
        command = [sys.executable, "-m", self._module, "run", "-c", str(self.config_file), *self._arguments]
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, cwd=PROJECT, env=environment
            )
        if ready:
            self.wait_for("READY=1")
        return self

    def wait_for(self, state: str, count: int = 1, timeout: float = READY_TIMEOUT_S) -> None:
        """Wait until the daemon has told the service manager `state` so many times."""

        def told() -> bool:
            if self.count(state) >= count:
                return True
            if self._process is None or self._process.poll() is not None:
                raise AssertionError(f"the daemon ended before it said {state}\n{self.log()}")
            return False

        try:
            wait_until(told, timeout, f"the daemon says {state}")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log()}") from None

    def count(self, state: str) -> int:
        """How often the daemon has told the service manager a state that begins like this."""
        return sum(text.startswith(state) for _, text in list(self.notifications))

    def reload(self) -> None:
        """SIGHUP; wait until the daemon says that it has dealt with it."""
        before = self.count("READY=1")
        self.signal(signal.SIGHUP)
        self.wait_for("READY=1", before + 1)

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def stop(self) -> End:
        """SIGTERM, and wait for the end."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def kill(self) -> End:
        """SIGKILL."""
        self.signal(signal.SIGKILL)
        return self.wait()

    def wait(self, timeout: float = END_TIMEOUT_S) -> End:
        """Wait for the end of the process."""
        assert self._process is not None
        began = time.monotonic()
        try:
            code = self._process.wait(timeout * PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise AssertionError(f"the daemon did not end within {timeout:g} s\n{self.log()}") from None
        finally:
            self._listening = False
            self._listener.join()
            self._manager.close()
            self._process = None
        return End(code, time.monotonic() - began)

    @property
    def ended(self) -> bool:
        """Whether the process has ended by itself."""
        return self._process is not None and self._process.poll() is not None

    def log(self) -> str:
        """What it has written so far, over all its starts."""
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def memory(self) -> float:
        """Resident memory in MB."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return float(status.split("VmRSS:")[1].split()[0]) / 1024

    def threads(self) -> int:
        return len(list(Path(f"/proc/{self.pid}/task").iterdir()))

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self.stop()
        # pytest shows what was printed for the tests that fail, and only for those.
        print(self.log())

    def _listen(self) -> None:
        while self._listening:
            try:
                text = self._manager.recv(65536).decode()
            except TimeoutError:
                continue
            self.notifications.append((time.monotonic(), text))


def configuration(broker: Mosquitto | str, device: str, **sections: Any) -> dict[str, Any]:
    """A configuration for a broker (or its URL); `sections` are the further ones, such as `pipelines`."""
    url = broker if isinstance(broker, str) else broker.url
    return {"device_id": device, "mqtt": {"url": url}, "stats_interval": "200ms", **sections}
