"""`demo vibration`: a simulated machine, an anomaly model, and an anomaly that is found as it happens."""

import json
import sys
import threading
import time
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from edge_agent.commands.demo_session import DEVICE, ROOMY, Subscriber, balance, play, say, width
from edge_agent.commands.simulated_machine import RATE, Machine
from edge_agent.models.shipped import shipped
from edge_agent.postprocess.thresholds import ANOMALY
from edge_agent.samples import timestamp
from edge_agent.system.units import counted

SENSOR = "pump/vibration"
TOPIC = f"edge/{DEVICE}/pump/result"
PIECE = 16
# The bearing breaks after this share of the time; the strength of its strikes, in g.
BREAKS_AT = 0.5
DAMAGE = 0.4
SEED = 7
BAR = 30


@dataclass(slots=True)
class Seen:
    """What has arrived.

    Attributes:
        windows: how many results.
        false_alarms: anomalies reported before the bearing broke.
        broke_at: when it did, seconds since the epoch; None: not yet.
        found_after_s: seconds from then to the end of the first window that was reported as an anomaly.
    """

    windows: int = 0
    false_alarms: int = 0
    broke_at: float | None = None
    found_after_s: float | None = None


def run(seconds: float, *, as_json: bool) -> int:
    """Runs the demo for `seconds`, or until Ctrl-C; returns the exit code: 0 if the anomaly was found.

    Raises:
        EdgeAgentError: the broker or the model can't be used.
    """
    screen = _Screen(quiet=as_json)
    played = play(_sections(), TOPIC, screen.introduce, screen.show, lambda client: _shake(client, seconds, screen))
    counters = played.counters["pump"]
    if as_json:
        print(json.dumps(asdict(screen.seen) | {"counters": counters}, indent=2))
    else:
        screen.sum_up(counters)
    return 0 if screen.seen.found_after_s is not None or played.interrupted else 1


def _sections() -> dict[str, Any]:
    return {
        "models": {"vibration": {"path": str(shipped("vibration"))}},
        "pipelines": {"pump": {"source": {"type": "mqtt", "topic": SENSOR}, "model": "vibration", "window": {}}},
    }


def _shake(subscriber: Subscriber, seconds: float, screen: "_Screen") -> None:
    """Sends readings in real time, as a sensor would; half-way the bearing breaks."""
    machine, began = Machine(SEED), time.monotonic()
    for number in range(round(seconds * RATE / PIECE)):
        time.sleep(max(0.0, began + (number + 1) * PIECE / RATE - time.monotonic()))
        broken = time.monotonic() - began >= seconds * BREAKS_AT
        if broken and screen.seen.broke_at is None:
            screen.breaks()
        subscriber.send(SENSOR, machine.run(PIECE, DAMAGE if broken else 0.0).tobytes())


@dataclass(slots=True)
class _Screen:
    """Shows a line a second, and one for each change between normal and anomaly."""

    quiet: bool
    seen: Seen = field(default_factory=Seen)
    lock: threading.Lock = field(default_factory=threading.Lock)
    label: str = ""
    shown_at: float = 0.0

    def introduce(self, url: str) -> None:
        if self.quiet:
            return
        say("A simulated pump shakes a sensor; its readings go through the bundled anomaly model, over MQTT.")
        say(f"Broker {url} (inside this process), readings on {SENSOR}, results on {TOPIC}")
        print("\n  time          score" if width() >= ROOMY else "\n  time      score")

    def breaks(self) -> None:
        with self.lock:
            self.seen.broke_at = time.time()
            if not self.quiet:
                print(f"  {_clock(self.seen.broke_at)}  now a bearing breaks", flush=True)

    def show(self, result: dict[str, Any]) -> None:
        captured = datetime.fromisoformat(result["captured_at"]).timestamp()
        [prediction] = result["predictions"]
        with self.lock:
            seen, new = self.seen, prediction["label"] != self.label
            seen.windows += 1
            if prediction["label"] == ANOMALY:
                if seen.broke_at is None:
                    seen.false_alarms += 1
                elif seen.found_after_s is None:
                    seen.found_after_s = round(max(0.0, captured - seen.broke_at), 3)
            if self.quiet or not (new or captured - self.shown_at >= 1):
                return
            self.label, self.shown_at = prediction["label"], captured
            longest = BAR if width() >= ROOMY else max(1, width() - 30)
            bar = "#" * min(longest, 1 + round(prediction["value"] * BAR))
            label = prediction["label"].upper() if prediction["label"] == ANOMALY else prediction["label"]
            print(f"  {_clock(captured)}  {prediction['value']:.4f}  {label:<8}  {bar}", flush=True)

    def sum_up(self, counters: dict[str, Any]) -> None:
        seen = self.seen
        found = "not found" if seen.found_after_s is None else f"found after {seen.found_after_s:.2f} s"
        alarms = counted(seen.false_alarms, "false alarm")
        print()
        say(f"{counted(seen.windows, 'window')}, {alarms} before the bearing broke; {found}")
        balance(counters, "windows")
        sys.stdout.flush()


def _clock(seconds: float) -> str:
    """The time of day, as exactly as there is room for."""
    return timestamp(seconds)[11 : 23 if width() >= ROOMY else 19]
