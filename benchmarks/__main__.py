"""`python -m benchmarks [NAME…]`: measures the daemon against the bare runtime and against a hand-written script."""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks import camera_cost, footprint, gate, language, messages, report, speed, video
from benchmarks.bench import Bench, Outcome, patience
from benchmarks.inputs import DATA
from benchmarks.processes import Broker
from benchmarks.versions import before

BENCHMARKS: dict[str, Callable[[Bench], Outcome]] = {
    "throughput": speed.throughput,
    "latency": speed.latency,
    "video": video.full_speed,
    "age": video.frame_age,
    "gate": gate.gate,
    "camera": camera_cost.cost,
    "messages": messages.messages,
    "memory": footprint.memory,
    "growth": footprint.growth,
    "start": footprint.start,
    "idle": footprint.idle,
    "language": language.language,
    "language-beside": language.beside,
}
# What the goals are stated for.
CORES = 2


def main() -> None:
    """Runs what is named, or everything; everything is also written into docs/."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(BENCHMARKS)}; default: all")
    parser.add_argument("--rounds", type=int, default=7, help="turns that each program gets (7)")
    parser.add_argument("--count", type=int, default=300, help="inputs a turn (300)")
    parser.add_argument("--minutes", type=float, default=3, help="how long memory is watched for growth (3)")
    parser.add_argument("--idle-seconds", type=float, default=60, help="how long an idle daemon is watched (60)")
    parser.add_argument("--patience", type=float, default=300, help="seconds in all to wait for a calm machine (300)")
    parser.add_argument(
        "--against",
        default="",
        metavar="REVISION",
        help="the version before, measured in alternating turns; `none`: only the present one (the latest tag, or the "
        "version that the figures in docs/ are of)",
    )
    args = parser.parse_args()
    patience.left = args.patience
    if unknown := set(args.names) - set(BENCHMARKS):
        parser.error(f"no benchmark is called {', '.join(sorted(unknown))}: there are {', '.join(BENCHMARKS)}")
    if not DATA.is_dir():
        parser.error(f"no test data in {DATA}: set EDGE_AGENT_TEST_DATA")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # what has been started ends too, as with Ctrl+C
    compared = None if args.against == "none" else before(args.against)
    # This process and all that it starts; the daemon and the runtimes see so many cores and no more.
    cores = sorted(os.sched_getaffinity(0))[:CORES]
    os.sched_setaffinity(0, cores)
    outcomes: dict[str, Outcome] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        inputs = [folder / "jpegs", folder / "frames"]
        for made in inputs:
            made.mkdir()
        subprocess.run([sys.executable, "-m", "benchmarks.inputs", *inputs], check=True)
        jpegs = [file.read_bytes() for file in sorted(inputs[0].iterdir())]
        with Broker(folder) as broker:
            bench = Bench(
                folder=folder,
                jpegs=jpegs,
                broker=broker,
                cores=len(cores),
                rounds=args.rounds,
                count=args.count,
                minutes=args.minutes,
                idle_seconds=args.idle_seconds,
                before=compared,
            )
            facts = report.machine(bench)
            for benchmark in args.names or BENCHMARKS:
                print(f"{benchmark} …", flush=True)
                outcomes[benchmark] = BENCHMARKS[benchmark](bench)
                print(report.table([outcomes[benchmark]]), flush=True)
    if not args.names:
        report.write(facts, outcomes)


if __name__ == "__main__":
    main()
