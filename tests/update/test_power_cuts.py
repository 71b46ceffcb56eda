"""The power is cut at every step of an update: the device comes back with the old or the new version, whole."""

import signal

import pytest

from tests.broker import wait_until
from tests.update.kit import Scene, assert_whole, bundle, mixed_up_labels

OLD, NEW = "digits/2", "digits/3"
# Point of the cut -> which version serves after it.
CUTS = {
    "fetch": OLD,
    "downloading": OLD,
    "verified": OLD,
    "before take_in": OLD,
    "in take_in": OLD,
    "after take_in": OLD,
    "trying": OLD,
    "before begin": OLD,
    "in begin": OLD,
    "after begin": OLD,
    "shadow": OLD,
    "before activate": OLD,
    "in activate": OLD,
    "after activate": NEW,
    "activated": NEW,
    "probation": NEW,
    "before commit": NEW,
    "in commit": NEW,
    "after commit": NEW,
    "committed": NEW,
}
QUICK = ("in activate",)


def cut_off(stage: Scene, point: str) -> None:
    """Runs the daemon until it is killed at a point."""
    stage.daemon.environment["POWER_CUT_AT"] = point
    stage.daemon.start()
    wait_until(lambda: stage.send() and stage.daemon.ended, 60, f"the power is cut {point}")
    assert stage.daemon.wait(60).code == -signal.SIGKILL
    del stage.daemon.environment["POWER_CUT_AT"]


def prepare(stage: Scene) -> None:
    """A device that has version 2; version 3 is released."""
    stage.install("2")
    stage.release("3")


@pytest.mark.parametrize("point", [pytest.param(p, marks=() if p in QUICK else pytest.mark.faults) for p in CUTS])
def test_after_a_power_cut_a_whole_version_serves_and_the_update_goes_on(point: str, stage: Scene) -> None:
    prepare(stage)
    cut_off(stage, point)
    assert_whole(stage.store)
    with stage.daemon:
        assert stage.serving() == CUTS[point].removeprefix("digits/")
        stage.wait_for("committed", NEW)
        assert stage.serving() == "3"
    assert_whole(stage.store)
    assert not stage.store.state().refused


@pytest.mark.faults
@pytest.mark.parametrize("point", ["before refuse", "in refuse", "after refuse", "refused"])
def test_a_power_cut_while_a_version_is_refused_does_not_let_it_in(point: str, stage: Scene) -> None:
    stage.release("2", bundle(stage.folder, "2", mixed_up_labels))
    cut_off(stage, point)
    with stage.daemon:
        stage.wait_for("refused", "digits/2")
        assert {result["model"]["version"] for result in stage.results()} == {"1"}


@pytest.mark.faults
@pytest.mark.parametrize("point", ["before roll_back", "in roll_back", "after roll_back", "rolled back"])
def test_after_a_power_cut_while_a_version_is_taken_back_the_one_before_serves(point: str, stage: Scene) -> None:
    stage.install("2")
    stage.install("3")
    stage.repository.revoke(NEW)
    cut_off(stage, point)
    assert_whole(stage.store)
    with stage.daemon:
        stage.wait_for("rolled back", NEW)
        assert stage.serving() == "2"
    assert_whole(stage.store)


@pytest.mark.faults
def test_a_version_with_which_the_agent_ends_again_and_again_is_given_up(stage: Scene) -> None:
    prepare(stage)
    for _ in range(3):
        cut_off(stage, "before commit")
    with stage.daemon:
        assert stage.serving() == "2"
        wait_until(lambda: NEW in stage.states()[-1]["refused"], 20, "the state of updates is published")
        assert "has ended 3 times unexpectedly" in stage.states()[-1]["refused"][NEW]


@pytest.mark.faults
def test_a_version_that_is_damaged_on_the_disk_gives_way_to_the_one_before(stage: Scene) -> None:
    stage.install("2")
    stage.install("3")
    archive = stage.store.archive(str(stage.store.state().active))
    archive.write_bytes(archive.read_bytes()[:100_000])
    with stage.daemon:
        assert stage.serving() == "2"


@pytest.mark.faults
def test_a_damaged_state_keeps_no_device_from_serving_and_the_release_is_fetched_again(stage: Scene) -> None:
    stage.install("2")
    state = stage.store.archive("x").with_name("state.json")
    state.unlink()
    state.mkdir()
    with stage.daemon:
        stage.wait_for("committed", OLD)
        assert stage.serving() == "2"
        assert stage.daemon.stop().code == 0
    assert "Traceback" not in stage.daemon.log()
