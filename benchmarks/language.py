"""Goals 10 to 12: a language model through the daemon, beside its bare runtime, and beside a pipeline of pictures.

The model has the shape of SmolLM2-135M, with weights of four bits and random values: it takes the time of a real one.
"""

import json
import random
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Self

from benchmarks.bench import Bench, Measured, Outcome, Turns, column, compare, summary, take_turns
from benchmarks.camera import Camera
from benchmarks.inputs import TFLITE, Model
from benchmarks.load import Load, Wire
from benchmarks.processes import Broker, Daemon, Program
from tests.language.model_files import SMOLLM2_135M, write_model

TOKENS = 128
SYSTEM_WORDS = 150  # some 512 tokens
PICTURES_UNANSWERED = 8
CAMERA_FRAMES = 100


def language(bench: Bench) -> Outcome:
    """Goals 10 and 11: speed through the daemon against the bare loop, and what the prefix cache saves."""
    outcome, threads = Outcome(), max(1, bench.cores // 2)
    model = Model("smollm2", write_model(bench.folder / "smollm2", SMOLLM2_135M), f"threads: {threads}")
    with ExitStack() as stack:
        bare = stack.enter_context(Bare(bench.folder, model.path, threads))
        daemon = stack.enter_context(Daemon(bench.folder, bench.broker, model))
        client = stack.enter_context(Client(bench.broker, daemon.topic_in, daemon.topic_out))
        turns = take_turns(
            bench.rounds,
            {
                "bare": lambda: bare.measure(_words(20)),
                "daemon": lambda: client.measure(_words(20)),
                "system prompt": partial(_twice, client),
                "echo": partial(_echo, bench.broker),
            },
        )
    outcome.measured["language"] = turns
    speed = {name: column(turns[name], "per_second") for name in ("bare", "daemon")}
    first = {name: column(turns[name], "first_ms") for name in ("bare", "daemon")}
    allowed = [bare + 10 + echo for bare, echo in zip(first["bare"], column(turns["echo"], "echo_ms"), strict=True)]
    read, kept = (column(turns["system prompt"], key) for key in ("read_ms", "kept_ms"))
    outcome.figures += [
        compare(10, "output tokens a second, daemon / bare loop", speed["daemon"], speed["bare"], ">= 0.97"),
        compare(10, "time to first token, daemon / (bare loop + 10 ms + echo)", first["daemon"], allowed, "<= 1.0"),
        summary(10, "output tokens a second, daemon", speed["daemon"]),
        summary(10, "time to first token, daemon", first["daemon"], unit="ms"),
        compare(11, "time to first token, system prompt read / kept", read, kept, ">= 5"),
        summary(11, "tokens of the system prompt and the question", column(turns["system prompt"], "prompt")),
    ]
    return outcome


def beside(bench: Bench) -> Outcome:
    """Goal 12: pictures while a language model generates, as fast as they can and from a camera."""
    folder = write_model(bench.folder / "smollm2", SMOLLM2_135M)
    models = [f"words: {{path: {folder}, threads: {max(1, bench.cores // 2)}}}"]
    talk = "talk: {source: {type: mqtt, topic: talk/in}, model: words, text: {options: {deadline: 1h}}}"

    def measured(name: str, source: str, pictures: Callable[[str, str], Measured]) -> Turns:
        """Alone and beside; `pictures` is given the topics."""
        pipelines = [f"images: {{source: {source}, model: mobilenet}}", talk]
        with Daemon(bench.folder, bench.broker, TFLITE, name=name, pipelines=pipelines, models=models) as daemon:
            topics = daemon.topic_in, daemon.topic_out
            with Client(bench.broker, "talk/in", daemon.topic_out.replace("images", "talk")) as client:

                def generating() -> Measured:
                    with client.generating() as said:
                        seen = pictures(*topics)
                    return seen | said

                return take_turns(bench.rounds, {"alone": partial(pictures, *topics), "beside": generating}, calm=False)

    def as_fast_as_they_can(topic_in: str, topic_out: str) -> Measured:
        with Load(bench.broker.port, topic_in, topic_out, bench.jpegs) as load:
            return load.round(PICTURES_UNANSWERED, bench.count)

    def of_a_camera(_topic_in: str, topic_out: str) -> Measured:
        with Wire(bench.broker.port) as wire:
            wire.subscribe(topic_out)
            wire.receive()
            began = time.perf_counter()
            for _ in range(CAMERA_FRAMES):
                wire.receive()
        return {"per_second": CAMERA_FRAMES / (time.perf_counter() - began)}

    outcome = Outcome()
    with Camera(bench.folder / "frames") as camera:
        for what, turns in {
            "pictures": measured("beside", f"{{type: mqtt, topic: beside-{TFLITE.name}/in}}", as_fast_as_they_can),
            "frames of a camera": measured("watching", f"{{type: video, url: '{camera.url}'}}", of_a_camera),
        }.items():
            outcome.measured[f"language model beside {what}"] = turns
            rate = {name: column(turns[name], "per_second") for name in turns}
            title = f"{what} a second, while a language model generates / alone"
            outcome.figures += [
                compare(12, title, rate["beside"], rate["alone"], ">= 0.8"),
                summary(12, f"{what} a second, alone", rate["alone"]),
                summary(12, "output tokens a second meanwhile", column(turns["beside"], "tokens_per_second")),
            ]
    return outcome


class Bare(Program):
    """See `benchmarks.bare_language`."""

    def __init__(self, folder: Path, model: Path, threads: int) -> None:
        command = [sys.executable, "-m", "benchmarks.bare_language", str(model), str(threads)]
        super().__init__(command, folder / "bare-language.log")
        self.line()

    def measure(self, prompt: str) -> Measured:
        """`first_ms` and `per_second` of one answer."""
        self.tell(prompt=prompt, tokens=TOKENS)
        return self.answer()


class Client:
    """Asks a pipeline and times the pieces of its answers."""

    def __init__(self, broker: Broker, topic_in: str, topic_out: str) -> None:
        self._topic_in, self._topic_cancel = topic_in, topic_out.replace("/result", "/cancel")
        self._out, self._in = Wire(broker.port), Wire(broker.port)
        self._in.subscribe(f"{topic_out}/#")

    def measure(self, prompt: str, tokens: int = TOKENS, system: str = "") -> Measured:
        """`first_ms` until the first piece, `per_second` after it, `prompt` tokens."""
        turns = [{"role": "system", "content": system}] if system else []
        began = time.perf_counter()
        self._ask(messages=[*turns, {"role": "user", "content": prompt}], max_tokens=tokens, stream=True)
        first, document = 0.0, json.loads(self._in.receive())
        while "finish_reason" not in document:
            first = first or time.perf_counter()
            document = json.loads(self._in.receive())
        seconds = time.perf_counter() - first
        count = document["tokens"]
        return {
            "first_ms": (first - began) * 1000,
            "per_second": (count["output"] - 1) / seconds,
            "prompt": count["prompt"],
            "cached": count["cached"],
        }

    @contextmanager
    def generating(self) -> Iterator[Measured]:
        """Something goes on that has no end but a cancellation; says in the end how fast that was."""
        self._ask(prompt=_words(20), max_tokens=1900, stream=True, id="endless")
        self._in.receive()
        said: Measured = {}
        yield said
        self._out.publish(self._topic_cancel, b"endless")
        self._out.wait_for_puback()
        document: dict[str, Any] = {}
        while "finish_reason" not in document:
            document = json.loads(self._in.receive())
        if document["finish_reason"] != "cancelled":
            raise RuntimeError(f"the language model has not generated all the time: {document['finish_reason']}")
        said["tokens_per_second"] = (document["tokens"]["output"] - 1) / document["timing_ms"]["inference"] * 1000

    def _ask(self, **request: Any) -> None:
        self._out.publish(self._topic_in, json.dumps(request).encode())
        self._out.wait_for_puback()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._out, self._in:
            pass


def _twice(client: Client) -> Measured:
    """A system prompt that is new, and then is not."""
    system = _words(SYSTEM_WORDS)
    new, known = (client.measure(_words(8), tokens=8, system=system) for _ in range(2))
    return {"read_ms": new["first_ms"], "kept_ms": known["first_ms"], "prompt": new["prompt"]}


def _echo(broker: Broker) -> Measured:
    """A short message, to the broker and back."""
    times = []
    with Wire(broker.port) as out, Wire(broker.port) as back:
        back.subscribe("echo")
        for _ in range(50):
            began = time.perf_counter()
            out.publish("echo", b"hello")
            back.receive()
            times.append((time.perf_counter() - began) * 1000)
            out.wait_for_puback()
    return {"echo_ms": sorted(times)[len(times) // 2]}


def _words(count: int) -> str:
    """Text that was not there before."""
    return " ".join("".join(random.choices("etaoinshrdlu", k=6)) for _ in range(count))  # noqa: S311 - no secret
