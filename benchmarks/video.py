"""Goal 4: a clip at full speed, and the age of a camera's frames when the model is slow."""

import json
import time
from datetime import datetime
from typing import Any

from benchmarks.bench import Bench, Measured, Outcome, column, compare, summary, take_turns
from benchmarks.camera import FPS, Camera
from benchmarks.inputs import ONNX, TFLITE, VIDEO, VIDEO_FRAMES
from benchmarks.load import Wire
from benchmarks.processes import Daemon, Floor, cpu_seconds, pss_mib

# Frames at the start that are not measured.
WARM_UP = 100
COUNT = VIDEO_FRAMES - WARM_UP
# Seconds into the floor's run at which its memory is looked at.
SETTLED = 3.0
# So many regions make an inference take several frames' time.
REGIONS = 28
# Results of the start, when frames queue up in the network, that do not count.
STARTED = 10


def full_speed(bench: Bench) -> Outcome:
    """The clip through the floor with a reader thread, and through the daemon with results over MQTT."""
    empty = bench.folder / "none"
    (empty / "jpegs").mkdir(parents=True)

    def floor() -> Measured:
        with Floor(empty, ONNX) as program:
            program.tell(mode="video with reader", count=COUNT, warm_up=WARM_UP)
            time.sleep(SETTLED)
            memory = pss_mib(program.pid)
            return program.answer() | {"pss_mib": memory}

    def daemon() -> Measured:
        pipeline = f"images: {{source: {{type: video, url: {VIDEO}, fps: max}}, model: mobilenet}}"
        with Wire(bench.broker.port) as wire:
            wire.subscribe(f"edge/video-{ONNX.name}/images/result")
            with Daemon(bench.folder, bench.broker, ONNX, name="video", pipelines=[pipeline]) as program:
                for _ in range(WARM_UP):
                    wire.receive()
                began, cpu = time.perf_counter(), cpu_seconds(program.pid)
                memory = 0.0
                for number in range(WARM_UP, VIDEO_FRAMES):
                    wire.receive()
                    if number == VIDEO_FRAMES // 2:
                        memory = pss_mib(program.pid)
                seconds, spent = time.perf_counter() - began, cpu_seconds(program.pid) - cpu
        return {"per_second": COUNT / seconds, "cpu_ms": spent * 1000 / COUNT, "pss_mib": memory}

    turns = take_turns(bench.rounds, {"floor": floor, "daemon": daemon})
    ours, theirs = turns["daemon"], turns["floor"]

    def both(key: str) -> tuple[list[float], list[float]]:
        return column(ours, key), column(theirs, key)

    return Outcome(
        [
            compare(4, "frames a second of a clip, daemon / floor", *both("per_second"), ">= 1.05"),
            compare(4, "memory meanwhile, daemon - floor", *both("pss_mib"), "<= 15", difference=True),
            compare(4, "CPU time a frame of a clip, daemon / floor", *both("cpu_ms")),
        ],
        {"video": turns},
    )


def frame_age(bench: Bench) -> Outcome:
    """A camera of 30 frames a second on the network, and a model that takes several frames' time.

    The age is from the moment at which the camera sent the frame, so it has what OpenCV holds back in it.
    """
    regions = ", ".join(f"r{number}: [0, 0, 0.5, 0.5]" for number in range(REGIONS))
    ages: list[Measured] = []
    with Camera(bench.folder / "frames") as camera, Wire(bench.broker.port) as wire:
        source = f"{{type: video, url: '{camera.url}'}}"
        pipeline = f"images: {{source: {source}, model: mobilenet, top_k: 1, regions: {{{regions}}}}}"
        wire.subscribe(f"edge/age-{TFLITE.name}/images/result")
        with Daemon(bench.folder, bench.broker, TFLITE, name="age", pipelines=[pipeline]):
            for number in range(bench.count):
                result = json.loads(wire.receive())
                if number >= STARTED:
                    ages.append(_age(result, camera))
    shares = sorted(age["age_ms"] / (1000 / FPS + age["inference_ms"]) for age in ages)
    return Outcome(
        [
            summary(4, "age of a camera's frame at inference / (frame interval + inference)", shares),
            summary(4, "the same, 99th percentile", [shares[int(len(shares) * 0.99)]], "<= 1.0"),
            summary(4, "inference of the slow model", column(ages, "inference_ms"), unit="ms"),
        ],
        {"frame age": {"daemon": ages}},
    )


def _age(result: dict[str, Any], camera: Camera) -> Measured:
    timing, frame = result["timing_ms"], result["input"]["frame"]
    waited = timing["queue"] + timing["preprocess"]
    captured = datetime.fromisoformat(result["captured_at"]).timestamp()
    age = (captured - camera.sent[frame - 1]) * 1000 + waited
    return {"frame": frame, "age_ms": age, "since_capture_ms": waited, "inference_ms": timing["inference"]}
