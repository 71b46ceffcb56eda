"""Goal 13: what a camera costs, beside decoding its stream with ffmpeg, and whether what moves in it is seen.

`python -m benchmarks.camera_cost` prints the table alone.
"""

import argparse
import json
import random
import shutil
import statistics
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks import report
from benchmarks.bench import Bench, Figure, Measured, Outcome, column, compare, summary
from benchmarks.gate import DETECTOR
from benchmarks.inputs import Model
from benchmarks.load import Wire
from benchmarks.processes import Broker, Daemon, Program, cpu_of_all, pss_mib
from benchmarks.versions import PROJECT
from edge_agent import settings
from edge_agent.errors import SourceError
from edge_agent.models.shipped import shipped
from edge_agent.mqtt.endpoint import Endpoint
from edge_agent.preprocess.motion_gate import MotionGate
from edge_agent.samples import PlanarFrame, Sample
from edge_agent.sources import Context
from edge_agent.sources.pace import Pace
from edge_agent.sources.second_stream import LOOKS
from edge_agent.sources.watch import watch
from tests.rtsp_server import Clip, RtspServer
from tests.sources.clips import Opened
from tests.yard import FPS, VARIABLE, X264, Episode, Yard, constant

GOAL = 13
MAIN, SMALL = (1920, 1080), (640, 360)
GOP_S = 2.0
# Of a sensor at dusk, in grey levels.
NOISE = 6.0
# 3 Mbit/s of a still 1080p scene: cameras come with 2 to 6.
USUAL = X264 | {"crf": "25"}
# Next to no inference, so that the camera is measured.
DIGITS = Model("digits", shipped("digits"), "threads: 1")
LEARN = [Episode(begins, begins + 1.2) for begins in (3.0, 8.4, 13.7)]
SCENES = {
    "still": Yard(*MAIN, seconds=10.0, noise=NOISE),
    "5 % moving": Yard(*MAIN, seconds=40.0, episodes=[Episode(19.0, 21.0)], noise=NOISE),
    "always moving": Yard(*MAIN, seconds=8.0, episodes=[Episode(at, at + 2.0) for at in (0, 2, 4, 6)], noise=NOISE),
}
WANTED = {"still": "<= 0.2", "5 % moving": "<= 0.3"}
# Seconds after which it is settled: opened, and the sizes of packets are learned.
SETTLE, LEARNED = 6.0, 34.0
# Of the detector's cameras, and seconds for which their results are counted.
CAMERAS, WATCHED = 4, 20.0
# Of the episodes.
SIZE = (384, 216)
EVERY = 5.0


def make_clips(folder: Path) -> None:
    """The main stream of each scene and the second one, and what sizes are learned from."""
    for name, scene in {"learn": Yard(*MAIN, seconds=22.0, episodes=LEARN, noise=NOISE), **SCENES}.items():
        clips = {folder / f"{name}.ts": (MAIN, USUAL), folder / f"{name} small.ts": (SMALL, VARIABLE)}
        if not all(path.exists() for path in clips):
            scene.write(clips, round(GOP_S * 25))


def cost(bench: Bench) -> Outcome:
    """CPU time a second of stream, of programs that read the same stream at the same time."""
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg is None:
        raise SystemExit("needs ffmpeg: apt-get install ffmpeg")
    make_clips(bench.folder)
    outcome = Outcome()
    for name in SCENES:
        turns: dict[str, list[Measured]] = {}
        for _ in range(min(bench.rounds, 2)):
            for way, measured in _side_by_side(bench, ffmpeg, name).items():
                turns.setdefault(way, []).append(measured)
        outcome.measured[f"cost of a camera, {name}"] = turns
        theirs = turns.pop("ffmpeg")
        for way, ours in turns.items():
            wanted = WANTED.get(name, "") if way in ("second", "packets") else ""
            if name == "always moving":
                wanted = "<= 0.8" if way == "all" else ""
            what = f"CPU of a 1080p25 camera at fps 5, {name}, {way} / ffmpeg's decoding"
            outcome.figures.append(compare(GOAL, what, column(ours, "cpu"), column(theirs, "cpu"), wanted))
        cpu = column(theirs, "cpu")
        outcome.figures.append(summary(GOAL, f"ffmpeg's decoding, {name}", cpu, unit="s a second"))
        outcome.figures.append(summary(GOAL, f"memory, all, {name}", column(turns["all"], "pss_mib"), unit="MiB"))
    outcome.figures += episodes(bench) + four_cameras(bench)
    return outcome


def four_cameras(bench: Bench) -> list[Figure]:
    """Four cameras in which something moves all the time, at 5 frames a second, on one detector."""
    make_clips(bench.folder)
    clip = Clip.read(bench.folder / "always moving.ts")
    memory: dict[int, float] = {}
    seen: dict[str, list[float]] = {}
    for cameras in (1, CAMERAS):
        with RtspServer({f"c{number}": clip for number in range(cameras)}) as server, Wire(bench.broker.port) as wire:
            lines = [
                f"c{number}: {{source: {{type: video, url: '{server.url(f'c{number}')}', fps: 5}}, model: mobilenet}}"
                for number in range(cameras)
            ]
            wire.subscribe(f"edge/cameras{cameras}-ssd/+/result")
            with Daemon(bench.folder, bench.broker, DETECTOR, name=f"cameras{cameras}", pipelines=lines) as program:
                began, seen = time.monotonic(), {}
                while (now := time.monotonic() - began) < SETTLE + WATCHED:
                    topic, payload = wire.receive_with_topic()
                    if now > SETTLE:
                        captured = datetime.fromisoformat(json.loads(payload)["captured_at"]).timestamp()
                        seen.setdefault(topic, []).append(time.time() - captured)
                memory[cameras] = pss_mib(program.pid)
    rates = [len(seen.get(topic, ())) / WATCHED for topic in seen] + [0.0] * (CAMERAS - len(seen))
    late = sorted(latency for latencies in seen.values() for latency in latencies)
    more = (memory[CAMERAS] - memory[1]) / (CAMERAS - 1)
    return [
        summary(GOAL, "four cameras: results a second of the slowest", [min(rates)], ">= 4.75"),
        summary(GOAL, "four cameras: age of a result, p99", [late[len(late) * 99 // 100]], "<= 1.0", "s"),
        summary(GOAL, "four cameras: memory of each further one", [more], "<= 60", "MiB"),
    ]


def _side_by_side(bench: Bench, ffmpeg: str, scene: str) -> dict[str, Measured]:
    learn, clip = bench.folder / "learn.ts", bench.folder / f"{scene}.ts"
    main = Clip.read(clip)
    # One for each, which shows how much of its stream a program has really read.
    clips = dict.fromkeys(("all", "coarse", "second", "ffmpeg", "frigate"), main)
    clips |= {"small": Clip.read(bench.folder / f"{scene} small.ts"), "packets": Clip.read(learn, clip, again=1)}
    gate = "gate: {type: motion, heartbeat: 1m}"
    with RtspServer(clips) as server, ExitStack() as programs:
        url = {path: f"'{server.url(path)}'" for path in clips}
        sources = {
            "all": f"url: {url['all']}",
            "coarse": f"url: {url['coarse']}, deblocking: false",
            "second": f"url: {url['second']}, watch: {{url: {url['small']}}}",
            "packets": f"url: {url['packets']}, watch: packets",
        }
        running: dict[str, Program] = {}
        for number, (way, source) in enumerate(sources.items()):
            pipeline = f"images: {{source: {{type: video, fps: 5, {source}}}, model: mobilenet, top_k: 1, {gate}}}"
            name = f"camera{number}"
            running[way] = programs.enter_context(
                Daemon(bench.folder, bench.broker, DIGITS, name=name, pipelines=[pipeline])
            )
        command = [ffmpeg, "-nostdin", "-v", "error", "-rtsp_transport", "tcp", "-i", server.url("ffmpeg")]
        running["ffmpeg"] = programs.enter_context(
            Program([*command, "-an", "-f", "null", "-"], bench.folder / "ffmpeg.log")
        )
        frigate = [sys.executable, str(PROJECT / "benchmarks" / "frigate_way.py"), str(shipped("digits/digits.tflite"))]
        running["frigate"] = programs.enter_context(
            Program([*frigate, server.url("frigate")], bench.folder / "frigate.log")
        )
        time.sleep(LEARNED)
        before, sent = {way: cpu_of_all(program.pid) for way, program in running.items()}, dict(server.sent)
        time.sleep(SCENES[scene].seconds * (1 if scene == "5 % moving" else 2))
        spent = {way: cpu_of_all(program.pid) - before[way] for way, program in running.items()}
        seconds = {way: (server.sent[way] - sent[way]) / FPS for way in running}
        return {
            way: {"cpu": spent[way] / seconds[way], "seconds": seconds[way], "pss_mib": pss_mib(program.pid)}
            for way, program in running.items()
        }


def episodes(bench: Bench, count: int = 200) -> list[Figure]:
    """Of many episodes of motion, how many are seen and how soon; without waiting for the clip's own time."""
    draw = random.Random(1)  # noqa: S311 - a made-up scene
    found = []
    for number in range(count):
        begins = 30.0 + number * EVERY + draw.uniform(0, 1.5)
        seconds = draw.uniform(0.8, 2.5)
        contrast = draw.choice((-70, -50, 50, 70, 90))
        share = draw.choice((0.02, 0.03, 0.05, 0.1))
        found.append(Episode(begins, begins + seconds, share, contrast, draw.random()))
    paths = {"variable rate": bench.folder / "variable.ts", "constant rate": bench.folder / "constant.ts"}
    if not all(path.exists() for path in paths.values()):
        options = {"variable rate": VARIABLE, "constant rate": constant(300)}
        scene = Yard(*SIZE, seconds=32.0 + count * EVERY, episodes=found, noise=4.0)
        scene.write({path: (SIZE, options[rate]) for rate, path in paths.items()}, round(GOP_S * 25))
    figures: list[Figure] = []
    gate = settings.Gate(type="motion", heartbeat=86400.0)
    for rate, path in paths.items():
        times, decoded, counts = _watched(path, gate)
        figures += _seen(f"packets, {rate}", times, found, GOP_S)
        wanted = "<= 0.05" if counts["sizes"] == "tell" else ""
        what = f"packets, {rate}: still time, after the first half, in which all is decoded (sizes: {counts['sizes']})"
        figures.append(summary(GOAL, what, [_opened(decoded, found)], wanted, "of 1"))
    times = _second(paths["variable rate"], gate)
    figures += _seen("second stream, as its gate opens", times, found, 0.5)
    return figures


def _opened(decoded: list[tuple[float, int]], found: list[Episode]) -> float:
    """The share of the packets of still time that are decoded, beside keyframes."""
    half = found[len(found) // 2].ends
    packets = extra = 0
    for (_, before), (at, after) in pairwise(decoded):
        if at > half and not any(one.begins <= at <= one.ends + 1.5 for one in found):
            packets += 1
            extra += after - before
    return max(0.0, extra / max(1, packets) - 1 / (GOP_S * 25))


def _seen(way: str, times: list[float], found: list[Episode], most: float) -> list[Figure]:
    firsts = [next((at for at in times if one.begins <= at <= one.ends + 0.2), None) for one in found]
    delays = [at - one.begins for at, one in zip(firsts, found, strict=True) if at is not None]
    slots = {round(at / 0.2) for at in times if at > 1 and not any(one.begins <= at <= one.ends + 1 for one in found)}
    length = found[-1].ends
    still = length - sum(one.ends + 1 - one.begins for one in found)
    missed = len(found) - len(delays)
    return [
        summary(GOAL, f"{way}: episodes of {len(found)} that are missed", [missed], "<= 0", "episodes"),
        summary(GOAL, f"{way}: first look after", delays, f"<= {most}", "s"),
        summary(
            GOAL, f"{way}: the same, 99th percentile", [statistics.quantiles(delays, n=100)[98]], f"<= {most}", "s"
        ),
        summary(GOAL, f"{way}: still time that is looked at", [len(slots) * 0.2 / still], "<= 0.05", "of 1"),
    ]


def _watched(path: Path, gate: settings.Gate) -> tuple[list[float], list[tuple[float, int]], dict[str, Any]]:
    """When `watch: packets` looks at a clip, in seconds of it; how many packets were decoded then; and all counts."""
    mqtt = settings.Mqtt()
    context = Context(PROJECT, "edge/bench/yard", Endpoint.from_settings(mqtt, PROJECT), mqtt, gate=gate)
    options = {"type": "video", "url": "rtsp://cam/main", "fps": 5, "watch": "packets"}
    source = watch("yard", settings.VideoSource.model_validate(options), context)
    times: list[float] = []
    decoded: list[tuple[float, int]] = []
    stream, counts = Opened(path), context.counters.video()
    try:
        for sample in source.samples(stream, threading.Event()):
            times += [] if sample is None else [stream.latest]
            decoded.append((stream.latest, counts.as_dict()["decoded"]))
    except SourceError:  # the end of the clip
        pass
    return times, decoded, counts.as_dict()


def _second(path: Path, gate: settings.Gate) -> list[float]:
    """When the gate of a second stream is open."""
    motion, pace, stream = MotionGate(gate, {}), Pace(LOOKS), Opened(path)
    decoder = stream.decoder(all_threads=False, deblocking=True)
    times: list[float] = []
    try:
        for packet in stream.packets():
            for frame in decoder.decode(packet):
                if pace.is_due(frame.opaque.clock):
                    pace.take(frame.opaque.clock)
                    if motion.passes(Sample(PlanarFrame(frame), frame.opaque.clock, frame.opaque.clock, {})):
                        times.append(frame.opaque.clock)
    except SourceError:
        pass
    return times


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(prog="benchmarks.camera_cost", description=__doc__)
    parser.add_argument("--rounds", type=int, default=2, help="turns of each scene (2)")
    parser.add_argument("--folder", type=Path, help="where the clips are kept for the next time")
    parser.add_argument("--episodes", type=int, default=0, help="only the episodes, as many as this")
    parser.add_argument("--four", action="store_true", help="only four cameras on a detector")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = args.folder or Path(made)
        with Broker(folder) as broker:
            bench = Bench(folder, [], broker, 2, args.rounds, 0, 0, 0)
            if args.episodes:
                outcome = Outcome(episodes(bench, args.episodes))
            else:
                outcome = Outcome(four_cameras(bench)) if args.four else cost(bench)
    sys.stdout.write(report.table([outcome]) + "\n")


if __name__ == "__main__":
    main()
