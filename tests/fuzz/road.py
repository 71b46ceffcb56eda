"""Damaged files on the daemon's road, in a process that stands for the daemon: it must see the last one through.

Run as `python -m tests.fuzz.road models|images FIRST LAST FILE…`: for each seed from FIRST on, before LAST, the next of
the files is damaged and used. A line of JSON is written before and after each, so that a crash is known by its seed.
"""

import json
import logging
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_agent import settings
from edge_agent.errors import InputError, ModelError
from edge_agent.models import model as models
from edge_agent.models.predictor import Predictor
from edge_agent.models.shipped import shipped
from edge_agent.samples import Sample
from edge_agent.system.terminal import printable
from tests.mutate import mutated

MAX_SENTENCE = 5000
PICTURE = (shipped("digits") / "golden" / "5_printed.png").read_bytes()
_IN_THE_TRIAL = {
    "crashes the runtime": "crashed in the trial",
    "nothing comes of it": "hung in the trial",
    "needs more than the": "out of memory in the trial",
    "refuses the model|inference failed|fails on it": "refused by the runtime",
}


@dataclass(frozen=True)
class Tally:
    """What became of damaged files.

    Attributes:
        outcomes: how often what happened.
        slowest: most seconds that one took.
        growth_mib: by how much the memory of the process has grown after the first fifth of the files.
        fatal: seeds that ended the process.
    """

    outcomes: Counter[str]
    slowest: float
    growth_mib: float
    fatal: list[int]


def travel(kind: str, seeds: range, files: Sequence[Path]) -> Tally:
    """Sends damaged files down the road, in as many processes as it takes."""
    outcomes: Counter[str] = Counter()
    times: list[float] = []
    memory: list[float] = []
    fatal: list[int] = []
    first = seeds.start
    while first < seeds.stop:
        command = [sys.executable, "-m", "tests.fuzz.road", kind, str(first), str(seeds.stop), *map(str, files)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                report = json.loads(line)
                first = report["seed"] + 1
                if "outcome" in report:
                    outcomes[report["outcome"]] += 1
                    times.append(report["seconds"])
                    memory.append(report["memory_mib"])
        if process.returncode:
            fatal.append(first - 1)
            outcomes[f"ended the process ({process.returncode})"] += 1
    growth = max(memory[len(memory) // 5 :]) - memory[len(memory) // 5]
    return Tally(outcomes, max(times), growth, fatal)


def main() -> None:
    """The process."""
    kind, first, last, *files = sys.argv[1:]
    logging.disable()
    use = _use_as_model if kind == "models" else _images_user()
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(int(first), int(last)):
            source = Path(files[seed % len(files)])
            _say(seed=seed)
            began = time.monotonic()
            outcome = use(source, mutated(source.read_bytes(), seed), Path(folder))
            _say(seed=seed, outcome=outcome, seconds=time.monotonic() - began, memory_mib=_resident_mib())


def _say(**facts: object) -> None:
    print(json.dumps(facts), flush=True)


def _resident_mib() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20


def _use_as_model(source: Path, content: bytes, folder: Path) -> str:
    """Loads a damaged model and asks it about a sound picture."""
    path = folder / source.name
    path.write_bytes(content)
    options = settings.Model.model_validate({"path": path, "labels": "none", "preprocess": {"normalize": "unit"}})
    try:
        model = models.load("fuzz", options, folder)
    except ModelError as error:
        sentence = _as_told(error)
        return next((what for words, what in _IN_THE_TRIAL.items() if re.search(words, sentence)), "refused")
    try:
        return _answer(Predictor(model, None, None), PICTURE)
    finally:
        model.close()


def _images_user() -> Callable[[Path, bytes, Path], str]:
    model = models.load("digits", settings.Model(path=shipped("digits")), Path.cwd())
    road = Predictor(model, None, None)
    return lambda source, content, _folder: f"{source.suffix[1:]} {_answer(road, content)}"


def _answer(road: Predictor, picture: bytes) -> str:
    try:
        road.ask(Sample(picture, captured_at=time.time(), captured=time.monotonic(), origin={}))
    except (InputError, ModelError) as error:
        _as_told(error)
        return "refused" if isinstance(error, InputError) else "refused by the runtime"
    return "read"


def _as_told(error: Exception) -> str:
    """What the command line says: one line that can be read."""
    line = printable(str(error))
    assert 0 < len(line) < MAX_SENTENCE, line
    return line


if __name__ == "__main__":
    main()
