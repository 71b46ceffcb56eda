import resource
import shutil
from pathlib import Path

import pytest

from edge_agent import settings
from edge_agent.errors import ModelError
from edge_agent.models import qualification
from edge_agent.models.qualification import qualify
from edge_agent.models.resolve import resolve_model
from edge_agent.models.shipped import shipped
from edge_agent.system import cache


@pytest.fixture(autouse=True)
def cache_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "edge-agent"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """The digit reader, to be changed at will."""
    return Path(shutil.copytree(shipped("digits"), tmp_path / "bundle"))


def tried(bundle: Path, batch: int = 1, threads: int | None = None) -> bool:
    """Proves a bundle; returns whether that took a process."""
    options, before = settings.Model(path=bundle, threads=threads), _time_of_children()
    qualify(resolve_model(options, bundle), batch)
    return _time_of_children() > before


def _time_of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def test_an_upgrade_of_the_system_s_library_means_a_trial(tmp_path: Path) -> None:
    library = tmp_path / "usr" / "lib" / "libhailort.so.4.23.0"
    library.parent.mkdir(parents=True)
    before = qualification._installed("hef", tmp_path)
    library.touch()
    assert qualification._installed("hef", tmp_path) != before


def test_what_has_passed_is_not_tried_again(bundle: Path) -> None:
    assert tried(bundle)
    assert not tried(bundle)


def test_other_settings_a_larger_batch_and_another_file_are_tried(bundle: Path) -> None:
    tried(bundle)
    assert tried(bundle, threads=2)
    assert tried(bundle, batch=3)
    with (bundle / "digits.tflite").open("ab") as file:
        file.write(b"another")
    assert tried(bundle)


def test_changed_golden_samples_are_tried(bundle: Path) -> None:
    tried(bundle)
    golden = bundle / "golden"
    (golden / "0_printed.png").write_bytes((golden / "0_printed.png").read_bytes() + b"another")
    assert tried(bundle)
    manifest = bundle / "model.yaml"
    manifest.write_text(manifest.read_text().replace("min_confidence: 0.9", "min_confidence: 0.8"))
    assert tried(bundle)


def test_golden_samples_hold_for_the_bundle_whatever_labels_it_is_given_here(bundle: Path) -> None:
    options = settings.Model(path=bundle, labels=Path("none"))
    qualify(resolve_model(options, bundle), batch=1)


def test_a_wrong_answer_to_a_golden_sample_keeps_a_model_from_serving(bundle: Path) -> None:
    manifest = bundle / "model.yaml"
    manifest.write_text(manifest.read_text().replace('label: "7"', 'label: "1"'))
    for _ in range(2):  # it is not taken for proven the second time
        with pytest.raises(ModelError) as caught:
            tried(bundle)
    sentence = str(caught.value)
    assert sentence.startswith(f"{bundle}/digits.")
    assert "1 of 14 golden samples come out wrong" in sentence
    assert "golden/7_printed.png: expected 1 at least 0.900, found 7 0.9" in sentence
    assert "\n" not in sentence


def test_a_golden_sample_that_is_no_picture_keeps_a_model_from_serving(bundle: Path) -> None:
    (bundle / "golden" / "0_printed.png").write_bytes(b"no picture")
    with pytest.raises(ModelError, match=r"1 of 14 golden samples come out wrong .*found not a JPEG"):
        tried(bundle)


@pytest.mark.parametrize("content", [b"", b"\xff\x00" * 5000, b"0123\n" * 3])
def test_a_damaged_record_means_a_trial_and_is_fixed(content: bytes, bundle: Path, cache_dir: Path) -> None:
    cache_dir.mkdir(parents=True)
    (cache_dir / "passed").write_bytes(content)
    assert tried(bundle)
    assert not tried(bundle)


def test_where_nothing_can_be_remembered_models_are_tried_each_time(bundle: Path, cache_dir: Path) -> None:
    cache_dir.parent.mkdir()
    cache_dir.write_text("a file in the way of the folder")
    assert tried(bundle)
    assert tried(bundle)


def test_the_record_is_bounded_and_keeps_the_last(cache_dir: Path) -> None:
    keys = [f"{number:064x}" for number in range(cache.MAX_PASSED + 5)]
    for key in keys:
        cache.note_passed(key)
    assert not cache.has_passed(keys[4])
    assert all(cache.has_passed(key) for key in keys[5:])
    assert (cache_dir / "passed").stat().st_size == 65 * cache.MAX_PASSED
    cache.note_passed(keys[5])
    cache.note_passed("f" * 64)
    assert cache.has_passed(keys[5])
    assert not cache.has_passed(keys[6])


def test_the_cache_of_a_service_lies_in_its_state_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", f"{tmp_path}/state:{tmp_path}/other")
    assert cache.cache_dir() == tmp_path / "state" / "cache"
    monkeypatch.delenv("STATE_DIRECTORY")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache.cache_dir() == tmp_path / ".cache" / "edge-agent"
