"""Archives are fetched at a bounded rate, go on where they were cut off, and can be given up at any moment."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edge_agent.errors import UpdateError
from edge_agent.release.repository import SignedRepository
from edge_agent.update import repository as device_side
from edge_agent.update.releases import Release
from edge_agent.update.repository import Repository
from tests.http_proxy import HttpProxy
from tests.update.kit import WebServer, ask

SIZE = 1_000_000


@pytest.fixture
def server(tmp_path: Path) -> Iterator[WebServer]:
    repository = SignedRepository(tmp_path / "repository", ask)
    repository.init()
    archive = tmp_path / "archive.zip"
    archive.write_bytes(bytes(SIZE))
    repository.add(archive, "digits", "1", 10_000, [])
    with WebServer(tmp_path / "repository") as server:
        yield server


@pytest.fixture
def view(server: WebServer, tmp_path: Path) -> Repository:
    return Repository(server.url, server.folder / "metadata" / "1.root.json", tmp_path / "device")


@pytest.fixture
def release(view: Repository) -> Release:
    (release,) = view.releases()
    return release


def test_lists_and_archives_come_over_the_proxy_of_the_environment(
    view: Repository, server: WebServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with HttpProxy() as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        (release,) = view.releases()
        view.fetch(release, tmp_path / "part", None, lambda _: None)
        assert f"{server.url}/metadata/timestamp.json" in proxy.targets
        assert proxy.targets[-1] == f"{server.url}/targets/{release.address}"
    assert (tmp_path / "part").read_bytes() == bytes(SIZE)


def renewed(folder: Path, count: int) -> SignedRepository:
    owner = SignedRepository(folder, ask)
    for _ in range(count):
        owner.renew_root()
    return owner


def test_a_device_that_has_missed_many_roots_follows_all_of_them(
    view: Repository, release: Release, server: WebServer, tmp_path: Path
) -> None:
    renewed(tmp_path / "repository", 300)
    assert view.releases() == [release]
    asked = len(server.requests)
    assert view.releases() == [release]
    assert len(server.requests) - asked == 2, "the roots are kept"


@pytest.mark.parametrize(("limit", "value"), [("MAX_LISTS", 20_000), ("SECONDS_FOR_LISTS", 0.0)])
def test_a_check_is_bounded_and_the_next_one_goes_on_from_there(
    view: Repository, release: Release, tmp_path: Path, limit: str, value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    renewed(tmp_path / "repository", 60)
    with monkeypatch.context() as bounded:
        bounded.setattr(device_side, limit, value)
        for _ in range(2):
            with pytest.raises(UpdateError, match="the next check goes on from there"):
                view.releases()
    kept = len(list((tmp_path / "device" / "root_history").iterdir()))
    assert 1 < kept < 61 if limit == "MAX_LISTS" else kept < 61
    assert view.releases() == [release]


def test_a_check_can_be_given_up_between_two_roots(view: Repository, server: WebServer, tmp_path: Path) -> None:
    renewed(tmp_path / "repository", 10)
    calls = 0

    def stop() -> None:
        nonlocal calls
        calls += 1
        if calls == 5:
            raise RuntimeError

    with pytest.raises(UpdateError):
        view.releases(stop)
    assert len(server.requests) == 5


def test_a_proxy_that_is_not_there_is_said(view: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://user:hidden@127.0.0.1:9")
    with pytest.raises(UpdateError, match=r"the proxy http://127\.0\.0\.1:9 can't be reached"):
        view.releases()


class GivenUpError(Exception):
    pass


def test_a_download_that_was_given_up_goes_on_where_it_was(
    view: Repository, release: Release, server: WebServer, tmp_path: Path
) -> None:
    def until_half(have: int) -> None:
        if have >= SIZE / 2:
            raise GivenUpError

    with pytest.raises(GivenUpError):
        view.fetch(release, tmp_path / "part", None, until_half)
    there = (tmp_path / "part").stat().st_size
    assert 0 < there < SIZE
    view.fetch(release, tmp_path / "part", None, lambda _: None)
    assert (tmp_path / "part").read_bytes() == bytes(SIZE)
    assert server.requests[-1] == (f"/targets/{release.address}", there)


def test_a_download_keeps_to_its_rate(
    view: Repository, release: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    monkeypatch.setattr(device_side, "time", SimpleNamespace(monotonic=lambda: now, sleep=sleep))
    view.fetch(release, tmp_path / "part", 100_000, lambda _: None)
    assert now == pytest.approx(SIZE / 100_000, rel=0.1)


def test_a_repository_that_is_not_there_is_said_to_be_so(view: Repository, server: WebServer, tmp_path: Path) -> None:
    server.folder.joinpath("metadata", "timestamp.json").unlink()
    with pytest.raises(UpdateError, match=r"the server answers 404 .*: is the address right"):
        view.releases()
    nowhere = Repository("http://127.0.0.1:1", server.folder / "metadata" / "1.root.json", tmp_path / "other")
    with pytest.raises(UpdateError, match=r"http://127.0.0.1:1: can't be reached \(NewConnectionError\)"):
        nowhere.releases()


def test_a_pinned_root_that_is_none_is_said_to_be_so(server: WebServer, tmp_path: Path) -> None:
    (tmp_path / "root.json").write_text("{}")
    with pytest.raises(UpdateError, match="this is no signed list"):
        Repository(server.url, tmp_path / "root.json", tmp_path / "device").releases()


@pytest.mark.parametrize("name", ["timestamp.json", "snapshot.json", "targets.json", "root.json", "root_history", "."])
@pytest.mark.parametrize("kind", ["a folder", "a pipe", "random bytes", "nothing in it"])
def test_lists_that_are_damaged_on_the_device_are_fetched_again(
    view: Repository, release: Release, tmp_path: Path, name: str, kind: str
) -> None:
    path = tmp_path / "device" / name
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    match kind:
        case "a folder":
            path.mkdir()
        case "a pipe":
            os.mkfifo(path)
        case "random bytes":
            path.write_bytes(bytes(range(256)))
        case _:
            path.touch()
    assert view.releases() == [release]


def test_a_repository_restored_from_a_copy_is_an_error_at_the_same_version_number_too(
    view: Repository, server: WebServer, tmp_path: Path
) -> None:
    shutil.copytree(server.folder, tmp_path / "copy")
    owner = SignedRepository(server.folder, ask)
    owner.promote("digits/1", 5000)
    assert [release.share for release in view.releases()] == [5000]
    shutil.rmtree(server.folder)
    shutil.copytree(tmp_path / "copy", server.folder)
    owner.promote("digits/1", 1000)  # gets the version number of the list before the loss
    with pytest.raises(UpdateError, match="restored from a copy, run `edge-agent release renew`"):
        view.releases()
    owner.renew(all_lists=True)
    assert [release.share for release in view.releases()] == [1000]


def test_lists_are_fetched_where_the_server_sends_on_to(view: Repository, server: WebServer) -> None:
    def send_on(request: Any) -> bool:
        if request.path.startswith("/moved"):
            request.path = request.path.removeprefix("/moved")
            return False
        request.send_response(302)
        request.send_header("Location", f"/moved{request.path}")
        request.end_headers()
        return True

    server.wrongly = send_on
    assert [release.name for release in view.releases()] == ["digits/1"]


def test_redirects_of_lists_in_a_circle_end(view: Repository, server: WebServer) -> None:
    def circle(request: Any) -> bool:
        request.send_response(302)
        request.send_header("Location", request.path)
        request.end_headers()
        return True

    server.wrongly = circle
    with pytest.raises(UpdateError, match="redirects in a row"):
        view.releases()


def test_the_page_of_a_captive_portal_is_named_as_such(view: Repository, server: WebServer) -> None:
    def portal(request: Any) -> bool:
        page = b"<!DOCTYPE html><title>Welcome to the hotel</title>"
        request.send_response(200)
        request.send_header("Content-Type", "text/html; charset=utf-8")
        request.send_header("Content-Length", str(len(page)))
        request.end_headers()
        request.wfile.write(page)
        return True

    server.wrongly = portal
    with pytest.raises(UpdateError, match="captive portal"):
        view.releases()
