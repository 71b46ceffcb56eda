"""A running daemon takes new versions of its model from a signed repository, and goes back from bad ones."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.update.kit import DIGITS, Scene, bundle, mixed_up_labels, not_right_enough, wrong_answers

Change = Callable[[Path, dict[str, Any]], None]


@pytest.fixture
def running(stage: Scene) -> Iterator[Scene]:
    with stage.daemon:
        yield stage
        assert stage.daemon.stop().code == 0
        assert "Traceback" not in stage.daemon.log()


def test_a_release_goes_through_all_steps_and_serves_and_no_picture_is_lost(running: Scene) -> None:
    base = running.serving()
    running.release("2")
    done = running.wait_for("committed")
    assert done["active"]["version"] == "2"
    assert running.serving() == "2"
    steps = list(dict.fromkeys(state["step"] for state in running.states()))
    assert steps == [
        "idle", "downloading", "verified", "trying", "shadow", "activated", "probation", "committed",
    ]  # fmt: skip
    (shown,) = [state["shadow"] for state in running.states() if state["step"] == "activated"]
    assert shown["samples"] >= 3
    assert shown["agreement"] == 1.0
    assert [row.progress for row in running.rollout("2").rows()] == ["done"]
    versions = [result["model"]["version"] for result in running.results()]
    assert versions == sorted(versions)
    assert set(versions) == {base, "2"}
    assert [result["seq"] for result in running.results()] == list(range(1, len(versions) + 1))
    assert not any(result["input"].get("redelivered") for result in running.results())


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (wrong_answers, "golden samples come out wrong"),
        (not_right_enough, "it is not right enough here: top1 0.5 of at least 0.85"),
        pytest.param(mixed_up_labels, "it agrees with the active version to 0.00", marks=pytest.mark.faults),
    ],
)
def test_a_bad_release_never_serves_and_is_not_taken_again(change: Change, sentence: str, running: Scene) -> None:
    base = running.serving()
    running.release("2", bundle(running.folder, "2", change))
    refused = running.wait_for("refused")
    assert sentence in refused["reason"]
    running.release("3")
    running.wait_for("committed", version="digits/3")
    assert {result["model"]["version"] for result in running.results()} == {base, "3"}
    assert [state["version"] for state in running.states() if state["step"] == "downloading"] == [
        "digits/2",
        "digits/3",
    ]


def test_a_version_that_is_revoked_gives_way_to_the_one_before(stage: Scene) -> None:
    stage.install("2")
    stage.install("3")
    with stage.daemon:
        assert stage.serving() == "3"
        stage.repository.revoke("digits/3")
        assert stage.wait_for("rolled back", "digits/3")["reason"] == "it has been revoked"
        assert stage.serving() == "2"


@pytest.mark.parametrize(
    ("fault", "reason"),
    [("fails", "it failed at "), pytest.param("slow", "its inference takes ", marks=pytest.mark.faults)],
)
def test_a_version_that_serves_badly_gives_way_to_the_one_before(fault: str, reason: str, stage: Scene) -> None:
    stage.install("2")
    stage.daemon.environment["BAD_SERVICE"] = f"{fault} 3"
    stage.update["probation"] = {"duration": "10m", "max_slowdown": 1000}
    stage.daemon.configure(stage.config())
    with stage.daemon:
        assert stage.serving() == "2"
        stage.release("3")
        stage.keep_sending_until("rolled back")
        assert reason in stage.states()[-1]["refused"]["digits/3"]
        assert stage.serving() == "2"


@pytest.mark.faults
def test_a_version_is_not_blamed_for_another_model_that_is_broken(stage: Scene) -> None:
    other = stage.folder / "other"
    shutil.copytree(DIGITS, other)
    config = stage.config()
    config["models"]["other"] = {"path": str(other)}
    config["pipelines"]["other"] = {"source": {"type": "mqtt", "topic": "other"}, "model": "other"}
    stage.daemon.configure(config)
    with stage.daemon:
        other.rename(stage.folder / "away")
        stage.release("2")
        assert "no version is tried as long as " in stage.wait_for("failed", "digits/2")["reason"]
        (stage.folder / "away").rename(other)
        stage.wait_for("committed", "digits/2")
