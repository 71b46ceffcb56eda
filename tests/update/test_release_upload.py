"""A repository goes to a bucket or a web server: signed, in the order that devices need, and only what is missing."""

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from edge_agent import cli
from edge_agent.errors import ReleaseError
from edge_agent.release.repository import SignedRepository
from edge_agent.release.upload import upload
from edge_agent.settings.http_access import HttpAccess
from tests.certificates import Authority
from tests.keeping.test_upload import KEY, SECRET, Bucket
from tests.update.kit import ask

TIMESTAMP = "/releases/metadata/timestamp.json"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def bucket(authority: Authority) -> Iterator[Bucket]:
    with Bucket(authority) as bucket:
        yield bucket


@pytest.fixture
def repository(tmp_path: Path) -> SignedRepository:
    made = SignedRepository(tmp_path / "repository", ask)
    made.init()
    (tmp_path / "archive.zip").write_bytes(bytes(1000))
    made.add({"": tmp_path / "archive.zip"}, "digits", "1", 10_000, [])
    return made


@pytest.fixture
def access(bucket: Bucket, authority: Authority, tmp_path: Path) -> HttpAccess:
    (tmp_path / "key").write_text(f"{KEY}:{SECRET}\n")
    return HttpAccess(url=f"{bucket.url}/releases", access_key_file=str(tmp_path / "key"), ca_file=Path(authority.cert))


def test_archives_come_first_and_timestamp_last_and_what_is_there_is_not_sent_again(
    repository: SignedRepository, bucket: Bucket, access: HttpAccess, tmp_path: Path
) -> None:
    pytest.importorskip("botocore")
    upload(tmp_path / "repository", access)
    order = list(bucket.files)
    assert order[0].startswith("/releases/targets/digits/")
    assert order[-1] == TIMESTAMP
    assert not any("keys" in name for name in order)
    assert dict(bucket.files.items()) == {
        f"/releases/{path.relative_to(tmp_path / 'repository')}": path.read_bytes()
        for folder in ("targets", "metadata")
        for path in (tmp_path / "repository" / folder).rglob("*.*")
        if path.suffix in (".zip", ".json")
    }
    first = dict(bucket.files)
    (tmp_path / "archive.zip").write_bytes(bytes(2000))
    repository.add({"": tmp_path / "archive.zip"}, "digits", "2", 10_000, [])
    sent = list[str]()

    def note(request: BaseHTTPRequestHandler) -> bool:
        sent.append(request.path)
        return False

    bucket.wrongly = note
    upload(tmp_path / "repository", access)
    assert set(sent) == (set(bucket.files) - set(first)) | {TIMESTAMP}
    assert sent[-1] == TIMESTAMP


def test_an_upload_that_fails_leaves_what_devices_see(
    repository: SignedRepository, bucket: Bucket, access: HttpAccess, tmp_path: Path
) -> None:
    pytest.importorskip("botocore")
    upload(tmp_path / "repository", access)
    seen = bucket.files[TIMESTAMP]
    repository.add({"": tmp_path / "archive.zip"}, "digits", "2", 10_000, [])

    def refuse(request: BaseHTTPRequestHandler) -> bool:
        request.send_error(503)
        return True

    bucket.wrongly = refuse
    with pytest.raises(ReleaseError, match="503"):
        upload(tmp_path / "repository", access)
    assert bucket.files[TIMESTAMP] == seen


def test_a_wrong_key_is_one_sentence_without_it(
    repository: SignedRepository,
    bucket: Bucket,
    access: HttpAccess,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("botocore")
    (tmp_path / "key").write_text(f"{KEY}:guessed\n")
    options = ["--access-key-file", str(tmp_path / "key"), "--ca-file", str(access.ca_file)]
    command = ["release", "upload", access.url, "-r", str(tmp_path / "repository"), *options]
    assert cli.main(command) != 0
    (line,) = capsys.readouterr().err.splitlines()
    assert "403" in line
    assert "guessed" not in line
    assert bucket.files == {}


def test_a_token_is_for_web_servers(
    repository: SignedRepository, bucket: Bucket, access: HttpAccess, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("let-me-in\n")
    options = ["--token-file", str(tmp_path / "token"), "--ca-file", str(access.ca_file)]
    assert cli.main(["release", "upload", access.url, "-r", str(tmp_path / "repository"), *options]) == 0
    assert TIMESTAMP in bucket.files


@pytest.mark.parametrize(
    "arguments",
    [
        ["/srv/www", "--token-file", "token"],
        ["http://updates.lan/releases", "--token-file", "token"],
        ["https://updates.lan/releases", "--token-file", "a", "--access-key-file", "b"],
    ],
)
def test_credentials_that_do_not_fit_are_refused(
    arguments: list[str], repository: SignedRepository, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["release", "upload", *arguments, "-r", str(tmp_path / "repository")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
