"""How this device identifies itself to a web server or a bucket, as the configuration states it.

Secrets are read from their files for each request, so that they can be replaced while the agent runs.
"""

import base64
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit

from edge_agent.errors import ConfigError, MissingExtraError
from edge_agent.settings.http_access import HttpAccess
from edge_agent.system.home import expand_user
from edge_agent.system.secret import read_secret

if TYPE_CHECKING:
    from edge_agent.system.proxy import Connections

_PORTS = {"http": 80, "https": 443}


class HttpIdentity:
    """The credentials for one server, which no other server gets; see `system.proxy.Identity`.

    Args:
        options: the server, and where its credentials are.
        folder: that files are relative to.
        key: of the configuration, for messages.
    """

    def __init__(self, options: HttpAccess, folder: Path, key: str) -> None:
        self._options, self._folder, self._key = options, folder, key
        self._server = _origin(urlsplit(options.url))

    def check(self) -> None:
        """Reads all files once.

        Raises:
            ConfigError: a secret can't be read, or is not as expected.
            MissingExtraError: S3 needs a package that is not installed.
        """
        self.authorized("GET", self._options.url, b"")

    def connections(self) -> "Connections":
        """Connections that identify themselves to the server."""
        # The HTTP client is needed for requests only: checking a configuration starts without it.
        from edge_agent.system.proxy import Connections

        ca_file = self._options.ca_file
        return Connections(None if ca_file is None else self._path(ca_file), self)

    @property
    def certificate(self) -> tuple[str, str] | None:
        """PEM files of the client certificate and its key; None: there is none."""
        cert, key = self._options.cert_file, self._options.key_file
        return None if cert is None or key is None else (self._path(cert), self._path(key))

    def is_for(self, url: str) -> bool:
        """Whether an address is one of the server: of the same scheme, host and port."""
        try:
            return _origin(urlsplit(url)) == self._server
        except ValueError:
            return False

    def authorized(self, method: str, url: str, content: bytes) -> tuple[str, Mapping[str, str]]:
        """The address of a request to the server, and the headers, with the credentials.

        Raises:
            ConfigError: a secret can't be read, or is not as expected.
            MissingExtraError: S3 needs a package that is not installed.
        """
        options = self._options
        if options.access_key_file is not None:
            return url, self._signer(options.access_key_file)(method, url, content)
        if options.token_file is not None:
            return url, {"Authorization": f"Bearer {self._secret('token_file', options.token_file, 'token')}"}
        if options.username is not None and options.password_file is not None:
            password = self._secret("password_file", options.password_file, "password", any_character=True)
            login = base64.b64encode(f"{options.username}:{password}".encode()).decode()
            return url, {"Authorization": f"Basic {login}"}
        if options.query_file is not None:
            query = self._secret("query_file", options.query_file, "signed query").removeprefix("?")
            return f"{url}{'&' if '?' in url else '?'}{query}", {}
        return url, {}

    def _signer(self, stated: str) -> Callable[[str, str, bytes], Mapping[str, str]]:
        """Signs requests as S3 asks for it: https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-authenticating-requests.html."""
        identity, colon, secret = self._secret("access_key_file", stated, "access key ID:SECRET").partition(":")
        if not (identity and colon and secret):
            raise ConfigError([f"{self._key}.access_key_file: expected ID:SECRET in its first line"])
        try:
            from botocore.auth import S3SigV4Auth
            from botocore.awsrequest import AWSRequest
            from botocore.credentials import Credentials
        except ImportError as error:
            raise MissingExtraError("access to S3", "s3", error) from None
        auth = S3SigV4Auth(Credentials(identity, secret), "s3", self._options.region)

        def sign(method: str, url: str, content: bytes) -> Mapping[str, str]:
            request = AWSRequest(method, url, {}, content)
            auth.add_auth(request)
            return dict(request.headers.items())

        return sign

    def _secret(self, name: str, stated: str, what: str, *, any_character: bool = False) -> str:
        key = f"{self._key}.{name}"
        secret = read_secret(key, stated, self._folder, what)
        if not secret or not (any_character or secret.isascii()):
            raise ConfigError([f"{key}: expected a {what} in its first line, in ASCII characters"])
        return secret

    def _path(self, file: Path) -> str:
        return str(self._folder / expand_user(file))


def _origin(parts: SplitResult) -> tuple[str, str | None, int | None]:
    return parts.scheme, parts.hostname, parts.port or _PORTS.get(parts.scheme)
