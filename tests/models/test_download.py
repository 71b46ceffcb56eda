import hashlib
import random
import shutil
import signal
import socket
import ssl
import subprocess
import sys
from pathlib import Path

import pytest
from urllib3 import Timeout

from edge_agent.errors import ModelError
from edge_agent.models import download
from edge_agent.models.download import ATTEMPTS, fetch
from edge_agent.system import proxy
from tests.broker import free_port, wait_until
from tests.http_proxy import HttpProxy
from tests.models.file_server import (
    Answer,
    FileServer,
    Request,
    cut_after,
    in_parts,
    in_ranges,
    other_range,
    stall_after,
    status,
    whole,
    without_length,
)

CONTENT = random.Random(1).randbytes(1_000_000)
SIZE = len(CONTENT)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
HALF = SIZE // 2


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "FIRST_WAIT_S", 0.001)


@pytest.fixture
def part(tmp_path: Path) -> Path:
    return tmp_path / "model.tflite.part"


def bring(source: str, part: Path) -> list[int]:
    """Fetches the file, and returns what progress was told."""
    told: list[int] = []
    fetch(source, part, SIZE, SHA256, told.append)
    return told


def refused(source: str, part: Path) -> str:
    """The one sentence with which fetching ends."""
    with pytest.raises(ModelError) as error:
        bring(source, part)
    message = str(error.value)
    assert "\n" not in message
    assert source in message
    return message


def test_a_file_is_brought_whole_and_progress_tells_of_each_byte(part: Path) -> None:
    with FileServer(CONTENT) as server:
        told = bring(f"{server.url}/model", part)
    assert part.read_bytes() == CONTENT
    assert told == sorted(told)
    assert (told[0], told[-1]) == (0, SIZE)


def test_a_server_that_states_no_length_is_good_enough(part: Path) -> None:
    with FileServer(CONTENT, without_length) as server:
        bring(server.url, part)
    assert part.read_bytes() == CONTENT


def test_after_a_cut_only_the_rest_is_asked_for(part: Path) -> None:
    with FileServer(CONTENT, cut_after(HALF), cut_after(HALF // 2), in_ranges) as server:
        bring(server.url, part)
    assert part.read_bytes() == CONTENT
    first, second, third = (offset for _, offset in server.requests)
    assert first == 0 < second <= HALF < third < SIZE


def test_the_rest_of_an_earlier_download_is_asked_for(part: Path) -> None:
    part.write_bytes(CONTENT[:HALF])
    with FileServer(CONTENT) as server:
        told = bring(server.url, part)
    assert part.read_bytes() == CONTENT
    assert server.requests == [("/", HALF)]
    assert told[0] == HALF


@pytest.mark.parametrize("answer", [whole, without_length, status(416), other_range])
def test_a_server_that_can_not_go_on_in_the_middle_is_asked_for_all(part: Path, answer: Answer) -> None:
    part.write_bytes(b"x" * HALF)
    with FileServer(CONTENT, answer, in_ranges) as server:
        bring(server.url, part)
    assert part.read_bytes() == CONTENT


def test_small_parts_of_a_small_file_are_enough(part: Path) -> None:
    with FileServer(CONTENT, in_parts(10_000)) as server:
        bring(server.url, part)
        assert len(server.requests) == 100
    assert part.read_bytes() == CONTENT


@pytest.mark.parametrize("total", [True, False])
def test_a_server_that_sends_less_than_was_asked_for_is_asked_for_the_rest(part: Path, total: bool) -> None:
    part.write_bytes(CONTENT[:1000])
    with FileServer(CONTENT, in_parts(300_000, total=total)) as server:
        bring(server.url, part)
    assert part.read_bytes() == CONTENT
    assert server.requests == [("/", 1000), ("/", 301_000), ("/", 601_000), ("/", 901_000)]


def test_a_server_that_sends_next_to_nothing_at_a_time_is_given_up(part: Path) -> None:
    with FileServer(CONTENT, in_parts(100)) as server:
        assert f"attempt {ATTEMPTS} of {ATTEMPTS}" in refused(server.url, part)
        assert len(server.requests) == ATTEMPTS
    assert part.stat().st_size == 100 * ATTEMPTS


def test_a_part_of_a_file_of_another_length_is_refused(part: Path) -> None:
    part.write_bytes(CONTENT[:1000])
    with FileServer(CONTENT + b"more", in_parts(300_000)) as server:
        assert f"{SIZE + 4} bytes long, expected {SIZE}" in refused(server.url, part)


def test_a_proxy_is_used_as_the_environment_says(part: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with FileServer(CONTENT) as server, HttpProxy() as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        bring(f"{server.url}/model", part)
        assert proxy.targets == [f"{server.url}/model"]
        assert len(server.requests) == 1
    assert part.read_bytes() == CONTENT


def test_a_proxy_that_refuses_is_named_without_its_credentials(part: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with HttpProxy(login="user:other") as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url.replace("://", "://user:hidden@"))
        message = refused("http://models.invalid/model", part)
    assert f"the proxy {proxy.url} wants user name and password" in message
    assert "hidden" not in message


def test_a_damaged_part_is_replaced_by_a_whole_download(part: Path) -> None:
    part.write_bytes(bytes(HALF))
    with FileServer(CONTENT) as server:
        bring(server.url, part)
    assert part.read_bytes() == CONTENT
    assert [offset for _, offset in server.requests] == [HALF, 0]


def test_a_part_that_is_longer_than_the_file_is_replaced(part: Path) -> None:
    part.write_bytes(CONTENT + b"x")
    with FileServer(CONTENT) as server:
        bring(server.url, part)
    assert part.read_bytes() == CONTENT
    assert server.requests == [("/", 0)]


def test_a_part_that_is_whole_is_not_asked_for(part: Path) -> None:
    part.write_bytes(CONTENT)
    with FileServer(CONTENT) as server:
        bring(server.url, part)
    assert server.requests == []


def test_a_killed_download_goes_on_where_it_stopped(part: Path) -> None:
    script = "import sys; from edge_agent.models.download import fetch; fetch(sys.argv[1], __import__('pathlib')"
    script += ".Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4], lambda have: None)"
    with FileServer(CONTENT, stall_after(HALF), in_ranges) as server:
        child = subprocess.Popen([sys.executable, "-c", script, server.url, part, str(SIZE), SHA256])
        try:
            wait_until(lambda: part.exists() and part.stat().st_size > HALF // 2, 30, "half of the file")
        finally:
            child.kill()
            assert child.wait(10) == -signal.SIGKILL
        have = part.stat().st_size
        bring(server.url, part)
    assert server.requests == [("/", 0), ("/", have)]
    assert part.read_bytes() == CONTENT


def test_other_content_of_the_same_size_is_refused_with_both_hashes_and_removed(part: Path) -> None:
    other = CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])
    with FileServer(other) as server:
        message = refused(server.url, part)
    assert hashlib.sha256(other).hexdigest() in message
    assert SHA256 in message
    assert not part.exists()


def test_more_bytes_than_expected_are_never_written(part: Path) -> None:
    with FileServer(CONTENT + b"more", without_length) as server:
        assert f"longer than the {SIZE} bytes" in refused(server.url, part)
        assert len(server.requests) == 1
    assert part.stat().st_size <= SIZE


@pytest.mark.parametrize("content", [CONTENT + b"more", CONTENT[:100], b""])
def test_a_file_of_another_length_is_refused_before_it_is_read(part: Path, content: bytes) -> None:
    with FileServer(content) as server:
        assert f"{len(content)} bytes long, expected {SIZE}" in refused(server.url, part)
        assert len(server.requests) == 1
    assert part.stat().st_size == 0


@pytest.mark.parametrize("code", [401, 403, 404, 410])
def test_a_refusal_of_the_server_ends_it_at_once(part: Path, code: int) -> None:
    with FileServer(CONTENT, status(code)) as server:
        assert f"the server answers {code}" in refused(server.url, part)
        assert len(server.requests) == 1


def test_a_server_that_is_busy_is_asked_again(part: Path) -> None:
    with FileServer(CONTENT, status(503), status(429), in_ranges) as server:
        bring(server.url, part)
    assert part.read_bytes() == CONTENT


def test_a_server_that_always_breaks_off_is_given_up_and_what_came_is_kept(part: Path) -> None:
    with FileServer(CONTENT, cut_after(70_000)) as server:
        assert f"attempt {ATTEMPTS} of {ATTEMPTS}" in refused(server.url, part)
        assert len(server.requests) == ATTEMPTS
    kept = part.read_bytes()
    assert kept
    assert kept == CONTENT[: len(kept)]


def test_a_file_that_ends_early_without_a_stated_length_is_asked_for_again(part: Path) -> None:
    with FileServer(CONTENT[:HALF], without_length) as server:
        assert f"ended after {HALF} of {SIZE} bytes" in refused(server.url, part)
        assert len(server.requests) == ATTEMPTS


def test_a_host_that_does_not_listen_is_named(part: Path) -> None:
    port = free_port()
    assert f"127.0.0.1:{port} can't be reached" in refused(f"http://127.0.0.1:{port}/model", part)


def test_a_server_that_says_nothing_is_given_up(part: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "TIMEOUT", Timeout(connect=5.0, read=0.05))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert "does not answer in time" in refused(f"http://127.0.0.1:{silent.getsockname()[1]}/", part)


@pytest.mark.parametrize("reply", [b"", b"\0\xff\n\n", b"HTTP/1.1 abc\r\n\r\n"])
def test_a_server_that_does_not_speak_http_is_given_up(part: Path, reply: bytes) -> None:
    def babble(request: Request) -> None:
        request.wfile.write(reply)

    with FileServer(CONTENT, babble) as server:
        refused(server.url, part)


@pytest.mark.parametrize("address", ["http://[::1/model", "https:///model", "http://127.0.0.1:99999/model"])
def test_what_is_no_address_is_refused(part: Path, address: str) -> None:
    assert "not a valid address" in refused(address, part)


def test_redirects_are_followed(part: Path) -> None:
    with FileServer(CONTENT, status(302, Location="/elsewhere"), in_ranges) as server:
        bring(f"{server.url}/model", part)
    assert [path for path, _ in server.requests] == ["/model", "/elsewhere"]
    assert part.read_bytes() == CONTENT


def test_redirects_in_a_circle_end(part: Path) -> None:
    with FileServer(CONTENT, status(302, Location="/model")) as server:
        assert "redirects in a row" in refused(f"{server.url}/model", part)
        assert len(server.requests) == proxy.MAX_REDIRECTS + 1


@pytest.mark.parametrize("location", ["http://[", "ftp://localhost/model", "file:///etc/passwd"])
def test_a_redirect_to_what_is_no_web_address_is_refused(part: Path, location: str) -> None:
    with FileServer(CONTENT, status(302, Location=location)) as server:
        assert "address" in refused(server.url, part)
    assert part.read_bytes() == b""


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PEM file with a certificate for localhost, signed by itself, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with")
    pem = tmp_path_factory.mktemp("tls") / "server.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-days", "1"]
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", f"{pem}.key"]
    command = ["openssl", "req", "-x509", *key, *subject, "-out", f"{pem}.crt"]
    subprocess.run(command, check=True, capture_output=True)
    pem.write_bytes(Path(f"{pem}.key").read_bytes() + Path(f"{pem}.crt").read_bytes())
    return pem


class TestTls:
    @pytest.fixture
    def tls(self, certificate: Path) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        return context

    def test_a_trusted_server_is_believed(
        self, part: Path, tls: ssl.SSLContext, certificate: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        with FileServer(CONTENT, tls=tls) as server:
            bring(server.url, part)
        assert part.read_bytes() == CONTENT

    def test_a_proxy_passes_an_encrypted_connection_on(
        self, part: Path, tls: ssl.SSLContext, certificate: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        with FileServer(CONTENT, tls=tls) as server, HttpProxy(login="us:er:hid@den") as proxy:
            monkeypatch.setenv("https_proxy", proxy.url.replace("://", "://us%3Aer:hid%40den@"))
            bring(server.url, part)
            assert proxy.targets == [server.url.removeprefix("https://")]
        assert part.read_bytes() == CONTENT

    def test_an_unknown_certificate_is_refused_and_no_request_is_sent(self, part: Path, tls: ssl.SSLContext) -> None:
        with FileServer(CONTENT, tls=tls) as server:
            assert "can't trust localhost" in refused(server.url, part)
            assert server.requests == []

    def test_a_certificate_of_another_host_is_refused(
        self, part: Path, tls: ssl.SSLContext, certificate: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        with FileServer(CONTENT, tls=tls) as server:
            address = server.url.replace("localhost", "127.0.0.1")
            assert "can't trust 127.0.0.1" in refused(address, part)
            assert server.requests == []

    def test_https_is_never_left_for_http(
        self, part: Path, tls: ssl.SSLContext, certificate: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        with (
            FileServer(CONTENT) as plain,
            FileServer(CONTENT, status(301, Location=plain.url), tls=tls) as server,
        ):
            assert "not https" in refused(server.url, part)
            assert plain.requests == []


class TestFromDisk:
    def test_a_file_is_copied(self, part: Path, tmp_path: Path) -> None:
        (tmp_path / "a model").write_bytes(CONTENT)
        bring(str(tmp_path / "a model"), part)
        assert part.read_bytes() == CONTENT

    def test_a_file_address_may_be_percent_encoded(self, part: Path, tmp_path: Path) -> None:
        (tmp_path / "a model").write_bytes(CONTENT)
        bring((tmp_path / "a model").as_uri(), part)
        assert part.read_bytes() == CONTENT

    def test_a_part_goes_on(self, part: Path, tmp_path: Path) -> None:
        (tmp_path / "model").write_bytes(CONTENT)
        part.write_bytes(CONTENT[:HALF])
        assert bring(str(tmp_path / "model"), part)[0] == HALF
        assert part.read_bytes() == CONTENT

    def test_a_missing_file_and_a_folder_are_named(self, part: Path, tmp_path: Path) -> None:
        assert "no such file" in refused(str(tmp_path / "missing"), part)
        assert "no such file" in refused(str(tmp_path), part)

    def test_a_file_of_another_length_is_refused(self, part: Path, tmp_path: Path) -> None:
        (tmp_path / "model").write_bytes(CONTENT[:7])
        assert f"7 bytes long, expected {SIZE}" in refused(str(tmp_path / "model"), part)


def test_a_full_disk_is_an_error_of_the_part_not_of_the_source(part: Path) -> None:
    part.symlink_to("/dev/full")
    with FileServer(CONTENT) as server, pytest.raises(OSError, match="No space left"):
        bring(server.url, part)
