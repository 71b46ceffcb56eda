import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import edge_agent
from edge_agent.config.loader import load
from edge_agent.errors import ConfigError, InputError, ReleaseError
from edge_agent.language.request import read_request
from edge_agent.modelfile.facts import embedded_names
from edge_agent.modelfile.labels import read_labels
from edge_agent.settings.text import Generation
from edge_agent.system import text
from edge_agent.system.secret import read_secret
from edge_agent.system.text import TextError

PACKAGE = Path(edge_agent.__file__).parent
BOM = b"\xef\xbb\xbf"
# Line ends behind the last line, as editors and programs leave them.
ENDS = ("", "\n", "\r\n", "\r", "\n\n", "\r\n\r\n")


@given(st.text(st.characters(exclude_characters="\ufeff\r\n", codec="utf-8")), st.sampled_from(ENDS))
def test_text_is_the_same_with_and_without_a_byte_order_mark_and_whatever_ends_its_lines(line: str, end: str) -> None:
    data = f"{line}{end}second{end}".encode()
    assert text.decode(BOM + data) == text.decode(data)
    assert text.decode_lenient(BOM + data) == text.decode(data)
    if len(end) == 1 or end == "\r\n":
        assert text.lines(text.decode(data)) == [line, "second"]


@given(st.binary())
def test_any_bytes_are_text_or_refused(data: bytes) -> None:
    assert isinstance(text.decode_lenient(data), str)
    try:
        data.decode()
    except UnicodeDecodeError:
        with pytest.raises(TextError, match=r"^not text in UTF-8$"):
            text.decode(data)
    else:
        assert text.decode(data).encode() in (data, data.removeprefix(BOM))


@given(st.one_of(st.binary(max_size=50), st.text('[]{}":,\\ud8cfe0123456789\ufeff tru', max_size=50).map(str.encode)))
def test_any_bytes_are_json_that_can_be_written_again_or_one_error(data: bytes) -> None:
    refusal = ""
    try:
        json.dumps(text.parse_json(data), ensure_ascii=False).encode()
    except TextError as error:
        refusal = str(error)
    assert "\n" not in refusal


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b'["\\ud800"]', "half of a surrogate pair"),
        (b'{"\\uDFFF": 1}', "half of a surrogate pair"),
        (b"[1", "not valid JSON"),
        (b"", "not valid JSON"),
        (b"9" * 5000, "not valid JSON"),
        (b'"\xff"', "not text in UTF-8"),
    ],
)
def test_json_that_would_harm_later_is_refused_where_it_comes_in(data: bytes, says: str) -> None:
    with pytest.raises(TextError, match=says):
        text.parse_json(data)


def test_whole_surrogate_pairs_and_byte_order_marks_are_fine() -> None:
    assert text.parse_json(BOM + b'["\\ud83d\\ude00"]') == ["\U0001f600"]
    assert text.parse_json("\ufeff{}") == {}


def test_a_file_is_bounded_before_it_is_read(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x" * 100)
    assert text.read_file(file, 100) == b"x" * 100
    with pytest.raises(TextError, match="larger than 99 bytes"):
        text.read_file(file, 99)
    with file.open("wb") as huge:
        huge.truncate(1 << 40)
    with pytest.raises(TextError, match="larger than 1000 bytes"):
        text.read_file(file, 1000)
    assert text.read_file(Path("/proc/self/status"), 100_000).startswith(b"Name:")  # has no size


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero"), Path("/dev/null")):
        with pytest.raises(OSError, match="not a regular file"):
            text.read_file(path, 1000)
    with pytest.raises(IsADirectoryError):
        text.read_file(tmp_path, 1000)
    with pytest.raises(FileNotFoundError):
        text.read_file(tmp_path / "gone", 1000)


def secrets() -> Iterator[tuple[str, bytes]]:
    for before in (b"", BOM):
        for end in ENDS:
            yield "pass word\t1", before + b"pass word\t1" + end.encode()
    yield "first", b"first\nsecond\n"
    yield "", b""


@pytest.mark.parametrize(("secret", "content"), list(secrets()))
def test_a_secret_is_the_same_from_a_file_and_from_the_environment(
    secret: str, content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(content)
    monkeypatch.setenv("PW", os.fsdecode(content))
    assert read_secret("key", "file", tmp_path, "password") == secret
    assert read_secret("key", "${env:PW}", tmp_path, "password") == secret


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"caf\xe9", "not text in UTF-8"),
        (b"\xff\xfew\xff", "not text in UTF-8"),
        (b"a\x07b", r"the control character \\x07 at place 2"),
        (b"a\x7f", r"the control character \\x7f at place 2"),
        (b"x" * 66_000, "66000 bytes: at most 65535 can be sent"),
        ("é".encode() * 33_000, "66000 bytes: at most 65535 can be sent"),
    ],
)
def test_what_can_be_no_secret_is_refused_without_showing_it(
    content: bytes, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(content)
    monkeypatch.setenv("PW", os.fsdecode(content))
    for stated in ("file", "${env:PW}"):
        with pytest.raises(ConfigError, match=f"^key: .*: {says}: it must hold the password alone$") as caught:
            read_secret("key", stated, tmp_path, "password")
        assert len(str(caught.value)) < 300


def test_a_variable_in_the_configuration_loses_its_line_end_and_its_byte_order_mark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "agent.yaml"
    file.write_bytes(BOM + b"device_id: ${env:ID}\r\nmqtt: {url: 'mqtt://${env:HOST}:1883'}\r\n")
    monkeypatch.setenv("ID", "\ufeffporch\r\n")
    monkeypatch.setenv("HOST", "broker\n")
    settings = load(file).settings
    assert (settings.device_id, settings.mqtt.url) == ("porch", "mqtt://broker:1883")
    monkeypatch.setenv("ID", "\udcff")
    with pytest.raises(ConfigError, match="device_id: the environment variable ID: not text in UTF-8"):
        load(file)


def test_a_passphrase_is_read_in_the_same_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = pytest.importorskip("edge_agent.release.keys")
    file = tmp_path / "passphrase"
    file.write_bytes(BOM + b"long enough\r\n")
    assert keys.passphrase_from(file)("root", True) == b"long enough"
    monkeypatch.setenv(keys.PASSPHRASE, "long enough\n")
    assert keys.passphrase_from(None)("root", True) == b"long enough"
    with pytest.raises(ReleaseError, match="can't be read"):
        keys.passphrase_from(tmp_path / "gone")("root", True)


def test_a_request_with_a_byte_order_mark_is_the_same_request() -> None:
    defaults = Generation()
    assert read_request(BOM + b'{"prompt": "Hi"}', defaults) == read_request(b'{"prompt": "Hi"}', defaults)
    assert read_request(BOM + b"Hi", defaults).prompt == "Hi"
    with pytest.raises(InputError, match="half of a surrogate pair"):
        read_request(b'{"prompt": "\\ud800"}', defaults)


def test_labels_with_a_byte_order_mark_and_any_line_ends(tmp_path: Path) -> None:
    for end in ("\n", "\r\n", "\r"):
        (tmp_path / "labels.txt").write_bytes(BOM + f"cat{end}dog{end}".encode())
        assert read_labels(tmp_path / "labels.txt") == ("cat", "dog")


def test_names_in_a_model_file_can_always_be_published() -> None:
    assert embedded_names('{"0": "a\\ud800"}') == ("a?",)
