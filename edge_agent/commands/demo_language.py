"""`demo language`: commands and readings go over MQTT, and the two bundled language models answer."""

import json
import sys
import textwrap
import threading
import time
from dataclasses import asdict, dataclass, field
from typing import Any

from edge_agent.commands.demo_session import DEVICE, Subscriber, balance, play, say, width
from edge_agent.models.shipped import shipped
from edge_agent.system.units import counted

# What is asked of the two pipelines, and the topics on which they hear it.
ASKED = {"commands": "home/command", "sentences": "home/readings"}
TOPIC = f"edge/{DEVICE}/+/result"
PIECES = f"{TOPIC}/stream"
COMMANDS = (
    "turn the porch light off at ten",
    "please set the heating in the living room to 21 degrees",
    "open the bedroom blinds at 7:30 and start the air compressor for half an hour",
    "is the garage door closed?",
    "don't open the gate",
    "start the dishwasher",
)
READINGS = (
    "sum up the greenhouse: temperature 21.5 rising from 19.8, humidity 40 steady",
    "the camera in the yard sees person 92 %, dog 81 % at 14:05. say so in one friendly sentence.",
    "one sentence on the pump: anomaly 3.21",
)
# Seconds between the letters of a command, as if it were typed.
TYPING = 0.03


@dataclass(frozen=True, slots=True)
class Answered:
    """One request.

    Attributes:
        asked: a command, or readings.
        answer: JSON for a command, a sentence for readings.
        tokens: that the model has generated.
        first_token_ms: from the request to the first of them.
        total_ms: from the request to the last.
    """

    asked: str
    answer: str
    tokens: int
    first_token_ms: float
    total_ms: float


def run(seconds: float, *, as_json: bool) -> int:
    """Sends commands and readings, for up to `seconds`, or until Ctrl-C.

    Returns:
        The exit code: 0 if all have been answered.

    Raises:
        EdgeAgentError: the broker or the model can't be used.
    """
    screen = _Screen(quiet=as_json)
    played = play(
        _sections(),
        f"{TOPIC}/#",
        screen.introduce,
        screen.show,
        lambda client: _ask(client, time.monotonic() + seconds, screen),
    )
    if as_json:
        print(json.dumps({"answers": [asdict(one) for one in screen.answers], "counters": played.counters}, indent=2))
    else:
        print()
        say(f"{len(screen.answers)} of {len(COMMANDS + READINGS)} requests answered")
        for name, counters in played.counters.items():
            balance(counters, name)
    return 0 if len(screen.answers) == len(COMMANDS + READINGS) or played.interrupted else 1


def _sections() -> dict[str, Any]:
    return {
        "models": {
            "commands": {"path": str(shipped("commands")), "language": {"context": 128}},
            "intents": {"path": str(shipped("intents")), "language": {"context": 256}},
        },
        "pipelines": {
            name: {
                "source": {"type": "mqtt", "topic": topic},
                "model": "commands" if name == "commands" else "intents",
                "text": {"options": {"stream": True} | ({} if name == "commands" else {"numbers": "stated"})},
            }
            for name, topic in ASKED.items()
        },
    }


def _ask(subscriber: Subscriber, until: float, screen: "_Screen") -> None:
    """Sends the requests one by one, each after the previous one has been answered."""
    for text in COMMANDS + READINGS:
        screen.type(text)
        subscriber.send(ASKED["commands" if text in COMMANDS else "sentences"], text.encode())
        if not screen.answered.wait(max(0.0, until - time.monotonic())):
            return


@dataclass(slots=True)
class _Screen:
    """Shows requests as they are typed and answers as they come."""

    quiet: bool
    answers: list[Answered] = field(default_factory=list)
    answered: threading.Event = field(default_factory=threading.Event)
    asked: str = ""
    column: int = 0

    def introduce(self, url: str) -> None:
        if self.quiet:
            return
        say("Commands and readings go over MQTT to the bundled language models, which answer with JSON, or a sentence.")
        asked = " and ".join(ASKED.values())
        say(f"Broker {url} (inside this process), requests on {asked}, answers on {TOPIC}, pieces on {PIECES}")

    def type(self, text: str) -> None:
        self.asked = text
        self.answered.clear()
        if self.quiet:
            return
        live = sys.stdout.isatty()
        print()
        for letter in textwrap.fill(text, width(), initial_indent="> ", subsequent_indent="  "):
            print(letter, end="", flush=live)
            time.sleep(TYPING if live else 0.0)
        print()
        self.column = 0

    def show(self, result: dict[str, Any]) -> None:
        if "task" not in result:  # a piece of the answer
            if not self.quiet:
                self._write(result["text"])
            return
        first, rest = result["timing_ms"]["preprocess"], result["timing_ms"]["inference"]
        tokens = result["tokens"]["output"]
        self.answers.append(Answered(self.asked, result["text"], tokens, first, round(first + rest, 1)))
        if not self.quiet:
            if not self.column:  # commands are answered as a whole
                self._write(result["text"])
            print()
            say(f"  {counted(tokens, 'token')}, the first after {first:.0f} ms, all after {first + rest:.0f} ms")
            sys.stdout.flush()
        self.answered.set()

    def _write(self, piece: str) -> None:
        """Writes a piece of the answer, in a new line where the terminal's ends; broken behind spaces and commas."""
        for part in piece.replace(",", ",\n").replace(" ", " \n").split("\n"):
            if not self.column or self.column + len(part) > width():
                print("\n  " if self.column else "  ", end="")
                self.column = 2
            print(part, end="", flush=True)
            self.column += len(part)
