"""Who may request what is served over HTTP: by which host names, and through which proxy."""

import ipaddress
import socket
from collections.abc import Callable, Iterable, Sequence
from http import HTTPStatus
from typing import Any

from edge_agent.monitoring.web import App


def allows_host(header: str, names: Sequence[str]) -> bool:
    """Whether a `Host` header names this machine.

    Protects against DNS rebinding, where another site's name resolves to this machine's address: requests then carry
    that name. Addresses are always allowed.

    Args:
        header: `NAME`, `NAME:PORT`, `ADDRESS`, `[IPv6]:PORT`.
        names: further ones that are allowed.
    """
    name = header[1:].partition("]")[0] if header.startswith("[") else header.partition(":")[0]
    own = socket.gethostname().lower()
    if name.lower().rstrip(".") in {"localhost", own, f"{own}.local", *(other.lower() for other in names)}:
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def guarded(app: App, names: Sequence[str], key: str) -> App:
    """An application that refuses requests for other names than those of this machine.

    Args:
        app: the application.
        names: further ones that are allowed.
        key: of the configuration where they stand, for the refusal.
    """

    def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if allows_host(environ.get("HTTP_HOST", ""), names):
            return app(environ, start_response)
        return _refuse(start_response, f"not known by this name: add it to {key}")

    return answer


def proxied(app: App, address: str, open_paths: Sequence[str]) -> App:
    """An application that refuses requests that do not come from a proxy.

    The proxy knows by which names it is reached, and a browser can't ask past it: hosts are not checked.

    Args:
        app: the application.
        address: of the proxy.
        open_paths: what anybody may ask for.
    """
    proxy = ipaddress.ip_address(address)

    def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        asking = ipaddress.ip_address(environ["REMOTE_ADDR"].partition("%")[0])
        mapped = getattr(asking, "ipv4_mapped", None)  # where an IPv6 socket takes IPv4 too
        if proxy in (asking, mapped) or environ["PATH_INFO"] in open_paths:
            return app(environ, start_response)
        return _refuse(start_response, "only through the proxy in http.trusted_proxy")

    return answer


def _refuse(start_response: Callable[..., Any], message: str) -> Iterable[bytes]:
    status, body = HTTPStatus.FORBIDDEN, f"{message}\n".encode()
    kind = ("Content-Type", "text/plain; charset=utf-8")
    start_response(f"{status.value} {status.phrase}", [kind, ("Content-Length", str(len(body)))])
    return [body]
