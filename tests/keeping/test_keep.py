"""What is kept of a pipeline's inputs, and what keeping never does."""

import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_agent import settings
from edge_agent.errors import InputError
from edge_agent.keeping import writer
from edge_agent.keeping.payload import Encoder, Redaction, decode, encode
from edge_agent.models.model import Model
from edge_agent.models.predictor import Predictor
from edge_agent.sample_store.store import SampleStore
from edge_agent.samples import Prediction, Sample, Series
from edge_agent.settings.keep import Blur
from edge_agent.sources.observer import Observation, ResultObserver
from edge_agent.update.shadow import Shadow, Tally
from tests.broker import wait_until
from tests.disks import small_disk
from tests.images import decode_image
from tests.keeping.kit import SOURCE, entries, keeper
from tests.keeping.test_rules import CAT, DOG, observed
from tests.pipeline.conftest import GOLDEN
from tests.pipeline.conftest import golden as golden  # noqa: PLC0414 - a fixture
from tests.pipeline.conftest import model as model  # noqa: PLC0414 - a fixture
from tests.sources.stage import Stage

ALL = {"when": {"random": 1}}
IMAGE = GOLDEN[0].read_bytes()


def seen(data: Any, *predictions: Prediction, captured: float = 0.0) -> Observation:
    found = observed(*predictions, captured=captured)
    return Observation(
        "stage", 1, Sample(data, 1000.0, captured, {}), predictions, None, may_block=False, work=found.work
    )


def test_an_input_is_kept_byte_by_byte_with_its_result_model_and_reason(golden: Stage, tmp_path: Path) -> None:
    store = tmp_path / "store"
    with keeper(store, **ALL) as keeps:
        golden.pipeline.observers.append(keeps)
        with golden as stage:
            stage.wait_until_ended()
    kept = entries(store)
    assert [entry.data for entry in kept] == [path.read_bytes() for path in GOLDEN]
    first = kept[0].document
    predictions, facts, _ = stage.outcomes[0]
    assert first["result"]["predictions"] == [one.as_dict() for one in predictions]
    assert first["result"]["input"] == facts
    assert (first["reason"], first["pipeline"], first["device_id"]) == ("random", "stage", "bench")
    assert isinstance(stage.pipeline.model, Model)
    assert first["model"]["sha256"] == stage.pipeline.model.file.sha256
    preprocess = first["settings"]["preprocess"]
    assert (preprocess["width"], preprocess["dtype"]) == (stage.pipeline.model.preprocess.width, "int8")  # type: ignore[union-attr]
    assert first["input"] == {"media": "image/png", "frame": False, "exact": True}
    counts = keeps.facts()
    assert counts["written"] == counts["stored"] == counts["kept"]["random"] == len(GOLDEN)


def test_an_input_that_fails_is_kept_with_why(model: Model, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "broken.png").write_bytes(IMAGE[:100])
    with keeper(tmp_path / "store", when={"failed": True}) as keeps:
        stage = Stage({"type": "images", "path": str(tmp_path / "images")}, model, tmp_path)
        stage.pipeline.observers.append(keeps)
        with stage:
            stage.wait_until_ended()
    [entry] = entries(tmp_path / "store")
    assert (entry.data, entry.document["reason"], entry.document["dropped"]) == (IMAGE[:100], "failed", "invalid")
    assert entry.document["error"] == str(stage.given_up[0][1])


def test_where_nothing_is_kept_nothing_is_written(golden: Stage, tmp_path: Path) -> None:
    with keeper(tmp_path / "store", when={"confidence": [0, 0]}) as keeps:
        golden.pipeline.observers.append(keeps)
        with golden as stage:
            stage.wait_until_ended()
    assert len(stage.results) == len(GOLDEN)
    assert not (tmp_path / "store").exists()


def test_the_latest_inputs_are_kept_on_command(tmp_path: Path) -> None:
    with keeper(tmp_path, recent=3, flush_every="1h") as keeps:
        for number in range(5):
            keeps.on_result(seen(bytes([number]), CAT))
        assert keeps.keep_latest(2) == 2
        wait_until(lambda: keeps.facts()["written"] == 2, 5, "they are written at once")
        assert keeps.keep_latest(2) == 0
    assert [entry.data for entry in entries(tmp_path)] == [b"\3", b"\4"]


def test_the_latest_inputs_are_bounded_in_bytes(tmp_path: Path) -> None:
    with keeper(tmp_path, recent=100, memory="100kB") as keeps:
        for _ in range(100):
            keeps.on_result(seen(bytes(20_000), CAT))
        assert keeps.keep_latest(100) == 2


def test_results_that_come_fast_are_looked_at_together_and_none_is_missed(tmp_path: Path) -> None:
    with keeper(tmp_path, **ALL, flush_every="1h", per_hour=1000, max_share=1) as keeps:
        taken = []
        for number in range(20):
            keeps.on_result(seen(bytes([number]), CAT, captured=number / 1000))
            taken.append(keeps._offered)
        assert taken == [1] * 8 + [9] * 8 + [17] * 4
        assert keeps.facts()["offered"] == 20
        for number in range(20, 23):  # slow ones are looked at at once
            keeps.on_result(seen(bytes([number]), CAT, captured=float(number)))
            assert keeps._offered == number + 1
        keeps.on_result(seen(bytes(1_000_000), CAT, captured=22.001))  # and large ones
        assert keeps._offered == 24
        for number in range(24, 27):
            keeps.on_result(seen(bytes([number]), CAT, captured=22.0 + number / 1000))
        assert keeps.keep_latest(2) == 2
        for number in range(27, 29):
            keeps.on_result(seen(bytes([number]), CAT, captured=22.03 + number / 10000))
    kept = [entry.data for entry in entries(tmp_path)]
    assert len(kept) == 24 + 3 + 2 + 2
    assert kept[:23] == [bytes([number]) for number in range(23)]
    assert kept[24:] == [bytes([number]) for number in (24, 25, 26, 25, 26, 27, 28)]


def test_millions_of_offers_an_hour_stay_within_all_bounds(tmp_path: Path) -> None:
    offers, hours = 200_000, 3
    bounds: dict[str, Any] = {"per_hour": 60, "max_share": 0.5, "memory": "1MB", "max_size": "1MB"}
    now, most_waiting, most_recent = 0.0, 0, 0
    when = {"confidence": [0.0, 1.0], "random": 1}
    with keeper(tmp_path, when=when, **bounds, flush_every="100ms") as keeps:
        keeps._budget._now = lambda: now
        sample = seen(bytes(10_000), CAT, captured=0.0)
        for number in range(offers):
            now = number * hours * 3600 / offers
            if number % (offers // hours) == 0:  # a second of this clock is a fraction of one of the disk's
                keeps._writer.flush()
                wait_until(lambda: keeps.facts()["waiting"] == 0, 10, "what an hour has room for is written")
            keeps.on_result(sample)
            if number % 100 == 0:
                most_waiting = max(most_waiting, keeps._writer._bytes)
                most_recent = max(most_recent, keeps._recent_bytes)
        counts = keeps.facts()
    assert counts["offered"] == offers
    assert (counts["kept"]["confidence"], counts["kept"]["random"]) == (30 * hours, 30 * hours)
    assert counts["refused"]["rate"] + counts["refused"]["share"] == offers - 60 * hours
    assert len(keeps._budget._taken) <= 60
    assert max(most_waiting, most_recent) <= 1_000_000
    left = len(entries(tmp_path))
    facts = keeps.facts()
    assert facts["written"] == 60 * hours == left + facts["deleted"]
    assert facts["deleted"] > 0
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 1_000_000


@pytest.mark.parametrize("jump", [-7200.0, 7200.0])
def test_a_clock_that_jumps_makes_no_room_in_the_hour(
    tmp_path: Path, jump: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    with keeper(tmp_path, **ALL, per_hour=2, max_share=1) as keeps:
        for number in range(6):
            moved = time.time() + (jump if number == 3 else 0.0)
            monkeypatch.setattr(time, "time", lambda moved=moved: moved)
            keeps.on_result(seen(bytes([number]), CAT, captured=float(number)))
        counts = keeps.facts()
    assert (counts["kept"]["random"], counts["refused"]["rate"]) == (2, 4)


def test_samples_are_written_together_or_when_the_memory_is_half_full(tmp_path: Path) -> None:
    with keeper(tmp_path, **ALL, flush_every="1h", memory="1MB", per_hour=1000, max_share=1) as keeps:
        for _ in range(20):
            keeps.on_result(seen(bytes(10_000), CAT))
        wait_until(lambda: keeps.facts()["waiting"] == 20, 5, "they are gathered")
        assert not list(tmp_path.iterdir())
        for _ in range(40):
            keeps.on_result(seen(bytes(10_000), CAT))
            wait_until(lambda: not keeps._writer._waiting, 5, "taken")
        wait_until(lambda: keeps.facts()["written"] >= 20, 5, "they are written")


def test_a_disk_that_hangs_holds_nobody_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hangs, goes_on = threading.Event(), threading.Event()

    def append(*_: object, **__: object) -> None:
        hangs.set()
        goes_on.wait()

    monkeypatch.setattr(SampleStore, "append", append)
    with keeper(tmp_path, **ALL, flush_every="100ms", memory="1MB", per_hour=1000, max_share=1) as keeps:
        keeps.on_result(seen(b"first", CAT))
        assert hangs.wait(5)
        for _ in range(100):
            keeps.on_result(seen(bytes(20_000), CAT))
        counts = keeps.facts()
        goes_on.set()
    assert counts["waiting"] + counts["lost"]["memory"] == 101
    assert counts["waiting"] <= 50


def test_a_full_disk_is_reported_and_the_loss_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "RETRY_AFTER", 0.05)
    with small_disk(tmp_path / "disk", 2_000_000) as disk:
        (disk / "ballast").write_bytes(bytes(1_950_000))
        with keeper(disk / "store", **ALL, flush_every="100ms", memory="1MB", per_hour=1000, max_share=1) as keeps:
            for _ in range(100):
                keeps.on_result(seen(bytes(20_000), CAT))
            wait_until(lambda: keeps.facts()["problem"], 5, "the problem is reported")
            counts = keeps.facts()
            assert counts["lost"]["memory"] == 100 - counts["waiting"] >= 50
            (disk / "ballast").unlink()
            wait_until(lambda: keeps.facts()["written"] >= 5, 5, "it goes on when there is room")
        # The rest did not fit, and is reported as lost.


def test_a_store_of_a_newer_version_ends_keeping_and_nothing_else(golden: Stage, tmp_path: Path) -> None:
    (tmp_path / "00000001.samples").write_bytes(b"EASAMPLE\x63" + bytes(100))
    with keeper(tmp_path, **ALL) as keeps:
        wait_until(lambda: keeps.facts()["problem"], 5, "it is found out")
        golden.pipeline.observers.append(keeps)
        with golden as stage:
            stage.wait_until_ended()
        counts = keeps.facts()
    assert len(stage.results) == len(GOLDEN)
    assert "newer version" in counts["problem"]
    assert counts["lost"]["unusable"] == len(GOLDEN)


@pytest.mark.parametrize("theirs_first", [False, True])
def test_two_pipelines_that_disagree_on_the_same_input_keep_it(tmp_path: Path, *, theirs_first: bool) -> None:
    with keeper(tmp_path, when={"disagreement": 0.5, "compare_with": "other"}) as keeps:
        assert keeps.companion is not None
        for data, ours, theirs in ((b"one", CAT, CAT), (b"two", CAT, DOG), (b"three", DOG, DOG)):
            observers: list[tuple[ResultObserver, Prediction]] = [(keeps, ours), (keeps.companion, theirs)]
            for observer, found in reversed(observers) if theirs_first else observers:
                observer.on_result(seen(data, found))
    [entry] = entries(tmp_path)
    assert (entry.data, entry.document["reason"]) == (b"two", "disagreement")


def test_readings_and_frames_come_back_as_they_were() -> None:
    png, jpeg = Encoder("png", 95), Encoder("jpeg", 95)
    series = Series(np.arange(6, dtype=np.float32).reshape(3, 2), ("x", "y"), 50.0, gap=True)
    data, facts = encode(series, png)
    back = decode(data, facts)
    assert isinstance(back, Series)
    assert (back.channels, back.rate, back.gap) == (series.channels, series.rate, series.gap)
    assert np.array_equal(back.values, series.values)
    frame = np.random.default_rng(1).integers(0, 256, (48, 64, 3), np.uint8)
    assert np.array_equal(np.asarray(decode(*encode(frame, png))), frame)
    assert encode(frame, jpeg)[1] == {"media": "image/jpeg", "exact": False, "quality": 95, "frame": True}


def test_what_is_to_be_hidden_is_hidden_before_anything_is_written(tmp_path: Path) -> None:
    frame = np.random.default_rng(1).integers(0, 256, (100, 200, 3), np.uint8)
    face = Prediction("face", 0, 0.9, box=(20.0, 20.0, 60.0, 60.0))
    hidden = Redaction(Blur(labels=("face",)), [((0.5, 0), (1, 0), (1, 1), (0.5, 1))], Encoder("png", 95))
    data, facts = hidden(frame, [face])
    picture = decode_image(data)
    blocks = picture[20:60, 20:60].reshape(8, 5, 8, 5, 3)
    assert (blocks == blocks[:, :1, :, :1]).all()
    assert not picture[:, 101:].any()
    assert np.array_equal(picture[:20, :100], frame[:20, :100])
    assert (facts["blurred"], facts["masked"], facts["exact"]) == (1, 1, False)
    with pytest.raises(InputError, match="not known"):
        hidden(frame, None)
    # An input that the model could not use is not kept at all then.
    with keeper(tmp_path, when={"failed": True}, blur={"labels": ["face"]}) as keeps:
        keeps.on_failure(Sample(IMAGE, 0.0, 0.0, {}), InputError("damaged"), "invalid")
    assert keeps.facts()["lost"]["redaction"] == 1
    assert not list(tmp_path.iterdir())


def test_a_version_in_the_shadow_that_disagrees_keeps_the_sample(tmp_path: Path, model: Model) -> None:
    truth = Predictor(model, 1, None).ask(Sample(IMAGE, 0.0, 0.0, {})).predictions
    wrong = [replace(one, label="another") for one in truth]
    options = settings.Pipeline.model_validate({"source": SOURCE, "model": "digits", "top_k": 1})
    tally = Tally(2)
    with keeper(tmp_path, when={"disagreement": 0.5}) as keeps:
        shadow = Shadow(options, model, tally, [keeps])
        for count, active in enumerate((truth, wrong), 1):
            shadow.on_result(seen(IMAGE, *active))
            wait_until(lambda count=count: tally.samples == count, 10, "it is compared")  # type: ignore[misc]
        wait_until(lambda: shadow.waits_for() is None, 10, "it is done")
        shadow.close()
    [entry] = entries(tmp_path)
    assert entry.document["reason"] == "disagreement"
    assert entry.document["result"]["predictions"][0]["label"] == "another"
    assert entry.document["others"][0]["label"] == truth[0].label
