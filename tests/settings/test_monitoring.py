from pathlib import Path

import pytest
from pydantic import ValidationError

from edge_agent.config import loader
from edge_agent.errors import ConfigError
from edge_agent.settings.monitoring import Http, Metrics, is_loopback, split_address


@pytest.mark.parametrize(
    ("address", "host", "port"),
    [("127.0.0.1:9464", "127.0.0.1", 9464), ("[::1]:80", "::1", 80), ("porch-pi.lan:65535", "porch-pi.lan", 65535)],
)
def test_an_address_is_host_and_port(address: str, host: str, port: int) -> None:
    assert split_address(address) == (host, port)
    assert Metrics(listen=address).listen == address


@pytest.mark.parametrize(
    "address",
    ["", "8080", ":8080", "localhost", "localhost:0", "localhost:65536", "::1:80", "[x]:80", "a b:80", "a:80/"],
)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(ValidationError):
        Metrics(listen=address)


@pytest.mark.parametrize("address", ["127.0.0.1:80", "127.9.9.9:80", "localhost:80", "[::1]:80"])
def test_this_machine_alone_may_look_without_a_token(address: str) -> None:
    assert is_loopback(address)
    assert Http(listen=address).token_file is None


def test_changes_need_a_token_even_on_this_machine() -> None:
    with pytest.raises(ValidationError, match="needs token_file"):
        Http(edit=True)
    assert Http(edit=True, token_file="token").edit


@pytest.mark.parametrize("address", ["0.0.0.0:80", "[::]:80", "192.168.1.20:80", "porch-pi.lan:80"])
def test_others_may_look_only_with_a_token(address: str) -> None:
    assert not is_loopback(address)
    with pytest.raises(ValidationError, match="is needed where listen is more than this machine"):
        Http(listen=address)
    assert Http(listen=address, token_file="token").listen == address


@pytest.mark.parametrize(
    ("section", "missing"),
    [
        ("http: {listen: '0.0.0.0:8080'}", "http.token_file"),
        (
            "pipelines: {shed: {model: digits, source: {type: command, argv: [arecord], format: pcm}}}",
            "pipelines.shed.source.rate",
        ),
    ],
)
def test_a_key_that_another_one_asks_for_is_named_where_it_is_missing(
    section: str, missing: str, tmp_path: Path
) -> None:
    file = tmp_path / "agent.yaml"
    file.write_text(f"{section}\nmodels: {{digits: {{path: digits}}}}\n")
    with pytest.raises(ConfigError) as caught:
        loader.load(file)
    assert f"{file}:1: {missing}: is " in str(caught.value)


def test_a_token_that_stands_in_the_place_of_its_file_is_not_shown(tmp_path: Path) -> None:
    file = tmp_path / "agent.yaml"
    file.write_text("http: {token_file: correct-horse-battery}\n")
    with pytest.raises(ConfigError) as caught:
        loader.load(file)
    assert str(caught.value) == f"{file}:1: http.token_file: there is no such file"
