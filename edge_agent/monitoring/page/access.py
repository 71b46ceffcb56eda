"""Access to the status page: other sites, the token, and who may change something."""

import base64
import binascii
import hmac
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from edge_agent.errors import ConfigError
from edge_agent.system.secret import read_secret
from edge_agent.system.text import decode

KEY = "http.token_file"
LEAST_CHARACTERS = 16
LONGEST_NAME = 64
# What changes are sent as: documents, and the pieces of a file.
JSON, BYTES = "application/json", "application/octet-stream"


def read_token(stated: str, folder: Path) -> str:
    """The token from its file or environment variable.

    Args:
        stated: as in the settings.
        folder: of the configuration file.

    Raises:
        ConfigError: the token can't be read, or is too short.
    """
    token = read_secret(KEY, stated, folder, "token")
    if len(token) < LEAST_CHARACTERS:
        raise ConfigError([f"{KEY}: the token must have at least {LEAST_CHARACTERS} characters (got {len(token)})"])
    return token


def is_cross_site(headers: Mapping[str, str]) -> bool:
    """Whether another site's page makes the request; a link that a user follows there is allowed.

    Args:
        headers: of the request, as WSGI names them (https://www.w3.org/TR/fetch-metadata/).
    """
    site, mode = headers.get("HTTP_SEC_FETCH_SITE", "none"), headers.get("HTTP_SEC_FETCH_MODE", "")
    followed = mode == "navigate" and headers.get("REQUEST_METHOD") != "POST"  # a form of another site navigates too
    return site not in ("none", "same-origin") and not followed


def refusal_of_edit(headers: Mapping[str, str], kind: str = JSON) -> str:
    """Why a request that changes something is refused, though it has the token; empty if it is not.

    A browser sends the token by itself, for other sites' pages too. Neither kind is one that they can send without
    asking first (https://fetch.spec.whatwg.org/#cors-safelisted-request-header), and that we never allow; the origin is
    checked as well. Programs send no origin.

    Args:
        headers: of the request, as WSGI names them.
        kind: of content that is expected.
    """
    if headers.get("CONTENT_TYPE", "").partition(";")[0].strip().lower() != kind:
        return f"changes are sent as {kind}"
    if headers.get("HTTP_SEC_FETCH_SITE", "same-origin") != "same-origin":
        return "not for other sites"
    origin = headers.get("HTTP_ORIGIN")
    same = origin is None or _host_of(origin) == headers.get("HTTP_HOST", "").lower()
    return "" if same else "not for other sites"


def _host_of(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc.lower() or None
    except ValueError:
        return None


def user_of(headers: Mapping[str, str], *, proxied: bool) -> str:
    """The name of the user who makes a request; empty if there is none, or none that can be shown.

    Args:
        headers: of the request, as WSGI names them.
        proxied: whether a proxy has checked it, and names it as Home Assistant does (`X-Remote-User-Name`). Else it is
            that of `Authorization`, which nobody checks: it only says who someone claims to be.
    """
    scheme, _, credentials = headers.get("HTTP_AUTHORIZATION", "").partition(" ")
    try:
        if proxied:
            name = decode(headers.get("HTTP_X_REMOTE_USER_NAME", "").encode("latin-1"))
        elif scheme.lower() == "basic":
            name = decode(base64.b64decode(credentials.strip(), validate=True).partition(b":")[0])
        else:
            return ""
    except ValueError:
        return ""
    return name if name.isprintable() and len(name) <= LONGEST_NAME else ""


def is_authorized(token: str, authorization: str) -> bool:
    """Whether an `Authorization` header holds the token: as Bearer, or as the password of any user (Basic).

    Compares in constant time.
    """
    scheme, _, credentials = authorization.partition(" ")
    given = credentials.strip().encode("latin-1", "replace")
    match scheme.lower():
        case "basic":
            try:
                given = base64.b64decode(given, validate=True).partition(b":")[2]
            except binascii.Error:
                return False
        case "bearer":
            pass
        case _:
            return False
    return hmac.compare_digest(given, token.encode())
