"""The microphone through the real `arecord`, whose device is a file, as ALSA can make one."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from edge_agent.sources import reader
from tests.sources.contract import Readings, ReadingsContract
from tests.sources.listener import Listener

needs_arecord = pytest.mark.skipif(not shutil.which("arecord"), reason="needs arecord: apt-get install alsa-utils")


def microphone(folder: Path, device: str = "test", channels: int = 1) -> Listener:
    return Listener({"type": "microphone", "device": device, "channels": channels}, folder)


@pytest.fixture
def recording(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> "np.ndarray[tuple[int], np.dtype[np.int16]]":
    """What the device named `test` hears."""
    samples = np.random.default_rng(1).integers(-(2**15), 2**15, 16000 * 120, np.int16)
    (tmp_path / "heard").write_bytes(samples.astype("<i2").tobytes())
    (tmp_path / "asound.conf").write_text(
        f'pcm.test {{ type file slave.pcm null file /dev/null infile "{tmp_path}/heard" format raw }}\n'
        "pcm.null { type null }\n"
    )
    monkeypatch.setenv("ALSA_CONFIG_PATH", str(tmp_path / "asound.conf"))
    monkeypatch.setattr(reader, "REOPEN_CEILING", 0.2)
    return samples


@needs_arecord
@pytest.mark.usefixtures("recording")
class TestMicrophone(ReadingsContract):
    @pytest.fixture
    def setup(self, tmp_path: Path) -> Readings:
        return Readings(open=lambda: microphone(tmp_path), origin={"device"})


@needs_arecord
@pytest.mark.parametrize("channels", [1, 2])
def test_what_is_heard_comes_sample_by_sample(
    recording: "np.ndarray[tuple[int], np.dtype[np.int16]]", channels: int, tmp_path: Path
) -> None:
    with microphone(tmp_path, channels=channels) as listener:
        listener.wait_for_readings(8000)
    heard = np.round(listener.values.ravel() * 2**15).astype(np.int16)
    assert np.array_equal(heard, recording[: len(heard)])
    assert {(series.rate, series.values.shape[1]) for series in listener.series} == {(16000, channels)}


@needs_arecord
@pytest.mark.usefixtures("recording")
def test_a_microphone_that_is_not_there_is_said_once_with_the_reason_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    with microphone(tmp_path, device="hw:7") as listener:
        listener.wait_for(lambda listener: listener.troubles, "it is said")
    assert listener.troubles == ["microphone hw:7: ended with exit code 1"]
    assert any("audio open error" in message for message in caplog.messages)


def test_without_arecord_the_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with microphone(tmp_path, device="default") as listener:
        listener.wait_for(lambda listener: listener.troubles, "it is said")
    assert listener.troubles == ["microphone default: the program arecord is missing: apt-get install alsa-utils"]
