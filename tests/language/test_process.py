"""The process of a language model, beside pipelines of samples."""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from edge_agent.language.generation import Answer
from edge_agent.language.process import LanguageProcess, WorkerOptions
from edge_agent.language.request import ask
from edge_agent.language.worker import PIECES_PER_SECOND
from edge_agent.settings.text import Generation
from edge_agent.system.activity import ACTIVITY, Activity, watch
from tests.language.model_files import write_model

pytest.importorskip("onnxruntime_genai", reason="the extra `language` is not installed")
TOKENS = 400


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LanguageProcess]:
    folder = write_model(tmp_path_factory.mktemp("model"))
    running = LanguageProcess(WorkerOptions(folder, "genai", threads=1, context=512, cache_size=10_000_000))
    yield running
    running.stop()


def cpu_ms(process: LanguageProcess) -> float:
    """CPU time that the process has taken so far; https://man7.org/linux/man-pages/man5/proc_pid_schedstat.5.html."""
    threads = Path(f"/proc/{process._worker.pid}/task").iterdir()
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e6


def answered(process: LanguageProcess) -> Answer:
    job = ask("a story", Generation(max_tokens=TOKENS)).job("", age=0)
    *_, answer = process.ask(job, lambda: False)
    assert isinstance(answer, Answer)
    return answer


def test_it_rests_while_samples_are_worked_on_and_answers_all_the_same(process: LanguageProcess) -> None:
    alone = answered(process)
    before = cpu_ms(process)
    with ACTIVITY:
        beside = answered(process)
    share = (cpu_ms(process) - before) / (beside.first_token_ms + beside.output_ms)
    assert (beside.text, beside.output_tokens) == (alone.text, TOKENS)
    assert share < 0.5


def test_the_pieces_of_a_fast_answer_are_no_more_than_can_be_read(process: LanguageProcess) -> None:
    job = ask("a story", Generation(max_tokens=TOKENS)).job("", age=0)
    began = time.monotonic()
    *pieces, answer = process.ask(replace(job, stream=True), lambda: False)
    seconds = time.monotonic() - began
    assert isinstance(answer, Answer)
    assert "".join(map(str, pieces)) == answer.text
    assert 1 < len(pieces) <= seconds * PIECES_PER_SECOND + 2  # the first one, and what is left at the end
    assert seconds * PIECES_PER_SECOND + 2 < TOKENS / 2


def test_samples_are_at_work_until_the_last_of_the_workers_is_done() -> None:
    at_work = Activity()
    is_busy = watch(at_work.file)
    assert not is_busy()
    with at_work:
        with at_work:
            assert is_busy()
        assert is_busy()
    assert not is_busy()
