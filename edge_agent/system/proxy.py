"""The proxy that the environment names: HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY, also in lower case."""

import urllib.request
from typing import Self
from urllib.parse import unquote, urlsplit

from urllib3 import BaseHTTPResponse, PoolManager, ProxyManager, Timeout, exceptions, make_headers

from edge_agent.system.address import without_credentials

_NEEDS_LOGIN = 407
# Of http.client, which opens the tunnel for https through a proxy.
_TUNNEL = "Tunnel connection failed: "


def proxy_for(url: str) -> str | None:
    """The address of the proxy for a request, which may hold credentials; None: the request goes out directly.

    As in most programs, lower case goes before upper case, and NO_PROXY lists hosts and domains, or is `*`.

    Args:
        url: what is requested.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        return None  # the request itself will fail
    proxies = urllib.request.getproxies()
    proxy = (proxies.get(parts.scheme) or proxies.get("all") or "").strip()
    if not proxy or not parts.hostname:
        return None
    # With and without the port: NO_PROXY may name either.
    if any(map(urllib.request.proxy_bypass, (parts.netloc.rpartition("@")[2], parts.hostname))):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


class ProxyFailedError(exceptions.HTTPError):
    """A proxy can't be used. The message names it, without its credentials, and says what to check."""


class Connections:
    """Connections for requests over HTTP: direct ones, and those over the proxies that the environment names."""

    def __init__(self) -> None:
        self._pools: dict[str | None, PoolManager] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for pool in self._pools.values():
            pool.clear()

    def get(self, url: str, headers: dict[str, str], timeout: Timeout) -> BaseHTTPResponse:
        """The answer to a GET request, its body not yet read. Redirects are not followed.

        Args:
            url: what is requested.
            headers: of the request.
            timeout: for the connection and for each read.

        Raises:
            ProxyFailedError: the proxy can't be used.
            HTTPError: the server can't be reached.
        """
        proxy = proxy_for(url)
        try:
            if proxy not in self._pools:
                self._pools[proxy] = _pool(proxy)
            answer = self._pools[proxy].urlopen(
                "GET", url, redirect=False, retries=False, headers=headers, timeout=timeout, preload_content=False
            )
        except exceptions.HTTPError as error:
            why = _failure(error) if proxy else ""
            if proxy and why:
                raise ProxyFailedError(f"the proxy {without_credentials(proxy)} {why}") from None
            raise
        if proxy and answer.status == _NEEDS_LOGIN:
            answer.close()
            raise ProxyFailedError(f"the proxy {without_credentials(proxy)} {_refused(str(_NEEDS_LOGIN))}")
        return answer


def _pool(proxy: str | None) -> PoolManager:
    if proxy is None:
        return PoolManager()
    try:
        parts = urlsplit(proxy)
        user, _ = parts.username, parts.port
    except ValueError:
        raise exceptions.LocationParseError("") from None
    login = f"{unquote(user)}:{unquote(parts.password or '')}" if user is not None else None
    bare = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    return ProxyManager(bare, proxy_headers=make_headers(proxy_basic_auth=login))


def _failure(error: exceptions.HTTPError) -> str:
    """What is wrong with the proxy; empty if it is not the proxy that has failed."""
    match error:
        case exceptions.ProxySchemeUnknown():
            return "is not one over HTTP: HTTP_PROXY and HTTPS_PROXY must be http:// or https:// addresses"
        case exceptions.LocationValueError():
            return "is not a valid address: check HTTP_PROXY and HTTPS_PROXY"
        case exceptions.ProxyError(original_error=OSError() as cause) if str(cause).startswith(_TUNNEL):
            return _refused(str(cause).removeprefix(_TUNNEL)[:3])
        case exceptions.ProxyError():
            return "can't be reached: check HTTP_PROXY and HTTPS_PROXY, or name the host in NO_PROXY"
    return ""


def _refused(status: str) -> str:
    if status == str(_NEEDS_LOGIN):
        return "wants user name and password (407): http://USER:PASSWORD@HOST:PORT in HTTP_PROXY and HTTPS_PROXY"
    return f"answers {status}: does it allow this host, or should NO_PROXY name it?"
