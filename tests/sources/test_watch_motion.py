"""Streams of which all is decoded only while something moves."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_agent import settings
from edge_agent.errors import SourceError
from edge_agent.models.model import Model
from edge_agent.mqtt.endpoint import Endpoint
from edge_agent.samples import Sample
from edge_agent.sources import Context
from edge_agent.sources.watch import watch
from tests.rtsp_server import Clip, RtspServer
from tests.sources.clips import FPS, Opened
from tests.sources.stage import Stage
from tests.yard import VARIABLE, Episode, Yard, constant

GOP_S = 2.0
LEARNING = [Episode(begins, begins + 1.2) for begins in (4.3, 10.1, 16.6)]
LATER = [
    Episode(28.3, 29.8, share=0.02, contrast=-50),
    Episode(34.9, 36.4, share=0.05, height=0.2),
    Episode(41.1, 42.6, share=0.03, contrast=50, height=0.9),
]


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same yard from two encoders."""
    folder = tmp_path_factory.mktemp("yard")
    clips = {"variable": folder / "variable.ts", "constant": folder / "constant.ts"}
    size = (240, 136)
    scene = Yard(*size, seconds=46.0, episodes=[*LEARNING, *LATER])
    scene.write({clips["variable"]: (size, VARIABLE), clips["constant"]: (size, constant(150))})
    return clips


def watched(path: Path, **keys: Any) -> tuple[dict[str, Any], list[float]]:
    """What comes of a clip, and when: seconds in it at which there are samples."""
    broker = settings.Mqtt()
    context = Context(path.parent, "edge/test/yard", Endpoint.from_settings(broker, path.parent), broker)
    options = {"type": "video", "url": "rtsp://cam/main", "fps": 5, "watch": "packets"} | keys
    source = watch("yard", settings.VideoSource.model_validate(options), context)
    samples: list[Sample] = []

    def read() -> None:
        for sample in source.samples(Opened(path), threading.Event()):
            samples.extend([] if sample is None else [sample])

    with pytest.raises(SourceError, match="no frame can be read any more"):
        read()
    return context.counters.video().as_dict(), [sample.captured_at for sample in samples]


def test_where_sizes_tell_keyframes_are_decoded_and_what_moves(yard: dict[str, Path]) -> None:
    counts, times = watched(yard["variable"])
    assert counts["sizes"] == "tell"
    for episode in [*LEARNING, *LATER]:
        within = [time for time in times if episode.begins <= time <= episode.ends]
        assert within[0] - episode.begins < 0.5
        assert len(within) >= 5
    still = [time for time in times if not any(one.begins <= time <= one.ends + 1 for one in [*LEARNING, *LATER])]
    assert len(still) < 10  # the first ones, and the heartbeat's
    decoded_until_it_was_learned = 26 * FPS
    assert counts["packets"] == 46 * FPS
    assert counts["decoded"] < decoded_until_it_was_learned + 20 * FPS * 0.6
    assert counts["packets"] == counts["decoded"] + counts["skipped"]


def test_where_they_tell_nothing_all_is_decoded_and_that_is_said(yard: dict[str, Path]) -> None:
    counts, times = watched(yard["constant"])
    assert counts["sizes"].startswith("no use")
    assert counts["decoded"] == counts["packets"] == 46 * FPS
    for episode in [*LEARNING, *LATER]:
        assert min(time for time in times if time >= episode.begins) - episode.begins < 0.5


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RtspServer]:
    """A camera with two streams, in which something moves for a second after three."""
    main, second = tmp_path / "main.ts", tmp_path / "second.ts"
    scene = Yard(320, 180, seconds=6.0, episodes=[Episode(3.1, 4.1, share=0.05)])
    scene.write({main: ((320, 180), VARIABLE), second: ((160, 90), VARIABLE)})
    with RtspServer({"main": Clip.read(main), "second": Clip.read(second)}) as running:
        yield running


def open_both(server: RtspServer, digits: Model, folder: Path, **options: Any) -> Stage:
    source = {"type": "video", "url": server.url("main"), "fps": 5, "watch": {"url": server.url("second")}}
    return Stage(source, digits, folder, **options)


def test_a_second_stream_says_when_the_main_one_is_decoded(server: RtspServer, digits: Model, tmp_path: Path) -> None:
    gate = {"type": "motion", "hold": 0.2, "heartbeat": "1h"}
    with open_both(server, digits, tmp_path, gate=gate) as stage:
        stage.wait_for(lambda stage: stage.counts()["video"]["packets"] > 5.5 * FPS, "the thing has passed", 15)
        counts = stage.counts()["video"]
        began = server.began["main"]
        times = [sample.captured - began for sample in stage.results]
    moving = [time for time in times if 3.0 <= time <= 4.6]
    assert moving[0] < 3.6
    assert len(moving) >= 4
    assert all(time < 1 or 2.7 <= time <= 4.8 for time in times)
    assert {facts["width"] for _, facts, _ in stage.outcomes} == {320}
    assert counts["decoded"] < 0.75 * counts["packets"]
    assert counts["packets"] == counts["decoded"] + counts["skipped"] + counts["waiting"]
    assert counts["second"]["decoded"] == counts["second"]["packets"] > 5 * FPS
    assert counts["first_look_ms"] < 500
    assert stage.counts()["dropped"]["unchanged"] == 0


@pytest.mark.parametrize(
    ("main_clock", "second_clock"),
    [(None, None), (1e9, 1e9), (1e9, 2e9)],
    ids=["no reports", "reports", "clocks that differ"],
)
def test_a_second_stream_may_be_late_if_the_camera_says_when_pictures_were_taken(
    main_clock: float | None, second_clock: float | None, digits: Model, tmp_path: Path
) -> None:
    main, second = tmp_path / "main.ts", tmp_path / "second.ts"
    scene = Yard(320, 180, seconds=4.0, episodes=[Episode(2.3, 3.5, share=0.05)])
    scene.write({main: ((320, 180), VARIABLE), second: ((160, 90), VARIABLE)})
    clips = {"main": Clip.read(main), "second": Clip.read(second)}
    with (
        RtspServer(clips, clock=main_clock) as server,
        RtspServer(clips, {"second": 0.8}, second_clock) as other,
        Stage(
            {"type": "video", "url": server.url("main"), "fps": 5, "watch": {"url": other.url("second")}},
            digits,
            tmp_path,
            gate={"type": "motion", "hold": 0.2, "heartbeat": "1h"},
        ) as stage,
    ):
        stage.wait_for(lambda stage: stage.counts()["video"]["packets"] > 3.9 * FPS, "the thing has come", 15)
        times = [sample.captured - server.began["main"] for sample in stage.results]
        second_counts = stage.counts()["video"]["second"]
    first = next(time for time in times if time > 2)
    if main_clock == second_clock == 1e9:
        assert 600 < second_counts["late_ms"] < 1200
        assert first < 2.95
    else:
        assert "late_ms" not in second_counts
        assert first > 2.95


def test_without_its_second_stream_all_is_decoded_and_that_is_said(
    server: RtspServer, digits: Model, tmp_path: Path
) -> None:
    source = {"type": "video", "url": server.url("main"), "fps": 5, "watch": {"url": server.url("gone?key=hidden")}}
    with Stage(source, digits, tmp_path) as stage:
        stage.wait_for_results(8)
        counts = stage.counts()["video"]
    assert counts["decoded"] == counts["packets"] - counts["waiting"]
    assert "404" in counts["second"]["problem"]
    assert "hidden" not in str(counts)


def test_motion_counts_inside_regions_only_in_a_stream_of_any_size(
    server: RtspServer, digits: Model, tmp_path: Path
) -> None:
    regions = {"corner": [300, 160, 320, 180]}
    gate = {"type": "motion", "heartbeat": "1h", "hold": 0}
    with open_both(server, digits, tmp_path, gate=gate, regions=regions) as stage:
        stage.wait_for(lambda stage: stage.counts()["video"]["packets"] > 5 * FPS, "the thing has passed", 15)
        times = [sample.captured - server.began["main"] for sample in stage.results]
    assert all(time < 1 for time in times)
