"""Several requests at once: the daemon's OpenAI endpoint beside llama.cpp's server, with the same file and client.

`python -m benchmarks.at_once FILE.gguf`: turns in alternation; what the machine does besides is in both. CPU time is
that of all threads of a program and of what it has started.
"""

import argparse
import http.client
import json
import random
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from benchmarks import report
from benchmarks.bench import Measured, Outcome, column, compare, summary, take_turns
from benchmarks.inputs import TFLITE
from benchmarks.processes import PATIENCE, Broker, Daemon, Program, cpu_of_all, free_port

AT_ONCE, TOKENS, CONTEXT = 4, 96, 1024
SUBJECTS = ("a lighthouse", "two brothers", "an old train", "the river", "a clever fox", "the last winter")


def main() -> None:
    """Measures, and prints the table."""
    parser = argparse.ArgumentParser(prog="benchmarks.at_once", description=__doc__)
    parser.add_argument("model", type=Path, help="a .gguf file with a chat template")
    parser.add_argument("--rounds", type=int, default=5, help="turns that each program gets (5)")
    parser.add_argument("--threads", type=int, default=1, help="threads that each program computes with (1)")
    parser.add_argument("--at-once", type=int, default=AT_ONCE, help=f"requests at once ({AT_ONCE})")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        print(report.table([at_once(Path(name), args.model.resolve(), args.rounds, args.threads, args.at_once)]))


def at_once(folder: Path, model: Path, rounds: int, threads: int, requests: int) -> Outcome:
    """Several requests at once, of programs that take turns."""
    port = free_port()
    language = f"{{context: {CONTEXT}, parallel: {requests}}}"
    models = [f"words: {{path: {model}, threads: {threads}, language: {language}}}"]
    pipelines = ["talk: {source: {type: mqtt, topic: talk/in}, model: words, text: {openai: true}}"]
    http_listen = f"http: {{listen: '127.0.0.1:{port}'}}\n"
    command = [sys.executable, "-m", "benchmarks.llama_server", *map(str, (model, requests, CONTEXT, threads))]
    with (
        Broker(folder) as broker,
        Daemon(folder, broker, TFLITE, models=models, pipelines=pipelines, more=http_listen) as daemon,
        Program(command, folder / "llama-server.log") as server,
    ):
        address = server.line().removeprefix("http://")
        turns = take_turns(
            rounds,
            {
                "daemon": partial(measure, f"127.0.0.1:{port}", daemon, requests),
                "server": partial(measure, address, server, requests),
            },
            calm=False,
        )
    outcome = Outcome(measured={"at once": turns})
    speed, first, last = (
        {name: column(turns[name], key) for name in turns} for key in ("per_cpu_second", "first_s", "last_first_s")
    )
    what = f"{requests} at once: "
    outcome.figures += [
        compare(14, f"{what}tokens a CPU second, daemon / llama-server", speed["daemon"], speed["server"], ">= 0.9"),
        summary(14, f"{what}tokens a CPU second, daemon", speed["daemon"]),
        summary(14, f"{what}tokens a CPU second, llama-server", speed["server"]),
        compare(14, f"{what}last first token, daemon / llama-server", last["daemon"], last["server"], "<= 2.0"),
        summary(14, f"{what}last first token, daemon", last["daemon"], unit="s"),
        compare(14, f"{what}first first token, daemon / llama-server", first["daemon"], first["server"]),
    ]
    return outcome


def measure(address: str, program: Program, requests: int) -> Measured:
    """Requests that nobody has asked before, all at once."""
    numbers = random.sample(range(1000), requests)
    began, cpu = time.perf_counter(), cpu_of_all(program.pid)
    with ThreadPoolExecutor(requests) as threads:
        answers = [*threads.map(partial(ask, address, began), numbers)]
    spent = cpu_of_all(program.pid) - cpu
    firsts = [first for first, _ in answers]
    tokens = sum(count for _, count in answers)
    return {
        "per_cpu_second": tokens / spent,
        "tokens": tokens,
        "cpu_s": spent,
        "wall_s": time.perf_counter() - began,
        "first_s": min(firsts),
        "last_first_s": max(firsts),
    }


def ask(address: str, began: float, number: int) -> tuple[float, float]:
    """One streamed answer: when its first text came, in seconds, and how many tokens it has."""
    subjects = ", ".join(random.sample(SUBJECTS, 5))
    request = {
        "model": "talk",
        "messages": [
            {"role": "user", "content": f"{number} is the number of this story. Tell it at length: {subjects}."}
        ],
        "max_tokens": TOKENS,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    connection = http.client.HTTPConnection(address, timeout=PATIENCE)
    connection.request("POST", "/v1/chat/completions", json.dumps(request), {"Content-Type": "application/json"})
    response, first, count = connection.getresponse(), 0.0, 0.0
    if response.status != http.client.OK:
        raise RuntimeError(f"{address}: {response.status}: {response.read(500)!r}")
    for line in response:
        if line.startswith(b"data: {"):
            document = json.loads(line.removeprefix(b"data: "))
            if not first and any(choice["delta"].get("content") for choice in document["choices"]):
                first = time.perf_counter() - began
            if document.get("usage"):
                count = document["usage"]["completion_tokens"]
    connection.close()
    return first, count


if __name__ == "__main__":
    main()
