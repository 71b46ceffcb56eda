"""The programs that are measured, each a process of its own, and what the kernel says of them."""

import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Self, cast

from benchmarks.inputs import LABELS, VIDEO, Model
from benchmarks.versions import PRESENT, PROJECT, Version

PATIENCE = 120.0
WARM_UP = 15
_TICKS = os.sysconf("SC_CLK_TCK")
_running: "set[Program]" = set()


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and its threads, from /proc/PID/stat; in steps of 10 ms."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _with_children(pid: int) -> list[int]:
    """A process and what it has started, and what that has started: a language model is a process of its own."""
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
        children = [int(child) for thread in threads for child in (thread / "children").read_text().split()]
    except FileNotFoundError:  # it has ended meanwhile
        return [pid]
    return [pid, *(one for child in children for one in _with_children(child))]


def cpu_of_all(pid: int) -> float:
    """The same of a process and all that it has started and that still runs."""
    return sum(cpu_seconds(one) for one in _with_children(pid))


def pss_mib(pid: int) -> float:
    """Proportional set size: the process's memory, with what it shares divided among those who share it."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def foreign_cores(work: Callable[[], Any]) -> tuple[Any, float]:
    """Does some work; returns its result, and how many cores others kept busy meanwhile, on average."""
    began, busy, own = time.perf_counter(), _busy_seconds(), _own_seconds()
    result = work()
    foreign = _busy_seconds() - busy - (_own_seconds() - own)
    return result, max(0.0, foreign / (time.perf_counter() - began))


def _busy_seconds() -> float:
    """CPU time that the whole machine has spent on programs, or that a host has taken away from it."""
    user, nice, system, _, _, _, _, stolen = Path("/proc/stat").read_text().split()[1:9]
    return (int(user) + int(nice) + int(system) + int(stolen)) / _TICKS


def _own_seconds() -> float:
    ended = os.times()
    waited_for = ended.children_user + ended.children_system
    running = [pid for program in _running for pid in _with_children(program.pid)]
    return time.process_time() + waited_for + sum(map(cpu_seconds, running))


class Program:
    """A process that is started, watched and ended; a context manager.

    Args:
        command: what to run.
        log: file that its standard error goes to.
        environment: further variables.
        folder: that it runs in.

    Attributes:
        began: when it was started, on the performance counter.
    """

    def __init__(
        self, command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None, folder: Path = PROJECT
    ) -> None:
        self._command = " ".join(command)
        self._log = log
        self.began = time.perf_counter()
        with log.open("wb") as errors:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd=folder,
                env=_as_installed(os.environ) | dict(environment or {}),
                bufsize=0,
            )
        # Both are there, since pipes were asked for.
        self._input, self._output = cast("BinaryIO", self._process.stdin), cast("BinaryIO", self._process.stdout)
        self.pid = self._process.pid
        _running.add(self)

    def tell(self, **question: Any) -> None:
        """One line of JSON in."""
        self._input.write(json.dumps(question).encode() + b"\n")

    def answer(self) -> dict[str, float]:
        """One line of JSON out."""
        answer: dict[str, float] = json.loads(self.line())
        return answer

    def line(self) -> str:
        """The next line that it writes.

        Raises:
            RuntimeError: it has ended, or says nothing for two minutes; with what it wrote to standard error.
        """
        ready, _, _ = select.select([self._output], [], [], PATIENCE)
        line = self._output.readline() if ready else b""
        if not line:
            raise self.failure("says nothing")
        return line.decode().strip()

    def failure(self, what: str) -> RuntimeError:
        """Ends the program; an error that shows what it has said."""
        self._process.kill()
        return RuntimeError(f"{self._command}: {what}\n{self._log.read_text()[-2000:]}")

    def poll(self) -> int | None:
        """Its exit code, once it has ended."""
        return self._process.poll()

    def stop(self) -> None:
        """SIGTERM, and wait for the end."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise
        finally:
            _running.remove(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def free_port() -> int:
    """One of 127.0.0.1 on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


class Broker(Program):
    """Mosquitto with its default settings on a free port of 127.0.0.1."""

    def __init__(self, folder: Path) -> None:
        program = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        if program is None:
            raise SystemExit("needs the MQTT broker Mosquitto: apt-get install mosquitto")
        self.port = free_port()
        config = folder / "mosquitto.conf"
        config.write_text(f"listener {self.port} 127.0.0.1\nallow_anonymous true\n")
        super().__init__([program, "-c", str(config)], folder / "mosquitto.log")
        deadline = time.monotonic() + PATIENCE
        while self.poll() is None and time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
            except OSError:
                time.sleep(0.02)
            else:
                return
        raise self.failure("accepts no connection")


class Floor(Program):
    """See `benchmarks.floor`."""

    def __init__(self, folder: Path, model: Model) -> None:
        command = [sys.executable, "-m", "benchmarks.floor", str(model.path), str(folder / "jpegs"), str(VIDEO)]
        super().__init__(command, folder / f"floor-{model.name}.log")
        self.line()

    def measure(self, mode: str, count: int) -> dict[str, float]:
        """One measurement of a mode: `per_second`, and `cpu_ms` for one input."""
        self.tell(mode=mode, count=count, warm_up=WARM_UP)
        return self.answer()


class Script(Program):
    """See `benchmarks/script.py`; it listens on `{topic}/in` and answers on `{topic}/result`.

    Attributes:
        started_after: seconds from its start until it has imported its libraries and loaded the model.
    """

    def __init__(self, folder: Path, broker: Broker, model: Model, *options: str, topic: str = "script") -> None:
        topic = f"{topic}-{model.name}"
        self.topic_in, self.topic_out = f"{topic}/in", f"{topic}/result"
        script = str(Path(__file__).with_name("script.py"))
        arguments = [str(model.path), str(LABELS), "--port", str(broker.port), "--topic", topic, *options]
        super().__init__([sys.executable, script, *arguments], folder / f"{topic}.log")
        self.line()
        self.started_after = time.perf_counter() - self.began
        self.line()


class Daemon(Program):
    """`edge-agent run` with one model.

    Args:
        pipelines: lines of YAML, one for each pipeline (`name: {source: …}`); default: one on MQTT.
        models: lines of YAML, one for each further model.
        version: whose code runs.
        more: lines of YAML, at the end.

    Attributes:
        started_after: seconds from its start until it told the service manager that it is ready.
    """

    def __init__(
        self,
        folder: Path,
        broker: Broker,
        model: Model,
        *,
        name: str = "daemon",
        pipelines: Sequence[str] = (),
        models: Sequence[str] = (),
        version: Version = PRESENT,
        more: str = "",
    ) -> None:
        name = f"{name}-{model.name}" if version is PRESENT else f"{version.name}-{name}-{model.name}"
        self.topic_in, self.topic_out = f"{name}/in", f"edge/{name}/images/result"
        mqtt_pipeline = f"images: {{source: {{type: mqtt, topic: {self.topic_in}}}, model: mobilenet}}"
        config = folder / f"{name}.yaml"
        config.write_text(
            f"device_id: {name}\n"
            f"mqtt: {{url: 'mqtt://127.0.0.1:{broker.port}'}}\n"
            f"models:\n  mobilenet: {{path: {model.path}, {model.settings}}}\n"
            + "".join(f"  {line}\n" for line in models)
            + "pipelines:\n"
            + "".join(f"  {pipeline}\n" for pipeline in pipelines or [mqtt_pipeline])
            + more
        )
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(str(folder / f"{name}.notify"))
            manager.settimeout(1.0)
            environment = {"NOTIFY_SOCKET": str(folder / f"{name}.notify"), "PYTHONPATH": str(version.folder)}
            command = [version.python, "-m", "edge_agent", "run", "-c", str(config)]
            super().__init__(command, folder / f"{name}.log", environment, version.folder)
            while not _says_ready(manager):
                if self.poll() is not None or time.perf_counter() - self.began > PATIENCE:
                    raise self.failure("does not become ready")
            self.started_after = time.perf_counter() - self.began
        (folder / f"{name}.notify").unlink()


def _as_installed(environment: Mapping[str, str]) -> dict[str, str]:
    """Without what would have Python compile all modules at each start; an installed package is compiled once."""
    return {name: value for name, value in environment.items() if name != "PYTHONDONTWRITEBYTECODE"}


def _says_ready(manager: socket.socket) -> bool:
    try:
        return "READY=1" in manager.recv(4096).decode()
    except TimeoutError:
        return False
