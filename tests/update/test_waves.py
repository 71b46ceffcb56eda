"""Waves by themselves: a plan, how far it has come, and the loop from a release to its end or its revocation."""

import json
import os
import shutil
from argparse import Namespace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from edge_agent.commands.release_steering import Steering
from edge_agent.errors import ConfigError, ReleaseError, UpdateError
from edge_agent.release.repository import SignedRepository
from edge_agent.release.rollout import Row
from edge_agent.release.upload import upload
from edge_agent.release.waves import decide, read_file
from edge_agent.update import releases
from edge_agent.update.repository import Repository
from edge_agent.update.waves import REVOKED, Plan, Progress, Step
from tests.broker import Subscriber, wait_until
from tests.daemon_process import Daemon, configuration
from tests.update.kit import PASSPHRASE, Scene, ask, bundle
from tests.update.releasing import Operator

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
PLAN = Plan((Step(0, ("canary",), 3600, 2), Step(10_000)), max_failures=2500)


def rows(**counts: int) -> list[Row]:
    names: dict[str, Any] = {"done": "done", "failed": "failed", "silent": "silent", "under_way": "under way"}
    return [Row(f"{key}{n}", True, names[key], "", "", "") for key, count in counts.items() for n in range(count)]


@pytest.mark.parametrize(
    ("found", "hours", "decision"),
    [
        (rows(done=2), 1, "next"),
        (rows(done=2), 0.9, "wait"),  # it has not soaked
        (rows(done=1), 5, "wait"),  # too few
        (rows(), 5, "wait"),  # no evidence at all
        (rows(done=2, under_way=1), 5, "wait"),
        (rows(done=2, silent=1), 5, "wait"),
        (rows(done=3, failed=1), 1, "next"),  # as many as may fail
        (rows(done=2, failed=1), 5, "revoke"),
        (rows(failed=1), 0, "revoke"),
    ],
)
def test_a_release_goes_on_only_with_evidence(found: list[Row], hours: float, decision: str) -> None:
    since = (NOW - timedelta(hours=hours)).isoformat()
    assert decide(PLAN, Progress(0, since), found, NOW) == decision


def test_a_step_begins_within_the_hours_of_the_plan_also_over_midnight() -> None:
    for hours, decision in ((12, 13), "next"), ((13, 14), "wait"), ((22, 13), "next"), ((22, 6), "wait"):
        plan = Plan((Step(0, ("canary",)), Step(10_000)), hours=hours)
        assert decide(plan, Progress(0, NOW.isoformat()), rows(done=1), NOW) == decision


@pytest.mark.parametrize(
    "plan",
    [{}, {"steps": []}, [], {"steps": [{"share": "1"}]}, PLAN.facts() | {"silence": -1}, PLAN.facts() | {"x": 1}],
)
def test_what_is_no_plan_is_no_release(plan: Any) -> None:
    facts = {"number": 1, "share": 0, "groups": [], "revoked": False, "plan": plan}
    if plan == PLAN.facts() | {"x": 1}:  # a later version may state more
        assert releases.read("a/1.zip", 1, {"sha256": "0" * 64}, facts).plan == PLAN
        return
    with pytest.raises(UpdateError):
        releases.read("a/1.zip", 1, {"sha256": "0" * 64}, facts)


def test_a_plan_has_its_mistakes_with_file_and_line(tmp_path: Path) -> None:
    file = tmp_path / "plan.yaml"
    file.write_text("steps:\n  - {percent: 101}\nsilense: 1m\n")
    with pytest.raises(ConfigError) as error:
        read_file(file)
    assert [problem.split(": ")[0].rpartition(":")[2] for problem in error.value.problems] == ["2", "3"]


def test_the_plan_in_the_documentation_is_one(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "updates.md").read_text()
    file = tmp_path / "plan.yaml"
    file.write_text(page.partition("# plan.yaml\n")[2].partition("```")[0])
    plan = read_file(file)
    assert [step.share for step in plan.steps] == [0, 500, 10_000]
    assert (plan.steps[1].soak, plan.max_failures, plan.silence, plan.hours) == (86_400, 200, 600, (7, 15))


def test_timestamp_comes_last_and_an_upload_that_fails_leaves_what_clients_see(stage: Scene, tmp_path: Path) -> None:
    www = tmp_path / "www"
    upload(tmp_path / "repository", str(www))
    before = (www / "metadata" / "timestamp.json").read_bytes()
    stage.release("2")
    (www / "targets").mkdir()
    (www / "targets" / "digits").write_text("in the way")
    with pytest.raises(ReleaseError):
        upload(tmp_path / "repository", str(www))
    assert (www / "metadata" / "timestamp.json").read_bytes() == before
    assert not (www / "keys").exists()


@pytest.mark.skipif(shutil.which("rsync") is None, reason="rsync is not installed")
def test_by_rsync_each_stage_is_a_run_of_its_own_and_timestamp_is_in_the_last(
    stage: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Stands in for ssh: runs here what would run there, and notes whether timestamp.json is there before that.
    ssh = tmp_path / "bin" / "ssh"
    ssh.parent.mkdir()
    www = tmp_path / "www"
    www.mkdir()
    note = f"ls {www}/metadata/timestamp.json >/dev/null 2>&1; echo $? >> {tmp_path}/log"
    ssh.write_text(f'#!/bin/sh\n{note}\nwhile [ "$1" != rsync ]; do shift; done\nexec "$@"\n')
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{ssh.parent}:{os.environ['PATH']}")
    stage.release("2")
    upload(tmp_path / "repository", f"somebody@somewhere:{www}")
    assert (tmp_path / "log").read_text().split() == ["2", "2", "2"]
    files = {str(path.relative_to(www)) for path in www.rglob("*") if path.is_file()}
    assert {"metadata/1.root.json", "metadata/timestamp.json"} <= files
    assert len(list((www / "targets" / "digits").iterdir())) == 1
    assert not (www / "keys").exists()


def test_the_online_key_takes_a_release_through_its_plan_and_can_do_nothing_else(stage: Scene, tmp_path: Path) -> None:
    stage.release("2", share=0)
    stage.repository.begin("digits/2", PLAN)
    for name in ("root", "targets"):
        (tmp_path / "repository" / "keys" / f"{name}.pem").unlink()
    online = SignedRepository(tmp_path / "repository", ask)
    device = Repository(stage.server.url, tmp_path / "root.json", tmp_path / "lists")

    def seen() -> tuple[int, tuple[str, ...], bool]:
        (release,) = device.releases()
        return release.share, release.groups, release.revoked

    assert seen() == (0, ("canary",), False)
    online.advance("digits/2", Progress(1, NOW.isoformat()))
    online.renew()  # what is there stays
    assert seen() == (10_000, (), False)
    online.advance("digits/2", Progress(1, NOW.isoformat(), REVOKED))
    assert seen() == (10_000, (), True)
    with pytest.raises(ReleaseError, match="targets"):
        online.revoke("digits/2")


def test_nothing_is_decided_while_the_broker_is_away(
    stage: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.release("2", share=0)
    stage.repository.begin("digits/2", PLAN)
    steering = Steering(stage.repository, Namespace(release="digits/2", repository=tmp_path, upload=None))
    clock = iter((10.0, 10.0, 13.0, 20.0, 20.0, 30.0))
    monkeypatch.setattr("edge_agent.commands.release_steering.time.monotonic", lambda: next(clock))
    assert [steering.is_settled(connected=up) for up in (True, True, False, True, True)] == [
        False,
        True,
        False,
        False,
        True,
    ]


@pytest.mark.faults
def test_a_bad_release_is_halted_and_revoked_by_itself_with_one_device_at_most_and_a_good_one_goes_to_all(
    stage: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGE_AGENT_PASSPHRASE", PASSPHRASE.decode())
    bundle(stage.cache, "3")
    operator = Operator(stage)
    update = stage.update | {"probation": {"duration": "1s", "max_slowdown": 1000}}
    stage.update = update | {"labels": ["canary"]}
    stage.daemon.configure(stage.config())
    stage.daemon.environment["BAD_SERVICE"] = "fails 3"
    config = configuration(
        stage.broker,
        "second",
        models=stage.config()["models"],
        pipelines=stage.config()["pipelines"],
        update=update,
    )
    environment = {"XDG_CACHE_HOME": str(stage.cache), "BAD_SERVICE": "fails 3"}
    second = Daemon(stage.folder / "second", config, environment=environment, module="tests.update.faulty")

    def states(client: Subscriber) -> list[dict[str, Any]]:
        found = [json.loads(m.payload) for m in list(client.messages) if m.topic.endswith("/update")]
        return [document["models"]["digits"] for document in found]

    with Subscriber(stage.broker.port, "edge/second/#") as client, stage.daemon, second:
        operator.release("3")
        with stage.sending():
            ended = operator.watch("digits/3", "60s")
        assert ended.returncode == 1, ended.stdout
        assert "digits/3: revoked in step 1" in ended.stdout
        assert stage.serving() == "1"
        assert not any("3" in str(state["version"]) for state in states(client))  # the second one never saw it
        (release,) = stage.repository.find("digits/3")
        assert release.revoked

        operator.release("4")
        assert operator.watch("digits/4", "1s").returncode == 1  # it ends before it has decided anything
        with stage.sending():
            ended = operator.watch("digits/4", "60s")
            assert ended.returncode == 0, ended.stdout
        assert "step 2 of 2" in ended.stdout
        wait_until(lambda: states(client)[-1]["active"]["version"] == "4", 20, "the second one has it")
        assert stage.serving() == "4"
