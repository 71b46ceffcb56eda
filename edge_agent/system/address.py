"""Addresses (URLs) for messages, without what may be secret in them."""

import re

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


def _authority(rest: str) -> str:
    return re.split("[/?#]", rest, maxsplit=1)[0]
