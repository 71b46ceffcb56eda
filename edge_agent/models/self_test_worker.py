"""The process of a self-test: loads a model, runs it, checks its golden samples and compares it with the CPU."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from edge_agent.engines.accelerators import CPU
from edge_agent.errors import EdgeAgentError, InputError, ModelError
from edge_agent.models import comparison, soundness, tuning
from edge_agent.models.accelerator_choice import load_on_cpu
from edge_agent.models.bundle import Golden
from edge_agent.models.golden import Check, check, failed, least_confidence
from edge_agent.models.model import Model, load_unqualified
from edge_agent.models.predictor import Predictor
from edge_agent.models.resolve import ModelSource
from edge_agent.preprocess.files import read_file
from edge_agent.system import memory
from edge_agent.system.units import format_size
from edge_agent.system.worker_process import Channel

TOP_K = 1000
MAX_REASON = 200
_NAME = "self-test"


def main(channel: Channel) -> None:
    """Sends `["step", …]` for each step, then `["passed", …]` or `["refused", …]`; see `run_self_test`."""
    request = channel.receive()
    source, bound = ModelSource.from_json(request["model"]), memory.MAX_OF_MODEL

    def step(text: str) -> None:
        channel.send(["step", text])

    try:
        bound = memory.limit(memory.for_one_model(source.model_memory))
        step("it is loaded and run once")
        model = load_unqualified(_NAME, source, request["batch"])
        step("it is run twice on the same input")
        _check_soundness(model, source.file.path)
        step("it is run on a black and on a white picture")
        soundness.check_extremes(model)
        checks = [asdict(one) for one in _checks(model, source, step)] if source.golden else []
        facts = {"runtime": model.engine.runtime, "accelerator": model.engine.accelerator, "checks": checks}
        original = request["original"] and ModelSource.from_json(request["original"])
        facts |= _comparison(model, source, original, step)
        channel.send(["passed", facts | {"tuning": _tuning(model, source, request["batch"], step)}])
    except Exception as error:  # noqa: BLE001 - whatever a runtime raises over a broken file is its refusal
        channel.send(["refused", _refusal(error, source.file.path, bound)])


def _check_soundness(model: Model, path: Path) -> None:
    try:
        soundness.check(model)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error


def _checks(model: Model, source: ModelSource, step: Callable[[str], None]) -> Iterator[Check]:
    """Runs the golden samples. They hold for the bundle's own settings, not for those of the configuration."""
    if source.stated != source.bundled:
        model = load_unqualified(_NAME, replace(source, stated=source.bundled))
    pictures: dict[Path, list[Golden]] = {}
    for line in source.golden:
        pictures.setdefault(line.input, []).append(line)
    for picture, lines in pictures.items():
        step(f"it is asked its golden sample {picture}")
        try:
            answer = Predictor(model, TOP_K, least_confidence(lines)).ask(read_file(source.folder / picture))
        except (InputError, ModelError) as error:
            yield from (failed(line, error) for line in lines)
        else:
            yield from check(lines, answer.predictions)


def _tuning(model: Model, source: ModelSource, batch: int, step: Callable[[str], None]) -> dict[str, Any] | None:
    """How the model is best run on the CPU; None where it runs elsewhere, and where there is no choice."""
    if source.cores is None or source.options.isolate or model.engine.accelerator != CPU or model.sequential:
        return None
    tensor, _ = model.preprocess.blank(1 if model.engine.at_once is False else batch)
    load = partial(load_on_cpu, source.file_for(CPU).identity)
    return tuning.choose(source.options, source.cores, source.most_engines, load, tensor, step).as_json()


def _comparison(
    model: Model, source: ModelSource, original: ModelSource | None, step: Callable[[str], None]
) -> dict[str, Any]:
    """The facts that come from a comparison with the original file, or else with the CPU; {} on the CPU itself."""
    if original is not None:
        step("it is compared with the original")
        return _comparison_of_files(model, load_unqualified(_NAME, original), source)
    if model.engine.accelerator == CPU:
        return {}
    step("it is compared with the CPU")
    try:
        on_cpu = load_unqualified(_NAME, source.on(CPU))
    except ModelError:
        return {}  # it is compiled for this accelerator, and there is nothing to compare it with
    return asdict(comparison.compare(model, on_cpu, source))


def _comparison_of_files(model: Model, original: Model, source: ModelSource) -> dict[str, Any]:
    disagreement = comparison.compare_files(model, original, source)
    tensor, _ = model.preprocess.blank(1)
    speed_up = tuning.gain_of(original.engine, model.engine, tuning.threads_of(source.options), tensor)
    return {"speed_up": round(speed_up, 2), "disagreement": disagreement}


def _refusal(error: Exception, path: Path, bound: int) -> str:
    """Why the model was refused, in one sentence."""
    chain: list[BaseException] = [error]
    while chain[-1].__cause__ is not None:
        chain.append(chain[-1].__cause__)
    if soundness.lacks_memory(error):
        return f"{path}: it needs more than the {format_size(bound)} of memory that a model may take here"
    if not isinstance(error, EdgeAgentError):
        return f"{path}: the runtime fails on it: {' '.join(f'{type(error).__name__}: {error}'.split())[:MAX_REASON]}"
    if not str(chain[-1]):
        return f"{error}: no reason given; it may be that it needs more than the {format_size(bound)} of memory here"
    return str(error)
