"""How the daemon's cost grows: with the rate of messages, the number of pipelines, subscribers, and results that wait.

`python -m benchmarks.scaling` prints a table for each. Messages are those of `benchmarks.messages`: 32 readings.
"""

import argparse
import statistics
import sys
import tempfile
import threading
import time
import urllib.request
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from benchmarks.inputs import Model
from benchmarks.load import Wire
from benchmarks.messages import BUNDLE, READINGS
from benchmarks.processes import Broker, Daemon, cpu_seconds, free_port, pss_mib

SENSOR = Model("vibration", BUNDLE, "threads: 1")
PIPELINES = (1, 4, 16)
RATES = (10, 100, 500, 1000, 2000, 5000)
SUBSCRIBERS = (1, 100)
# Messages a second where something else is varied.
STEADY = 100
WAITING = 100_000
# Readings beyond those: the first window, and results on their way to the disk.
MORE = READINGS + 100
# Seconds: at the start, which do not count; of a measurement; without an answer until the missing ones are lost.
WARM_UP, MEASURED, LATE = 2.0, 8.0, 2.0
PATIENCE = 900.0
PAYLOAD = np.random.default_rng(1).normal(0, 0.4, READINGS).astype("<f4").tobytes()
Row = dict[str, float]


class OpenLoad:
    """Publishes at a fixed rate, whether there are answers or not.

    Args:
        port: of the broker.
        topics: of inputs, in turn, each with that of its answers.
    """

    def __init__(self, port: int, topics: Sequence[tuple[str, str]]) -> None:
        self._port, self._topics = port, topics

    def run(self, rate: float, seconds: float) -> Row:
        """`sent_per_s`, `answered`, `lost`; if nothing is lost, `p50_ms` and `p99_ms`."""
        waiting: dict[str, deque[float]] = {answer: deque() for _, answer in self._topics}
        latencies: list[float] = []
        with ExitStack() as stack:
            out, answers = (stack.enter_context(Wire(self._port)) for _ in range(2))
            for answer in waiting:
                answers.subscribe(answer)

            def receive() -> None:
                try:
                    while True:
                        topic, _ = answers.receive_with_topic()
                        latencies.append((time.perf_counter() - waiting[topic].popleft()) * 1000)
                except OSError:  # closed
                    pass

            reader = threading.Thread(target=receive)
            reader.start()
            threading.Thread(target=out.discard, daemon=True).start()
            total = round(rate * seconds)
            began = time.perf_counter()
            for number in range(total):
                if (ahead := began + number / rate - time.perf_counter()) > 0:
                    time.sleep(ahead)
                topic, answer = self._topics[number % len(self._topics)]
                waiting[answer].append(time.perf_counter())
                out.publish(topic, PAYLOAD)
            took = time.perf_counter() - began
            answered, since = len(latencies), time.monotonic()
            while answered < total and time.monotonic() - since < LATE:
                time.sleep(0.02)
                if len(latencies) > answered:
                    answered, since = len(latencies), time.monotonic()
        reader.join()
        row = {"sent_per_s": total / took, "answered": answered, "lost": total - answered}
        if answered == total:
            latencies.sort()
            row |= {f"p{percent}_ms": latencies[min(total - 1, total * percent // 100)] for percent in (50, 99)}
        return row


def _measured(daemon: Daemon, broker: Broker, load: OpenLoad, rate: float) -> Row:
    load.run(rate, WARM_UP)
    before = {pid: cpu_seconds(pid) for pid in (daemon.pid, broker.pid)}
    row = load.run(rate, MEASURED)
    per_message = {pid: (cpu_seconds(pid) - spent) * 1000 / row["answered"] for pid, spent in before.items()}
    return row | {
        "cpu_ms": per_message[daemon.pid],
        "broker_ms": per_message[broker.pid],
        "pss_mib": pss_mib(daemon.pid),
        "threads": len(list(Path(f"/proc/{daemon.pid}/task").iterdir())),
    }


def rates(folder: Path, broker: Broker) -> list[Row]:
    """One pipeline; messages a second."""
    rows = []
    for rate in RATES:
        with Daemon(folder, broker, SENSOR) as daemon:
            load = OpenLoad(broker.port, [(daemon.topic_in, daemon.topic_out)])
            rows.append(_measured(daemon, broker, load, rate))
    return rows


def pipelines(folder: Path, broker: Broker, count: int, rate: float) -> Row:
    """So many pipelines on one model, which share a rate of messages."""
    lines = [
        f"p{number}: {{source: {{type: mqtt, topic: many/{number}}}, model: mobilenet}}" for number in range(count)
    ]
    with Daemon(folder, broker, SENSOR, name="many", pipelines=lines) as daemon:
        topics = [(f"many/{number}", f"edge/many-vibration/p{number}/result") for number in range(count)]
        return {"pipelines": count, **_measured(daemon, broker, OpenLoad(broker.port, topics), rate)}


def subscribers(folder: Path, broker: Broker, count: int) -> Row:
    """So many clients that receive each result."""
    with ExitStack() as stack:
        daemon = stack.enter_context(Daemon(folder, broker, SENSOR))
        for _ in range(count - 1):  # the load is one
            wire = stack.enter_context(Wire(broker.port))
            wire.subscribe(daemon.topic_out)
            threading.Thread(target=wire.discard, daemon=True).start()
        load = OpenLoad(broker.port, [(daemon.topic_in, daemon.topic_out)])
        return {"subscribers": count, **_measured(daemon, broker, load, STEADY)}


def outbox(folder: Path, count: int) -> Row:
    """So many results written while the broker is away, and replayed by the next process."""
    database = folder / "waiting.db"
    more = f"outbox: {{path: {database}, max_size: 1GB, replay_rate: 100000}}\n"
    numbers = folder / "numbers.csv"
    numbers.write_text("".join(f"{value:.4f}\n" for value in np.random.default_rng(1).normal(0, 0.4, count + MORE)))
    source = f"{{type: command, format: csv, rate: 200, restart: never, argv: [cat, {numbers}]}}"
    line = f"images: {{source: {source}, model: mobilenet, window: {{hop: 1}}}}"
    port = free_port()
    listens = f"{more}metrics: {{listen: '127.0.0.1:{port}'}}\n"
    with Broker(folder) as gone:
        pass
    with Daemon(folder, gone, SENSOR, name="waits", pipelines=[line], more=listens) as daemon:
        began, cpu = time.perf_counter(), cpu_seconds(daemon.pid)
        while (saved := _saved(port)) < count:
            if time.perf_counter() - began > PATIENCE:
                raise RuntimeError(f"{saved} of {count} results are in the outbox after {PATIENCE:g} s")
            time.sleep(0.2)
        row: Row = {
            "results": saved,
            "written_per_s": saved / (time.perf_counter() - began),
            "write_cpu_ms": (cpu_seconds(daemon.pid) - cpu) * 1000 / saved,
            "write_pss_mib": pss_mib(daemon.pid),
        }
    row["size_mb"] = database.stat().st_size / 1e6
    with Broker(folder) as broker, Wire(broker.port) as wire:
        wire.subscribe("edge/waits-vibration/images/result")
        with Daemon(folder, broker, SENSOR, name="waits", more=more) as daemon:
            row["start_s"] = daemon.started_after
            wire.receive()
            began, cpu = time.perf_counter(), cpu_seconds(daemon.pid)
            for _ in range(saved - 1):
                wire.receive()
            row["replayed_per_s"] = saved / (time.perf_counter() - began)
            row["replay_cpu_ms"] = (cpu_seconds(daemon.pid) - cpu) * 1000 / saved
            row["replay_pss_mib"] = pss_mib(daemon.pid)
    return row


def _saved(port: int) -> int:
    """Results on the disk, as the daemon's metrics state them; the file is locked while it writes."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    return int(float(next(line for line in lines if line.startswith("edge_agent_outbox_disk_results ")).split()[1]))


def table(rows: Iterable[Row]) -> str:
    """Markdown, a column for each value."""
    rows = list(rows)
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [f"| {' | '.join(names)} |", f"|{'---|' * len(names)}"]
    lines += [f"| {' | '.join(f'{row[name]:.4g}' if name in row else '' for name in names)} |" for row in rows]
    return "\n".join(lines)


def middle(rows: Sequence[Row]) -> Row:
    """The median of each value over several turns."""
    return {name: statistics.median(row[name] for row in rows if name in row) for name in rows[0]}


PARTS = ("rates", "pipelines", "subscribers", "outbox")


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(prog="benchmarks.scaling", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; default: all")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each row, of which the median is shown (3)")
    args = parser.parse_args()
    parts = args.parts or PARTS
    if set(parts) - set(PARTS):
        parser.error(f"parts are {', '.join(PARTS)}")
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        with Broker(folder) as broker:
            turns: dict[str, list[list[Row]]] = {}
            for _ in range(args.rounds):
                if "rates" in parts:
                    turns.setdefault("rates", []).append(rates(folder, broker))
                if "pipelines" in parts:
                    rows = [pipelines(folder, broker, count, STEADY) for count in PIPELINES]
                    turns.setdefault("pipelines", []).append(rows)
                if "subscribers" in parts:
                    rows = [subscribers(folder, broker, count) for count in SUBSCRIBERS]
                    turns.setdefault("subscribers", []).append(rows)
        for part, measured in turns.items():
            each = [middle(rows) for rows in zip(*measured, strict=True)]
            sys.stdout.write(f"\n{part}\n\n{table(each)}\n")
        if "outbox" in parts:
            sys.stdout.write(f"\noutbox\n\n{table([outbox(folder, WAITING)])}\n")


if __name__ == "__main__":
    main()
