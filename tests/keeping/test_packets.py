"""The packets of a stream in recordings: as the camera sent them, bounded, and a video again."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edge_agent import cli
from edge_agent.keeping.recording import open_recording, recordings
from edge_agent.sample_store.segment import Appender, Entry, walk
from edge_agent.sources.packet_ring import PacketRing
from tests.broker import Mosquitto, Subscriber
from tests.daemon_process import Daemon, configuration
from tests.rtsp_server import Clip, RtspServer
from tests.sources.clips import make_clip

av = pytest.importorskip("av", reason="the extra `video` is not installed")
GOP = 5
CODECS = ("H.264", "H.265, B-frames, open groups")


class Packet(SimpleNamespace):
    """Has what the ring looks at."""

    def __bytes__(self) -> bytes:
        return bytes(self.size)


def packet(second: int, size: int = 10, **facts: Any) -> Packet:
    given = {"is_keyframe": second % GOP == 0, "dts": second, "pts": second, "size": size} | facts
    return Packet(opaque=SimpleNamespace(at=float(second)), time_base=Fraction(1, 1), **given)


STREAM = SimpleNamespace(header=b"head")


def seconds(ring: PacketRing, number: int = 0) -> list[float]:
    return [one.at for one in ring.from_number(number)]


def test_what_is_kept_begins_with_the_keyframe_before_the_time_that_is_wanted() -> None:
    ring = PacketRing(7, 10_000)
    for second in range(3, 24):
        ring.put(packet(second), STREAM)
    assert seconds(ring) == list(range(15, 24))  # 16 is wanted
    assert seconds(ring, ring.since(21)) == [20, 21, 22, 23]
    assert seconds(ring, ring.since(19)) == list(range(15, 24))
    assert seconds(ring, ring.since(3)) == list(range(15, 24))
    assert ring.left_out == 2  # before the first keyframe


def test_bytes_are_bounded_by_whole_groups_of_pictures() -> None:
    ring = PacketRing(1000, 120)
    for second in range(40):
        ring.put(packet(second), STREAM)
    assert seconds(ring) == list(range(30, 40))
    ring = PacketRing(1000, 30)
    for second in range(40):
        ring.put(packet(second), STREAM)
    assert seconds(ring) == []
    assert ring.left_out == 40  # a group is more than may be kept


@pytest.mark.parametrize("facts", [{"dts": None}, {"pts": None}])
def test_packets_without_times_are_left_out(facts: dict[str, Any]) -> None:
    ring = PacketRing(10, 1000)
    ring.put(packet(0), STREAM)
    ring.put(packet(1, **facts), STREAM)
    assert (seconds(ring), ring.left_out) == ([0], 1)


def test_a_stream_that_is_opened_again_begins_with_its_first_keyframe() -> None:
    ring = PacketRing(10, 1000)
    for second in range(3):
        ring.put(packet(second), STREAM)
    other = SimpleNamespace(header=b"other")
    for second in range(3, 7):
        ring.put(packet(second), other)
    assert seconds(ring) == [5, 6]
    ring.put(packet(10), SimpleNamespace(header=b""))  # of no codec that MP4 has
    assert seconds(ring) == []


@pytest.fixture(scope="module", params=CODECS)
def clip(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("clip") / "yard.ts", request.param, seconds=20)


@pytest.fixture(scope="module")
def server(clip: Path) -> Iterator[RtspServer]:
    with RtspServer({"yard": Clip.read(clip)}) as server:
        yield server


@pytest.fixture(scope="module")
def recording(server: RtspServer, broker: Mosquitto, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a daemon has recorded of a stream on command: a second before and a second after."""
    folder = tmp_path_factory.mktemp("recorded")
    source = {"type": "video", "url": server.url("yard"), "fps": 2}
    record = {"before": "1s", "after": "1s", "when": ["command"], "path": str(folder / "recordings")}
    pipeline = {"source": source, "model": "digits", "record": record}
    config = configuration(broker, "yard", models={"digits": {"path": "digits"}}, pipelines={"yard": pipeline})
    with Subscriber(broker.port, "edge/yard/#") as client, Daemon(folder, config):
        client.wait_for(lambda message: message.topic == "edge/yard/yard/result", 3)
        client.publish("edge/yard/cmd", '{"command": "record", "pipeline": "yard"}')
        client.wait_for(lambda message: b'"recorded": 1' in message.payload)
    [path] = recordings(folder / "recordings")
    return path


def test_every_frame_of_the_stream_is_in_a_recording_and_becomes_a_video_without_being_encoded(
    recording: Path, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = open_recording(recording)
    inputs, packets = list(kept.entries()), list(kept.packets())
    assert len(packets) > 3 * len(inputs) > 0
    assert cli.main(["recordings", "export", "--as-sent", str(recording), str(tmp_path / "yard.mp4")]) == 0
    assert f"{len(packets)} packets" in capsys.readouterr().out
    with av.open(str(tmp_path / "yard.mp4")) as video:
        stream = video.streams.video[0]
        assert (stream.width, stream.height) == (320, 240)
        shown = [frame.to_ndarray(format="gray") for frame in video.decode(stream)]
    assert len(shown) >= len(packets) - 2  # the last ones refer to frames that were to come
    with av.open(str(clip)) as original:
        frames = [frame.to_ndarray(format="gray") for frame in original.decode(video=0)]
    begins = next(number for number, frame in enumerate(frames) if (frame == shown[0]).all())
    again = [*frames, *frames]  # the server shows the clip again and again
    # At the end, a frame may be missing that is shown before one that has come.
    assert all((a == b).all() for a, b in zip(shown[:-4], again[begins:], strict=False))
    assert "-->" in (tmp_path / "yard.srt").read_text()


@pytest.mark.parametrize("jump", [-86_400.0, 86_400.0])
def test_a_clock_that_jumps_changes_neither_video_nor_subtitles(recording: Path, tmp_path: Path, jump: float) -> None:
    entries = [entry for _, entry in walk(recording)]
    middle = sorted(one.document["captured"] for one in open_recording(recording).entries())[1]
    moved = [
        Entry({**one.document, "captured_at": one.document["captured_at"] + jump}, one.data)
        if one.document.get("captured", 0.0) > middle
        else one
        for one in entries
    ]
    assert moved != entries
    Appender(tmp_path / "moved.recording").append(entry.encoded() for entry in moved)
    for path, name in ((recording, "still"), (tmp_path / "moved.recording", "moved")):
        assert cli.main(["recordings", "export", "--as-sent", str(path), str(tmp_path / f"{name}.mp4")]) == 0
    for ending in (".mp4", ".srt"):
        assert (tmp_path / f"still{ending}").read_bytes() == (tmp_path / f"moved{ending}").read_bytes()


def test_it_is_replayed_and_shown_as_before(recording: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["recordings", "show", str(recording)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1 + len(list(open_recording(recording).entries()))


@pytest.mark.parametrize(
    "facts",
    [
        {"header": "%%%"},
        {"stream": "x"},
        {"time_base": [0, 1]},
        {"time_base": 3},
        {"header": "aGVhZA=="},
    ],
)
def test_damaged_packets_are_one_sentence(
    facts: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = {"at": 1.0, "pts": 0, "dts": 0, "keyframe": True, "time_base": [1, 90000], "stream": 1, "header": "AA=="}
    path = tmp_path / "a.recording"
    Appender(path).append(
        [Entry({"recording": {}}, b"").encoded(), Entry({"packet": whole | facts}, b"\0\0\1\x65").encoded()]
    )
    assert cli.main(["recordings", "export", "--as-sent", str(path), str(tmp_path / "out.mp4")]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_recording_without_a_stream_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.recording"
    Appender(path).append([Entry({"recording": {}}, b"").encoded()])
    assert cli.main(["recordings", "export", "--as-sent", str(path), str(tmp_path / "out.mp4")]) == 2
    assert "--as-sent" in capsys.readouterr().err
    assert cli.main(["recordings", "export", "--as-sent", str(path), str(tmp_path / "out.avi")]) == 2
