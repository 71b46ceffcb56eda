"""Addresses (URLs) for messages, without what may be secret in them."""

import re
from urllib.parse import unquote, urlsplit

_HOST = re.compile(r"(\[[^\]@]*\]|[^:@\[\]]*)(:\d+)?")


def without_credentials(url: str) -> str:
    """The address without user name, password and query, which may hold secrets."""
    scheme, _, rest = url.partition("://")
    authority = _authority(rest)
    host = authority.rpartition("@")[2]
    if not _HOST.fullmatch(host):
        # A password that should have been percent-encoded may hold any separator.
        rest = rest.rpartition("@")[2]
        authority = host = _authority(rest)
    path = re.split("[?#]", rest[len(authority) :], maxsplit=1)[0]
    return f"{scheme}://{host}{path}"


def problem_of_server(url: str) -> str:
    """Why an address can't name a server, or an empty string.

    It has no host, a port that can't be one, or control characters in user name or password.
    """
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname or ""
        host.encode("idna")
        credentials = unquote(f"{parts.username}{parts.password}")
        names_one = bool(host) and f"{host}{credentials}".isprintable() and " " not in host and port != 0
    except ValueError:
        names_one = False
    if names_one:
        return ""
    hint = "in a user name or password, write @ : / ? # % as %40 %3A %2F %3F %23 %25"
    return f"not an address with a host and a port up to 65535: {hint}"


def _authority(rest: str) -> str:
    return re.split("[/?#]", rest, maxsplit=1)[0]
