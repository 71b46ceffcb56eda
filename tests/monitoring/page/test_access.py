import base64
import socket
from pathlib import Path

import pytest

from edge_agent.errors import ConfigError
from edge_agent.monitoring.hosts import allows_host
from edge_agent.monitoring.page.access import is_authorized, is_cross_site, read_token, refusal_of_edit, user_of

TOKEN = "correct horse battery"


@pytest.mark.parametrize(
    "header",
    [
        "localhost",
        "LOCALHOST:8080",
        "127.0.0.1:8080",
        "192.168.1.20",
        "[::1]:8080",
        "[fe80::1]",
        f"{socket.gethostname()}:8080",
        f"{socket.gethostname()}.local",
        "page.lan:80",
        "page.lan.",
    ],
)
def test_it_may_be_asked_for_by_its_addresses_and_its_names(header: str) -> None:
    assert allows_host(header, ["page.lan"])


@pytest.mark.parametrize(
    "header", ["", "evil.example", "evil.example:8080", "localhost.evil.example", "127.0.0.1.evil.example", "[evil]"]
)
def test_it_may_not_be_asked_for_by_a_name_that_somebody_else_has_made_to_lead_here(header: str) -> None:
    assert not allows_host(header, ["page.lan"])


def test_what_a_page_of_another_site_asks_for_is_foreign_and_a_link_that_is_followed_is_not() -> None:
    assert is_cross_site({"HTTP_SEC_FETCH_SITE": "cross-site", "HTTP_SEC_FETCH_MODE": "no-cors"})
    assert is_cross_site({"HTTP_SEC_FETCH_SITE": "same-site", "HTTP_SEC_FETCH_MODE": "cors"})
    assert not is_cross_site({"HTTP_SEC_FETCH_SITE": "cross-site", "HTTP_SEC_FETCH_MODE": "navigate"})
    assert not is_cross_site({"HTTP_SEC_FETCH_SITE": "same-origin", "HTTP_SEC_FETCH_MODE": "cors"})
    assert not is_cross_site({})


def test_a_form_of_another_site_is_foreign_though_it_navigates() -> None:
    form = {"HTTP_SEC_FETCH_SITE": "cross-site", "HTTP_SEC_FETCH_MODE": "navigate", "REQUEST_METHOD": "POST"}
    assert is_cross_site(form)


EDIT = {"HTTP_HOST": "porch-pi:8080", "CONTENT_TYPE": "application/json"}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"HTTP_ORIGIN": "http://porch-pi:8080", "HTTP_SEC_FETCH_SITE": "same-origin"},
        {"HTTP_ORIGIN": "https://PORCH-PI:8080"},
        {"CONTENT_TYPE": "application/json; charset=utf-8"},
    ],
)
def test_the_page_itself_and_programs_may_change_something(headers: dict[str, str]) -> None:
    assert refusal_of_edit(EDIT | headers) == ""


@pytest.mark.parametrize(
    "headers",
    [
        {"HTTP_ORIGIN": "http://evil.example"},
        {"HTTP_ORIGIN": "http://porch-pi:8081"},
        {"HTTP_ORIGIN": "http://porch-pi:8080.evil.example"},
        {"HTTP_ORIGIN": "null"},
        {"HTTP_ORIGIN": ""},
        {"HTTP_ORIGIN": "http://[porch-pi:8080"},
        {"HTTP_SEC_FETCH_SITE": "same-site"},
        {"HTTP_SEC_FETCH_SITE": "none"},
        {"CONTENT_TYPE": "text/plain"},
        {"CONTENT_TYPE": "application/x-www-form-urlencoded"},
        {"CONTENT_TYPE": ""},
    ],
)
def test_what_another_site_can_make_a_browser_send_changes_nothing(headers: dict[str, str]) -> None:
    assert refusal_of_edit(EDIT | headers)


def test_a_user_is_who_the_browser_says_and_nothing_that_can_not_be_shown() -> None:
    def claimed(authorization: str) -> str:
        return user_of({"HTTP_AUTHORIZATION": authorization, "HTTP_X_REMOTE_USER_NAME": "eve"}, proxied=False)

    assert claimed("Basic " + base64.b64encode(b"ann:secret").decode()) == "ann"
    assert claimed("Bearer secret") == ""
    assert claimed("Basic !") == ""
    for name in b"\x1b[2J", b"\xff", b"a" * 65:
        assert claimed("Basic " + base64.b64encode(name + b":x").decode()) == ""


def test_behind_a_proxy_a_user_is_who_the_proxy_says() -> None:
    claim = {"HTTP_AUTHORIZATION": "Basic " + base64.b64encode(b"eve:secret").decode()}
    names = ("ann", "Zoë".encode().decode("latin-1"), "\xff", "")
    found = [user_of(claim | {"HTTP_X_REMOTE_USER_NAME": name}, proxied=True) for name in names]
    assert found == ["ann", "Zoë", "", ""]


def basic(password: str) -> str:
    return "Basic " + base64.b64encode(f"anybody:{password}".encode()).decode()


@pytest.mark.parametrize("header", [f"Bearer {TOKEN}", f"bearer {TOKEN}", basic(TOKEN)])
def test_the_token_is_taken_as_bearer_and_as_the_password_of_any_user(header: str) -> None:
    assert is_authorized(TOKEN, header)


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer x", f"Digest {TOKEN}", TOKEN, basic(""), basic(TOKEN + "x"), "Basic !", "Basic \xff"],
)
def test_nothing_else_is_taken(header: str) -> None:
    assert not is_authorized(TOKEN, header)


def test_a_token_with_letters_beyond_ascii_works() -> None:
    assert is_authorized("Ölstandsanzeiger 7", basic("Ölstandsanzeiger 7"))


def test_the_token_is_the_first_line_of_its_file_or_comes_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text(f"{TOKEN}\nnot this\n")
    assert read_token("token", tmp_path) == TOKEN
    monkeypatch.setenv("PAGE_TOKEN", TOKEN)
    assert read_token("${env:PAGE_TOKEN}", tmp_path) == TOKEN


def test_a_token_that_is_easy_to_guess_is_refused_and_not_shown(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret")
    with pytest.raises(ConfigError) as caught:
        read_token("token", tmp_path)
    assert str(caught.value) == "http.token_file: the token must have at least 16 characters (got 6)"
