"""The page below a path of another server, as Home Assistant's ingress shows it."""

import io
import json
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from edge_agent import settings
from edge_agent.monitoring.hosts import proxied
from edge_agent.monitoring.page.app import OPEN, Page
from edge_agent.monitoring.page.recent import Recent
from edge_agent.monitoring.web import Web
from tests.broker import free_port
from tests.browser import Browser
from tests.ingress import Ingress
from tests.monitoring.page.kit import StillAgent, write_config

PROXY = "172.30.32.2"


@pytest.fixture
def page(tmp_path: Path) -> Page:
    """A page that may be used for changes, and knows no token."""
    agent = StillAgent(write_config(tmp_path / "etc", yard={}))
    options = settings.Http(listen="0.0.0.0:8099", trusted_proxy=PROXY, edit=True)
    return Page(agent, Recent(agent), options, None)


@pytest.fixture
def ingress(page: Page) -> Iterator[Ingress]:
    """The stand-in of a proxy before the page; both on loopback."""
    port = free_port()
    web = Web(proxied(page, "127.0.0.1", OPEN), f"127.0.0.1:{port}", "http.listen", "http")
    web.start()
    try:
        with Ingress(port) as running:
            yield running
    finally:
        web.stop()


def asked(app: Callable[..., Any], address: str, path: str = "/status.json") -> int:
    """The status of an answer to a request from an address."""
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": path, "QUERY_STRING": "", "REMOTE_ADDR": address}
    seen: list[str] = []
    b"".join(app(environ | {"wsgi.input": io.BytesIO()}, lambda status, _: seen.append(status)))
    return int(seen[0].split()[0])


@pytest.mark.parametrize("address", [PROXY, f"::ffff:{PROXY}"])
def test_the_proxy_may_ask_without_token_and_by_any_name(address: str, page: Page) -> None:
    assert asked(proxied(page, PROXY, OPEN), address) == 200


@pytest.mark.parametrize("address", ["172.30.32.1", "172.30.33.2", "127.0.0.1", "::1", "fe80::1%eth0"])
def test_nobody_else_may_but_look_at_its_health(address: str, page: Page) -> None:
    assert asked(proxied(page, PROXY, OPEN), address) == 403
    assert asked(proxied(page, PROXY, OPEN), address, "/healthz") == 200


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"trusted_proxy": "127.0.0.1"}, "trusted_proxy"),
        ({"trusted_proxy": "::1"}, "trusted_proxy"),
        ({"trusted_proxy": "0.0.0.0"}, "trusted_proxy"),
        ({"trusted_proxy": "proxy.lan"}, "trusted_proxy"),
        ({"listen": "0.0.0.0:8099"}, "token_file"),
        ({"edit": True}, "edit"),
    ],
)
def test_an_address_that_others_have_too_and_an_open_page_are_refused(options: dict[str, Any], key: str) -> None:
    with pytest.raises(ValidationError) as caught:
        settings.Http.model_validate(options)
    assert [error["loc"] for error in caught.value.errors()] == [(key,)]


def request(
    ingress: Ingress, path: str, method: str = "GET", body: str | None = None, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """Asks the proxy; `headers` with `_` for `-`."""
    connection = HTTPConnection("127.0.0.1", ingress.port, timeout=20)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, f"{ingress.prefix}/{path}", body, {"Host": "home.example"} | named)
    answer = connection.getresponse()
    found = answer.status, dict(answer.headers), answer.read()
    connection.close()
    return found


def test_the_page_may_be_shown_inside_that_of_the_proxy(ingress: Ingress) -> None:
    status, headers, body = request(ingress, "")
    assert status == 200
    assert b"main.js" in body
    assert headers["Content-Security-Policy"].endswith("frame-ancestors 'self'")


def test_changes_come_from_the_page_that_the_proxy_shows(ingress: Ingress) -> None:
    sent = {"Content_Type": "application/json", "Origin": "http://home.example"}
    zones = json.dumps({"zones": {"door": [[0.1, 0.1], [0.5, 0.1], [0.5, 0.9]]}})
    assert json.loads(request(ingress, "status.json")[2])["edit"]
    assert request(ingress, "drawing/yard", "POST", zones, **sent | {"Origin": "http://evil.example"})[0] == 403
    status, _, body = request(ingress, "drawing/yard", "POST", zones, **sent)
    assert (status, json.loads(body)) == (200, {"changed": True})


@pytest.mark.page
def test_in_a_frame_below_a_path_everything_is_asked_for_below_that_path(ingress: Ingress, tmp_path: Path) -> None:
    with Browser(tmp_path / "browser") as browser:
        browser.open(f"http://127.0.0.1:{ingress.port}/")
        page = "document.querySelector('iframe').contentDocument"
        browser.wait_for(f"{page}.getElementById('state')?.textContent === 'online'")
        for view in "events", "samples", "setup", "draw/yard", "live":
            browser.ask(f"{page}.location.hash = '#{view}'")
            browser.wait_for(f"{page}.getElementById('main').className === '{view.partition('/')[0]}'")
        assert ingress.strays in ([], ["/favicon.ico"])
        assert [one for one in browser.complaints() if "favicon" not in one] == []
