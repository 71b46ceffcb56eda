"""Goal 9: a clip with 90 % still frames, with and without the motion gate."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.bench import Bench, Figure, Measured, Outcome, Turns, column, compare, summary, take_turns
from benchmarks.inputs import DATA, TFLITE, Model
from benchmarks.load import Wire
from benchmarks.processes import Daemon, cpu_seconds
from tests.still_scene import Scene

# What is used most with cameras, and the network of the other goals, which is a fast one.
DETECTOR = Model(
    "ssd", DATA / "detect_tflite" / "coco_ssd_mobilenet_v1_1.0_quant_2018_06_29.tflite", "accelerators: [cpu]"
)
MODELS = {"a detector": DETECTOR, "a fast classifier": TFLITE}
# A tenth of the clip has the thing in it.
SCENE = Scene(
    DATA / "images" / "hot_dog.jpg",
    DATA / "images" / "dog.jpg",
    fps=30.0,
    seconds=60.0,
    crossings=3,
    crossing=2.0,
    share=0.02,
)


def gate(bench: Bench) -> Outcome:
    """The clip at full speed, again and again; CPU time for each of its frames, from one `stats` to the next one."""
    clip = bench.folder / "still.mp4"
    moving = {number for number, moves in enumerate(SCENE.write(clip), start=1) if moves}
    figures: list[Figure] = []
    measured: dict[str, Turns] = {}
    for name, model in MODELS.items():
        contenders: dict[str, Callable[[], Measured]] = {
            "gate": partial(_with_gate, bench, model, clip, moving),
            "without": partial(_measure, bench, model, clip, ""),
        }
        turns = take_turns(bench.rounds, contenders)
        ours, theirs = column(turns["gate"], "cpu_ms"), column(turns["without"], "cpu_ms")
        figures += [
            compare(9, f"CPU time of a clip with 90 % still frames, {name}, gate / without", ours, theirs, "<= 0.25"),
            summary(9, f"frames of it that pass, {name}", column(turns["gate"], "passed"), unit="of 1"),
            summary(9, f"moving frames of it that do not, {name}", column(turns["gate"], "missed"), "<= 0", "frames"),
        ]
        measured[f"gate, {name}"] = turns
    return Outcome(figures, measured)


def _with_gate(bench: Bench, model: Model, clip: Path, moving: set[int]) -> Measured:
    with Wire(bench.broker.port) as results:
        results.subscribe(f"edge/gate-{model.name}/images/result")
        return _measure(bench, model, clip, "gate: {type: motion}", lambda: len(moving - _first_showing(results)))


def _first_showing(results: Wire) -> set[int]:
    """The frames of the clip that had a result, when it was shown for the first time."""
    shown = [0]
    while (frame := json.loads(results.receive())["input"]["frame"]) > shown[-1]:
        shown.append(frame)
    return set(shown)


def _measure(bench: Bench, model: Model, clip: Path, gate: str, missed: Callable[[], int] = lambda: 0) -> Measured:
    source = f"{{type: video, url: {clip}, fps: max, loop: true}}"
    pipeline = f"images: {{source: {source}, model: mobilenet, top_k: 1, {gate}}}"
    with Wire(bench.broker.port) as wire:
        wire.subscribe(f"edge/gate-{model.name}/stats")
        with Daemon(bench.folder, bench.broker, model, name="gate", pipelines=[pipeline]) as program:
            held_back = missed()
            before, cpu = _counts(wire), cpu_seconds(program.pid)
            after, spent = _counts(wire), cpu_seconds(program.pid) - cpu
    frames = after["captured"] - before["captured"]
    return {
        "cpu_ms": spent * 1000 / frames,
        "passed": (after["inferred"] - before["inferred"]) / frames,
        "missed": held_back,
        "frames": frames,
    }


def _counts(wire: Wire) -> Measured:
    counts: Measured = json.loads(wire.receive())["pipelines"]["images"]
    return counts
