"""The table, for the terminal and for docs/benchmarks.md, and the raw numbers in docs/benchmarks.json."""

import importlib.metadata
import json
import os
import platform
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.bench import Bench, Outcome

DOCS = Path(__file__).parents[1] / "docs"
BEGIN, END = "<!-- begin: written by python -m benchmarks -->", "<!-- end -->"
PACKAGES = ("ai-edge-litert", "onnxruntime", "opencv-python-headless", "numpy", "paho-mqtt")


def table(outcomes: Iterable[Outcome]) -> str:
    """Markdown, one line a figure."""
    lines = ["| goal | what | measured | spread | wanted | met |", "|---|---|---|---|---|---|"]
    figures = [(figure, outcome) for outcome in outcomes for figure in outcome.figures]
    for figure, outcome in sorted(figures, key=lambda pair: pair[0].goal):
        unit = f" {figure.unit}" if figure.unit else ""
        met = {True: "yes", False: "**no**", None: ""}[figure.met]
        if not outcome.calm:
            met = f"{met} (not calm: others kept {outcome.foreign_cores:.1f} cores busy)".lstrip()
        wanted = figure.wanted.replace(">=", "≥").replace("<=", "≤") + (unit if figure.wanted else "")
        value, low, high = (f"{number:.3g}" for number in (figure.value, figure.low, figure.high))
        lines.append(f"| {figure.goal} | {figure.what} | {value}{unit} | {low} to {high} | {wanted} | {met} |")
    return "\n".join(lines)


def machine(bench: Bench) -> dict[str, Any]:
    """What it was measured on."""
    info = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.split(":", 1)[1].strip() for line in info if line.startswith(("model name", "Model"))]
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": names[0] if names else platform.machine(),
        "cores_used": bench.cores,
        "load_average_before": os.getloadavg()[0],
        "system": f"Linux {platform.release()}, {platform.machine()}",
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
        "rounds": bench.rounds,
        "inputs_a_turn": bench.count,
        "version_before": bench.before.folder.name if bench.before else None,
    }


def write(facts: Mapping[str, Any], outcomes: Mapping[str, Outcome]) -> None:
    """Replaces the raw numbers, and the part between the markers of the page."""
    raw = {**facts, "benchmarks": {name: outcome.as_dict() for name, outcome in outcomes.items()}}
    (DOCS / "benchmarks.json").write_text(json.dumps(raw, indent=1) + "\n")
    versions = ", ".join(f"{name} {version}" for name, version in facts["packages"].items())
    against = f"; version before: {facts['version_before']}" if facts["version_before"] else ""
    body = (
        f"{BEGIN}\n\nMeasured {facts['at'][:10]} on {facts['cores_used']} cores of {facts['cpu']}, {facts['system']}, "
        f"Python {facts['python']}, {versions}; {facts['rounds']} rounds of {facts['inputs_a_turn']} inputs"
        f"{against}.\n\n{table(outcomes.values())}\n\n{END}"
    )
    page = DOCS / "benchmarks.md"
    before, _, rest = page.read_text().partition(BEGIN)
    page.write_text(before + body + rest.partition(END)[2])
