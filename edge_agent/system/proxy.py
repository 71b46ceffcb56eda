"""The proxy that the environment names: HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY, also in lower case."""

import urllib.request
from collections.abc import Iterable, Mapping
from contextlib import suppress
from ipaddress import ip_address, ip_network
from typing import Protocol, Self
from urllib.parse import unquote, urljoin, urlsplit

from urllib3 import BaseHTTPResponse, PoolManager, ProxyManager, Timeout, exceptions, make_headers

from edge_agent.system.address import without_credentials

MAX_REDIRECTS = 5
_NEEDS_LOGIN = 407
_CONFIRMED, _MAY_NOT = (200, 201, 204), (401, 403)
# Of http.client, which opens the tunnel for https through a proxy.
_TUNNEL = "Tunnel connection failed: "


def proxy_for(url: str) -> str | None:
    """The address of the proxy for a request, which may hold credentials; None: the request goes out directly.

    As in most programs, lower case goes before upper case, and NO_PROXY lists hosts, domains, addresses and networks
    (`10.0.0.0/8`), or is `*`.

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
    if _in_network(parts.hostname, proxies.get("no") or ""):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _in_network(host: str, excepted: str) -> bool:
    """Whether an address is in one of the networks of NO_PROXY; Python looks at names alone."""
    try:
        address = ip_address(host)
    except ValueError:
        return False
    for entry in excepted.split(","):
        with suppress(ValueError):  # a name
            if address in ip_network(entry.strip(), strict=False):
                return True
    return False


class ProxyFailedError(exceptions.HTTPError):
    """A proxy can't be used. The message names it, without its credentials, and says what to check."""


class NotConfirmedError(Exception):
    """Content has not arrived; the message says where, and why.

    Args:
        message: where, and why.
        may_not: whether the server refuses the credentials.
    """

    def __init__(self, message: str, *, may_not: bool = False) -> None:
        super().__init__(message)
        self.may_not = may_not


class RedirectError(Exception):
    """The server sends on to where nobody should follow; the message says so."""


class Identity(Protocol):
    """The credentials for one server."""

    @property
    def certificate(self) -> tuple[str, str] | None:
        """PEM files of the client certificate and its key; None: there is none."""
        ...

    def is_for(self, url: str) -> bool:
        """Whether an address is one of the server."""
        ...

    def authorized(self, method: str, url: str, content: bytes) -> tuple[str, Mapping[str, str]]:
        """The address of a request to the server, and the headers, with the credentials."""
        ...


class Connections:
    """Connections for requests over HTTP: direct ones, and those over the proxies that the environment names.

    Args:
        ca_file: certificates with which those of servers are checked; None: those of the system.
        identity: for requests to its server alone, also after redirects.
    """

    def __init__(self, ca_file: str | None = None, identity: Identity | None = None) -> None:
        self._ca_file = ca_file
        self._identity = identity
        # By proxy, and by whether they have the client certificate.
        self._pools: dict[tuple[str | None, bool], PoolManager] = {}

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
        return self._request("GET", url, headers, None, timeout, b"")

    def follow(self, url: str, headers: dict[str, str], timeout: Timeout) -> BaseHTTPResponse:
        """The same after redirects. What was asked for over https stays there.

        Raises:
            RedirectError: there are too many, or one leads to no address or away from https.
            ProxyFailedError: the proxy can't be used.
            HTTPError: a server can't be reached.
        """
        target = url
        for _ in range(MAX_REDIRECTS + 1):
            answer = self.get(target, headers, timeout)
            location = answer.get_redirect_location()
            if not location:
                return answer
            answer.close()
            try:
                target = urljoin(target, location)
            except ValueError:
                raise RedirectError("the server sends on to something that is no address") from None
            if url.startswith("https://") and not target.startswith("https://"):
                raise RedirectError("the server sends on to an address that is not https")
        raise RedirectError(f"more than {MAX_REDIRECTS} redirects in a row")

    def head(self, url: str, headers: dict[str, str], timeout: Timeout) -> BaseHTTPResponse:
        """The answer to a HEAD request, with the errors of `get`. Redirects are not followed."""
        answer = self._request("HEAD", url, headers, None, timeout, b"")
        answer.close()
        return answer

    def put(self, url: str, headers: dict[str, str], body: Iterable[bytes], timeout: Timeout, content: bytes) -> None:
        """Sends content with a PUT request; when this returns, the server has confirmed it. Redirects are not followed.

        Args:
            url: where the content goes.
            headers: of the request, with its length.
            body: the content, in blocks.
            timeout: for the connection and for each read.
            content: the same as a whole, to be signed.

        Raises:
            NotConfirmedError: the server or the proxy can't be reached, or does not confirm it.
        """
        try:
            answer = self._request("PUT", url, headers, body, timeout, content)
        except (exceptions.HTTPError, OSError) as error:
            cause = str(getattr(error, "reason", None) or error) or type(error).__name__
            raise NotConfirmedError(f"{url}: {cause}") from None
        answer.close()
        if answer.status not in _CONFIRMED:
            raise NotConfirmedError(f"{url}: the server answers {answer.status}", may_not=answer.status in _MAY_NOT)

    def _request(
        self,
        method: str,
        url: str,
        headers: dict[str, str],
        body: Iterable[bytes] | None,
        timeout: Timeout,
        content: bytes,
    ) -> BaseHTTPResponse:
        proxy, certificate = proxy_for(url), None
        if self._identity is not None and self._identity.is_for(url):
            certificate = self._identity.certificate
            url, further = self._identity.authorized(method, url, content)
            headers = headers | dict(further)
        try:
            kind = (proxy, certificate is not None)
            if kind not in self._pools:
                self._pools[kind] = _pool(proxy, self._ca_file, certificate)
            answer = self._pools[kind].urlopen(
                method,
                url,
                redirect=False,
                retries=False,
                headers=headers,
                body=body,
                timeout=timeout,
                preload_content=False,
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


def _pool(proxy: str | None, ca_file: str | None, certificate: tuple[str, str] | None) -> PoolManager:
    cert_file, key_file = certificate or (None, None)
    if proxy is None:
        return PoolManager(ca_certs=ca_file, cert_file=cert_file, key_file=key_file)
    try:
        parts = urlsplit(proxy)
        user, _ = parts.username, parts.port
    except ValueError:
        raise exceptions.LocationParseError("") from None
    login = f"{unquote(user)}:{unquote(parts.password or '')}" if user is not None else None
    bare = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    login_headers = make_headers(proxy_basic_auth=login)
    return ProxyManager(bare, proxy_headers=login_headers, ca_certs=ca_file, cert_file=cert_file, key_file=key_file)


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
