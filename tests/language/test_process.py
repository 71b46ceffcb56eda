"""The process of a language model, beside pipelines of samples."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Semaphore

import pytest

from edge_agent.errors import ModelError
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


def test_several_threads_ask_at_once_and_each_hears_its_own_answer(process: LanguageProcess) -> None:
    def asked(number: int) -> Answer:
        job = ask(f"story {number}", Generation(max_tokens=40 * number)).job("", age=0)
        *_, answer = process.ask(replace(job, stream=True), lambda: False)
        assert isinstance(answer, Answer)
        return answer

    with ThreadPoolExecutor(4) as threads:
        together = [*threads.map(asked, (4, 3, 2, 1))]
    assert [answer.output_tokens for answer in together] == [160, 120, 80, 40]
    assert [answer.text for answer in together] == [asked(number).text for number in (4, 3, 2, 1)]


def test_all_that_wait_hear_that_the_process_has_ended(process: LanguageProcess) -> None:
    asked = Semaphore(0)

    def told() -> str:
        job = ask("a story", Generation(max_tokens=TOKENS)).job("", age=0)
        try:
            for _ in process.ask(replace(job, stream=True), lambda: False):
                asked.release()
        except ModelError as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(3) as threads:
        waiting = [threads.submit(told) for _ in range(3)]
        for _ in waiting:
            asked.acquire()
        process.end()
        assert all("the process of the model has ended" in one.result() for one in waiting)
    assert process.restart_if_ended()
    assert answered(process).output_tokens == TOKENS


def test_an_answer_that_nobody_wants_any_more_is_cancelled(process: LanguageProcess) -> None:
    job = ask("a story", Generation(max_tokens=TOKENS)).job("", age=0)
    parts = process.ask(replace(job, stream=True), lambda: False)
    assert next(parts)
    del parts
    assert answered(process).output_tokens == TOKENS
