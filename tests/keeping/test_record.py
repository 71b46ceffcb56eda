"""Recordings: what is in them, and what recording never does."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from edge_agent import settings
from edge_agent.counters import Counters
from edge_agent.errors import EdgeAgentError, InputError
from edge_agent.keeping.record import Recorder, packet_ring
from edge_agent.keeping.recording import Recording, open_recording, recordings
from edge_agent.publish.drawing import encode_jpeg
from edge_agent.samples import Prediction, Sample
from edge_agent.sources.observer import Observation
from tests.broker import wait_until
from tests.disks import small_disk
from tests.images import decode_image
from tests.keeping.kit import DEVICE
from tests.keeping.test_rules import CAT, observed

ENTER = [{"event": "enter", "track_id": 1}]


@contextmanager
def recorder(folder: Path, **options: Any) -> Iterator[Recorder]:
    one = Recorder(
        "stage", settings.Record.model_validate(options), DEVICE, folder, lambda: {"a": 1}, Counters().as_dict
    )
    one.start()
    try:
        yield one
    finally:
        one.close(10)


def seen(captured: float, *predictions: Prediction, data: bytes = b"x", **work: Any) -> Observation:
    done = observed(*(predictions or (CAT,)), captured=captured, **work).work
    sample = Sample(data, 1000.0 + captured, captured, {"topic": "t"})
    return Observation("stage", 1, sample, predictions or (CAT,), None, may_block=False, work=done)


def times(recording: Recording) -> list[float]:
    return [entry.document["captured"] for entry in recording.entries()]


def only(folder: Path) -> Recording:
    [path] = recordings(folder)
    return open_recording(path)


def test_a_recording_has_what_came_before_and_after_an_event(tmp_path: Path) -> None:
    with recorder(tmp_path, before=3, after=5) as records:
        for second in range(40):
            records.on_result(seen(second, data=bytes([second]), events=ENTER if second == 20 else []))
    recording = only(tmp_path)
    assert times(recording) == list(range(17, 26))
    assert [entry.data for entry in recording.entries()] == [bytes([second]) for second in range(17, 26)]
    assert (recording.head["reason"], recording.head["a"]) == ("event", 1)
    middle = list(recording.entries())[3].document
    assert middle["events"] == ENTER
    assert middle["result"]["predictions"] == [CAT.as_dict()]
    assert middle["digests"].keys() == {"input", "inference", "decode"}
    assert "counters" in recording.end()


def test_what_happens_meanwhile_makes_it_longer_up_to_its_bound(tmp_path: Path) -> None:
    with recorder(tmp_path, before=1, after=5, max_length=12) as records:
        for second in range(40):
            records.on_result(seen(second, events=ENTER if second in (10, 13, 16, 19) else []))
    [first] = recordings(tmp_path)
    assert times(open_recording(first)) == list(range(9, 22))


@pytest.mark.parametrize("kind", ["error", "anomaly"])
def test_errors_and_anomalies_start_a_recording(tmp_path: Path, kind: str) -> None:
    with recorder(tmp_path, before=1, after=1) as records:
        records.on_result(seen(1.0))
        if kind == "error":
            records.on_failure(Sample(b"bad", 1002.0, 2.0, {}), InputError("damaged"), "invalid")
        else:
            records.on_result(seen(2.0, Prediction("anomaly", None, None, value=9.0), task="anomaly"))
        records.on_result(seen(3.0))
    recording = only(tmp_path)
    assert recording.head["reason"] == kind
    assert times(recording) == [1.0, 2.0, 3.0]


def test_only_what_is_stated_starts_a_recording_and_without_one_nothing_is_written(tmp_path: Path) -> None:
    with recorder(tmp_path / "none", when=["anomaly"]) as records:
        records.on_result(seen(1.0, events=ENTER))
        records.on_failure(Sample(b"bad", 1002.0, 2.0, {}), InputError("damaged"), "invalid")
        with pytest.raises(EdgeAgentError, match="add `command`"):
            records.record_now()
    assert not (tmp_path / "none").exists()


def test_a_recording_on_command_ends_though_nothing_more_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_agent.keeping.record.PATIENCE", 0.05)
    with recorder(tmp_path, after=0) as records:
        records.on_result(seen(time.monotonic()))
        wait_until(lambda: records._ring, 5, "it is in the ring")
        records.record_now()
        wait_until(lambda: records.facts()["recorded"] == 1, 5, "it is finished")
    assert len(times(only(tmp_path))) == 1


def test_memory_is_bounded_and_what_came_before_becomes_shorter(tmp_path: Path) -> None:
    with recorder(tmp_path, before=100, after=0, memory="100kB") as records:
        for second in range(60):
            records.on_result(seen(second, data=bytes(10_000), events=ENTER if second == 59 else []))
            wait_until(lambda: not records._waiting, 5, "it is taken")
    assert times(only(tmp_path)) == [56.0, 57.0, 58.0, 59.0]
    assert records.facts()["left_out"] == 0


def test_the_oldest_recordings_make_room(tmp_path: Path) -> None:
    with recorder(tmp_path, before=0, after=0, max_size="1MB") as records:
        for second in range(0, 100, 10):
            records.on_result(seen(second, data=bytes(200_000), events=ENTER))
            wait_until(lambda: not records._waiting, 5, "it is taken")
    left = [open_recording(path) for path in recordings(tmp_path)]
    assert [times(one)[0] for one in left] == [60.0, 70.0, 80.0, 90.0]
    assert records.facts()["deleted"] == 6


def test_a_recording_that_was_cut_off_is_there_after_the_next_start(tmp_path: Path) -> None:
    with recorder(tmp_path, before=5, after=5) as records:
        for second in range(10):
            records.on_result(seen(second, events=ENTER if second == 5 else []))
    [path] = recordings(tmp_path)
    whole = path.read_bytes()
    for length in (3, 200, len(whole) - 1500):
        part = path.with_name(path.name + ".part")
        part.write_bytes(whole[:length])
        path.unlink(missing_ok=True)
        with recorder(tmp_path) as records:
            pass
        assert not part.exists()
        assert len(recordings(tmp_path)) == records.facts()["recovered"]
    assert 5 <= len(times(only(tmp_path))) < 10
    assert only(tmp_path).end() == {}


def test_a_full_disk_is_reported_and_recording_goes_on_afterwards(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 1_000_000) as disk:
        (disk / "ballast").write_bytes(bytes(990_000))
        with recorder(disk / "of", before=0, after=0) as records:
            records.on_result(seen(1, data=bytes(100_000), events=ENTER))
            records.on_result(seen(2))
            wait_until(lambda: records.facts()["problem"], 5, "the problem is reported")
            (disk / "ballast").unlink()
            records.on_result(seen(3, data=bytes(100_000), events=ENTER))
            records.on_result(seen(4))
            wait_until(lambda: records.facts()["recorded"] == 1, 5, "the next one is recorded")
        assert times(only(disk / "of")) == [3]
        assert len(list((disk / "of").iterdir())) == 1


def test_what_is_to_be_hidden_is_hidden_in_every_picture(tmp_path: Path) -> None:
    frame = np.random.default_rng(1).integers(0, 256, (100, 200, 3), np.uint8)
    sent = encode_jpeg(frame, 1_000_000)
    face = Prediction("face", 0, 0.9, box=(20.0, 20.0, 60.0, 60.0))
    hiding = {"blur": {"labels": ["face"]}, "mask": [[[0.5, 0], [1, 0], [1, 1], [0.5, 1]]], "encoding": "png"}
    with recorder(tmp_path, before=5, after=0, when=["error"], **hiding) as records:
        came: list[Any] = [frame, sent]
        for number, data in enumerate(came):
            observation = seen(number, face, task="detection")
            records.on_result(replace(observation, sample=replace(observation.sample, data=data)))
        records.on_failure(Sample(sent, 1002.0, 2.0, {}), InputError("damaged"), "invalid")
    first, second, failed = only(tmp_path).entries()
    for entry in (first, second):
        picture = decode_image(entry.data)
        blocks = picture[20:60, 20:60].reshape(8, 5, 8, 5, 3)
        assert (blocks == blocks[:, :1, :, :1]).all()
        assert not picture[:, 101:].any()
        facts = entry.document["input"]
        assert (facts["media"], facts["exact"], facts["blurred"], facts["masked"]) == ("image/png", False, 1, 1)
    assert first.document["input"]["frame"]
    assert not second.document["input"]["frame"]
    # What is in a picture that the model could not use is not known.
    assert (failed.data, failed.document["error"]) == (b"", "damaged")


@pytest.mark.parametrize("hiding", [{"blur": {"labels": ["face"]}}, {"mask": [[[0, 0], [1, 0], [1, 1]]]}])
def test_packets_in_which_nothing_can_be_hidden_are_not_recorded(hiding: dict[str, Any]) -> None:
    camera = settings.Pipeline.model_validate({"source": {"type": "video", "url": "rtsp://yard"}, "model": "m"}).source
    assert packet_ring(settings.Record(), camera) is not None
    assert packet_ring(settings.Record.model_validate(hiding), camera) is None
    assert packet_ring(settings.Record.model_validate(hiding | {"packets": False}), camera) is None
    with pytest.raises(ValidationError):
        settings.Record.model_validate(hiding | {"packets": True})


@pytest.mark.parametrize("jump", [-86_400.0, 86_400.0])
@pytest.mark.parametrize("at", [5, 12])  # before and after the event
def test_a_clock_that_jumps_changes_neither_order_nor_distances(tmp_path: Path, jump: float, at: int) -> None:
    def moved(second: int, data: bytes) -> Observation:
        one = seen(second, data=data, events=ENTER if second == 10 else [])
        return replace(one, sample=replace(one.sample, captured_at=1e9 + second + (jump if second >= at else 0)))

    with recorder(tmp_path, before=8, after=6, when=["event"]) as records:
        for second in range(20):
            records.on_result(moved(second, b"%d" % second))
    recording = only(tmp_path)
    assert times(recording) == list(range(2, 17))
    assert [entry.data for entry in recording.entries()] == [b"%d" % second for second in range(2, 17)]
    # The clock of the event counts.
    moments = [recording.captured_at(entry.document) for entry in recording.entries()]
    assert moments == [1e9 + second + (jump if at <= 10 else 0) for second in range(2, 17)]
    stated = [entry.document["captured_at"] for entry in recording.entries()]
    assert max(stated) - min(stated) > 86_000


def test_a_recording_on_command_has_the_times_of_the_clock_as_it_was_then(tmp_path: Path) -> None:
    with recorder(tmp_path, before=100, after=0) as records:
        records.on_result(seen(5.0))
        wait_until(lambda: records._ring, 5, "it is in the ring")
        records.record_now()
        wait_until(lambda: records.facts()["recording"], 5, "it is being recorded")
    recording = only(tmp_path)
    assert [recording.captured_at(entry.document) for entry in recording.entries()] == [1005.0]
