import pytest
from urllib3 import Timeout

from edge_agent.system.proxy import Connections, ProxyFailedError, proxy_for
from tests.broker import free_port
from tests.http_proxy import HttpProxy

A, B = "http://a.example:3128", "http://b.example:3128"
TIMEOUT = Timeout(5.0)


@pytest.mark.parametrize(
    ("environment", "url", "proxy"),
    [
        ({}, "https://models.example/x", None),
        ({"HTTPS_PROXY": A}, "https://models.example/x", A),
        ({"https_proxy": A, "HTTPS_PROXY": B}, "https://models.example/x", A),
        ({"HTTPS_PROXY": A}, "http://models.example/x", None),
        ({"HTTP_PROXY": A, "HTTPS_PROXY": B}, "http://models.example/x", A),
        ({"ALL_PROXY": A}, "https://models.example/x", A),
        ({"HTTPS_PROXY": "a.example:3128"}, "https://models.example/x", A),
        ({"HTTPS_PROXY": f"{A}\r\n"}, "https://models.example/x", A),
        ({"HTTPS_PROXY": ""}, "https://models.example/x", None),
        ({"HTTPS_PROXY": A, "NO_PROXY": "models.example"}, "https://models.example/x", None),
        ({"HTTPS_PROXY": A, "no_proxy": ".example"}, "https://models.example/x", None),
        ({"HTTPS_PROXY": A, "NO_PROXY": "other.example, models.example:8443"}, "https://models.example:8443/x", None),
        ({"HTTPS_PROXY": A, "NO_PROXY": "models.example:8443"}, "https://models.example/x", A),
        ({"HTTPS_PROXY": A, "NO_PROXY": "example"}, "https://models.other/x", A),
        ({"HTTPS_PROXY": A, "NO_PROXY": "*"}, "https://models.example/x", None),
        ({"HTTPS_PROXY": A, "NO_PROXY": "other.example, 10.1.0.0/16"}, "https://10.1.2.3:8443/x", None),
        ({"HTTPS_PROXY": A, "NO_PROXY": "10.1.0.0/16"}, "https://10.2.0.1/x", A),
        ({"HTTPS_PROXY": A, "NO_PROXY": "fd00::/8"}, "https://[fd12::1]/x", None),
        ({"HTTPS_PROXY": A, "NO_PROXY": "10.0.0.0/8"}, "https://models.example/x", A),
        ({"HTTPS_PROXY": A}, "https://[", None),
    ],
)
def test_the_environment_says_which_proxy_a_request_takes(
    environment: dict[str, str], url: str, proxy: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    assert proxy_for(url) == proxy


def failure(proxy: str, url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    for key in ("HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(key, proxy)
    with Connections() as connections, pytest.raises(ProxyFailedError) as caught:
        connections.get(url, {}, TIMEOUT)
    message = str(caught.value)
    assert "hidden" not in message
    return message


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_what_is_wrong_with_a_proxy_is_said_without_its_credentials(
    scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, port = f"{scheme}://models.invalid/x", free_port()
    assert f"the proxy http://127.0.0.1:{port} can't be reached" in failure(
        f"http://user:hidden@127.0.0.1:{port}", url, monkeypatch
    )
    assert "socks5://proxy:1080 is not one over HTTP" in failure("socks5://user:hidden@proxy:1080", url, monkeypatch)
    assert "not a valid address" in failure("http://user:hidden@proxy:port", url, monkeypatch)
    with HttpProxy(login="user:other") as proxy:
        assert "wants user name and password (407)" in failure(
            proxy.url.replace("://", "://user:hidden@"), url, monkeypatch
        )
