"""A repository behind a login: credentials go to its server alone, are read again, and never show."""

import base64
import logging
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from edge_agent.config import loader
from edge_agent.daemon import preflight
from edge_agent.errors import ConfigError, UpdateError
from edge_agent.release.repository import SignedRepository
from edge_agent.settings.update import Update
from edge_agent.update.repository import Repository, repository_of
from tests.certificates import Authority
from tests.update.kit import WebServer, ask

SECRET, OTHER = "let-me-in-4711", "let-me-in-4712"
KEY = "AKIDEXAMPLE"


class GuardedServer(WebServer):
    """Answers 401 to whoever does not state what it wants.

    Attributes:
        wanted: the header `Authorization`; None: it asks for nothing.
        stated: what each request has stated.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.wanted: str | None = None
        self.stated: list[str | None] = []
        self.wrongly = self._refused

    def _refused(self, request: Any) -> bool:
        self.stated.append(request.headers.get("Authorization"))
        if self.wanted is None or self.stated[-1] == self.wanted:
            return False
        request.send_error(401)
        return True


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> SignedRepository:
    folder = tmp_path_factory.mktemp("repository")
    made = SignedRepository(folder / "repository", ask)
    made.init()
    (folder / "archive.zip").write_bytes(bytes(1000))
    made.add({"": folder / "archive.zip", "hailo8l": folder / "archive.zip"}, "digits", "1", 10_000, [])
    return made


@pytest.fixture
def server(repository: SignedRepository) -> Iterator[GuardedServer]:
    with GuardedServer(repository.first_root.parents[1]) as server:
        yield server


class Device:
    """A device with a configuration, and a secret in a file."""

    def __init__(self, folder: Path, root: Path, url: str, **access: Any) -> None:
        self.secret = folder / "secret"
        self.secret.write_text(f"{SECRET}\n")
        update = {"url": url, "root": str(root), "models": {"digits": "digits"}} | access
        self.file = folder / "agent.yaml"
        document = {"models": {"digits": {"path": "digits"}}, "pipelines": {}, "update": update}
        self.file.write_text(yaml.safe_dump(document))
        self.view: Repository = repository_of(loader.load(self.file))

    def fetch(self, folder: Path) -> None:
        """The lists, and all archives in them."""
        for release in self.view.releases():
            part = folder / (release.variant or "part")
            self.view.fetch(release, part, None, lambda _: None)
            assert part.stat().st_size == 1000


@pytest.fixture
def device(repository: SignedRepository, server: GuardedServer, tmp_path: Path) -> Device:
    return Device(tmp_path, repository.first_root, server.url, token_file="secret")


def test_lists_and_archives_are_asked_for_with_the_token(device: Device, server: GuardedServer, tmp_path: Path) -> None:
    server.wanted = f"Bearer {SECRET}"
    device.fetch(tmp_path)
    assert set(server.stated) == {server.wanted}


def test_user_name_and_password_are_stated(repository: SignedRepository, server: GuardedServer, tmp_path: Path) -> None:
    server.wanted = f"Basic {base64.b64encode(f'porch:{SECRET}'.encode()).decode()}"
    Device(tmp_path, repository.first_root, server.url, username="porch", password_file="secret").fetch(tmp_path)


def test_an_address_that_is_signed_gets_its_query(
    repository: SignedRepository, server: GuardedServer, tmp_path: Path
) -> None:
    device = Device(tmp_path, repository.first_root, server.url, query_file="secret")
    with pytest.raises(UpdateError) as caught:  # this server takes it as part of the name
        device.view.releases()
    assert {path.partition("?")[2] for path, _ in server.requests} == {SECRET}
    assert SECRET not in str(caught.value)


def test_requests_to_a_bucket_are_signed(repository: SignedRepository, server: GuardedServer, tmp_path: Path) -> None:
    pytest.importorskip("botocore")
    device = Device(tmp_path, repository.first_root, server.url, access_key_file="secret", region="eu-1")
    device.secret.write_text(f"{KEY}:{SECRET}\n")
    device.fetch(tmp_path)
    assert all(str(one).startswith(f"AWS4-HMAC-SHA256 Credential={KEY}/") for one in server.stated)
    assert all("/eu-1/s3/aws4_request" in str(one) for one in server.stated)
    assert any(path.endswith("1%2Bhailo8l.zip") for path, _ in server.requests), "a + may mean a space in a bucket"


def test_another_token_is_used_as_soon_as_it_is_in_the_file(device: Device, server: GuardedServer) -> None:
    server.wanted = f"Bearer {SECRET}"
    device.view.releases()
    server.wanted = f"Bearer {OTHER}"
    with pytest.raises(UpdateError, match="401"):
        device.view.releases()
    device.secret.write_text(f"{OTHER}\n")
    device.view.releases()


def test_what_is_wrong_with_the_credentials_is_said_without_them(
    device: Device, server: GuardedServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    (release, *_) = device.view.releases()
    server.wanted = "another one"
    with pytest.raises(UpdateError, match="credentials") as lists:
        device.view.releases()
    with pytest.raises(UpdateError, match="credentials") as archive:
        device.view.fetch(release, tmp_path / "part", None, lambda _: None)
    device.secret.write_text(f"{SECRET}\x01\n")
    with pytest.raises(UpdateError, match="token_file") as unusable:
        device.view.releases()
    device.secret.unlink()
    with pytest.raises(UpdateError, match="token_file"):
        device.view.fetch(release, tmp_path / "part", None, lambda _: None)
    said = "".join([caplog.text, *(str(caught.value) for caught in (lists, archive, unusable))])
    assert SECRET not in said


def test_another_server_gets_no_credentials_by_a_redirect(
    device: Device, server: GuardedServer, repository: SignedRepository, tmp_path: Path
) -> None:
    with GuardedServer(repository.first_root.parents[1]) as elsewhere:  # another port: another server

        def send_on(request: Any) -> bool:
            server.stated.append(request.headers.get("Authorization"))
            request.send_response(307)
            request.send_header("Location", f"{elsewhere.url}{request.path}")
            request.send_header("Content-Length", "0")
            request.end_headers()
            return True

        server.wrongly = send_on
        device.fetch(tmp_path)
        assert set(server.stated) == {f"Bearer {SECRET}"}
        assert set(elsewhere.stated) == {None}


def test_a_client_certificate_is_shown_to_the_server_alone(repository: SignedRepository, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority")
    own, client = authority.issue("server", host="localhost"), authority.issue("porch")
    elsewhere, server = (GuardedServer(repository.first_root.parents[1]) for _ in range(2))
    seen: dict[GuardedServer, set[bool]] = {elsewhere: set(), server: set()}

    def over_tls(one: GuardedServer, mode: ssl.VerifyMode) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(own.cert, own.key)
        context.load_verify_locations(authority.cert)
        context.verify_mode = mode
        one.socket = context.wrap_socket(one.socket, server_side=True)

    def archives_are_elsewhere(request: Any) -> bool:
        one: GuardedServer = request.server
        seen[one].add(bool(request.connection.getpeercert()))
        if one is elsewhere or not request.path.startswith("/targets/"):
            return False
        request.send_response(302)
        request.send_header("Location", f"https://localhost:{elsewhere.server_port}{request.path}")
        request.send_header("Content-Length", "0")
        request.end_headers()
        return True

    over_tls(server, ssl.CERT_REQUIRED)
    over_tls(elsewhere, ssl.CERT_OPTIONAL)
    for one in seen:
        one.wrongly = archives_are_elsewhere
    files = {"ca_file": str(authority.cert), "cert_file": str(client.cert), "key_file": str(client.key)}
    with server, elsewhere:
        device = Device(tmp_path, repository.first_root, f"https://localhost:{server.server_port}", **files)
        device.fetch(tmp_path)
    assert seen == {server: {True}, elsewhere: {False}}


@pytest.mark.parametrize(
    "access",
    [
        {"url": "http://example.org", "token_file": "a"},
        {"url": "http://example.org", "cert_file": "a", "key_file": "b"},
        {"url": "https://example.org", "token_file": "a", "query_file": "b"},
        {"url": "https://example.org", "username": "a"},
        {"url": "https://example.org", "password_file": "a"},
        {"url": "https://example.org", "username": "a:b", "password_file": "a"},
        {"url": "https://example.org", "cert_file": "a"},
    ],
)
def test_what_would_be_unsafe_or_unclear_is_refused(access: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        Update.model_validate({"root": "root.json", "models": {"digits": "digits"}} | access)


def test_check_finds_secrets_that_can_not_be_used(device: Device) -> None:
    device.secret.write_text("\n")
    with pytest.raises(ConfigError, match="token_file"):
        preflight.check(loader.load(device.file))
    device.secret.unlink()
    with pytest.raises(ConfigError, match="token_file"):
        loader.load(device.file)
