"""`edge-agent release`: keys, releases, waves, expiry; and how a release is watched."""

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from edge_agent import cli
from edge_agent.errors import ReleaseError
from edge_agent.models.shipped import shipped
from edge_agent.release import repository as signed
from edge_agent.release.repository import SignedRepository
from tests.broker import Mosquitto, Subscriber
from tests.daemon_process import configuration
from tests.evaluation import data
from tests.update.kit import PASSPHRASE, ask, bundle, wrong_answers


@pytest.fixture
def release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs `release` in a folder with an empty repository; returns its exit code, its output and its errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGE_AGENT_PASSPHRASE", PASSPHRASE.decode())

    def run(*arguments: str) -> tuple[int, str, str]:
        code = cli.main(["release", *arguments])
        out, err = capsys.readouterr()
        return code, out, err

    assert run("init")[0] == 0
    return run


def test_the_keys_are_encrypted_and_for_their_owner_only(release: Any, tmp_path: Path) -> None:
    for name in ("root", "targets", "online"):
        file = tmp_path / "keys" / f"{name}.pem"
        assert file.read_text().startswith("-----BEGIN ENCRYPTED PRIVATE KEY-----")
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o700


def test_a_bundle_is_released_promoted_and_revoked(release: Any) -> None:
    code, out, _ = release("add", str(shipped("digits")), "--percent", "0.5", "--group", "canary")
    assert code == 0
    assert out.startswith("digits/1: release 1 of its channel, for 0.5 % of the devices and the groups canary;")
    assert release("promote", "digits/1", "--percent", "20%")[0] == 0
    (one,) = json.loads(release("list", "--json")[1])
    assert (one["name"], one["number"], one["share"], one["groups"]) == ("digits/1", 1, 2000, ["canary"])
    assert release("revoke", "digits/1")[0] == 0
    assert "revoked" in release("list")[1]
    code, _, err = release("promote", "digits/1", "--percent", "50")
    assert (code, err) == (1, "digits/1: has been revoked: release the bundle again as another version\n")


def test_a_bundle_that_fails_its_golden_samples_is_not_released(release: Any, tmp_path: Path) -> None:
    code, _, err = release("add", str(bundle(tmp_path, "2", wrong_answers)))
    assert code == 1
    assert "golden samples come out wrong here" in err
    assert json.loads(release("list", "--json")[1]) == []


def with_data(folder: Path, version: str, right: int, *, states: bool = True) -> Path:
    """The digit reader, in whose labels some are exchanged, with labelled data on which it may be anything."""

    def change(scratch: Path, manifest: dict[str, Any]) -> None:
        data.digits(scratch / "evaluation")
        names = (scratch / "labels.txt").read_text().splitlines()
        (scratch / "labels.txt").write_text("\n".join([*names[:right], *names[right + 1 :], names[right]]) + "\n")
        del manifest["golden"]
        if states:
            manifest["evaluation"] = {"data": "evaluation", "require": {"top1": 0}}

    return bundle(folder, version, change)


def test_a_version_that_is_worse_than_the_one_that_it_replaces_is_not_released(
    release: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_agent.commands.release._prove", lambda _: None)
    good, bad = with_data(tmp_path, "2", right=10), with_data(tmp_path, "3", right=4)
    assert release("add", str(good))[::2] == (0, "")
    code, _, err = release("add", str(bad))
    assert (code, "digits/2" in err, "top1" in err) == (1, True, True)
    assert [one["name"] for one in json.loads(release("list", "--json")[1])] == ["digits/2"]
    assert release("add", str(with_data(tmp_path, "4", right=4, states=False)))[0] == 1  # on the data of version 2
    assert release("add", str(bad), "--margin", "1")[0] == 0


def test_a_version_that_is_as_good_is_released_and_what_can_not_be_compared_is_said(
    release: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_agent.commands.release._prove", lambda _: None)
    for version in ("2", "3"):
        assert release("add", str(with_data(tmp_path, version, right=10)))[::2] == (0, "")
    for file in (tmp_path / "targets").rglob("*.zip"):
        file.unlink()
    code, _, err = release("add", str(with_data(tmp_path, "4", right=4)))
    assert (code, "not compared with digits/3" in err) == (0, True)


def test_a_folder_that_is_released_twice_needs_another_version(release: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_agent.commands.release._prove", lambda _: None)
    assert release("add", str(shipped("digits")))[0] == 0
    code, _, err = release("add", str(shipped("digits")))
    assert (code, err) == (1, "digits/1: is released already: give the bundle another version\n")
    assert release("add", str(shipped("digits")), "--channel", "meters")[0] == 0


def test_what_is_about_to_expire_is_told_and_renewed(release: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    code, out, _ = release("expire-check")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == ["root", "targets", "snapshot", "timestamp"]
    with monkeypatch.context() as soon:
        soon.setitem(signed.VALID_DAYS, "snapshot", 3)
        soon.setitem(signed.VALID_DAYS, "timestamp", 3)
        assert release("renew")[0] == 0
    code, out, _ = release("expire-check", "--within", "5d")
    assert code == 1
    assert ["renew it" in line for line in out.splitlines()] == [False, False, True, True]
    assert release("renew")[0] == 0
    assert release("expire-check", "--within", "5d")[0] == 0


def test_a_signature_that_has_just_been_made_is_never_about_to_expire(release: Any) -> None:
    code, out, _ = release("expire-check", "--within", "30d")  # longer than the short ones last
    assert (code, "renew it" in out) == (0, False)
    code, out, _ = release("expire-check", "--within", "10000d")
    assert (code, "renew it" in out) == (0, False)


def test_a_key_is_replaced_with_the_help_of_the_root_key(release: Any, tmp_path: Path) -> None:
    before = release("keys")[1]
    assert release("keys", "--change", "targets")[0] == 0
    after = release("keys")[1]
    assert len(set(before.splitlines()) - set(after.splitlines())) == 1
    (tmp_path / "keys" / "root.pem").rename(tmp_path / "in-the-safe")
    code, _, err = release("keys", "--change", "online")
    assert code == 1
    assert "root.pem: this key is not here: bring it back from where it is kept" in err


def test_mistakes_are_told_in_one_line(release: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "there is a repository already" in release("init")[2]
    assert "there is no such release in .; there are: none yet" in release("revoke", "digits/9")[2]
    assert "there is no repository here" in release("list", "-r", "elsewhere")[2]
    monkeypatch.setenv("EDGE_AGENT_PASSPHRASE", "something else")
    assert "online.pem: wrong passphrase, or not an encrypted key" in release("renew")[2]
    monkeypatch.delenv("EDGE_AGENT_PASSPHRASE")
    assert "online.pem: no passphrase: give --passphrase-file" in release("renew")[2]


class Fleet:
    """Devices, as they look to whoever subscribes."""

    def __init__(self, folder: Path, broker: Mosquitto) -> None:
        self.repository = SignedRepository(folder, ask)
        archive = folder / "archive.zip"
        archive.write_bytes(b"as good as any")
        [self.release] = self.repository.add(archive, "digits", "2", 10_000, [])
        self.client = Subscriber(broker.port)
        (folder / "operator.yaml").write_text(json.dumps(configuration(broker, "operator")))

    def say(
        self,
        device: str,
        step: str,
        *,
        active: bool = False,
        refused: str = "",
        status: str = "online",
        reason: str = "",
        error: str = "",
    ) -> None:
        facts = {"version": "2", "number": 1, "sha256": self.release.sha256}
        model = {
            "channel": "digits", "active": facts if active else None, "on_probation": False,
            "refused": {"digits/2": refused} if refused else {}, "step": step, "version": "digits/2",
            "reason": reason or None,
        }  # fmt: skip
        document = json.dumps({"labels": [], "models": {"reader": model}, "error": error or None})
        self.client.publish(f"edge/{device}/status", status, retain=True)
        self.client.publish(f"edge/{device}/update", document, retain=True)


@pytest.fixture
def fleet(release: Any, tmp_path: Path, mosquitto: Mosquitto) -> Any:
    fleet = Fleet(tmp_path, mosquitto)
    yield fleet
    fleet.client.close()


WATCH = ("watch", "digits/2", "-c", "operator.yaml", "--timeout", "20s")


def test_a_release_that_has_arrived_everywhere_ends_well(release: Any, fleet: Fleet) -> None:
    fleet.say("a", "committed", active=True)
    fleet.say("b", "committed", active=True)
    fleet.say("away", "idle", status="offline")
    fleet.client.publish("edge/evil/update", b"[" * 1000, retain=True)
    fleet.client.publish("edge/evil2/update", '{"models": {"a": {"channel": "digits", "refused": 7}}}', retain=True)
    code, out, err = release(*WATCH)
    assert (code, err) == (0, "")
    assert "1 waiting, 2 done" in out


def test_a_release_that_fails_too_often_is_halted_whenever_the_watch_was_begun(release: Any, fleet: Fleet) -> None:
    fleet.say("a", "committed", active=True)
    fleet.say("b", "rolled back", refused="it failed at 9 of 10 inputs")
    assert release(*WATCH, "--max-failures", "1")[0] == 0
    fleet.say("c", "refused", refused="golden samples come out wrong")
    fleet.say("d", "shadow")
    code, out, _ = release(*WATCH, "--max-failures", "1", "--halt")
    assert code == 1
    assert "digits/2: halted: no further device takes it; upload the repository" in out
    assert "b: it failed at 9 of 10 inputs\nc: golden samples come out wrong" in out
    assert [one.share for one in SignedRepository(Path(), ask).find("digits/2")] == [0]


def test_a_release_that_does_not_arrive_in_time_has_failed(release: Any, fleet: Fleet) -> None:
    fleet.say("a", "downloading")
    code, out, _ = release(*WATCH[:-1], "1s")
    assert code == 1
    assert "digits/2: the time is over" in out


def test_a_device_that_falls_silent_after_it_has_taken_a_release_is_a_failure_of_that(
    release: Any, fleet: Fleet
) -> None:
    fleet.say("a", "committed", active=True)
    fleet.say("killed", "probation", active=True, status="offline")
    code, out, _ = release(*WATCH, "--silence", "1s")
    assert code == 1
    assert "killed: offline since it has taken the release" in out
    assert release(*WATCH, "--silence", "1s", "--max-failures", "1")[0] == 0
    fleet.say("killed", "committed", active=True)  # heard again
    assert release(*WATCH, "--silence", "1s")[0] == 0


def test_one_who_is_offline_for_a_moment_is_waited_for(release: Any, fleet: Fleet) -> None:
    fleet.say("a", "committed", active=True)
    fleet.say("restarts", "committed", active=True, status="offline")
    code, out, _ = release(*WATCH[:-1], "3s", "--silence", "1h")  # neither a success nor a failure yet
    assert code == 1
    assert "1 silent, 1 done" in out


def test_a_release_has_arrived_only_where_a_stated_number_has_passed_its_probation(release: Any, fleet: Fleet) -> None:
    fleet.say("a", "committed", active=True)
    fleet.say("away", "idle", status="offline")
    assert release(*WATCH[:-1], "3s", "--passed", "2")[0] == 1
    fleet.say("away", "committed", active=True)
    assert release(*WATCH, "--passed", "2")[0] == 0


def test_why_devices_do_not_take_a_release_is_said(release: Any, fleet: Fleet) -> None:
    for device in "a", "b":
        fleet.say(device, "idle", error="timestamp.json is expired")
    fleet.say("c", "undecided", reason="0 of 50 samples")
    code, out, _ = release(*WATCH[:-1], "1s")
    assert code == 1
    assert "2 devices: timestamp.json is expired" in out
    assert "1 device: 0 of 50 samples" in out


def test_a_mistyped_passphrase_changes_nothing_so_that_it_can_be_begun_again(tmp_path: Path) -> None:
    mistyped = {"targets.pem"}

    def typed(name: str, new: bool) -> bytes:
        if new and name in mistyped:
            raise ReleaseError(f"{name}: the two passphrases differ: begin again")
        return PASSPHRASE

    repository = SignedRepository(tmp_path / "new", typed)
    with pytest.raises(ReleaseError, match="begin again"):
        repository.init()
    assert not (tmp_path / "new").exists()
    mistyped.clear()
    repository.init()
    before = {file: file.read_bytes() for file in (tmp_path / "new").rglob("*.*")}
    mistyped.update(("root.pem", "targets.pem", "online.pem"))
    for name in signed.KEYS:
        with pytest.raises(ReleaseError, match="begin again"):
            SignedRepository(tmp_path / "new", typed).change_key(name)
    assert {file: file.read_bytes() for file in (tmp_path / "new").rglob("*.*")} == before
    mistyped.clear()
    assert repository.change_key("targets") == tmp_path / "new" / "keys" / "targets-until-root-1.pem"


def test_a_lost_key_is_replaced_and_no_file_is_named_that_is_not_there(release: Any, tmp_path: Path) -> None:
    (tmp_path / "keys" / "online.pem").unlink()
    code, out, _ = release("keys", "--change", "online")
    assert code == 0
    assert "the old one was not here" in out
    assert "until-root" not in out


def test_keys_without_a_repository_are_not_overwritten(release: Any, tmp_path: Path) -> None:
    (tmp_path / "metadata").rename(tmp_path / "lost")
    code, _, err = release("init")
    assert code == 1
    assert "is there already, and is not overwritten" in err
