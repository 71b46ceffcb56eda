"""`demo` of a meter: frames of a clip go through the bundled digit reader."""

import json
import sys
import time
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import yaml

from edge_agent.commands.demo_session import DEVICE, ROOMY, balance, play, say, width
from edge_agent.models.shipped import shipped
from edge_agent.samples import timestamp
from edge_agent.system.units import counted

TOPIC = f"edge/{DEVICE}/meter/result"


@dataclass(frozen=True, slots=True)
class Reading:
    """The reading of the meter in one result.

    Attributes:
        text: the value with its unit; what was read and why that was refused, if it was.
        digits: as they are seen, from left to right; `?` for one that is unsure.
        confidence: of the least certain digit, 0 to 1.
        frame: number of the clip's frame, from 1.
        latency_ms: from the frame's capture to the result's arrival here.
    """

    at: str
    text: str
    digits: str
    confidence: float
    frame: int
    latency_ms: float


def run(seconds: float, *, as_json: bool) -> int:
    """Runs the demo for `seconds`, or until Ctrl-C; returns the exit code.

    Raises:
        EdgeAgentError: the broker, the model or the clip can't be used.
    """
    screen = _Screen(quiet=as_json)
    played = play(_sections(), TOPIC, screen.introduce, screen.receive, lambda _: time.sleep(seconds))
    counters = played.counters["meter"]
    if as_json:
        print(
            json.dumps(
                {"readings": [_as_dict(reading) for reading in screen.readings], "counters": counters},
                indent=2,
            )
        )
    else:
        screen.sum_up(counters)
    return 0 if screen.readings or played.interrupted else 1


def _sections() -> dict[str, Any]:
    clip = yaml.safe_load(shipped("clips/meter.yaml").read_text())
    return {
        "models": {"digits": {"path": str(shipped("digits"))}},
        "pipelines": {
            "meter": {
                "source": {"type": "video", "url": str(shipped(f"clips/{clip['clip']}")), "loop": True},
                "model": "digits",
                "regions": clip["regions"],
                "meter": {"kind": "energy", "digits": len(clip["regions"])},
            }
        },
    }


class _Screen:
    """Shows readings: a line for each new one; on a terminal the last line follows every result."""

    def __init__(self, *, quiet: bool) -> None:
        self.readings: list[Reading] = []
        self._quiet = quiet
        self._live = sys.stdout.isatty()

    def introduce(self, url: str) -> None:
        if self._quiet:
            return
        say("A clip of a meter goes through the bundled digit reader; results arrive over MQTT.")
        say(f"Broker {url} (inside this process), topic {TOPIC}")
        roomy = "  time          reading       confidence   latency   frame"
        print(f"\n{roomy if width() >= ROOMY else '  time      reading      sure   latency'}")

    def receive(self, result: dict[str, Any]) -> None:
        now = time.time()
        captured = datetime.fromisoformat(result["captured_at"]).timestamp()
        prediction = result["predictions"][0]
        self.show(
            Reading(
                at=timestamp(now),
                text=_text(prediction),
                digits=prediction["digits"],
                confidence=prediction["confidence"],
                frame=result["input"]["frame"],
                latency_ms=round((now - captured) * 1000, 1),
            )
        )

    def show(self, reading: Reading) -> None:
        new = not self.readings or self.readings[-1].text != reading.text
        self.readings.append(reading)
        if self._quiet or not (new or self._live):
            return
        latency = f"{reading.latency_ms:>5.1f} ms"
        if width() >= ROOMY:
            at = f"  {reading.at[11:23]}  {reading.text:<12}  {reading.confidence:>9.1%}"
            line = f"{at}   {latency}   {reading.frame:>5}"
        else:
            line = f"  {reading.at[11:19]}  {reading.text[:10]:<10}  {reading.confidence:>5.1%}  {latency}"
        if self._live:
            print(("\n" if new else "\r") + line, end="", flush=True)
        else:
            print(line, flush=True)

    def sum_up(self, counters: dict[str, Any]) -> None:
        latencies = sorted(reading.latency_ms for reading in self.readings)
        half = f", half of them within {latencies[len(latencies) // 2]:.1f} ms of their frame" if latencies else ""
        print("\n")
        say(f"{counted(len(self.readings), 'result')} arrived{half}")
        balance(counters, "frames")
        say(
            f"results: {counters['produced']} produced = {counters['acknowledged']} acknowledged by the broker"
            f" + {counters['queued']} waiting + {sum(counters['discarded'].values())} discarded"
        )


def _text(prediction: dict[str, Any]) -> str:
    if "refused" in prediction:
        return f"{prediction['digits']} {prediction['refused']}"
    return f"{prediction['value']:g} {prediction['unit']}"


def _as_dict(reading: Reading) -> dict[str, Any]:
    return {
        "at": reading.at,
        "reading": reading.digits,
        "confidence": reading.confidence,
        "frame": reading.frame,
        "latency_ms": reading.latency_ms,
    }
