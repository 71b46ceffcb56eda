"""Streams that are read as packets, through PyAV."""

import shutil
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from edge_agent.counters import VideoCounts
from edge_agent.errors import SourceError
from edge_agent.models.model import Model
from edge_agent.preprocess.decoding import convert_frame, reduce_pixels
from edge_agent.samples import PlanarFrame
from edge_agent.sources import packets, reader
from edge_agent.sources.pace import KeyframePace, Pace
from edge_agent.sources.packets import PacketStream, PausableDecoder
from tests.broker import wait_until
from tests.rtsp_server import Clip, RtspServer
from tests.sources.clips import CODECS, FPS, GOP, Opened, make_clip
from tests.sources.contract import LiveContract, Setup
from tests.sources.stage import Stage

STALL_S = 0.8


@pytest.fixture(autouse=True)
def _soon_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "REOPEN_CEILING", 0.3)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A clip of two seconds for each codec."""
    folder = tmp_path_factory.mktemp("clips")
    endings = {"Motion JPEG": "nut"}
    return {
        codec: make_clip(folder / f"{number}.{endings.get(codec, 'ts')}", codec) for number, codec in enumerate(CODECS)
    }


@pytest.fixture
def server(clips: dict[str, Path]) -> Iterator[RtspServer]:
    with RtspServer({"main": Clip.read(clips["H.264"])}) as running:
        yield running


def watch(server: RtspServer, digits: Model, folder: Path, **keys: Any) -> Stage:
    source = {"type": "video", "url": server.url("main"), "stall_timeout": STALL_S} | keys
    return Stage(source, digits, folder)


def balanced(counts: dict[str, int]) -> bool:
    return counts["packets"] == counts["decoded"] + counts["skipped"] + counts["waiting"] and counts["waiting"] >= 0


class TestWatch(LiveContract):
    @pytest.fixture
    def setup(self, server: RtspServer, digits: Model, tmp_path: Path) -> Setup:
        return Setup(open=lambda: watch(server, digits, tmp_path), origin={"url", "frame"})


class TestWatchPackets(LiveContract):
    @pytest.fixture
    def setup(self, server: RtspServer, digits: Model, tmp_path: Path) -> Setup:
        return Setup(open=lambda: watch(server, digits, tmp_path, watch="packets"), origin={"url", "frame"})


class TestWatchSecond(LiveContract):
    @pytest.fixture
    def setup(self, server: RtspServer, digits: Model, tmp_path: Path) -> Setup:
        second = {"url": server.url("main")}
        return Setup(open=lambda: watch(server, digits, tmp_path, watch=second), origin={"url", "frame"})


def test_a_stream_that_stalls_is_noticed_and_found_again(server: RtspServer, digits: Model, tmp_path: Path) -> None:
    with watch(server, digits, tmp_path) as stage:
        stage.wait_for_results(3)
        server.stall()
        stage.wait_for(lambda stage: stage.troubles, "the source says that something is wrong", STALL_S + 2)
        wait_until(lambda: server.connections > 1, 5, "it is opened again")
        server.play()
        before = len(stage.results)
        stage.wait_for(lambda stage: len(stage.results) > before + 3, "results come again", timeout=15)
    assert stage.imbalances == []


def test_fps_at_the_rate_of_keyframes_costs_keyframes_only(server: RtspServer, digits: Model, tmp_path: Path) -> None:
    with watch(server, digits, tmp_path, fps=FPS / GOP) as stage:
        stage.wait_for(lambda stage: stage.counts()["video"]["packets"] > 3 * GOP, "four groups of pictures")
        counts = stage.counts()["video"]
    # Until the second keyframe, nobody knows how often they come.
    assert counts["decoded"] <= GOP + 3
    assert balanced(counts)
    numbers = [sample.origin["frame"] for sample in stage.results]
    assert {number % GOP for number in numbers} == {1}
    after = stage.counts()["video"]
    assert balanced(after)
    assert after["waiting"] == 0


def test_between_rare_keyframes_frames_are_taken_at_the_rate_that_is_asked_for(
    server: RtspServer, digits: Model, tmp_path: Path
) -> None:
    with watch(server, digits, tmp_path, fps=5) as stage:
        first, *_, last = stage.wait_for_results(9)[3:9]
    assert last.captured - first.captured == pytest.approx(5 / 5, rel=0.2)
    assert stage.counts()["video"]["skipped"] == 0


def all_packets(path: Path) -> Iterator[tuple[Opened, Any]]:
    stream = Opened(path)
    try:
        for packet in stream.packets():
            yield stream, packet
    except SourceError:
        stream.release()


def decoder_of(stream: PacketStream, counts: VideoCounts, **options: Any) -> PausableDecoder:
    return PausableDecoder(stream, counts, **({"all_threads": False, "deblocking": True} | options))


def decoded(path: Path, first: int = 1, look: bool = False) -> tuple[dict[int, Any], dict[str, int], list[int]]:
    """Frames by number, when somebody looks from a packet on; the counts, and the numbers of the keyframes."""
    counts, decoder = VideoCounts(), None
    found: dict[int, Any] = {}
    keys: list[int] = []
    for stream, packet in all_packets(path):
        decoder = decoder or decoder_of(stream, counts)
        decoder.put(packet)
        keys += [packet.opaque.number] if packet.is_keyframe else []
        frames = decoder.look() if look else decoder.frames() if packet.opaque.number >= first else ()
        found |= {frame.opaque.number: PlanarFrame(frame).pixels() for frame in frames}
    assert balanced(counts.as_dict())
    return found, counts.as_dict(), keys


@pytest.mark.parametrize("codec", CODECS)
def test_from_the_middle_on_the_frames_since_the_last_keyframe_are_decoded_as_they_are(
    codec: str, clips: dict[str, Path]
) -> None:
    whole, _, keys = decoded(clips[codec])
    since = decoded(clips[codec], first=keys[-1] + (len(keys) < 2 * FPS) * GOP // 2)[0]
    assert len(whole) >= 2 * FPS - 4  # the last ones are still in the decoder
    assert min(since) == keys[-1]
    assert len(since) >= sum(number >= keys[-1] for number in whole) - 3  # those that refer to what came before it
    for number, picture in since.items():
        assert np.array_equal(picture, whole[number])


@pytest.mark.parametrize("codec", CODECS)
def test_frames_that_nobody_looks_at_and_none_refers_to_are_not_decoded(codec: str, clips: dict[str, Path]) -> None:
    whole, found, decoder = decoded(clips[codec])[0], dict[int, Any](), None
    for stream, packet in all_packets(clips[codec]):
        decoder = decoder or decoder_of(stream, VideoCounts())
        decoder.put(packet)
        for frame in decoder.frames(lambda arrival: arrival.number % 5 == 0):
            found[frame.opaque.number] = PlanarFrame(frame).pixels()
    wanted = [number for number in whole if number % 5 == 0]
    assert len(wanted) >= 9
    assert all(np.array_equal(found[number], whole[number]) for number in wanted)
    if "B-frames" in codec:
        assert len(found) < 0.7 * len(whole)


@pytest.mark.parametrize("codec", CODECS)
def test_a_keyframe_is_seen_alone_and_those_after_it_can_still_be(codec: str, clips: dict[str, Path]) -> None:
    whole = decoded(clips[codec])[0]
    seen, counts, keys = decoded(clips[codec], look=True)
    assert sorted(seen) == keys
    assert counts["decoded"] == len(keys)
    for number, picture in seen.items():
        assert np.array_equal(picture, whole[number])


def test_what_waits_is_bounded_and_nothing_is_lost_by_that(
    clips: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packets, "MAX_WAITING_PACKETS", 10)
    whole = decoded(clips["H.264"])[0]
    counts, most, decoder = VideoCounts(), 0, None
    for stream, packet in all_packets(clips["H.264"]):
        decoder = decoder or decoder_of(stream, counts)
        decoder.put(packet)
        most = max(most, counts.as_dict()["waiting"])
    assert decoder is not None
    assert most <= 10
    last = [(frame.opaque.number, PlanarFrame(frame).pixels()) for frame in decoder.frames()]
    assert last[-1][0] == 2 * FPS
    assert all(np.array_equal(picture, whole[number]) for number, picture in last)


def test_a_damaged_packet_costs_its_own_frames(clips: dict[str, Path]) -> None:
    counts, found, decoder = VideoCounts(), set[int](), None
    for stream, packet in all_packets(clips["H.264"]):
        decoder = decoder or decoder_of(stream, counts)
        if packet.opaque.number == 5:
            hurt: Any = av.Packet(b"\0\0\0\1\x65" + bytes(range(200)))
            hurt.opaque, hurt.is_keyframe = packet.opaque, False
            decoder.put(hurt)
        else:
            decoder.put(packet)
        found |= {frame.opaque.number for frame in decoder.frames()}
    assert set(range(GOP + 1, 2 * FPS + 1)) <= found
    assert counts.as_dict()["damaged"] >= 1
    assert balanced(counts.as_dict())


def test_a_stream_may_change_its_size(clips: dict[str, Path], digits: Model, tmp_path: Path) -> None:
    small = make_clip(tmp_path / "small.ts", seconds=1.0, size="160x120")
    with RtspServer({"main": Clip.read(small, clips["H.264"])}) as server, watch(server, digits, tmp_path) as stage:
        stage.wait_for(
            lambda stage: {facts["width"] for _, facts, _ in stage.outcomes} == {160, 320}, "frames of both sizes"
        )
    assert stage.troubles == []
    assert stage.given_up == []


def test_colours_are_those_that_opencv_reads(clips: dict[str, Path]) -> None:
    capture = cv2.VideoCapture(str(clips["H.264"]))
    for number, picture in sorted(decoded(clips["H.264"])[0].items())[:5]:
        ok, expected = capture.read()
        assert ok, number
        assert np.array_equal(picture, expected)


def test_a_frame_is_reduced_before_its_colours_are_converted(data_dir: Path) -> None:
    picture = np.asarray(cv2.imread(str(data_dir / "images" / "dog.jpg")), np.uint8)[:560, :720]
    frame = PlanarFrame(av.VideoFrame.from_ndarray(picture, format="bgr24").reformat(format="yuv420p"))
    assert frame.size == (720, 560)
    assert frame.is_video_range
    reduced, expected = (
        convert_frame(frame, lambda *_: (5, 5)),
        reduce_pixels(frame.pixels(), lambda *_: (5, 5)),
    )
    assert (reduced.size, reduced.reduced, reduced.pixels.shape) == ((720, 560), (4, 4), (140, 180, 3))
    assert np.abs(reduced.pixels.astype(int) - expected.pixels).mean() < 2
    grey = cv2.cvtColor(frame.pixels(), cv2.COLOR_BGR2GRAY)
    assert np.abs((frame.luma().astype(float) - 16) * 255 / 219 - grey).mean() < 3


def test_without_deblocking_the_picture_is_nearly_the_same(clips: dict[str, Path]) -> None:
    found: list[Any] = []
    for deblocking in (True, False):
        decoder = None
        for stream, packet in all_packets(clips["H.264, B-frames, open groups"]):
            decoder = decoder or decoder_of(stream, VideoCounts(), deblocking=deblocking)
            decoder.put(packet)
            found += [PlanarFrame(frame).pixels().astype(int) for frame in decoder.frames()]
    half = len(found) // 2
    difference = np.abs(np.array(found[:half]) - np.array(found[half:])).mean()
    assert 0 < difference < 4


def test_a_pace_takes_no_more_than_it_should() -> None:
    pace, taken = Pace(5.0), []
    for number in range(100):
        at = number / 25
        if pace.is_due(at):
            pace.take(at)
            taken.append(number)
    assert taken == list(range(0, 100, 5))
    assert pace.is_due(60.0)
    pace.take(60.0)  # after a long silence
    assert not pace.is_due(60.08)


def test_keyframes_suffice_while_they_come_as_often_as_frames_are_wanted() -> None:
    keyframes = KeyframePace(2.0)
    assert not keyframes.suffices(0.0)
    keyframes.keyframe(0.0)
    keyframes.keyframe(2.0)
    assert keyframes.suffices(3.9)
    assert not keyframes.suffices(5.1)  # the next one is late
    keyframes.keyframe(6.0)
    assert not keyframes.suffices(6.1)
    keyframes.keyframe(8.0)
    assert keyframes.suffices(8.1)
    keyframes.is_unusable()
    assert not keyframes.suffices(8.2)


def test_a_playlist_leads_to_its_server_and_to_no_file(clips: dict[str, Path], tmp_path: Path) -> None:
    shutil.copy(clips["H.264"], tmp_path / "clip.ts")
    for name, target in (("near", "clip.ts"), ("file", f"file://{tmp_path}/clip.ts")):
        playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{target}\n#EXT-X-ENDLIST\n"
        (tmp_path / f"{name}.m3u8").write_text(playlist)
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        assert next(PacketStream(f"{url}/near.m3u8", "name", 1.0).packets()).is_keyframe
        with pytest.raises(SourceError):
            PacketStream(f"{url}/file.m3u8", "name", 1.0)
        server.shutdown()
