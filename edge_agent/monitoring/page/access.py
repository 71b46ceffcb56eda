"""Access to the status page: other sites, and the token."""

import base64
import binascii
import hmac
from collections.abc import Mapping
from pathlib import Path

from edge_agent.errors import ConfigError
from edge_agent.system.secret import read_secret

KEY = "http.token_file"
LEAST_CHARACTERS = 16


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
    return site not in ("none", "same-origin") and mode != "navigate"


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
